//! `[mysql.failover]`.

use super::{file, optional, seconds};
use crate::config::{
    model::mysql::{Automatic, Failover, Role, User},
    problem::{Place, Sink},
    raw,
    schema::Field,
    validate::etcd,
};

/// How the primary is replaced; nothing where a problem was reported.
pub(super) fn failover(mysql: &raw::Mysql, place: &Place<'_>, sink: &mut Sink) -> Option<Failover> {
    let raw = &mysql.failover.get()?.value;
    let place = place.table("failover");
    let replication = replication(raw, &place, sink);
    let automatic = automatic(mysql, raw, &place, sink);
    Some(Failover {
        automatic: automatic?,
        replication: replication?,
        hold: seconds(&raw.hold_seconds)?,
        catch_up: seconds(&raw.catch_up_seconds)?,
    })
}

fn replication(raw: &raw::Failover, place: &Place<'_>, sink: &mut Sink) -> Option<Option<User>> {
    let password_file = file(
        (&raw.replication_password_file, "replication_password_file"),
        place,
        sink,
    );
    match (&raw.replication_user, &raw.replication_password_file) {
        (Field::Given(user), Field::Absent) => {
            let message = "replication_user without replication_password_file";
            sink.problem(user.at, place, "replication_user", message);
            None
        }
        (Field::Absent, Field::Given(file)) => {
            let message = "replication_password_file without replication_user";
            sink.problem(file.at, place, "replication_password_file", message);
            None
        }
        (user, _) => Some(match (optional(user)?, password_file?) {
            (Some(name), Some(password_file)) => Some(User {
                name,
                password_file,
                max_connections: None,
            }),
            (Some(_), None) | (None, _) => None,
        }),
    }
}

fn automatic(
    mysql: &raw::Mysql,
    raw: &raw::Failover,
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<Option<Automatic>> {
    let is_on = raw.automatic.get()?;
    let endpoints = raw.endpoints.get();
    if !is_on.value {
        for (at, key) in [
            (raw.wait_seconds.given().map(|one| one.at), "wait_seconds"),
            (raw.endpoints.given().map(|one| one.at), "endpoints"),
            (raw.prefix.given().map(|one| one.at), "prefix"),
            (raw.tls_ca.given().map(|one| one.at), "tls_ca"),
        ] {
            if let Some(at) = at {
                let message = format!("{key} does nothing without automatic = true");
                sink.warning(at, place, key, message);
            }
        }
        return Some(None);
    }
    if endpoints.is_some_and(|list| list.value.is_empty()) {
        let message = "endpoints is missing, and automatic = true needs etcd (write \
                       [\"http://10.0.0.5:2379\"]): without it two proxies could promote two servers";
        sink.problem(is_on.at, place, "endpoints", message);
    }
    let may_take_over = mysql.server.iter().filter(|server| {
        let role = server.value.role.get();
        role.is_none_or(|role| role.value == Role::Auto)
    });
    if mysql.server.len() == 1 {
        let message = "automatic = true needs a second [[mysql.server]] that could take over";
        sink.problem(is_on.at, place, "automatic", message);
    } else if may_take_over.count() < 2 && !mysql.server.is_empty() {
        let message = "automatic = true needs two servers with role = \"auto\": one whose role the \
                       config names is never replaced, or never takes over";
        sink.problem(is_on.at, place, "automatic", message);
    }
    let prefix = raw.prefix.get();
    if let Some(prefix) = prefix
        && prefix.value.is_empty()
    {
        let message = "prefix is empty, and all clusters would share one lease";
        sink.problem(prefix.at, place, "prefix", message);
    }
    let servers = etcd::servers(
        &etcd::Keys {
            endpoints: &raw.endpoints,
            ca: &raw.tls_ca,
            certificate: &raw.tls_client_certificate,
            key: &raw.tls_client_key,
        },
        place,
        sink,
    );
    Some(Some(Automatic {
        wait: seconds(&raw.wait_seconds)?,
        servers: servers?,
        prefix: prefix?.value.clone(),
    }))
}
