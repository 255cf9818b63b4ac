//! Health checks of all kinds against the real thing: etcd's gRPC, scripts, agents of the servers
//! themselves.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::Routed;
use lb_tests::scenario::{Agent, Farm, Mode, names};

use crate::web;

const DEADLINE: Duration = Duration::from_secs(20);

/// An agent whose service `web` is checked so.
fn start(lab: &Routed, servers: u8, check: &str, port: Option<u16>) -> Result<Agent> {
    let mut service = Farm::web(servers).check_lines(check);
    if let Some(port) = port {
        service = service.check_port(port);
    }
    Agent::start(lab, &Farm::config(lab, Mode::Generic).service(service))
}

/// Waits until a backend is up or down, with these words of its check.
fn says(agent: &Agent, backend: &str, health: &str, words: &str) -> Result<()> {
    agent.await_check(("web", backend), health, words)
}

#[test]
fn etcd_tells_its_health_by_grpc() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 2)?;
    let _servers = Farm::nginx(&lab)?;
    let [address, _] = Routed::server_addresses(1);
    let url = format!("http://{address}:2379");
    let folder = lab.folder().join("etcd");
    fs::create_dir(&folder)?;
    let mut command = lab.command("web1", "etcd")?;
    command
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args([
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
        ])
        .args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    let mut etcd = lab
        .spawn("etcd", command)
        .context("is etcd-server installed?")?;
    let agent = start(&lab, 2, "kind = \"grpc\"", Some(2379))?;
    says(&agent, "web1", "up", "gRPC SERVING in ")?;
    says(&agent, "web2", "down", "connect refused")?;
    let answers = names(&lab, web(), 2)?;
    ensure!(answers == ["web1"; 2], "{answers:?}");
    etcd.stop()?;
    says(&agent, "web1", "down", "connect refused")
}

#[test]
fn a_web_server_does_not_speak_grpc() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 1)?;
    let _servers = Farm::nginx(&lab)?;
    let agent = start(&lab, 1, "kind = \"grpc\"", None)?;
    says(&agent, "web1", "down", "HTTP/2")
}

#[test]
fn a_script_decides() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 2)?;
    let _servers = Farm::nginx(&lab)?;
    let flag = lab.folder().join("broken");
    let text = format!(
        "echo $LB_SERVICE/$LB_BACKEND at $LB_ADDRESS port $LB_PORT; \
         test $LB_BACKEND = web1 || test ! -e {}",
        flag.display()
    );
    let check = format!("kind = \"script\"\ncommand = [\"/bin/sh\", \"-c\", '{text}']");
    let agent = start(&lab, 2, &check, None)?;
    for number in [1, 2] {
        let [address, _] = Routed::server_addresses(number);
        let words = format!(": web/web{number} at {address} port 8080");
        says(&agent, &format!("web{number}"), "up", &words)?;
    }
    fs::write(&flag, "")?;
    says(&agent, "web2", "down", "script exit 1 in ")?;
    let answers = names(&lab, web(), 2)?;
    ensure!(answers == ["web1"; 2], "{answers:?}");
    Ok(())
}

#[test]
fn a_server_s_own_agent_drains_it_and_lowers_its_weight() -> Result<()> {
    const PORT: u16 = 8081;
    let lab = Farm::wired(Mode::Generic, 2)?;
    let _servers = Farm::nginx(&lab)?;
    let [address, _] = Routed::server_addresses(2);
    let listener = lab.within("web2", || TcpListener::bind(SocketAddr::new(address, PORT)))??;
    let line = Arc::new(Mutex::new("up ready 100%\n"));
    let says_now = Arc::clone(&line);
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let line = *says_now.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = stream.write_all(line.as_bytes());
        }
    });
    let say = |words| *line.lock().unwrap_or_else(PoisonError::into_inner) = words;
    let check = format!("kind = \"http\"\npath = \"/healthz\"\nagent_check_port = {PORT}");
    let agent = start(&lab, 2, &check, None)?;
    says(&agent, "web2", "up", "its agent says up ready 100%")?;
    says(
        &agent,
        "web1",
        "up",
        "its agent does not answer: connection refused",
    )?;
    let in_rotation = |wanted: bool| {
        agent.await_backend(DEADLINE, ("web", "web2"), "the rotation", |backend| {
            ensure!(backend.is("in_rotation")? == wanted, "{backend:?}");
            Ok(())
        })
    };
    in_rotation(true)?;
    say("drain\n");
    in_rotation(false)?;
    let answers = names(&lab, web(), 4)?;
    ensure!(answers == ["web1"; 4], "{answers:?}");
    say("ready 50%\n");
    in_rotation(true)?;
    let answers = names(&lab, web(), 9)?;
    let of_web2 = answers.iter().filter(|name| *name == "web2").count();
    ensure!(of_web2 == 3, "{answers:?}");
    say("down # a disk is full\n");
    says(
        &agent,
        "web2",
        "down",
        "its agent says down # a disk is full",
    )?;
    in_rotation(false)?;
    say("up 100%\n");
    says(&agent, "web2", "up", "its agent says up 100%")?;
    in_rotation(true)
}
