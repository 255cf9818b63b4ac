//! `one_packet`: every datagram goes by the client's address and port, and nothing is remembered.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use lb_lab::{Segment, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, Config, Mode, Server, Service, ask_datagram, segment_backends};

const PORT: u16 = 5300;
const SOCKETS: u64 = 30;
const ROUNDS: u64 = 4;

in_both_modes!(a_port_keeps_its_server_without_a_flow);

fn a_port_keeps_its_server_without_a_flow(mode: Mode) -> Result<()> {
    let lab = Segment::new(3)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let listen = vips.map(|vip| SocketAddr::new(vip, PORT));
    let _servers = (1..=3)
        .map(|number| Server::datagrams(&lab, &format!("web{number}"), &listen))
        .collect::<Result<Vec<_>>>()?;
    let mut config = Config::new(&lab, &["l0".to_owned()], mode);
    for (name, vip) in ["echo", "echo6"].into_iter().zip(vips) {
        config = config.service(
            Service::udp(name, vip, PORT, segment_backends(vip, 3, PORT))
                .key("forwarding", "dsr-l2")
                .raw("one_packet", "true"),
        );
    }
    let agent = Agent::start(&lab, &config)?;
    for ((name, address), own) in ["echo", "echo6"]
        .into_iter()
        .zip(listen)
        .zip(Segment::client_addresses())
    {
        let mut seen = BTreeSet::new();
        for _ in 0..SOCKETS {
            let socket = lab.within("client", || UdpSocket::bind((own, 0)))??;
            let server = ask_datagram(&socket, address, "first")?;
            for _ in 1..ROUNDS {
                let again = ask_datagram(&socket, address, "again")?;
                ensure!(again == server, "{server}, and then {again}");
            }
            seen.insert(server);
        }
        ensure!(seen.len() == 3, "only {seen:?} of three got anything");
        let status = agent.status()?;
        let entry = status.service(name)?;
        entry.expect("active_flows", &[0, 0, 0])?;
        let packets: u64 = entry.each("packets")?.iter().sum();
        ensure!(packets == SOCKETS * ROUNDS, "{packets} packets");
        status.expect_no_drops()?;
    }
    Ok(())
}
