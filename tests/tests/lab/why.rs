//! `lb why` says what will happen, and nothing happens by it.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, EchoClient, Farm, Mode, Server, Service, routed_backends, run,
};
use serde_json::Value;

use crate::WEBS;

in_both_modes!(it_says_what_then_happens, a_file_of_packets_is_explained);

const PORT: u16 = 7000;
const BACKEND_PORT: u16 = 7007;

fn stage(mode: Mode) -> Result<(Routed, Vec<Server>, Agent)> {
    let lab = Farm::wired(mode, 3)?;
    let servers = (1..=3)
        .map(|number| {
            let [v4, _] = Routed::server_addresses(number);
            let listen = [SocketAddr::new(v4, BACKEND_PORT)];
            Server::echo(&lab, &format!("web{number}"), &listen)
        })
        .collect::<Result<Vec<_>>>()?;
    let backends = routed_backends(VIP4, 3, BACKEND_PORT);
    let service = Service::tcp("echo", VIP4, PORT, backends).check(Check::None);
    let agent = Agent::start(&lab, &Farm::config(&lab, mode).service(service))?;
    Ok((lab, servers, agent))
}

fn why(agent: &Agent, packet: &[&str]) -> Result<Value> {
    let arguments = [&["why", "--json"], packet].concat();
    let said = agent.asked(&arguments)?.expect_success()?;
    serde_json::from_str(&said).with_context(|| said)
}

fn decided(answer: &Value, words: &str) -> Result<()> {
    let decisions = answer["decisions"].as_array().context("no decisions")?;
    let is_there = decisions
        .iter()
        .filter_map(Value::as_str)
        .any(|decision| decision.contains(words));
    ensure!(is_there, "not {words:?} in {answer:#}");
    Ok(())
}

fn it_says_what_then_happens(mode: Mode) -> Result<()> {
    let (lab, _servers, agent) = stage(mode)?;
    let service = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    let [client, _] = Routed::client_addresses();
    let to = service.to_string();
    let open = || lab.within("client", || EchoClient::open(service))?;

    let mut clients = Vec::new();
    for web in WEBS {
        let before = agent.status()?;
        let from = SocketAddr::new(client, 40_000).to_string();
        for _ in 0..3 {
            let answer = why(&agent, &["--from", &from, "--to", &to])?;
            ensure!(answer["verdict"] == "steered", "{answer:#}");
            decided(&answer, "no flow that is known")?;
            decided(&answer, "it is for service echo")?;
            decided(
                &answer,
                &format!("the new flow goes to backend echo/{web} "),
            )?;
            let sent = answer["sent"].as_str().context("nothing sent")?;
            ensure!(
                sent.contains(&format!(":{BACKEND_PORT} [syn], TTL 63")),
                "{sent}"
            );
        }
        let after = agent.status()?;
        ensure!(
            after.service("echo")?.each("connections")?
                == before.service("echo")?.each("connections")?,
            "asking made connections"
        );
        ensure!(after.verdict("steered")? == before.verdict("steered")?);
        // What it said is what happens.
        let mut opened = open()?;
        let name = opened.ask("who?")?;
        ensure!(name == web, "{name} and not {web}");
        clients.push(opened);
    }

    let live = clients[1].local_address()?.to_string();
    let answer = why(&agent, &["--from", &live, "--to", &to, "--flags", "ack"])?;
    decided(&answer, "established flow to backend echo/web2")?;
    let answer = why(&agent, &["--from", &live, "--to", &to, "--flags", "rst"])?;
    decided(&answer, "established flow to backend echo/web2")?;
    let [server, _] = Routed::server_addresses(2);
    let server = SocketAddr::new(server, BACKEND_PORT).to_string();
    let reply = [
        "--from",
        &server,
        "--to",
        &live,
        "--flags",
        "ack",
        "--interface",
        "lb2",
    ];
    let answer = why(&agent, &reply)?;
    ensure!(answer["verdict"] == "steered_reply", "{answer:#}");
    ensure!(answer["egress"] == "lc", "{answer:#}");
    // A reset that was only asked about closed nothing.
    ensure!(clients[1].ask("still there?")? == "web2");

    let stray = SocketAddr::new(client, 40_001).to_string();
    let answer = why(&agent, &["--from", &stray, "--to", &to, "--flags", "ack"])?;
    ensure!(answer["verdict"] == "answered_reset_no_flow", "{answer:#}");
    let answer = why(&agent, &["--from", &stray, "--to", "192.0.2.1:9"])?;
    ensure!(answer["verdict"] == "pass_not_ours", "{answer:#}");
    let words = agent
        .asked(&["why", "--from", &stray, "--to", &to])?
        .expect_success()?;
    ensure!(words.contains("steered: Sent to a backend."), "{words}");

    for (arguments, code, sentence) in [
        (
            vec!["--from", &stray, "--to", "[::1]:80"],
            1,
            "two families",
        ),
        (
            vec!["--from", &stray, "--to", &to, "--interface", "eth9"],
            1,
            "not attached to eth9",
        ),
        (vec!["--frame", "00"], 2, "1 bytes"),
    ] {
        agent
            .asked(&[&["why"], arguments.as_slice()].concat())?
            .expect_sentence(code, &[sentence])?;
    }
    let outcome = run(&["why", "--from", &stray])?;
    ensure!(
        outcome.code == Some(2) && outcome.stderr.contains("--to"),
        "{outcome:?}"
    );
    Ok(())
}

fn a_file_of_packets_is_explained(mode: Mode) -> Result<()> {
    let (lab, _servers, agent) = stage(mode)?;
    let file = lab.folder().join("packets.pcap");
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    // An ARP request and a frame that ends too early.
    for frame in [[&[0xff; 12][..], &[8, 6], &[0; 46]].concat(), vec![0; 5]] {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    fs::write(&file, &bytes)?;
    let name = file.to_str().context("path")?;
    let answers = why(&agent, &["--pcap", name])?;
    ensure!(answers[0]["verdict"] == "pass_arp", "{answers:#}");
    ensure!(answers.as_array().map(Vec::len) == Some(1), "{answers:#}");
    bytes.truncate(bytes.len() - 2);
    fs::write(&file, &bytes)?;
    agent
        .asked(&["why", "--pcap", name])?
        .expect_sentence(2, &["cannot read", "whole pcap"])
}
