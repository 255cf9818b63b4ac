//! Which hosts answer a ping.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
        SockaddrStorage, recvfrom, sendto, setsockopt, socket, sockopt::ReceiveTimeout,
    },
    time::TimeVal,
};

/// How long answers may take.
const PATIENCE: Duration = Duration::from_millis(700);
/// More would be a flood.
const MOST: usize = 1000;
const HEADER: usize = 8;
const ECHO_REQUEST: [u8; 2] = [8, 128];
const ECHO_REPLY: [u8; 2] = [0, 129];

/// Pings the first thousand of them, all at once; nothing where this process may not.
pub(super) fn ask(addresses: &[IpAddr]) -> Option<BTreeSet<IpAddr>> {
    let mut answering = BTreeSet::new();
    for is_v6 in [false, true] {
        let asked: BTreeSet<IpAddr> = addresses
            .iter()
            .filter(|address| address.is_ipv6() == is_v6)
            .take(MOST)
            .copied()
            .collect();
        if !asked.is_empty() {
            answering.extend(ask_family(is_v6, &asked)?);
        }
    }
    Some(answering)
}

fn ask_family(is_v6: bool, asked: &BTreeSet<IpAddr>) -> Option<BTreeSet<IpAddr>> {
    let (family, protocol) = if is_v6 {
        (AddressFamily::Inet6, SockProtocol::IcmpV6)
    } else {
        (AddressFamily::Inet, SockProtocol::Icmp)
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).ok()?;
    let id = (std::process::id() as u16).to_be_bytes();
    for address in asked {
        let packet = request(is_v6, id);
        // What cannot be sent is not answered.
        let _ = send(&socket, *address, &packet);
    }
    let mut answering = BTreeSet::new();
    let end = Instant::now() + PATIENCE;
    while answering.len() < asked.len() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        // Zero would be without end.
        let wait = TimeVal::new(0, (left.as_micros() as i64).clamp(1000, 999_999));
        setsockopt(&socket, ReceiveTimeout, &wait).ok()?;
        let mut packet = [0; 512];
        let Ok((length, Some(from))) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut packet)
        else {
            continue;
        };
        let from = from
            .as_sockaddr_in()
            .map(|one| IpAddr::V4(one.ip()))
            .or_else(|| from.as_sockaddr_in6().map(|one| IpAddr::V6(one.ip())));
        if let Some(from) = from
            && asked.contains(&from)
            && is_reply(is_v6, &packet[..length], id)
        {
            answering.insert(from);
        }
    }
    Some(answering)
}

fn send(socket: &OwnedFd, address: IpAddr, packet: &[u8]) -> nix::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT;
    match SocketAddr::new(address, 0) {
        SocketAddr::V4(v4) => {
            let to: SocketAddrV4 = v4;
            sendto(socket.as_raw_fd(), packet, &SockaddrIn::from(to), flags)
        }
        SocketAddr::V6(v6) => {
            let to: SocketAddrV6 = v6;
            sendto(socket.as_raw_fd(), packet, &SockaddrIn6::from(to), flags)
        }
    }
}

/// An echo request. Of ICMPv6 the kernel makes the checksum.
fn request(is_v6: bool, id: [u8; 2]) -> [u8; HEADER] {
    let kind = ECHO_REQUEST[usize::from(is_v6)];
    let sum = u32::from(kind) << 8;
    let sum = sum + u32::from(u16::from_be_bytes(id)) + 1;
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    let [high, low] = sum.to_be_bytes();
    [kind, 0, high, low, id[0], id[1], 0, 1]
}

/// Whether this is the reply to a request with that id. IPv4 comes with its header.
fn is_reply(is_v6: bool, packet: &[u8], id: [u8; 2]) -> bool {
    let start = match packet.first() {
        Some(first) if !is_v6 => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let Some(icmp) = packet.get(start..start + HEADER) else {
        return false;
    };
    icmp[0] == ECHO_REPLY[usize::from(is_v6)] && icmp[4..6] == id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_checksum_and_a_reply_is_known() {
        let packet = request(false, [0xab, 0xcd]);
        let words = packet
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        let mut reply = vec![0x45; 20];
        reply.extend([0, 0, 0, 0, 0xab, 0xcd, 0, 1]);
        assert!(is_reply(false, &reply, [0xab, 0xcd]));
        assert!(!is_reply(false, &reply, [0xab, 0xce]));
        assert!(!is_reply(false, &reply[..27], [0xab, 0xcd]));
        assert!(!is_reply(true, &[], [0, 0]));
        assert!(is_reply(true, &[129, 0, 0, 0, 1, 2, 0, 1], [1, 2]));
    }
}
