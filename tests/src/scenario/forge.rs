//! What somebody sends who forges where it comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::Lab;
use lb_packets::{Fields, Packet, SYN};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Packets between two pauses.
const BURST: u32 = 100;

/// Sends so many SYNs to an IPv4 service from the namespace `client`, each from an address and port of
/// its own that nobody has; a thousandth of a second's pause after every hundred.
///
/// # Errors
/// When they cannot be sent.
pub fn forge_syns(lab: &Lab, service: SocketAddrV4, count: u32) -> Result<()> {
    lab.within("client", || {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        )?;
        let to = SockaddrIn::from(service);
        for number in 0..count {
            let frame = syn(number, service).bytes();
            let sent = sendto(
                socket.as_raw_fd(),
                &frame[ETHERNET..],
                &to,
                MsgFlags::empty(),
            )?;
            ensure!(sent == frame.len() - ETHERNET, "{sent} bytes were sent");
            if number % BURST == BURST - 1 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    })?
}

fn syn(number: u32, service: SocketAddrV4) -> Packet {
    let [_, b, c, d] = number.to_be_bytes();
    let source = IpAddr::V4(Ipv4Addr::new(198, 18 + (b & 1), c, d));
    let port = 1024 + (number % 60_000) as u16;
    let fields = Fields {
        flags: SYN,
        sequence: number,
        acknowledgement: 0,
        window: 64240,
        has_options: false,
    };
    Packet::tcp(SocketAddr::new(source, port), service.into(), fields)
}
