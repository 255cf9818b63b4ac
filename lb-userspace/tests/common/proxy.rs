//! A MySQL proxy for tests of what is told of one.

use std::{path::Path, time::Duration};

use lb_mysql::{
    auth::Secret,
    proxy::{self, Consistency, Monitor, Proxy, Reads, Role, Settings, Tls},
};

/// One that reaches no server, whose only one has a limit, and that counts so many kinds of
/// statements.
pub(crate) fn proxy(folder: &Path, digests: usize) -> Proxy {
    Proxy::start(Settings {
        listen: Vec::new(),
        unix_socket: Some(folder.join("mysql.sock")),
        proxy_protocol: Vec::new(),
        max_connections: 10,
        learns: true,
        users: Vec::new(),
        tls: None,
        servers: vec![proxy::Server {
            name: "db1".into(),
            address: ([127, 0, 0, 1], 1).into(),
            weight: 1,
            role: Role::Auto,
            tls: Tls::Off,
            max_connections: Some(3),
        }],
        reads: Reads::Replicas,
        read_scheduler: Default::default(),
        consistency: Consistency::Session,
        consistency_timeout: Duration::ZERO,
        max_lag: Duration::ZERO,
        primary_wait: Duration::ZERO,
        connection_wait: Duration::ZERO,
        pool: true,
        slow_statement: None,
        digests,
        failover: Default::default(),
        monitor: Monitor {
            user: "watcher".to_owned(),
            password: Secret::empty(),
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(1),
            fall: 1,
        },
        threads: 1,
    })
    .unwrap()
}
