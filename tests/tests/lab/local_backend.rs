//! A backend on the balancer itself: its share of the connections goes to the kernel as it is, and
//! stays there.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Backend, Check, EchoClient, Farm, Mode, Server, Service, expect_cycle, routed_backends,
};

const PORT: u16 = 7000;

in_both_modes!(one_of_two_is_here);

fn one_of_two_is_here(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 1)?;
    let listen = Routed::server_addresses(1).map(|address| SocketAddr::new(address, PORT));
    let _other = Server::echo(&lab, "web1", &listen)?;
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    // Packets arrive for the service's address; checks for the host's own.
    let own: [IpAddr; 2] = ["10.10.0.1".parse()?, "fd00:10::1".parse()?];
    let here = [vips, own].concat();
    let here: Vec<_> = here
        .into_iter()
        .map(|address| SocketAddr::new(address, PORT))
        .collect();
    let _here = Server::echo(&lab, "lb", &here)?;
    let mut config = Farm::config(&lab, mode);
    for ((name, vip), own) in ["echo", "echo6"].into_iter().zip(vips).zip(own) {
        let mut backends = routed_backends(vip, 1, PORT);
        backends.push(Backend {
            name: "lb".to_owned(),
            address: own,
            ..backends[0].clone()
        });
        config = config.service(Service::tcp(name, vip, PORT, backends).check(Check::Tcp));
    }
    let agent = Agent::start(&lab, &config)?;
    for (name, vip) in ["echo", "echo6"].into_iter().zip(vips) {
        let address = SocketAddr::new(vip, PORT);
        let open = || {
            (0..6)
                .map(|_| EchoClient::open(address))
                .collect::<Result<Vec<_>>>()
        };
        let mut clients = lab.within("client", open)??;
        for round in ["once", "again"] {
            let ask = |client: &mut EchoClient| client.ask(round);
            let names = clients.iter_mut().map(ask).collect::<Result<Vec<_>>>()?;
            expect_cycle(&names, &["web1", "lb"])?;
        }
        let status = agent.status()?;
        let entry = status.service(name)?;
        entry.expect("connections", &[3, 3])?;
        // Established here too, though nobody sees the replies.
        entry.expect("active_flows", &[3, 3])?;
        ensure!(status.event("handshake_unproven")? == 0, "{status:?}");
        status.expect_no_drops()?;
    }
    ensure!(agent.status()?.verdict("steered_local")? > 20);
    Ok(())
}
