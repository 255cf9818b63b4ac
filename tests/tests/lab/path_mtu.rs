//! A way to a server with a smaller MTU: the balancer tells the client, which sends smaller packets.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Farm, Mode, Server, Service, checksum_errors, routed_backends, upload,
};

const PORT: u16 = 8081;
const MTU: u32 = 1300;

in_both_modes!(the_client_learns_of_it);

fn the_client_learns_of_it(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 1)?;
    // The server does not know, and asks for full segments.
    lab.namespace("lb")?
        .ip(&format!("link set lb1 mtu {MTU}"))?;
    let listen = Routed::server_addresses(1).map(|address| SocketAddr::new(address, PORT));
    let _server = Server::digest(&lab, "web1", &listen)?;
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let mut config = Farm::config(&lab, mode);
    for (name, vip) in ["up", "up6"].into_iter().zip(vips) {
        let backends = routed_backends(vip, 1, PORT);
        config = config.service(Service::tcp(name, vip, PORT, backends).check(Check::None));
    }
    let agent = Agent::start(&lab, &config)?;
    let mut told = 0;
    for vip in vips {
        let content = vec![0x5a; 1 << 20];
        let address = SocketAddr::new(vip, PORT);
        lab.within("client", || upload(address, &content))??;
        let status = agent.status()?;
        let now = status.verdict("answered_too_big")?;
        ensure!(now > told, "nobody was told: {status:?}");
        // Once it knows, it keeps to it.
        lab.within("client", || upload(address, &content))??;
        told = agent.status()?.verdict("answered_too_big")?;
        ensure!(told == now, "told {told} times instead of {now}");
    }
    for namespace in ["client", "web1"] {
        let errors = checksum_errors(&lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}
