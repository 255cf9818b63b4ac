//! `mss_clamp`: connections through a tunnel or by choice announce smaller segments, seen from both
//! ends by the sockets themselves.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Farm, Mode, PATIENCE, Service, await_until, routed_backends,
};
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

const PORT: u16 = 7000;
const CLAMP: u32 = 1000;

in_both_modes!(both_ends_keep_to_it, auto_follows_the_mtu_towards_clients);

fn both_ends_keep_to_it(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 1)?;
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let mut config = Farm::config(&lab, mode);
    for (name, vip) in ["echo", "echo6"].into_iter().zip(vips) {
        config = config.service(
            Service::tcp(name, vip, PORT, routed_backends(vip, 1, PORT))
                .check(Check::None)
                .number("mss_clamp", CLAMP),
        );
    }
    let _agent = Agent::start(&lab, &config)?;
    for (vip, server) in vips.into_iter().zip(Routed::server_addresses(1)) {
        let listener = lab.within("web1", || TcpListener::bind((server, PORT)))??;
        let address = SocketAddr::new(vip, PORT);
        let client = lab.within("client", || TcpStream::connect(address))??;
        let (accepted, _) = listener.accept()?;
        for (end, stream) in [("client", &client), ("server", &accepted)] {
            let size = getsockopt(stream, TcpMaxSeg)?;
            // Of what was announced, a timestamp takes twelve bytes.
            ensure!(
                size + 12 == CLAMP || size == CLAMP,
                "{end}: segments of {size} bytes"
            );
        }
    }
    Ok(())
}

/// Only the balancer knows that the way to its clients has a smaller MTU, and only since a moment.
fn auto_follows_the_mtu_towards_clients(mode: Mode) -> Result<()> {
    const BEFORE: u32 = 1400;
    const AFTER: u32 = 1300;
    let lab = Farm::wired(mode, 1)?;
    let towards_clients = |mtu: u32| {
        let balancer = lab.namespace("lb")?;
        balancer.ip(&format!("link set dev lc mtu {mtu}")).map(drop)
    };
    towards_clients(BEFORE)?;
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let mut config = Farm::config(&lab, mode);
    for (name, vip) in ["echo", "echo6"].into_iter().zip(vips) {
        config = config.service(
            Service::tcp(name, vip, PORT, routed_backends(vip, 1, PORT))
                .check(Check::None)
                .key("mss_clamp", "auto"),
        );
    }
    let _agent = Agent::start(&lab, &config)?;
    for (vip, server) in vips.into_iter().zip(Routed::server_addresses(1)) {
        let headers = if vip.is_ipv4() { 40 } else { 60 };
        let listener = lab.within("web1", || TcpListener::bind((server, PORT)))??;
        let expect = |mtu: u32| -> Result<()> {
            let address = SocketAddr::new(vip, PORT);
            let client = lab.within("client", || TcpStream::connect(address))??;
            let (accepted, _) = listener.accept()?;
            for (end, stream) in [("client", &client), ("server", &accepted)] {
                let size = getsockopt(stream, TcpMaxSeg)?;
                // A timestamp takes twelve bytes.
                ensure!(
                    size + 12 + headers == mtu,
                    "{end}: segments of {size} bytes to {vip}"
                );
            }
            Ok(())
        };
        expect(BEFORE)?;
        towards_clients(AFTER)?;
        await_until(PATIENCE, "segments are smaller", || expect(AFTER))?;
        towards_clients(BEFORE)?;
        await_until(PATIENCE, "segments are as before", || expect(BEFORE))?;
    }
    Ok(())
}
