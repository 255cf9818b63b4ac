//! The config as the proxy wants it.

use std::{fs, path::Path, sync::Arc};

use lb_mysql::{
    auth::Secret,
    proxy::{
        Automatic, Consistency, Failover, Monitor, Network, ReadScheduler, Reads, Role, Server,
        Settings, User,
    },
    topology::plan::{ReplicationAccount, Times},
};

use super::{Error, lease::EtcdLease, tls};
use crate::config::model::mysql as model;

/// A password is no longer than that.
const LONGEST_PASSWORD: usize = 4096;

pub(super) fn settings(config: &model::Proxy) -> Result<Settings, Error> {
    let users = config.users.iter().map(|user| {
        Ok(User {
            name: user.name.clone(),
            secret: password("mysql.user.password_file", &user.password_file)?,
            max_connections: user.max_connections.map(|most| most as usize),
        })
    });
    let monitor = &config.monitor;
    let password = match &monitor.password_file {
        Some(file) => password("mysql.monitor.password_file", file)?,
        None => Secret::empty(),
    };
    Ok(Settings {
        listen: config.listen.clone(),
        unix_socket: config.unix_socket.clone(),
        proxy_protocol: config
            .proxy_protocol
            .iter()
            .map(|one| Network {
                address: one.address,
                length: one.length,
            })
            .collect(),
        max_connections: config.max_connections as usize,
        learns: config.authentication == model::Authentication::Learn,
        users: users.collect::<Result<_, Error>>()?,
        tls: Some(tls::towards_clients(config.tls.as_ref())?),
        servers: config
            .servers
            .iter()
            .map(server)
            .collect::<Result<_, _>>()?,
        reads: match config.reads {
            model::Reads::Replicas => Reads::Replicas,
            model::Reads::All => Reads::All,
            model::Reads::Primary => Reads::Primary,
        },
        read_scheduler: match config.read_scheduler {
            model::ReadScheduler::RoundRobin => ReadScheduler::RoundRobin,
            model::ReadScheduler::LeastConnections => ReadScheduler::LeastConnections,
        },
        consistency: match config.consistency {
            model::Consistency::Eventual => Consistency::Eventual,
            model::Consistency::Session => Consistency::Session,
            model::Consistency::Global => Consistency::Global,
        },
        consistency_timeout: config.consistency_timeout,
        max_lag: config.max_lag,
        primary_wait: config.primary_wait,
        connection_wait: config.connection_wait,
        pool: config.pool,
        slow_statement: config.slow_statement,
        digests: config.statement_digests as usize,
        monitor: Monitor {
            user: monitor.user.clone(),
            password,
            interval: monitor.interval,
            timeout: monitor.timeout,
            fall: monitor.fall,
        },
        failover: failover(&config.failover)?,
        threads: 0,
    })
}

fn failover(config: &model::Failover) -> Result<Failover, Error> {
    let account = config.replication.as_ref().map(|user| {
        let key = "mysql.failover.replication_password_file";
        let secret = password(key, &user.password_file)?;
        let text = std::str::from_utf8(secret.expose()).map_err(|_| Error::Contents {
            key,
            path: user.password_file.clone(),
            why: "the password is no text".to_owned(),
        })?;
        Ok::<_, Error>(ReplicationAccount::new(user.name.clone(), text.to_owned()))
    });
    Ok(Failover {
        replication: account.transpose()?,
        times: Times {
            hold: config.hold,
            catch_up: config.catch_up,
            ..Times::default()
        },
        automatic: config.automatic.as_ref().map(|automatic| Automatic {
            wait: automatic.wait,
            lease: Arc::new(EtcdLease::new(automatic)),
        }),
    })
}

fn server(config: &model::Server) -> Result<Server, Error> {
    Ok(Server {
        name: Arc::from(config.name.as_str()),
        address: config.address,
        weight: config.weight,
        role: match config.role {
            model::Role::Auto => Role::Auto,
            model::Role::Primary => Role::Primary,
            model::Role::Replica => Role::Replica,
        },
        tls: tls::towards_server(config)?,
        max_connections: config.max_connections.map(|most| most as usize),
    })
}

/// A password from its file, without the end of its line.
fn password(key: &'static str, file: &Path) -> Result<Secret, Error> {
    let path = file.to_owned();
    let mut bytes = fs::read(file).map_err(|source| Error::File {
        key,
        path: path.clone(),
        source,
    })?;
    let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte));
    bytes.truncate(end.map_or(0, |last| last + 1));
    if bytes.len() > LONGEST_PASSWORD {
        let why = format!("a password of more than {LONGEST_PASSWORD} bytes");
        return Err(Error::Contents { key, path, why });
    }
    Ok(Secret::new(bytes))
}
