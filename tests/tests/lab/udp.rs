//! UDP: requests and answers, a port that keeps its backend, the order over new ports.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_lab::{Lab, Routed, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Farm, Mode, Server, Service, ask_datagram, checksum_errors, expect_cycle,
    routed_backends,
};

use crate::WEBS;

const PORT: u16 = 5300;
const BACKEND_PORT: u16 = 9053;

in_both_modes!(a_port_keeps_its_backend, a_silent_port_is_forgotten);

fn a_port_keeps_its_backend(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = servers(&lab)?;
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let mut config = Farm::config(&lab, mode);
    for (name, vip) in ["echo", "echo6"].into_iter().zip(vips) {
        let backends = routed_backends(vip, 3, BACKEND_PORT);
        config = config.service(Service::udp(name, vip, PORT, backends));
    }
    let agent = Agent::start(&lab, &config)?;
    for (service, vip) in ["echo", "echo6"].into_iter().zip(vips) {
        let address = SocketAddr::new(vip, PORT);
        let sockets = (0..9)
            .map(|_| client(&lab, vip))
            .collect::<Result<Vec<_>>>()?;
        for round in 0..4 {
            let ask = |socket| ask_datagram(socket, address, &format!("round {round}"));
            let names = sockets.iter().map(ask).collect::<Result<Vec<_>>>()?;
            expect_cycle(&names, &WEBS)?;
        }
        // Larger ones, and an empty one.
        let [first, second, ..] = sockets.as_slice() else {
            unreachable!("there are nine")
        };
        ensure!(ask_datagram(first, address, &"x".repeat(1400))? == "web1");
        ensure!(ask_datagram(second, address, "")? == "web2");

        let status = agent.status()?;
        status.service(service)?.expect("connections", &[3, 3, 3])?;
        status
            .service(service)?
            .expect("active_flows", &[3, 3, 3])?;
        status.service(service)?.expect("packets", &[13, 13, 12])?;
        let replies = status.service(service)?.each("reply_packets")?;
        ensure!(replies == [13, 13, 12], "replies: {replies:?}");
        status.expect_no_drops()?;
    }
    for namespace in ["client", "web1", "web2", "web3"] {
        let errors = checksum_errors(&lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}

fn a_silent_port_is_forgotten(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = servers(&lab)?;
    let backends = routed_backends(VIP4, 3, BACKEND_PORT);
    let service = Service::udp("echo", VIP4, PORT, backends).number("idle_timeout_seconds", 2);
    let agent = Agent::start(&lab, &Farm::config(&lab, mode).service(service))?;
    let address = SocketAddr::new(VIP4.into(), PORT);
    let socket = client(&lab, VIP4.into())?;
    let began = Instant::now();
    // Longer than the timeout, but never silent for as long.
    while began.elapsed() < Duration::from_secs(3) {
        ensure!(ask_datagram(&socket, address, "still there?")? == "web1");
    }
    agent.await_service(
        Duration::from_secs(10),
        "echo",
        "the flow is gone",
        |service| service.expect("active_flows", &[0, 0, 0]),
    )?;
    ensure!(
        ask_datagram(&socket, address, "once more")? == "web2",
        "the flow is still there"
    );
    agent
        .status()?
        .service("echo")?
        .expect("connections", &[1, 1, 0])
}

fn servers(lab: &Routed) -> Result<Vec<Server>> {
    let start = |number| {
        let addresses =
            Routed::server_addresses(number).map(|address| SocketAddr::new(address, BACKEND_PORT));
        Server::datagrams(lab, &format!("web{number}"), &addresses)
    };
    (1..=3).map(start).collect()
}

fn client(lab: &Lab, vip: IpAddr) -> Result<UdpSocket> {
    let any = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    Ok(lab.within("client", || UdpSocket::bind(any))??)
}
