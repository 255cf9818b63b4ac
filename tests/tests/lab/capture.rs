//! `lb capture` writes what came in, with verdicts, for Wireshark's tools, and nobody's connection
//! notices.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_lab::{Lab, Process, Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, EchoClient, Farm, Mode, Outcome, Server, Service, await_until, binary,
    routed_backends,
};

in_both_modes!(
    packets_stand_in_the_file_with_their_verdict,
    one_captures_at_a_time_and_a_killed_one_leaves_no_trace,
    an_interface_that_cannot_be_swapped_does_not_keep_the_others,
    rare_verdicts_are_logged_meanwhile
);

const PORT: u16 = 7000;
const EMPTY: u16 = 7001;
const BACKEND_PORT: u16 = 7007;
const DEADLINE: Duration = Duration::from_secs(10);

fn stage(mode: Mode) -> Result<(Routed, Server, Agent)> {
    let lab = Farm::wired(mode, 1)?;
    let [v4, _] = Routed::server_addresses(1);
    let server = Server::echo(&lab, "web1", &[SocketAddr::new(v4, BACKEND_PORT)])?;
    let backends = || routed_backends(VIP4, 1, BACKEND_PORT);
    let echo = Service::tcp("echo", VIP4, PORT, backends()).check(Check::None);
    let empty = Service::tcp("empty", VIP4, EMPTY, backends())
        .check(Check::None)
        .weights(&[0]);
    let config = Farm::config(&lab, mode).service(echo).service(empty);
    let agent = Agent::start(&lab, &config)?;
    Ok((lab, server, agent))
}

fn program(agent: &Agent) -> Result<u64> {
    let said = agent.asked(&["status", "--json"])?.expect_success()?;
    let status: serde_json::Value = serde_json::from_str(&said)?;
    let id = &status["interfaces"][0]["program_id"];
    id.as_u64().with_context(|| said.clone())
}

/// Begins a capture, and waits until it is at work.
fn begin(lab: &Lab, agent: &Agent, file: &Path, arguments: &[&str]) -> Result<Process> {
    let before = program(agent)?;
    let mut command = Command::new(binary()?);
    command
        .arg("capture")
        .arg("--socket")
        .arg(agent.socket())
        .arg("--write")
        .arg(file)
        .args(arguments);
    let process = lab.spawn("capture", command)?;
    await_until(DEADLINE, "another program is attached", || {
        ensure!(program(agent)? != before, "still {before}");
        Ok(())
    })?;
    Ok(process)
}

/// The columns of a file's packets, as tshark reads them.
fn read(file: &Path, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let said = Outcome::of(&mut command)?.expect_success()?;
    let columns = |line: &str| line.split('\t').map(str::to_owned).collect();
    Ok(said.lines().map(columns).collect())
}

fn packets_stand_in_the_file_with_their_verdict(mode: Mode) -> Result<()> {
    let (lab, _server, agent) = stage(mode)?;
    let to = |port| SocketAddr::new(IpAddr::V4(VIP4), port);
    let mut client = lab.within("client", || EchoClient::open(to(PORT)))??;
    client.ask("before")?;
    let own = program(&agent)?;

    let file = lab.folder().join("all.pcapng");
    let mut capture = begin(&lab, &agent, &file, &["--service", "echo"])?;
    client.ask("meanwhile")?;
    let mut second = lab.within("client", || EchoClient::open(to(PORT)))??;
    second.ask("new")?;
    ensure!(
        lab.within("client", || EchoClient::open(to(EMPTY)))?
            .is_err()
    );
    drop(second);
    await_until(DEADLINE, "the packets are written", || {
        let rows = read(&file, &["tcp.flags.fin"])?;
        ensure!(
            rows.iter().any(|row| row[0] == "1" || row[0] == "True"),
            "{rows:?}"
        );
        Ok(())
    })?;
    let status = capture.stop()?;
    ensure!(status.success(), "{status}: {}", capture.log());
    ensure!(capture.log().contains(" captured of "), "{}", capture.log());
    await_until(DEADLINE, "the program is back", || {
        ensure!(program(&agent)? == own);
        Ok(())
    })?;
    client.ask("after")?;

    let rows = read(
        &file,
        &[
            "frame.interface_name",
            "frame.comment",
            "tcp.dstport",
            "tcp.srcport",
            "tcp.flags.syn",
        ],
    )?;
    ensure!(rows.len() > 8, "{rows:?}");
    let find = |words: &[&str]| {
        let is_it = |row: &&Vec<String>| words.iter().all(|word| row.join(" ").contains(word));
        rows.iter()
            .find(is_it)
            .with_context(|| format!("no {words:?} in {rows:#?}"))
    };
    find(&[
        "lc",
        "steered",
        "established flow to backend echo/web1",
        "7000",
    ])?;
    find(&[
        "lc",
        "steered",
        "no flow that is known",
        "goes to backend echo/web1",
    ])?;
    find(&["lb1", "steered_reply", "out by lc", "7007"])?;
    // Only that service's.
    ensure!(
        rows.iter().all(|row| row[2] != EMPTY.to_string()),
        "{rows:#?}"
    );

    let file = lab.folder().join("refused.pcapng");
    let mut capture = begin(&lab, &agent, &file, &["--verdict", "answered_*", "-c", "1"])?;
    client.ask("not in it")?;
    ensure!(
        lab.within("client", || EchoClient::open(to(EMPTY)))?
            .is_err()
    );
    let status = capture.wait(DEADLINE).context("it does not end")?;
    ensure!(status.success(), "{status}: {}", capture.log());
    let rows = read(&file, &["frame.comment", "tcp.dstport"])?;
    ensure!(rows.len() == 1 && rows[0][1] == "7001", "{rows:?}");
    ensure!(
        rows[0][0].starts_with("answered_reset_no_backend"),
        "{rows:?}"
    );
    client.ask("still")?;
    Ok(())
}

fn one_captures_at_a_time_and_a_killed_one_leaves_no_trace(mode: Mode) -> Result<()> {
    let (lab, _server, agent) = stage(mode)?;
    let own = program(&agent)?;
    let file = lab.folder().join("one.pcapng");
    let mut first = begin(&lab, &agent, &file, &[])?;
    let other = lab.folder().join("two.pcapng");
    let other = other.to_str().context("path")?;
    agent
        .asked(&["capture", "-w", other])?
        .expect_sentence(1, &["one capture at a time"])?;
    ensure!(!Path::new(other).exists(), "a refused capture made a file");
    first.kill()?;
    await_until(DEADLINE, "the program is back", || {
        let now = program(&agent)?;
        if now != own {
            bail!("{now} is attached, not {own}");
        }
        Ok(())
    })?;
    for (arguments, code, sentence) in [
        (["--verdict", "dropped"], 2, "drop_no_backend"),
        (
            ["--service", "web"],
            1,
            "there is no service web (there are: echo, empty)",
        ),
        (["--sample", "0"], 2, "1 is every packet"),
    ] {
        let arguments = [&["capture", "-w", other], arguments.as_slice()].concat();
        agent
            .asked(&arguments)?
            .expect_sentence(code, &[sentence])?;
    }
    Ok(())
}

fn an_interface_that_cannot_be_swapped_does_not_keep_the_others(mode: Mode) -> Result<()> {
    let (lab, _server, agent) = stage(mode)?;
    // "lc"; the other one is "lb1", and comes first when programs are swapped.
    let own = program(&agent)?;
    let file = lab.folder().join("one.pcapng");
    let mut capture = begin(&lab, &agent, &file, &[])?;
    let pin = fs::read_dir(agent.pins())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with("lb1"))
        .context("lb1 has no pin")?;
    fs::remove_file(pin)?;
    capture.stop()?;
    await_until(DEADLINE, "the program is back", || {
        ensure!(program(&agent)? == own, "{}", agent.log());
        Ok(())
    })
}

fn rare_verdicts_are_logged_meanwhile(mode: Mode) -> Result<()> {
    let (lab, _server, agent) = stage(mode)?;
    let file = lab.folder().join("one.pcapng");
    let mut capture = begin(&lab, &agent, &file, &[])?;
    let said = || {
        agent
            .log()
            .matches("answered_reset_no_backend on lc")
            .count()
    };
    ensure!(said() == 0, "{}", agent.log());
    let empty = SocketAddr::new(VIP4.into(), EMPTY);
    let opened = lab.within("client", || EchoClient::open(empty))?;
    ensure!(opened.is_err());
    await_until(DEADLINE, "it is logged", || {
        ensure!(said() > 0, "{}", agent.log());
        Ok(())
    })?;
    capture.stop()?;
    Ok(())
}
