//! What talking to another balancer costs: two ends in this process, over the loopback, and somebody
//! who begins flows as the data path does. For measurements.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use lb_common::{
    abi::{Backend, Forwarding, Protocol, Settings, Ticks, backend_flags, network_port},
    address::Address,
    flow::{ClientLink, FlowKey, NewFlow, Path, Place, Shift, established_buckets},
    host::FlowMemory,
    ports, sync,
    tables::FlowTable,
};
use nix::time::{ClockId, clock_gettime};

use super::{
    directory::Directory,
    key::Key,
    tables::Tables,
    tally::{Fate, Tally},
    worker::{Given, TICK, Worker},
};
use crate::dataplane::{FlowTables, Words};

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// New flows in a second.
    pub rate: f64,
    /// Share of a core that the one takes that tells of them.
    pub sender: f64,
    /// Share of a core that the one takes that is told.
    pub receiver: f64,
    /// Bytes in UDP for each flow.
    pub bytes: f64,
    /// Flows that the other one knows, of those that began.
    pub known: f64,
}

const SETTINGS: Settings = Settings {
    hash_seed: 7,
    established_mask: established_buckets(FLOWS) - 1,
    half_open_mask: 0,
    filter_mask: 0,
    errors_per_tick: 0,
    features: 0,
    reserved: 0,
};
/// Room of each table.
const FLOWS: u32 = 1 << 20;
const BACKENDS: u32 = 8;

struct End {
    flows: FlowTables,
    given: Given,
}

impl End {
    /// Talks until it is told to stop; returns the time that took of a CPU.
    fn work(self) -> io::Result<Duration> {
        let Self { flows, given } = self;
        let established = flows.window(
            FlowTable::Established,
            0..flows.buckets(FlowTable::Established),
        )?;
        let tables = Tables {
            settings: SETTINGS,
            established: &established,
            ports: None,
        };
        Worker::new(given, tables).work();
        Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
    }
}

fn directory() -> Directory {
    let backends = (1..=BACKENDS).map(|id| {
        let backend = Backend {
            address: Address::from_v4([10, 0, 0, id as u8]),
            port: network_port(8080),
            protocol: Protocol::Tcp as u8,
            forwarding: Forwarding::Nat as u8,
            flags: backend_flags::USED,
            idle_timeout: Ticks::from_seconds(900).0,
            service_address: Address::from_v4([203, 0, 113, 10]),
            service_port: network_port(80),
            ..Backend::default()
        };
        (id, backend)
    });
    Directory::new(backends, Vec::new(), Vec::new())
}

fn ends() -> io::Result<[End; 2]> {
    let sockets = [
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
    ];
    let [one, two] = &sockets;
    let addresses = [one.local_addr()?, two.local_addr()?];
    let key = Arc::new(Key::new(&[b'k'; 32]));
    let end = |socket: UdpSocket, peer: SocketAddr| -> io::Result<End> {
        super::tune(&socket)?;
        Ok(End {
            flows: FlowTables::detached(SETTINGS.established_mask + 1, 1)?,
            given: Given {
                socket,
                key: Arc::clone(&key),
                peers: vec![peer],
                rings: Words::detached(sync::WORDS)?,
                stop: Arc::new(AtomicBool::new(false)),
                directory: Arc::new(Mutex::new(Arc::new(directory()))),
                tally: Arc::new(Mutex::new(Tally::new(&[peer]))),
                waits: None,
            },
        })
    };
    let [one, two] = sockets;
    Ok([end(one, addresses[1])?, end(two, addresses[0])?])
}

/// Begins so many flows a second for a while, and sees what that costs both ends.
///
/// # Errors
/// When there is no memory or no loopback.
pub fn cost(rate: u32, span: Duration) -> io::Result<Cost> {
    let ends = ends()?;
    let stops: Vec<_> = ends.iter().map(|end| Arc::clone(&end.given.stop)).collect();
    let tallies: Vec<_> = ends
        .iter()
        .map(|end| Arc::clone(&end.given.tally))
        .collect();
    let (flows, rings) = (ends[0].flows.clone(), ends[0].given.rings.clone());
    let threads = ends.map(|end| thread::spawn(|| end.work()));
    let tally = |index: usize| {
        let tally = tallies[index].lock();
        tally.unwrap_or_else(PoisonError::into_inner).clone()
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !(tally(0).peers[0].is_up && tally(1).peers[0].is_up) && Instant::now() < deadline {
        thread::sleep(TICK);
    }
    let began = Instant::now();
    let count = begin_flows(&flows, &rings, (rate, span))?;
    // What is on its way.
    thread::sleep(TICK * 30);
    let took = began.elapsed().as_secs_f64();
    for stop in stops {
        stop.store(true, Ordering::Relaxed);
    }
    let mut used = [0.0; 2];
    for (used, thread) in used.iter_mut().zip(threads) {
        let cpu = thread
            .join()
            .map_err(|_| io::Error::other("a thread panicked"))??;
        *used = cpu.as_secs_f64() / took;
    }
    let known = tally(1).fates.of(Fate::Inserted);
    Ok(Cost {
        rate: f64::from(count) / span.as_secs_f64(),
        sender: used[0],
        receiver: used[1],
        bytes: tally(0).peers[0].bytes_sent as f64 / f64::from(count),
        known: known as f64 / f64::from(count),
    })
}

/// Puts flows into a table and tells of them, as the data path does. Returns how many.
fn begin_flows(
    flows: &FlowTables,
    rings: &Words,
    (rate, span): (u32, Duration),
) -> io::Result<u32> {
    let established = flows.window(
        FlowTable::Established,
        0..flows.buckets(FlowTable::Established),
    )?;
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < span {
        let wanted = (began.elapsed().as_secs_f64() * f64::from(rate)) as u32;
        let now = FlowTables::now();
        let memory = FlowMemory {
            settings: SETTINGS,
            now,
            established: &established,
            half_open: &[],
            before_publishing: || {},
        };
        while count < wanted {
            let [_, a, b, c] = (count / 50_000).to_be_bytes();
            let key = FlowKey {
                client: Address::from_v4([198, a, b, c]),
                client_port: network_port((count % 50_000) as u16 + 1024),
                service: Address::from_v4([203, 0, 113, 10]),
                service_port: network_port(80),
                protocol: Protocol::Tcp as u8,
            };
            let flow = NewFlow {
                key,
                backend: 1 + count % BACKENDS,
                link: ClientLink::default(),
                expires: Ticks(now.0 + Ticks::from_seconds(900).0),
                path: Path::DIRECT,
                own_mac: 0,
                client_finished: false,
                shift: Shift::NONE,
            };
            let place = Place::of(&SETTINGS, key.client, key.client_port, key.protocol);
            let _ = memory.insert(FlowTable::Established, &flow);
            let words = rings.all();
            let number = words[sync::cursor(0) as usize].fetch_add(1);
            words[sync::slot(0, number) as usize].store(ports::mark(place));
            count += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_begins_is_known_to_the_other_end() {
        let cost = cost(5000, Duration::from_secs(1)).unwrap();
        assert!(cost.known > 0.999, "{cost:?}");
        assert!(cost.bytes < 100.0, "{cost:?}");
    }

    /// As many as one tick of catching up does not tell.
    #[test]
    fn who_comes_anew_has_caught_up_when_it_knows_all() {
        let [mut one, mut two] = ends().unwrap();
        let rings = Words::detached(sync::WORDS).unwrap();
        let count = begin_flows(&one.flows, &rings, (30_000, Duration::from_millis(500))).unwrap();
        for end in [&mut one, &mut two] {
            end.given.waits = Some(Duration::from_secs(10));
        }
        let flows = two.flows.clone();
        let stops = [&one, &two].map(|end| Arc::clone(&end.given.stop));
        let tallies = [&one, &two].map(|end| Arc::clone(&end.given.tally));
        let threads = [one, two].map(|end| thread::spawn(|| end.work()));
        let began = Instant::now();
        let is_caught_up = |tally: &Arc<Mutex<Tally>>| tally.lock().unwrap().is_caught_up;
        while !is_caught_up(&tallies[1]) {
            assert!(began.elapsed() < Duration::from_secs(5));
            thread::sleep(Duration::from_millis(1));
        }
        let mut known = 0;
        flows
            .for_each(FlowTable::Established, |bucket| {
                known += bucket.flows().count();
            })
            .unwrap();
        // Nor does the other one wait, which is told by one that waits itself.
        while !is_caught_up(&tallies[0]) {
            assert!(began.elapsed() < Duration::from_secs(5));
            thread::sleep(Duration::from_millis(1));
        }
        for stop in stops {
            stop.store(true, Ordering::Relaxed);
        }
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        assert_eq!(known, count as usize);
    }
}
