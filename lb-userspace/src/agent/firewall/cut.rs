//! Who talks to this host by TCP now, and would be cut off by a change of the firewall.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lb_common::firewall::Action;

use super::plan::{Entries, longest_match};

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
}

/// All there are, of processes in this network namespace.
pub(in crate::agent) fn peers() -> Vec<Peer> {
    let mut peers: Vec<Peer> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        // Without the file nobody can be named.
        .flat_map(|file| parse(&fs::read_to_string(file).unwrap_or_default()))
        .filter(|peer| !peer.address.is_loopback())
        .collect();
    peers.sort_unstable();
    peers.dedup();
    peers
}

fn parse(table: &str) -> Vec<Peer> {
    const ESTABLISHED: &str = "01";
    let peer = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        if fields.next()? != ESTABLISHED {
            return None;
        }
        let (_, port) = local.split_once(':')?;
        let (address, _) = remote.split_once(':')?;
        Some(Peer {
            address: self::address(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
        })
    };
    table
        .lines()
        .skip(1)
        .take(MOST_LINES)
        .filter_map(peer)
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
    let named = cut.iter().take(MOST_NAMED);
    let named: Vec<String> = named
        .map(|peer| format!("{} with port {} here", peer.address, peer.port))
        .collect();
    let more = match cut.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "it would cut off established connections of this host: {}{more}",
        named.join(", ")
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
        };
        assert_eq!(parse(TABLE), [peer]);
        let other = Peer {
            address: "2001:db8::9".parse().unwrap(),
            port: 22,
        };
        assert_eq!(parse(TABLE_6), [other, peer]);
        for odd in ["", "head", "head\n1: x:y z:0 01", "head\n1: é:1 é:2 01"] {
            assert_eq!(parse(odd), []);
        }
    }

    #[test]
    fn whoever_would_be_cut_off_is_named() {
        let peers = parse(TABLE);
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
        let caller = Some("::ffff:192.0.2.9");
        let said = said(&none, &deny("192.0.2.0", 24), caller).unwrap();
        assert!(said.contains("192.0.2.9"), "{said}");
    }
}
