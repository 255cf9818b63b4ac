//! A proxy from the command line, to try it: ADDRESS USER PASSWORD NAME=ADDRESS…

use std::{sync::Arc, time::Duration};

use lb_mysql::{
    auth::Secret,
    proxy::{Consistency, Monitor, Proxy, Reads, Role, Server, Settings, Tls},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::DEBUG)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, user, password, servers @ ..] = arguments.as_slice() else {
        return Err("usage: proxy ADDRESS USER PASSWORD NAME=ADDRESS…".into());
    };
    let server = |text: &String| -> Result<Server, Box<dyn std::error::Error>> {
        let (name, address) = text.split_once('=').ok_or("NAME=ADDRESS")?;
        Ok(Server {
            name: Arc::from(name),
            address: address.parse()?,
            weight: 1,
            role: Role::Auto,
            tls: Tls::Off,
            max_connections: None,
        })
    };
    let proxy = Proxy::start(Settings {
        listen: vec![listen.parse()?],
        unix_socket: None,
        proxy_protocol: Vec::new(),
        max_connections: 20_000,
        learns: true,
        users: Vec::new(),
        tls: None,
        servers: servers.iter().map(server).collect::<Result<_, _>>()?,
        reads: Reads::Replicas,
        read_scheduler: Default::default(),
        consistency: Consistency::Session,
        consistency_timeout: Duration::from_millis(200),
        max_lag: Duration::from_secs(10),
        primary_wait: Duration::from_secs(5),
        connection_wait: Duration::from_secs(5),
        pool: true,
        slow_statement: None,
        digests: 500,
        monitor: Monitor {
            user: user.clone(),
            password: Secret::new(password.clone().into_bytes()),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: 2,
        },
        failover: Default::default(),
        threads: 0,
    })?;
    std::thread::park();
    drop(proxy);
    Ok(())
}
