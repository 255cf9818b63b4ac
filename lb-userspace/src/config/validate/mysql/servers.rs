//! `[[mysql.server]]`: what fits together.

use super::{Once, key_pair, limit, optional};
use crate::config::{
    files::Needs,
    model::mysql::{Reads, Role, Server, ServerTls, Tls},
    problem::{Place, Sink, quoted},
    raw,
    schema::{Field, Located},
};

/// All of them; nothing where a problem was reported.
pub(super) fn servers(
    mysql: &raw::Mysql,
    (at, place): (usize, &Place<'_>),
    sink: &mut Sink,
) -> Option<Vec<Server>> {
    let list = &mysql.server;
    if list.is_empty() {
        let message = "there is no [[mysql.server]], nobody to send statements to";
        sink.problem(at, place, "server", message);
    }
    let mut names = Once::new(list.len());
    let mut addresses = Once::new(list.len());
    let mut servers = Vec::with_capacity(list.len());
    for (index, Located { value: raw, at }) in list.iter().enumerate() {
        let name = raw.name.get();
        let place = place.element("server", index, name.map(|name| name.value.as_str()));
        if let Some(name) = name
            && let Some(first) = names.seen(&name.value, name.at)
        {
            let line = sink.line(first);
            let message = format!(
                "name {} is taken by the server of line {line}",
                quoted(&name.value)
            );
            sink.problem(name.at, &place, "name", message);
        }
        if let Some(address) = raw.address.get()
            && let Some(first) = addresses.seen(address.value, address.at)
        {
            let line = sink.line(first);
            let message = format!(
                "address {} is taken by the server of line {line}",
                address.value
            );
            sink.problem(address.at, &place, "address", message);
        }
        servers.push(server(raw, *at, &place, sink));
    }
    roles(list, place, sink);
    weights(mysql, (at, place), sink);
    servers.into_iter().collect()
}

fn server(raw: &raw::Server, at: usize, place: &Place<'_>, sink: &mut Sink) -> Option<Server> {
    let tls = tls(raw, at, place, sink);
    let client = key_pair(
        (&raw.tls_client_certificate, "tls_client_certificate"),
        (&raw.tls_client_key, "tls_client_key"),
        place,
        sink,
    );
    Some(Server {
        name: raw.name.get()?.value.clone(),
        address: raw.address.get()?.value,
        weight: raw.weight.get()?.value,
        role: raw.role.get()?.value,
        tls: tls?,
        client: client?,
        max_connections: limit(&raw.max_connections)?,
    })
}

fn tls(raw: &raw::Server, at: usize, place: &Place<'_>, sink: &mut Sink) -> Option<ServerTls> {
    let word = raw.tls.get()?.value;
    let mut idle = |at: Option<usize>, key: &str, with: &str| {
        if let Some(at) = at {
            let message = format!("{key} does nothing with tls = \"{with}\"");
            sink.warning(at, place, key, message);
        }
    };
    let ca = raw.tls_ca.given();
    let name = raw.tls_name.given().map(|name| name.at);
    let certificate = raw.tls_client_certificate.given().map(|one| one.at);
    match word {
        Tls::Off => {
            idle(ca.map(|ca| ca.at), "tls_ca", "off");
            idle(name, "tls_name", "off");
            idle(certificate, "tls_client_certificate", "off");
            Some(ServerTls::Off)
        }
        Tls::Prefer => {
            idle(ca.map(|ca| ca.at), "tls_ca", "prefer");
            idle(name, "tls_name", "prefer");
            Some(ServerTls::Prefer)
        }
        Tls::Require => {
            if let Field::Absent = raw.tls_ca {
                let message = "tls_ca is missing, and tls = \"require\" needs one: without it \
                               anybody could answer in the server's place";
                let at = raw.tls.given().map_or(at, |tls| tls.at);
                sink.problem(at, place, "tls_ca", message);
            }
            let ca = ca?;
            sink.needs(ca.at, place, "tls_ca", &ca.value, Needs::Certificates);
            Some(ServerTls::Require {
                ca: ca.value.clone(),
                name: optional(&raw.tls_name)?,
            })
        }
    }
}

fn roles(list: &[Located<raw::Server>], place: &Place<'_>, sink: &mut Sink) {
    let role = |server: &Located<raw::Server>| server.value.role.get().map(|role| role.value);
    let mut primaries = list
        .iter()
        .enumerate()
        .filter(|(_, server)| role(server) == Some(Role::Primary));
    if let Some((_, first)) = primaries.next() {
        for (index, second) in primaries {
            let name = second.value.name.get();
            let place = place.element("server", index, name.map(|name| name.value.as_str()));
            let line = sink.line(first.at);
            let at = second.value.role.given().map_or(second.at, |role| role.at);
            let message = format!(
                "role \"primary\" is that of the server of line {line} already, and there is one \
                 (write role = \"auto\" for both if it may be either)"
            );
            sink.problem(at, &place, "role", message);
        }
    }
    let are_replicas = list
        .iter()
        .all(|server| role(server) == Some(Role::Replica));
    if let (Some(first), true) = (list.first(), are_replicas) {
        let message = "every server has role = \"replica\", so that nobody may be written to";
        sink.problem(first.at, place, "server", message);
    }
}

fn weights(mysql: &raw::Mysql, (at, place): (usize, &Place<'_>), sink: &mut Sink) {
    let reads = mysql.reads.get().map(|reads| reads.value);
    let weights = mysql.server.iter().map(|server| server.value.weight.get());
    let are_zero = weights
        .into_iter()
        .all(|weight| weight.is_some_and(|one| one.value == 0));
    if mysql.server.len() > 1 && are_zero && reads != Some(Reads::Primary) {
        let message = "every server has weight 0: all reads go to the primary (reads = \"primary\" \
                       says so)";
        sink.warning(at, place, "server", message);
    }
}
