//! `mss_clamp`: connections through a tunnel or by choice announce smaller segments, seen from both
//! ends by the sockets themselves.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, Check, Farm, Mode, Service, routed_backends};
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

const PORT: u16 = 7000;
const CLAMP: u32 = 1000;

in_both_modes!(both_ends_keep_to_it);

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
