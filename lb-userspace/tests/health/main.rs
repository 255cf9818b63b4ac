//! Checks against servers that behave, misbehave and attack.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent;
mod grpc;
mod mysql;
mod plain;
mod script;
mod tls;

use std::{net::SocketAddr, time::Duration};

use lb_userspace::{
    config::model::{CheckKind, HealthCheck, Via},
    health::{BackendKey, Monitor, Report, Target},
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

const SECOND: Duration = Duration::from_secs(1);

fn check(kind: CheckKind) -> HealthCheck {
    let interval = Duration::from_millis(100);
    HealthCheck {
        kind,
        interval,
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 3,
        port: None,
        via: Via::Direct,
        agent_port: None,
    }
}

fn target(name: &str, address: SocketAddr, check: HealthCheck) -> Target {
    let key = BackendKey {
        service: "web".into(),
        backend: name.into(),
    };
    Target {
        key,
        address,
        through: None,
        check,
        initial: None,
    }
}

/// The first report about one target.
async fn first(target: Target) -> Report {
    let (reports, mut reported) = mpsc::channel(16);
    let _monitor = Monitor::start(vec![target], reports);
    timeout(10 * SECOND, reported.recv())
        .await
        .expect("a report in time")
        .expect("a report")
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
