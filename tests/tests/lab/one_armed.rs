//! NAT with one arm: everything is on one segment, and the servers reach the client by the
//! balancer.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use lb_lab::{Segment, VIP4, get};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Config, Mode, PATIENCE, Service, checksum_errors, expect_cycle, names, segment_backends,
};

use crate::{WEBS, web};

in_both_modes!(nat_on_one_segment);

fn nat_on_one_segment(mode: Mode) -> Result<()> {
    let lab = Segment::new(3)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    let servers = (1..=3)
        .map(|number| lab.start_nginx(number, 8080))
        .collect::<Result<Vec<_>>>()?;
    let [client, _] = Segment::client_addresses();
    for number in 1..=3 {
        // Replies must come back through the balancer, and the client is a neighbour.
        lab.namespace(&format!("web{number}"))?
            .ip(&format!("route add {client}/32 via 10.30.0.1"))?;
    }
    let service = Service::tcp("web", VIP4, 80, segment_backends(VIP4, 3, 8080));
    let config = Config::new(&lab, &["l0".to_owned()], mode).service(service);
    let agent = Agent::start(&lab, &config)?;
    expect_cycle(&names(&lab, web(), 30)?, &WEBS)?;
    let answer = lab.within("client", || get(web(), "/client", PATIENCE))??;
    let seen: IpAddr = String::from_utf8_lossy(&answer.body).trim().parse()?;
    ensure!(
        seen == client,
        "the server sees {seen}, the client is {client}"
    );

    // Full segments both ways out of the interface they came in by.
    let big = vec![b'x'; 1 << 20];
    for server in &servers {
        std::fs::write(server.root().join("big"), &big)?;
    }
    let answer = lab.within("client", || get(web(), "/big", PATIENCE))??;
    ensure!(answer.body == big, "{} other bytes came", answer.body.len());

    let status = agent.status()?;
    status
        .service("web")?
        .expect("connections", &[11, 11, 10])?;
    ensure!(status.verdict("steered_reply")? > 700, "{status:?}");
    status.expect_no_drops()?;
    for namespace in ["client", "web1", "web2", "web3"] {
        let errors = checksum_errors(&lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}
