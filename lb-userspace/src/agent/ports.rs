//! Gives back source ports of full NAT whose flows are gone.
//!
//! The data path gives back the ports of flows that it forgets itself. What is left are flows that
//! expired, which the collector removes, and flows that a new one displaced, of which nobody tells:
//! a port that belongs to no flow in two rounds of the collector is free. It stays idle for
//! [`REST`] while there are enough others, because the backend may still remember its connection.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, UdpSocket},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use lb_common::{flow::FlowView, ports, shared::Shared64, tables::FlowTable};

use super::collector::FlowWatcher;
use crate::dataplane::Words;

/// Takes ports out of the game for good: those of well-known services, and those that this host
/// gives to its own connections, whose replies would look like a flow's.
///
/// On a host that gives nearly all ports to its own connections, all of them stay in the game, and
/// the log says so.
pub(super) fn reserve(words: &Words, sources: u32) {
    let own = own_ports(ephemeral_ports());
    let is_reserved = |port: u16| port < FIRST_PORT || own.contains(&port);
    let mut reserved = vec![0u64; ports::WORDS as usize];
    for port in (0..=u16::MAX).filter(|port| is_reserved(*port)) {
        reserved[usize::from(port / 64)] |= 1 << (port % 64);
    }
    for lane in words
        .all()
        .chunks(reserved.len())
        .take(2 * sources as usize)
    {
        for (word, bits) in lane.iter().zip(&reserved) {
            word.fetch_or(*bits);
        }
    }
}

/// Ports that have to be left to share.
const LEAST: usize = 8192;

fn own_ports(own: RangeInclusive<u16>) -> RangeInclusive<u16> {
    let left = (FIRST_PORT..=u16::MAX).filter(|port| !own.contains(port));
    if left.count() >= LEAST {
        return own;
    }
    tracing::warn!(
        "net.ipv4.ip_local_port_range is {} to {}, which leaves hardly a port for full NAT: its \
         ports are taken from that range too, and a connection of this host's own to a backend may \
         get a flow's; narrow the range, or name source_addresses that this host does not connect \
         from",
        own.start(),
        own.end()
    );
    RangeInclusive::new(1, 0)
}

/// The first port that is no well-known service's.
const FIRST_PORT: u16 = 1024;

/// The ports that this host's own connections come from.
fn ephemeral_ports() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        // The kernel's default.
        _ => 32_768..=60_999,
    }
}

/// Warns of source addresses that this host does not have: replies to them would not come back.
pub(super) fn check_sources(sources: &[IpAddr]) {
    for address in sources {
        if let Err(error) = UdpSocket::bind((*address, 0)) {
            tracing::warn!(
                "the source address {address} is not one of this host ({error}), so replies of \
                 backends will not come back; add it to an interface: ip address add {address} \
                 dev …"
            );
        }
    }
}

/// Follows the flows with source ports.
pub(super) struct PortKeeper {
    /// Bitmap of ports in use.
    words: Words,
    /// Whose they are.
    owners: Words,
    /// Ports of flows that were seen in this round.
    seen: Vec<u64>,
    /// Ports without a flow in the round before, by number: the mark, and since when.
    suspects: HashMap<usize, (u64, Instant)>,
}

/// A closed connection's time in TIME_WAIT.
const REST: Duration = Duration::from_secs(60);
/// Ports that have to be free, of an address and protocol, for others to rest.
const PLENTY: u32 = (1 << 16) / 4;

impl PortKeeper {
    /// Of a data path with these tables.
    pub(super) fn new(words: Words, owners: Words) -> Self {
        let seen = vec![0; words.all().len()];
        Self {
            words,
            owners,
            seen,
            suspects: HashMap::new(),
        }
    }

    /// Number of a flow's port among all.
    fn number(flow: &FlowView) -> Option<usize> {
        let path = flow.flow.path;
        let port = u16::from_be(path.port());
        path.has_source().then(|| {
            ports::owner_index(path.address().into(), flow.flow.key.protocol, port) as usize
        })
    }

    /// Frees a port that still has that mark.
    fn release(&self, number: usize, mark: u64) {
        let (Some(owner), Some(word)) = (
            self.owners.all().get(number),
            self.words.all().get(number / 64),
        ) else {
            return;
        };
        if owner.compare_exchange(mark, 0) {
            word.fetch_and(!(1 << (number % 64)));
        }
    }

    /// At the end of a round: gives back what has been without a flow for two of them.
    fn give_back(&mut self, now: Instant) {
        let before = std::mem::take(&mut self.suspects);
        let lane = ports::WORDS as usize;
        for first in (0..self.seen.len()).step_by(lane) {
            let last = self.seen.len().min(first + lane);
            let taken: Vec<u64> = self.words.all()[first..last]
                .iter()
                .map(Shared64::load)
                .collect();
            let free: u32 = taken.iter().map(|word| word.count_zeros()).sum();
            for (index, taken) in (first..).zip(taken) {
                let mut lonely = taken & !std::mem::take(&mut self.seen[index]);
                while lonely != 0 {
                    let number = index * 64 + lonely.trailing_zeros() as usize;
                    lonely &= lonely - 1;
                    let mark = self.owners.all().get(number).map_or(0, Shared64::load);
                    // Taken by nobody: it is one that is never given away.
                    if mark == 0 {
                        continue;
                    }
                    let since = match before.get(&number) {
                        Some((known, since)) if *known == mark => Some(*since),
                        _ => None,
                    };
                    let rest = if free > PLENTY { REST } else { Duration::ZERO };
                    match since {
                        Some(since) if now.duration_since(since) >= rest => {
                            self.release(number, mark);
                        }
                        since => {
                            self.suspects.insert(number, (mark, since.unwrap_or(now)));
                        }
                    }
                }
            }
        }
    }
}

impl FlowWatcher for PortKeeper {
    fn live(&mut self, _: FlowTable, flow: &FlowView) {
        if let Some(number) = Self::number(flow)
            && let Some(word) = self.seen.get_mut(number / 64)
        {
            *word |= 1 << (number % 64);
        }
    }

    /// Its port waits for [`PortKeeper::round_ended`]: a flow that two CPUs established at once
    /// stands in the table twice, and the other entry lives.
    fn removed(&mut self, _: FlowTable, _: &FlowView) {}

    fn round_ended(&mut self) {
        self.give_back(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{
        abi::{Protocol, Settings, Ticks},
        address::Address,
        flow::{ClientLink, FlowKey, NewFlow, Path, Place, Shift, Sides},
    };

    use super::*;

    const SETTINGS: Settings = Settings {
        hash_seed: 7,
        established_mask: 0,
        half_open_mask: 0,
        filter_mask: 0,
        errors_per_tick: 0,
        features: 0,
        reserved: 0,
    };
    const PORT: u16 = 40_000;

    fn flow(client_port: u16, path: Path) -> FlowView {
        FlowView {
            flow: NewFlow {
                key: FlowKey {
                    client: Address::from_v4([198, 51, 100, 7]),
                    client_port,
                    service: Address::from_v4([203, 0, 113, 10]),
                    service_port: 80,
                    protocol: Protocol::Tcp as u8,
                },
                backend: 1,
                link: ClientLink::default(),
                expires: Ticks(5),
                path,
                own_mac: 0,
                client_finished: false,
                shift: Shift::NONE,
            },
            is_closed: false,
            sides: Sides::default(),
        }
    }

    fn keeper() -> PortKeeper {
        let words = Words::detached(ports::words(2)).unwrap();
        let owners = Words::detached(ports::owners(2)).unwrap();
        words.all()[0].store(u64::MAX);
        PortKeeper::new(words, owners)
    }

    fn mark(flow: &FlowView) -> u64 {
        let key = &flow.flow.key;
        ports::mark(Place::of(
            &SETTINGS,
            key.client,
            key.client_port,
            key.protocol,
        ))
    }

    /// Takes the port for a flow as the data path does.
    fn take(keeper: &PortKeeper, client_port: u16) -> FlowView {
        let flow = flow(client_port, Path::with_source(1, PORT.to_be()));
        let number = PortKeeper::number(&flow).unwrap();
        keeper.words.all()[number / 64].fetch_or(1 << (number % 64));
        keeper.owners.all()[number].store(mark(&flow));
        flow
    }

    fn is_taken(keeper: &PortKeeper) -> bool {
        let word = ports::word_index(1, Protocol::Tcp as u8, PORT) as usize;
        keeper.words.all()[word].load() & (1 << (PORT % 64)) != 0
    }

    #[test]
    fn ports_of_this_host_are_never_given_away() {
        let words = Words::detached(ports::words(2)).unwrap();
        reserve(&words, 1);
        let is_taken = |source, port: u16| {
            let word = ports::word_index(source, Protocol::Udp as u8, port) as usize;
            words.all()[word].load() & (1 << (port % 64)) != 0
        };
        assert!(is_taken(0, 0) && is_taken(0, 1023));
        let own = own_ports(ephemeral_ports());
        assert!(own.is_empty() || is_taken(0, *own.start()));
        assert!(!is_taken(1, 0));
    }

    #[test]
    fn a_range_that_leaves_nothing_is_not_reserved() {
        assert_eq!(own_ports(32_768..=60_999), 32_768..=60_999);
        assert!(own_ports(1024..=65_535).is_empty());
    }

    /// Leaves so many words of the port's address free.
    fn crowd(keeper: &PortKeeper, free: usize) {
        let words = &keeper.words.all()[lane_of_port()];
        for word in words.iter().rev().skip(free) {
            word.fetch_or(u64::MAX);
        }
        keeper.words.all()[ports::word_index(1, Protocol::Tcp as u8, PORT) as usize].store(0);
    }

    fn lane_of_port() -> std::ops::Range<usize> {
        let first = ports::word_index(1, Protocol::Tcp as u8, 0) as usize;
        first..first + ports::WORDS as usize
    }

    #[test]
    fn one_of_two_entries_of_a_flow_expires_and_the_other_keeps_the_port() {
        let mut keeper = keeper();
        crowd(&keeper, 0);
        let flow = take(&keeper, 1);
        for _ in 0..3 {
            keeper.removed(FlowTable::Established, &flow);
            assert!(is_taken(&keeper));
            keeper.live(FlowTable::Established, &flow);
            keeper.round_ended();
        }
        assert!(is_taken(&keeper));
    }

    #[test]
    fn a_port_without_a_flow_is_free_after_the_second_round() {
        let mut keeper = keeper();
        crowd(&keeper, 10);
        let _displaced = take(&keeper, 1);
        keeper.round_ended();
        assert!(is_taken(&keeper), "its flow may have been on its way");
        keeper.round_ended();
        assert!(!is_taken(&keeper));
        assert_eq!(keeper.words.all()[0].load(), u64::MAX, "reserved");
    }

    #[test]
    fn a_port_rests_while_there_are_others() {
        let mut keeper = keeper();
        let _closed = take(&keeper, 1);
        let start = Instant::now();
        for seconds in [0, 10, 59] {
            keeper.give_back(start + Duration::from_secs(seconds));
            assert!(is_taken(&keeper), "after {seconds} s");
        }
        keeper.give_back(start + Duration::from_secs(60));
        assert!(!is_taken(&keeper));
    }

    #[test]
    fn the_port_of_a_living_flow_stays_and_so_does_one_that_is_taken_anew() {
        let mut keeper = keeper();
        crowd(&keeper, 10);
        let flow = take(&keeper, 1);
        for _ in 0..3 {
            keeper.live(FlowTable::Established, &flow);
            keeper.round_ended();
        }
        assert!(is_taken(&keeper));
        keeper.round_ended();
        let _another = take(&keeper, 2);
        keeper.round_ended();
        assert!(is_taken(&keeper), "the mark is another one");
    }
}
