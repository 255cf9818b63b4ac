//! `full-nat` with one arm: servers that have no way back through the balancer see its address and
//! answer to it.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{Segment, VIP4, VIP6, get};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Config, Mode, Service, checksum_errors, expect_cycle, names, segment_backends,
};

use crate::{WEBS, web, web6};

in_both_modes!(replies_come_back_by_themselves);

fn replies_come_back_by_themselves(mode: Mode) -> Result<()> {
    let lab = Segment::new(3)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    let servers = (1..=3)
        .map(|number| lab.start_nginx(number, 8080))
        .collect::<Result<Vec<_>>>()?;
    let mut config = Config::new(&lab, &["l0".to_owned()], mode);
    for (name, vip, own) in [
        ("web", VIP4.into(), Segment::balancer_addresses()[0]),
        (
            "web6",
            std::net::IpAddr::from(VIP6),
            Segment::balancer_addresses()[1],
        ),
    ] {
        config = config.service(
            Service::tcp(name, vip, 80, segment_backends(vip, 3, 8080))
                .key("forwarding", "full-nat")
                .raw("source_addresses", &format!("[\"{own}\"]")),
        );
    }
    let agent = Agent::start(&lab, &config)?;
    std::fs::write(servers[0].root().join("big"), vec![b'x'; 1 << 20])?;
    for (service, vip, own) in [("web", web(), 0), ("web6", web6(), 1)] {
        expect_cycle(&names(&lab, vip, 30)?, &WEBS)?;
        // The next in turn is the one with the large file.
        let answer = lab.within("client", || get(vip, "/big", Duration::from_secs(5)))??;
        ensure!(answer.body.len() == 1 << 20, "{} bytes", answer.body.len());
        let answer = lab.within("client", || get(vip, "/client", Duration::from_secs(8)))??;
        let seen = String::from_utf8_lossy(&answer.body).trim().to_owned();
        let own = Segment::balancer_addresses()[own].to_string();
        ensure!(seen == own, "the server sees {seen}, the balancer is {own}");
        let status = agent.status()?;
        let entry = status.service(service)?;
        ensure!(entry.text("forwarding")? == "full-nat", "{status:?}");
        entry.expect("connections", &[11, 11, 10])?;
        let replies = entry.each("reply_packets")?;
        ensure!(replies.iter().all(|count| *count > 0), "{replies:?}");
        status.expect_no_drops()?;
    }
    for namespace in ["client", "web1", "web2", "web3"] {
        let errors = checksum_errors(&lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}
