//! What servers say of themselves.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use lb_userspace::{
    config::model::{CheckKind, HealthCheck},
    control::State,
    health::{AgentWord, Health, Monitor},
};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::mpsc};

use crate::{SECOND, check, first, nobody, target};

/// An agent that says what it is told to say.
async fn agent(line: &str) -> (SocketAddr, Arc<Mutex<String>>) {
    let line = Arc::new(Mutex::new(line.to_owned()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let says = Arc::clone(&line);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let line = says.lock().unwrap().clone();
            let _ = stream.write_all(line.as_bytes()).await;
        }
    });
    (address, line)
}

fn with_agent(kind: CheckKind, agent: SocketAddr) -> HealthCheck {
    HealthCheck {
        agent_port: Some(agent.port()),
        ..check(kind)
    }
}

#[tokio::test]
async fn what_it_says_comes_on_top_of_the_check() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let (agent, line) = agent("75% drain\r\n").await;
    let (reports, mut reported) = mpsc::channel(16);
    let check = with_agent(CheckKind::Tcp, agent);
    let _monitor = Monitor::start(vec![target("a", address, check)], reports);
    let mut expected = AgentWord {
        weight_percent: 75,
        state: State::Drain,
        is_down: false,
    };
    let report = reported.recv().await.unwrap();
    assert_eq!((report.health, report.changed), (Health::Up, true));
    assert_eq!(report.agent, Some(expected));
    assert!(
        report.detail.starts_with("connected in ")
            && report.detail.ends_with("; its agent says 75% drain"),
        "{}",
        report.detail
    );
    for (says, health) in [
        ("down # disk full\n", Health::Down),
        ("nonsense\n", Health::Down),
        ("50%", Health::Down),
        ("up ready\n", Health::Up),
    ] {
        says.clone_into(&mut line.lock().unwrap());
        match says {
            "50%" => expected.weight_percent = 50,
            "up ready\n" => (expected.is_down, expected.state) = (false, State::Ready),
            "nonsense\n" => {}
            _ => expected.is_down = true,
        }
        let report = loop {
            let report = reported.recv().await.unwrap();
            if report.detail.contains(says.trim()) {
                break report;
            }
        };
        assert_eq!(
            (report.health, report.agent),
            (health, Some(expected)),
            "{says}"
        );
    }
}

#[tokio::test]
async fn one_that_does_not_answer_changes_nothing() {
    let (silent, endless) = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        agent(&"up ".repeat(1 << 20)).await.0,
    );
    for (agent, said) in [
        (
            nobody().await,
            "its agent does not answer: connection refused",
        ),
        (
            silent.local_addr().unwrap(),
            "its agent does not answer in time",
        ),
        (agent("").await.0, "its agent says nothing"),
        (
            agent("hello\n").await.0,
            "its agent says \"hello\", which is no word of an agent-check",
        ),
        (endless, "which is no word of an agent-check"),
    ] {
        let start = std::time::Instant::now();
        let report = first(target(
            "a",
            nobody().await,
            with_agent(CheckKind::None, agent),
        ))
        .await;
        assert_eq!(report.health, Health::Up, "{}", report.detail);
        assert!(
            report.detail.starts_with("not checked; "),
            "{}",
            report.detail
        );
        assert!(report.detail.ends_with(said), "{}", report.detail);
        assert!(report.agent.is_none_or(|word| word == AgentWord::default()));
        assert!(start.elapsed() < 8 * SECOND);
    }
}
