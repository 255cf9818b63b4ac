//! A service's address answers pings, though no interface has it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::Lab;
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, Check, Farm, Mode, Service, routed_backends};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

in_both_modes!(an_address_of_no_interface);

fn an_address_of_no_interface(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 1)?;
    let vips: [IpAddr; 2] = ["203.0.113.77".parse()?, "2001:db8::77".parse()?];
    let mut config = Farm::config(&lab, mode);
    for (name, vip) in ["web", "web6"].into_iter().zip(vips) {
        let backends = routed_backends(vip, 1, 80);
        config = config.service(Service::tcp(name, vip, 80, backends).check(Check::None));
    }
    let client = lab.namespace("client")?;
    client.sysctl("net.ipv4.ping_group_range", "0 0")?;
    for vip in vips {
        ensure!(!ping(&lab, vip, 8)?, "{vip} answers without a balancer");
    }
    let agent = Agent::start(&lab, &config)?;
    for vip in vips {
        for size in [0, 56, 1400] {
            ensure!(ping(&lab, vip, size)?, "{vip} does not answer {size} bytes");
        }
    }
    let status = agent.status()?;
    ensure!(status.verdict("answered_echo")? == 6, "{status:?}");
    status.expect_no_drops()
}

/// Whether an address answers an echo request with that payload.
pub(super) fn ping(lab: &Lab, address: IpAddr, size: usize) -> Result<bool> {
    let (family, protocol, request) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let open = || socket(family, SockType::Datagram, flags, protocol);
    // The kernel fills in identifier and checksum, and tells datagrams apart as those of UDP.
    let socket = UdpSocket::from(lab.within("client", open)??);
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let message = [&[request, 0, 0, 0, 0, 0, 0, 1][..], &vec![0xa5; size]].concat();
    if socket
        .send_to(&message, SocketAddr::new(address, 0))
        .is_err()
    {
        return Ok(false);
    }
    let mut buffer = vec![0; 2048];
    let Ok((length, from)) = socket.recv_from(&mut buffer) else {
        return Ok(false);
    };
    ensure!(from.ip() == address, "{from} answers for {address}");
    ensure!(
        buffer[8..length] == message[8..],
        "another payload came back"
    );
    Ok(true)
}
