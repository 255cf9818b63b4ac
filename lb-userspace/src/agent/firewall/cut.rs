//! Who talks to this host by TCP now, and would be cut off by a change of the firewall.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lb_common::firewall::Action;

use super::{
    lock::Lock,
    plan::{Entries, longest_match},
};

/// Connections that are named in a message.
const MOST_NAMED: usize = 3;
/// Lines of a table that are looked at.
const MOST_LINES: usize = 200_000;

/// A connection of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::agent) struct Peer {
    address: IpAddr,
    /// This host's.
    port: u16,
    /// Whether somebody listens at that port, so that the other side began it.
    is_inbound: bool,
}

impl Peer {
    /// This host's port.
    pub(in crate::agent) fn port(self) -> u16 {
        self.port
    }
}

/// All there are, of processes in this network namespace.
pub(in crate::agent) fn peers() -> Vec<Peer> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        // Without the file nobody can be named.
        .map(|file| fs::read_to_string(file).unwrap_or_default());
    let mut peers: Vec<Peer> = parse(&tables);
    peers.retain(|peer| !peer.address.is_loopback());
    peers.sort_unstable();
    peers.dedup();
    peers
}

fn parse<T: AsRef<str>>(tables: &[T]) -> Vec<Peer> {
    const ESTABLISHED: &str = "01";
    const LISTENING: &str = "0A";
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        let state = fields.next()?.to_owned();
        let (_, port) = local.split_once(':')?;
        let (address, _) = remote.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((state, self::address(address)?, port))
    };
    let lines = |table: &T| -> Vec<_> {
        let lines = table.as_ref().lines().skip(1);
        lines.take(MOST_LINES).filter_map(line).collect()
    };
    let all: Vec<(String, IpAddr, u16)> = tables.iter().flat_map(lines).collect();
    let in_state = |wanted: &'static str| all.iter().filter(move |(state, ..)| state == wanted);
    let listening: HashSet<u16> = in_state(LISTENING).map(|(.., port)| *port).collect();
    in_state(ESTABLISHED)
        .map(|(_, address, port)| Peer {
            address: *address,
            port: *port,
            is_inbound: listening.contains(port),
        })
        .collect()
}

/// Words of the memory, in hexadecimal digits.
fn address(digits: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = (0..digits.len() / 8)
        .map(|word| {
            let digits = digits.get(word * 8..word * 8 + 8)?;
            Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
        })
        .collect::<Option<_>>()?;
    match words.as_slice() {
        [word] => Some(Ipv4Addr::from(*word).into()),
        [_, _, _, _] => {
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

fn is_denied(entries: &Entries, address: IpAddr) -> bool {
    let whole = if address.is_ipv4() { 32 } else { 128 };
    longest_match(entries, address, whole).is_some_and(|(_, action)| action == Action::Deny)
}

/// Who talks to a port of this host that nobody like it could begin to talk to any more, in a
/// sentence. What is established goes on, so it would be noticed too late.
pub(in crate::agent) fn locked_out(
    before: Option<&Lock>,
    after: &Lock,
    peers: &[Peer],
) -> Option<String> {
    let is_out = |lock: &Lock, peer: &Peer| !lock.lets_in(peer.address, peer.port);
    let out: Vec<&Peer> = peers
        .iter()
        .filter(|peer| peer.is_inbound && is_out(after, peer))
        .filter(|peer| !before.is_some_and(|lock| is_out(lock, peer)))
        .collect();
    if out.is_empty() {
        return None;
    }
    let ports: BTreeSet<u16> = out.iter().map(|peer| peer.port).collect();
    let ports: Vec<String> = ports
        .iter()
        .take(MOST_NAMED)
        .map(|port| format!("\"tcp/{port}\""))
        .collect();
    Some(format!(
        "default = \"deny\" would keep out who is connected to this host now: {} (add {} to \
         host_ports, or its address to allow)",
        named(&out),
        ports.join(", ")
    ))
}

/// Some of them, in words.
fn named(peers: &[&Peer]) -> String {
    let named: Vec<String> = peers
        .iter()
        .take(MOST_NAMED)
        .map(|peer| format!("{} with port {} here", peer.address, peer.port))
        .collect();
    let more = match peers.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    named.join(", ") + &more
}

/// Who of those that are logged in, or ask, is not denied yet and will be, in a sentence's end.
pub(in crate::agent) fn cut_callers(
    before: &Entries,
    after: &Entries,
    callers: &[IpAddr],
) -> Option<String> {
    let callers: BTreeSet<IpAddr> = callers.iter().map(IpAddr::to_canonical).collect();
    let cut: Vec<String> = callers
        .into_iter()
        .filter(|caller| is_denied(after, *caller) && !is_denied(before, *caller))
        .map(|caller| caller.to_string())
        .collect();
    let more = match cut.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = cut.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>();
    (!cut.is_empty()).then(|| {
        format!(
            "would cut off {}{more}, from where somebody is logged in here or asks for this",
            named.join(", ")
        )
    })
}

/// Who is not denied yet and will be, in a sentence.
pub(in crate::agent) fn cut_off(
    before: &Entries,
    after: &Entries,
    peers: &[Peer],
    caller: Option<IpAddr>,
) -> Option<String> {
    let is_cut = |address| is_denied(after, address) && !is_denied(before, address);
    let caller = caller.map(|address| address.to_canonical());
    if let Some(caller) = caller.filter(|caller| is_cut(*caller)) {
        return Some(format!(
            "it would cut off {caller}, from where this is asked (SSH or the admin port)"
        ));
    }
    let cut: Vec<&Peer> = peers.iter().filter(|peer| is_cut(peer.address)).collect();
    if cut.is_empty() {
        return None;
    }
    Some(format!(
        "it would cut off established connections of this host: {}",
        named(&cut)
    ))
}

#[cfg(test)]
mod tests {
    use lb_common::firewall::Prefix;

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue\n\
        \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
        \x20  1: 0A0200C0:0016 076433C6:D431 01 00000000:00000000\n\
        \x20  2: 0A0200C0:0016 086433C6:D431 06 00000000:00000000\n\
        \x20  3: short\n";
    const TABLE_6: &str = "head\n 0: \
        B80D0120000000000000000001000000:0016 B80D0120000000000000000009000000:D431 01\n 1: \
        0000000000000000FFFF00000A0200C0:0016 0000000000000000FFFF0000076433C6:D431 01\n";

    fn deny(text: &str, length: u8) -> Entries {
        Entries::from([(Prefix::new(text.parse().unwrap(), length), Action::Deny)])
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let peer = Peer {
            address: "198.51.100.7".parse().unwrap(),
            port: 22,
            is_inbound: false,
        };
        assert_eq!(parse(&[TABLE]), [peer]);
        let other = Peer {
            address: "2001:db8::9".parse().unwrap(),
            port: 22,
            is_inbound: false,
        };
        assert_eq!(parse(&[TABLE_6]), [other, peer]);
        for odd in ["", "head", "head\n1: x:y z:0 01", "head\n1: é:1 é:2 01"] {
            assert_eq!(parse(&[odd]), []);
        }
    }

    #[test]
    fn whoever_would_be_locked_out_is_named() {
        let listens = format!("{TABLE}   4: 00000000:0016 00000000:0000 0A\n");
        let inbound = parse(&[listens]);
        assert!(inbound.iter().all(|peer| peer.is_inbound));
        let none = Lock::default();
        let said = locked_out(None, &none, &inbound).unwrap();
        assert!(said.contains("198.51.100.7 with port 22"), "{said}");
        assert!(said.contains("\"tcp/22\""), "{said}");
        assert_eq!(
            locked_out(Some(&none), &none, &inbound),
            None,
            "it is out already"
        );
        // What this host began goes on.
        assert_eq!(locked_out(None, &none, &parse(&[TABLE])), None);
    }

    #[test]
    fn whoever_would_be_cut_off_is_named() {
        let peers = parse(&[TABLE]);
        let none = Entries::new();
        let said = |before: &Entries, after: &Entries, caller: Option<&str>| {
            let caller = caller.map(|text| text.parse().unwrap());
            cut_off(before, after, &peers, caller)
        };
        let all = deny("198.51.100.0", 24);
        assert!(
            said(&none, &all, None)
                .unwrap()
                .contains("198.51.100.7 with port 22")
        );
        assert_eq!(said(&all, &all, None), None, "they are cut off already");
        assert_eq!(said(&none, &deny("198.51.101.0", 24), None), None);
        let callers =
            ["::ffff:192.0.2.9", "192.0.2.9", "198.51.100.9"].map(|one| one.parse().unwrap());
        let one = deny("192.0.2.0", 24);
        let named = cut_callers(&none, &one, &callers).unwrap();
        assert!(
            named.starts_with("would cut off 192.0.2.9, from"),
            "{named}"
        );
        assert_eq!(cut_callers(&one, &one, &callers), None);
        assert_eq!(cut_callers(&none, &all, &callers[..2]), None);
        let caller = Some("::ffff:192.0.2.9");
        let said = said(&none, &deny("192.0.2.0", 24), caller).unwrap();
        assert!(said.contains("192.0.2.9"), "{said}");
    }
}
