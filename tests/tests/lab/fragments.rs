//! A datagram of several fragments arrives whole at one server, and so does its answer.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Farm, Mode, Server, Service, ask_datagram, checksum_errors, expect_cycle,
    routed_backends,
};

use crate::WEBS;

const PORT: u16 = 5300;
const BACKEND_PORT: u16 = 9053;
const SIZE: usize = 8000;
/// Pieces that a datagram of that size is cut into by an MTU of 1,500.
const PIECES: u64 = 6;

in_both_modes!(large_datagrams_and_their_answers);

fn large_datagrams_and_their_answers(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = (1..=3)
        .map(|number| {
            let listen = Routed::server_addresses(number)
                .map(|address| SocketAddr::new(address, BACKEND_PORT));
            Server::datagrams(&lab, &format!("web{number}"), &listen)
        })
        .collect::<Result<Vec<_>>>()?;
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let mut config = Farm::config(&lab, mode);
    for (name, vip) in ["echo", "echo6"].into_iter().zip(vips) {
        let backends = routed_backends(vip, 3, BACKEND_PORT);
        config = config.service(Service::udp(name, vip, PORT, backends));
    }
    let agent = Agent::start(&lab, &config)?;
    for (service, (vip, own)) in ["echo", "echo6"]
        .into_iter()
        .zip(vips.into_iter().zip(Routed::client_addresses()))
    {
        let text = "fragment".repeat(SIZE / 8);
        let sockets = (0..6)
            .map(|_| Ok(lab.within("client", || UdpSocket::bind((own, 0)))??))
            .collect::<Result<Vec<_>>>()?;
        for _ in 0..2 {
            let ask = |socket| ask_datagram(socket, SocketAddr::new(vip, PORT), &text);
            let names = sockets.iter().map(ask).collect::<Result<Vec<_>>>()?;
            expect_cycle(&names, &WEBS)?;
        }
        let status = agent.status()?;
        let entry = status.service(service)?;
        entry.expect("connections", &[2, 2, 2])?;
        entry.expect("packets", &[4 * PIECES; 3])?;
        let replies = entry.each("reply_packets")?;
        ensure!(replies == [4 * PIECES; 3], "replies: {replies:?}");
        status.expect_no_drops()?;
    }
    for namespace in ["client", "web1", "web2", "web3"] {
        let errors = checksum_errors(&lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}
