//! `[service.health_check]`: what fits together, and what it means.

use std::time::Duration;

use lb_common::abi::Protocol;

use crate::config::{
    files::Needs,
    model::{CheckKind, Get, HealthCheck, Mysql, Tls, Trust, Via},
    problem::{Place, Sink},
    raw,
    schema::{Field, Located},
};

/// The check of a service's backends.
pub(super) fn health_check(
    raw: &Located<raw::HealthCheck>,
    protocol: Option<Protocol>,
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<HealthCheck> {
    let Located { value: raw, at } = raw;
    let kind = raw.kind.or_else(|| match protocol {
        Some(Protocol::Udp) => raw::CheckKind::None,
        Some(Protocol::Tcp) | None => raw::CheckKind::Tcp,
    });
    let place = place.table("health_check");
    if let Some(kind) = kind {
        tell_unused(raw, kind, &place, sink);
    }
    check_way(raw, kind, protocol, &place, sink);
    let port = value(&raw.port)?;
    Some(HealthCheck {
        kind: match kind? {
            raw::CheckKind::None => CheckKind::None,
            raw::CheckKind::Tcp => CheckKind::Tcp,
            raw::CheckKind::Http => CheckKind::Http(get(raw)?),
            raw::CheckKind::Https => CheckKind::Https(get(raw)?, tls(raw, false, &place, sink)?),
            raw::CheckKind::Grpc => CheckKind::Grpc {
                host: value(&raw.host)?,
                service: raw.grpc_service.get()?.value.clone(),
            },
            raw::CheckKind::Mysql => CheckKind::Mysql(mysql(raw, *at, &place, sink)?),
            raw::CheckKind::Script => CheckKind::Script {
                command: command(raw, *at, &place, sink)?,
            },
        },
        via: raw.via.get()?.value,
        interval: Duration::from_secs_f64(raw.interval_seconds.get()?.value),
        timeout: Duration::from_secs_f64(raw.timeout_seconds.get()?.value),
        rise: raw.rise.get()?.value,
        fall: raw.fall.get()?.value,
        port,
        agent_port: value(&raw.agent_check_port)?,
    })
}

/// A check through the service is one that a client could make.
fn check_way(
    raw: &raw::HealthCheck,
    kind: Option<raw::CheckKind>,
    protocol: Option<Protocol>,
    place: &Place<'_>,
    sink: &mut Sink,
) {
    let Some(via) = raw.via.given().filter(|via| via.value == Via::Service) else {
        return;
    };
    let is_udp = protocol == Some(Protocol::Udp);
    if is_udp {
        let message = "via = \"service\" is for protocol = \"tcp\", because what checks a udp \
                       service does not ask by UDP (allowed: \"direct\")";
        sink.problem(via.at, place, "via", message);
    }
    if let Some(kind @ (raw::CheckKind::None | raw::CheckKind::Script)) = kind
        && !is_udp
    {
        let why = if kind == raw::CheckKind::Script {
            "because a program asks by its own way"
        } else {
            "because nothing is asked"
        };
        let message = format!(
            "via = \"service\" does not go with kind = \"{}\", {why} (allowed: \"direct\", or \
             kind = \"tcp\", \"http\", \"https\", \"grpc\" or \"mysql\")",
            kind.word()
        );
        sink.problem(via.at, place, "via", message);
    }
    if let Some(port) = raw.port.given() {
        let message = format!(
            "port {} does not go with via = \"service\", because clients reach the service's own \
             port (allowed: no port, or via = \"direct\")",
            port.value
        );
        sink.problem(port.at, place, "port", message);
    }
}

/// Warns of keys that this kind of check does not look at.
fn tell_unused(raw: &raw::HealthCheck, kind: raw::CheckKind, place: &Place<'_>, sink: &mut Sink) {
    use raw::CheckKind::{Grpc, Http, Https, Mysql, Script};
    let given: [(&str, Option<usize>, &[raw::CheckKind]); 12] = [
        ("path", at(&raw.path), &[Http, Https]),
        ("host", at(&raw.host), &[Http, Https, Grpc]),
        ("expect_status", at(&raw.expect_status), &[Http, Https]),
        ("sni", at(&raw.sni), &[Https, Mysql]),
        ("ca_file", at(&raw.ca_file), &[Https, Mysql]),
        ("insecure", at(&raw.insecure), &[Https]),
        ("grpc_service", at(&raw.grpc_service), &[Grpc]),
        ("user", at(&raw.user), &[Mysql]),
        ("password_file", at(&raw.password_file), &[Mysql]),
        ("require", at(&raw.require), &[Mysql]),
        ("max_lag_seconds", at(&raw.max_lag_seconds), &[Mysql]),
        ("command", at(&raw.command), &[Script]),
    ];
    for (key, at, kinds) in given {
        if let Some(at) = at
            && !kinds.contains(&kind)
        {
            let message = format!("{key} does nothing with kind = \"{}\"", kind.word());
            sink.warning(at, place, key, message);
        }
    }
}

/// Where the file names a key.
fn at<T>(field: &Field<T>) -> Option<usize> {
    field.given().map(|value| value.at)
}

/// A key that may be absent; nothing where a problem has been reported.
fn value<T: Clone>(field: &Field<T>) -> Option<Option<T>> {
    match field {
        Field::Given(located) | Field::Default(located) => Some(Some(located.value.clone())),
        Field::Absent => Some(None),
        Field::Invalid => None,
    }
}

fn get(raw: &raw::HealthCheck) -> Option<Get> {
    Some(Get {
        path: raw.path.get()?.value.clone(),
        host: value(&raw.host)?,
        expect_status: raw.expect_status.get()?.value.clone(),
    })
}

fn tls(raw: &raw::HealthCheck, is_mysql: bool, place: &Place<'_>, sink: &mut Sink) -> Option<Tls> {
    let is_insecure = raw.insecure.get()?.value;
    let file = value(&raw.ca_file)?;
    if let Some(given) = raw.ca_file.given() {
        if is_insecure {
            let message = "ca_file does nothing with insecure = true";
            sink.warning(given.at, place, "ca_file", message);
        } else {
            sink.needs(
                given.at,
                place,
                "ca_file",
                &given.value,
                Needs::Certificates,
            );
        }
    }
    let sni = value(&raw.sni)?;
    Some(Tls {
        // The certificates that MySQL makes for itself have no name, and its CA signs no others.
        may_be_nameless: is_mysql && sni.is_none(),
        sni,
        trust: match file {
            _ if is_insecure => Trust::Anyone,
            Some(file) => Trust::File(file),
            // A login is of use without.
            None if is_mysql => Trust::Anyone,
            None => Trust::System,
        },
    })
}

fn command(
    raw: &raw::HealthCheck,
    at: usize,
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<Vec<String>> {
    match &raw.command {
        Field::Given(given) | Field::Default(given) => {
            if let Some(program) = given.value.first() {
                sink.needs(
                    given.at,
                    place,
                    "command",
                    program.as_ref(),
                    Needs::Execution,
                );
            }
            Some(given.value.clone())
        }
        Field::Absent => {
            let message = "command is missing (kind = \"script\" needs one: command = \
                           [\"/usr/local/bin/check\", \"argument\"])";
            sink.problem(at, place, "command", message);
            None
        }
        Field::Invalid => None,
    }
}

fn mysql(raw: &raw::HealthCheck, at: usize, place: &Place<'_>, sink: &mut Sink) -> Option<Mysql> {
    if let Field::Absent = raw.user {
        let message = "user is missing (kind = \"mysql\" needs one, and the server has to know it)";
        sink.problem(at, place, "user", message);
    }
    if let Some(file) = raw.password_file.given() {
        sink.needs(file.at, place, "password_file", &file.value, Needs::Content);
    }
    let max_lag = value(&raw.max_lag_seconds)?;
    Some(Mysql {
        user: value(&raw.user)??,
        password_file: value(&raw.password_file)?,
        require: raw.require.get()?.value,
        max_lag: max_lag.map(Duration::from_secs_f64),
        tls: tls(raw, true, place, sink)?,
    })
}
