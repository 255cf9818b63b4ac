//! Schedulers other than round robin, and affinity, with real connections.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, EchoClient, Farm, Mode, Server, Service, names, routed_backends,
};

use crate::{WEBS, web};

in_both_modes!(
    new_connections_go_where_the_fewest_are,
    an_address_stays_by_its_hash,
    connections_spread_by_their_hash,
    an_address_keeps_its_backend
);

const PORT: u16 = 7000;
const BACKEND_PORT: u16 = 7007;

fn new_connections_go_where_the_fewest_are(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let servers = (1..=3)
        .map(|number| {
            let [v4, _] = Routed::server_addresses(number);
            Server::echo(
                &lab,
                &format!("web{number}"),
                &[SocketAddr::new(v4, BACKEND_PORT)],
            )
        })
        .collect::<Result<Vec<_>>>()?;
    let backends = routed_backends(VIP4, 3, BACKEND_PORT);
    let service = Service::tcp("echo", VIP4, PORT, backends)
        .check(Check::None)
        .key("scheduler", "least-connections");
    let agent = Agent::start(&lab, &Farm::config(&lab, mode).service(service))?;
    let address = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    let open = |count: usize| {
        lab.within("client", || {
            (0..count)
                .map(|_| EchoClient::open(address))
                .collect::<Result<Vec<_>>>()
        })?
    };
    let mut clients = open(9)?;
    let mut names = clients
        .iter_mut()
        .map(|client| client.ask("who?"))
        .collect::<Result<Vec<_>>>()?;
    for web in WEBS {
        let count = names.iter().filter(|name| *name == web).count();
        ensure!(count == 3, "{web} has {count} of nine: {names:?}");
    }
    // Two of three leave the second server.
    for _ in 0..2 {
        let index = names.iter().position(|name| name == WEBS[1]).unwrap();
        names.remove(index);
        drop(clients.remove(index));
    }
    agent.await_service(
        Duration::from_secs(30),
        "echo",
        "closed flows are gone",
        |service| service.expect("active_flows", &[3, 1, 3]),
    )?;
    let mut later = open(2)?;
    for client in &mut later {
        let name = client.ask("who?")?;
        ensure!(name == WEBS[1], "{name} got a connection, not {}", WEBS[1]);
    }
    agent
        .status()?
        .service("echo")?
        .expect("active_flows", &[3, 3, 3])?;
    drop(servers);
    Ok(())
}

fn farm(mode: Mode, finish: impl FnOnce(Service) -> Service) -> Result<Farm> {
    let service = finish(Farm::web(3).check(Check::None));
    Farm::start(mode, 3, |config| config.service(service))
}

fn an_address_stays_by_its_hash(mode: Mode) -> Result<()> {
    let farm = farm(mode, |service| service.key("scheduler", "source-hash"))?;
    let names = names(&farm.lab, web(), 12)?;
    ensure!(names.iter().all(|name| *name == names[0]), "{names:?}");
    farm.agent.status()?.expect_no_drops()
}

fn connections_spread_by_their_hash(mode: Mode) -> Result<()> {
    let farm = farm(mode, |service| service.key("scheduler", "maglev"))?;
    let names = names(&farm.lab, web(), 90)?;
    for web in WEBS {
        // 30 are expected; less than 10 or more than 50 come once in 100,000 runs.
        let count = names.iter().filter(|name| *name == web).count();
        ensure!((10..=50).contains(&count), "{web} answered {count} of 90");
    }
    farm.agent.status()?.expect_no_drops()
}

fn an_address_keeps_its_backend(mode: Mode) -> Result<()> {
    let farm = farm(mode, |service| service.number("affinity_seconds", 300))?;
    let first = names(&farm.lab, web(), 12)?;
    ensure!(first.iter().all(|name| name == WEBS[0]), "{first:?}");
    farm.agent
        .status()?
        .service("web")?
        .expect("connections", &[12, 0, 0])
}
