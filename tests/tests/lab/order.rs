//! Strict round robin: the order of the file, over and over, and exact counts.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use lb_lab::VIP4;
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Farm, Mode, Service, await_until, expect_cycle, names, routed_backends,
    sent_packets,
};

use crate::{WEBS, web};

in_both_modes!(
    one_client_sees_one_two_three,
    many_clients_share_one_order,
    all_processors_share_one_order
);

fn one_client_sees_one_two_three(mode: Mode) -> Result<()> {
    // Without checks the wire is silent but for the client.
    let service = Farm::web(3).check(Check::None);
    let farm = Farm::start(mode, 3, |config| config.service(service))?;
    let status = farm.agent.status()?;
    let attached = ["lc", "lb1", "lb2", "lb3"].map(|name| format!("{name} {}", mode.word()));
    ensure!(
        status.interfaces()? == attached,
        "attached to {:?}",
        status.interfaces()?
    );
    let before = (sent_to_balancer(&farm)?, status.verdicts()?);

    let names = names(&farm.lab, web(), 30)?;
    expect_cycle(&names, &WEBS)?;

    let status = farm.agent.status()?;
    let service = status.service("web")?;
    service.expect("connections", &[10, 10, 10])?;
    let (packets, bytes) = (service.each("packets")?, service.each("bytes")?);
    service.expect("packets", &packets)?;
    service.expect("bytes", &bytes)?;
    ensure!(
        packets.iter().all(|count| *count >= 10 * 5),
        "too few packets: {packets:?}"
    );
    ensure!(
        bytes
            .iter()
            .zip(&packets)
            .all(|(bytes, packets)| *bytes >= packets * 40),
        "{bytes:?}"
    );
    let replies: u64 = service.each("reply_packets")?.iter().sum();
    ensure!(
        status.verdict("steered")? == packets.iter().sum::<u64>(),
        "{status:?}"
    );
    ensure!(
        status.verdict("steered_reply")? == replies && replies >= 30 * 4,
        "{status:?}"
    );
    status.expect_no_drops()?;

    // Every packet that was sent to the balancer has a verdict, and only one.
    await_until(
        Duration::from_secs(5),
        "verdicts and packets are as many",
        || {
            let seen = farm.agent.status()?.verdicts()? - before.1;
            let sent = sent_to_balancer(&farm)? - before.0;
            ensure!(seen == sent, "{seen} verdicts for {sent} packets");
            Ok(())
        },
    )
}

fn sent_to_balancer(farm: &Farm) -> Result<u64> {
    let mut sum = sent_packets(&farm.lab, "client", "c0")?;
    for number in 1..=3 {
        sum += sent_packets(&farm.lab, &format!("web{number}"), &format!("e{number}"))?;
    }
    Ok(sum)
}

fn many_clients_share_one_order(mode: Mode) -> Result<()> {
    const CLIENTS: usize = 6;
    let farm = Farm::of_three(mode)?;
    let answers: Vec<String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| names(&farm.lab, web(), 30)))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok::<_, anyhow::Error>(all)
    })?;
    // One fetch-add for all CPUs: whoever interleaves how, the shares are equal to the last one.
    for web in WEBS {
        let count = answers.iter().filter(|name| *name == web).count();
        ensure!(
            count == CLIENTS * 10,
            "{web} answered {count} of {} requests",
            answers.len()
        );
    }
    farm.agent
        .status()?
        .service("web")?
        .expect("connections", &[60, 60, 60])
}

/// New flows as fast as senders on several interfaces can make them, one datagram each, so that
/// all processors schedule at once. Each packet takes the next slot, so the shares differ by one
/// at most.
fn all_processors_share_one_order(mode: Mode) -> Result<()> {
    const SENDERS: [&str; 3] = ["client", "web2", "web3"];
    const ROUNDS: u16 = 30;
    const FLOWS: u16 = 300;
    let lab = Farm::wired(mode, 3)?;
    // Nobody answers, and nobody needs to.
    let service = Service::udp("sink", VIP4, 5300, routed_backends(VIP4, 3, 9053));
    let agent = Agent::start(&lab, &Farm::config(&lab, mode).service(service))?;
    let address = SocketAddr::new(IpAddr::V4(VIP4), 5300);
    let together = Barrier::new(SENDERS.len());
    let send = || -> Result<()> {
        for round in 0..ROUNDS {
            let first = 10_000 + round * FLOWS;
            let bound = |port| UdpSocket::bind(SocketAddr::new([0, 0, 0, 0].into(), port));
            let sockets: Vec<_> = (first..first + FLOWS).map(bound).collect();
            together.wait();
            for socket in sockets {
                socket?.send_to(b"?", address)?;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let (lab, send) = (&lab, &send);
        let senders = SENDERS.map(|name| scope.spawn(move || lab.within(name, send)));
        for sender in senders {
            sender
                .join()
                .map_err(|_| anyhow!("a sender panicked"))???;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let status = agent.status()?;
    status.expect_no_drops()?;
    let each = status.service("sink")?.each("connections")?;
    // A veth's queue may overflow before the program sees a packet.
    let total = u64::from(ROUNDS * FLOWS) * SENDERS.len() as u64;
    ensure!(
        each.iter().sum::<u64>() > total / 10 * 9,
        "only {each:?} of {total} arrived"
    );
    let spread = each
        .iter()
        .max()
        .zip(each.iter().min())
        .map(|(most, least)| most - least);
    eprintln!("{each:?} of {total}");
    ensure!(spread <= Some(1), "not even: {each:?}");
    Ok(())
}
