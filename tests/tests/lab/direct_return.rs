//! `dsr-l2` with one arm: the server sees the client's address, and its replies go past the
//! balancer.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{Segment, VIP4, VIP6, get};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Config, Mode, Service, checksum_errors, expect_cycle, names, segment_backends,
    sent_packets,
};

use crate::{WEBS, web, web6};

in_both_modes!(replies_go_past_the_balancer);

fn replies_go_past_the_balancer(mode: Mode) -> Result<()> {
    let lab = Segment::new(3)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    let servers = (1..=3)
        .map(|number| lab.start_nginx(number, 80))
        .collect::<Result<Vec<_>>>()?;
    let mut config = Config::new(&lab, &["l0".to_owned()], mode);
    config = config
        .service(
            Service::tcp("web", VIP4, 80, segment_backends(VIP4, 3, 80))
                .key("forwarding", "dsr-l2"),
        )
        .service(
            Service::tcp("web6", VIP6, 80, segment_backends(VIP6, 3, 80))
                .key("forwarding", "dsr-l2"),
        );
    let agent = Agent::start(&lab, &config)?;

    for (service, vip, client) in [("web", web(), 0), ("web6", web6(), 1)] {
        expect_cycle(&names(&lab, vip, 30)?, &WEBS)?;
        let answer = lab.within("client", || get(vip, "/client", Duration::from_secs(8)))??;
        let seen = String::from_utf8_lossy(&answer.body).trim().to_owned();
        let own = Segment::client_addresses()[client].to_string();
        ensure!(seen == own, "the server sees {seen}, the client is {own}");
        let status = agent.status()?;
        status
            .service(service)?
            .expect("connections", &[11, 10, 10])?;
        let replies = status.service(service)?.each("reply_packets")?;
        ensure!(replies == [0, 0, 0], "replies came by: {replies:?}");
        ensure!(status.verdict("steered_reply")? == 0, "{status:?}");
        status.expect_no_drops()?;
    }

    // A large answer crosses the wire to the client, and not the balancer's.
    std::fs::write(servers[0].root().join("big"), vec![b'x'; 1 << 20])?;
    std::fs::write(servers[1].root().join("big"), vec![b'x'; 1 << 20])?;
    let before = sent_packets(&lab, "lb", "l0")?;
    let answer = lab.within("client", || get(web(), "/big", Duration::from_secs(5)))??;
    ensure!(
        answer.body.len() == 1 << 20,
        "{} bytes came",
        answer.body.len()
    );
    let towards = agent.status()?.service("web")?.number("packets")?;
    ensure!(towards > 0);
    let sent = sent_packets(&lab, "lb", "l0")? - before;
    eprintln!("the balancer sent {sent} packets while 1 MB went to the client");
    for namespace in ["client", "web1", "web2", "web3"] {
        let errors = checksum_errors(&lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}
