//! `[mysql]`.

mod failover;
mod servers;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{Once, key_pair::key_pair};
use crate::config::{
    files::Needs,
    model::{
        Prefix,
        mysql::{
            Authentication, Consistency, Intercept, Monitor, Proxy, ReadScheduler, Reads, User,
        },
    },
    problem::{Place, Sink, quoted},
    raw,
    schema::{Field, Located},
};

/// The proxy, if the file has one; also nothing when there is a problem in the sink.
pub(super) fn mysql(file: &raw::File, sink: &mut Sink) -> Option<Proxy> {
    let Located { value: raw, at } = file.mysql.given()?;
    let place = Place::TOP.table("mysql");
    listening(file, raw, (*at, &place), sink);
    idle(raw, &place, sink);
    let tls = key_pair(
        (&raw.tls_certificate, "tls_certificate"),
        (&raw.tls_key, "tls_key"),
        &place,
        sink,
    );
    let monitor = monitor(raw.monitor.get(), &place, sink);
    let servers = servers::servers(raw, (*at, &place), sink);
    let failover = failover::failover(raw, &place, sink);
    let users = users(raw, &place, sink);
    if let (Some(authentication), Some([])) = (raw.authentication.given(), users.as_deref())
        && authentication.value == Authentication::List
    {
        let message = "authentication \"list\" lets nobody in without a [[mysql.user]]";
        sink.problem(authentication.at, &place, "authentication", message);
    }
    let intercept = intercept(raw, &place, sink);
    let proxy_protocol = proxy_protocol(raw, &place, sink);
    let slow = raw.slow_statement_seconds.get()?.value;
    Some(Proxy {
        listen: optional(&raw.listen)?
            .unwrap_or_default()
            .iter()
            .map(|one| one.value)
            .collect(),
        unix_socket: optional(&raw.unix_socket)?,
        proxy_protocol: proxy_protocol?,
        max_connections: raw.max_connections.get()?.value,
        authentication: raw.authentication.get()?.value,
        tls: tls?,
        read_scheduler: raw.read_scheduler.get()?.value,
        reads: raw.reads.get()?.value,
        consistency: raw.consistency.get()?.value,
        consistency_timeout: seconds(&raw.consistency_timeout_seconds)?,
        max_lag: seconds(&raw.max_lag_seconds)?,
        connection_wait: seconds(&raw.connection_wait_seconds)?,
        pool: raw.pool.get()?.value,
        primary_wait: seconds(&raw.primary_wait_seconds)?,
        intercept: intercept?,
        slow_statement: (slow > 0.0).then(|| Duration::from_secs_f64(slow)),
        statement_digests: raw.statement_digests.get()?.value,
        monitor: monitor?,
        failover: failover?,
        servers: servers?,
        users: users?,
    })
}

/// Where clients connect: somewhere, and nowhere that somebody else is.
fn listening(
    file: &raw::File,
    raw: &raw::Mysql,
    (at, place): (usize, &Place<'_>),
    sink: &mut Sink,
) {
    let has_socket = raw.unix_socket.given().is_some();
    match &raw.listen {
        Field::Given(list) | Field::Default(list) if list.value.is_empty() && !has_socket => {
            let message = "listen is empty (say where clients connect: listen = \
                           [\"127.0.0.1:3306\"], or name a unix_socket)";
            sink.problem(list.at, place, "listen", message);
        }
        Field::Absent => {
            let message = "listen is missing (say where clients connect: listen = \
                           [\"127.0.0.1:3306\"])";
            sink.problem(at, place, "listen", message);
        }
        Field::Given(_) | Field::Default(_) | Field::Invalid => {}
    }
    let own = raw.listen.get().map_or(&[][..], |list| &list.value);
    let admin = file.admin.get().map(|admin| &admin.value);
    for listen in own {
        let is_admins = admin
            .and_then(|admin| admin.listen.get())
            .is_some_and(|admin| admin.value == listen.value);
        let server = raw.server.iter().find(|server| {
            let address = server.value.address.get();
            address.is_some_and(|address| address.value == listen.value)
        });
        if is_admins {
            let message = format!("listen {} is also admin.listen", listen.value);
            sink.problem(listen.at, place, "listen", message);
        } else if let Some(server) = server {
            let line = sink.line(server.at);
            let message = format!(
                "listen {} is the address of the server of line {line}: the proxy would connect to \
                 itself",
                listen.value
            );
            sink.problem(listen.at, place, "listen", message);
        }
        if !listen.value.ip().to_canonical().is_loopback() {
            let message = format!(
                "listen {} is open to other hosts, and their accounts see this host's address: \
                 accounts that are bound to hosts no longer tell them apart",
                listen.value
            );
            sink.warning(listen.at, place, "listen", message);
        }
    }
    if let (Some(socket), Some(admin)) = (raw.unix_socket.given(), admin)
        && admin
            .socket
            .get()
            .is_some_and(|admin| admin.value == socket.value)
    {
        let message = format!(
            "unix_socket {} is also admin.socket",
            quoted(&socket.value.display().to_string())
        );
        sink.problem(socket.at, place, "unix_socket", message);
    }
}

/// Who speaks the PROXY protocol; nothing where a problem was reported.
fn proxy_protocol(raw: &raw::Mysql, place: &Place<'_>, sink: &mut Sink) -> Option<Vec<Prefix>> {
    let list = raw.proxy_protocol.get()?;
    for Located { value: one, at } in &list.value {
        let is_everybody = one.length == 0;
        if one.has_host_bits() {
            let message = format!("proxy_protocol {one} is the network {}", one.network());
            sink.warning(*at, place, "proxy_protocol", message);
        }
        if is_everybody {
            let message = format!(
                "proxy_protocol {one} believes everybody, also clients that say they are somebody else"
            );
            sink.warning(*at, place, "proxy_protocol", message);
        }
        let is_own = one.address.is_loopback() && !is_everybody;
        if let Some(on) = raw
            .intercept
            .given()
            .filter(|on| on.value && (is_own || is_everybody))
        {
            let message = format!(
                "intercept brings connections of this host's programs, which do not speak the PROXY \
                 protocol, and proxy_protocol {one} wants it of them"
            );
            sink.problem(on.at, place, "intercept", message);
        }
    }
    Some(list.value.iter().map(|one| one.value).collect())
}

/// Whose connections are taken into the proxy; nothing where a problem was reported.
fn intercept(raw: &raw::Mysql, place: &Place<'_>, sink: &mut Sink) -> Option<Option<Intercept>> {
    let cgroup = raw.intercept_cgroup.given();
    let Some(on) = raw.intercept.given().filter(|on| on.value) else {
        if let Some(cgroup) = cgroup {
            let message = "intercept_cgroup does nothing without intercept = true";
            sink.warning(cgroup.at, place, "intercept_cgroup", message);
        }
        return raw.intercept.get().map(|_| None);
    };
    let own = raw.listen.get().map_or(&[][..], |list| &list.value);
    let is_v4 = |address: &SocketAddr| address.ip().to_canonical().is_ipv4();
    if own.is_empty() {
        let message = "intercept redirects to an address of listen, and there is none";
        sink.problem(on.at, place, "intercept", message);
    } else if !own.iter().any(|listen| is_v4(&listen.value)) {
        let mut servers = raw.server.iter().filter_map(|one| one.value.address.get());
        if let Some(server) = servers.find(|server| is_v4(&server.value)) {
            let message = format!(
                "intercept cannot take IPv4 connections to {} to an IPv6 address (add one of IPv4 \
                 to listen: \"127.0.0.1:3306\")",
                server.value
            );
            sink.problem(on.at, place, "intercept", message);
        }
    }
    Some(Some(Intercept {
        cgroup: optional(&raw.intercept_cgroup)?,
    }))
}

/// Keys that others make meaningless.
fn idle(raw: &raw::Mysql, place: &Place<'_>, sink: &mut Sink) {
    let reads = raw.reads.get().map(|reads| reads.value);
    if reads == Some(Reads::Primary) {
        let mut idle = |at: Option<usize>, key: &str| {
            if let Some(at) = at {
                let message = format!("{key} does nothing with reads = \"primary\"");
                sink.warning(at, place, key, message);
            }
        };
        let not_default = raw.read_scheduler.given();
        let not_default = not_default.filter(|one| one.value != ReadScheduler::RoundRobin);
        idle(not_default.map(|one| one.at), "read_scheduler");
        let global = raw.consistency.given();
        let global = global.filter(|one| one.value != Consistency::Session);
        idle(global.map(|one| one.at), "consistency");
        idle(
            raw.max_lag_seconds.given().map(|one| one.at),
            "max_lag_seconds",
        );
    }
    let consistency = raw.consistency.get().map(|one| one.value);
    if let (Some(Consistency::Eventual), Some(timeout)) =
        (consistency, raw.consistency_timeout_seconds.given())
    {
        let message = "consistency_timeout_seconds does nothing with consistency = \"eventual\"";
        sink.warning(timeout.at, place, "consistency_timeout_seconds", message);
    }
}

fn monitor(
    raw: Option<&Located<raw::Monitor>>,
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<Monitor> {
    let Located { value: raw, at } = raw?;
    let place = place.table("monitor");
    if let Field::Absent = raw.user {
        let message = "user is missing (somebody has to ask the servers: make an account for it, and \
                       name it in [mysql.monitor])";
        sink.problem(*at, &place, "user", message);
    }
    let password_file = file((&raw.password_file, "password_file"), &place, sink);
    Some(Monitor {
        user: optional(&raw.user)??,
        password_file: password_file?,
        interval: seconds(&raw.interval_seconds)?,
        timeout: seconds(&raw.timeout_seconds)?,
        fall: raw.fall.get()?.value,
    })
}

fn users(raw: &raw::Mysql, place: &Place<'_>, sink: &mut Sink) -> Option<Vec<User>> {
    let mut names = Once::new(raw.user.len());
    let mut users = Vec::with_capacity(raw.user.len());
    for (index, Located { value: user, .. }) in raw.user.iter().enumerate() {
        let name = user.name.get();
        let place = place.element("user", index, name.map(|name| name.value.as_str()));
        if let Some(name) = name
            && let Some(first) = names.seen(&name.value, name.at)
        {
            let line = sink.line(first);
            let message = format!(
                "name {} is taken by the user of line {line}",
                quoted(&name.value)
            );
            sink.problem(name.at, &place, "name", message);
        }
        let password_file = file((&user.password_file, "password_file"), &place, sink);
        let user = || {
            Some(User {
                name: name?.value.clone(),
                password_file: password_file??,
                max_connections: limit(&user.max_connections)?,
            })
        };
        users.push(user());
    }
    users.into_iter().collect()
}

/// A file that has to be read; nothing where a problem was reported.
fn file(
    (field, key): (&Field<PathBuf>, &str),
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<Option<PathBuf>> {
    if let Some(file) = field.given() {
        sink.needs(file.at, place, key, &file.value, Needs::Content);
    }
    optional(field)
}

/// What may be missing; `None` where a problem was reported.
fn optional<T: Clone>(field: &Field<T>) -> Option<Option<T>> {
    match field {
        Field::Given(value) | Field::Default(value) => Some(Some(value.value.clone())),
        Field::Absent => Some(None),
        Field::Invalid => None,
    }
}

/// A number of which 0 is none.
fn limit(field: &Field<u32>) -> Option<Option<u32>> {
    let number = field.get()?.value;
    Some((number > 0).then_some(number))
}

fn seconds(field: &Field<f64>) -> Option<Duration> {
    Some(Duration::from_secs_f64(field.get()?.value))
}
