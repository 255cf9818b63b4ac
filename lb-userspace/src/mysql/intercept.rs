//! `intercept = true`: whose connects come into the proxy.

use std::net::SocketAddr;

use crate::{
    config::model::mysql::{self as model, Role},
    dataplane::{Error, Interceptor},
    status::MysqlIntercept,
};

/// Begins to take connects, if the config wants it. The proxy listens by then.
pub(super) fn start(config: &model::Proxy) -> Result<Option<Interceptor>, Error> {
    let Some(intercept) = &config.intercept else {
        return Ok(None);
    };
    let servers = servers(config);
    let cgroup = intercept.cgroup.as_deref();
    let interceptor = Interceptor::start(cgroup, &config.listen, &servers)?;
    let list: Vec<String> = servers.iter().map(SocketAddr::to_string).collect();
    tracing::info!(
        "mysql: connections from processes of {} to {} come into the proxy",
        interceptor.cgroup().display(),
        list.join(", ")
    );
    Ok(Some(interceptor))
}

/// The servers whose connections are taken: all that are, or may become, the primary. An
/// application goes on connecting to the one it knows when another has become the primary.
pub(super) fn servers(config: &model::Proxy) -> Vec<SocketAddr> {
    let servers = config.servers.iter();
    servers
        .filter(|server| server.role != Role::Replica)
        .map(|server| server.address)
        .collect()
}

/// What became of connects, unless the kernel does not tell.
pub(super) fn status(interceptor: &Interceptor) -> Option<MysqlIntercept> {
    let counters = interceptor.counters();
    let counters = counters
        .inspect_err(|error| tracing::debug!("mysql: {error}"))
        .ok()?;
    Some(MysqlIntercept {
        cgroup: interceptor.cgroup().display().to_string(),
        servers: interceptor.servers(),
        intercepted: counters.intercepted,
        own: counters.own,
        other_namespace: counters.other_namespace,
        no_listener: counters.no_listener,
    })
}
