//! `[firewall]`.

use std::{path::PathBuf, sync::Arc};

use lb_common::abi::Protocol;

use crate::config::{
    files::Needs,
    model::{
        Prefix,
        firewall::{Firewall, HostPort, Lists, Rate},
    },
    problem::{Place, Sink},
    raw,
    schema::{Field, Located},
};

/// The firewall; nothing when there is a problem in the sink. What stands in files is added when they
/// are read.
pub(super) fn firewall(file: &raw::File, sink: &mut Sink) -> Option<Firewall> {
    let raw = &file.firewall.get()?.value;
    let place = Place::TOP.table("firewall");
    let mut files = |field: &Field<Vec<Located<PathBuf>>>, key: &str| {
        for file in field.get().into_iter().flat_map(|list| &list.value) {
            sink.needs(file.at, &place, key, &file.value, Needs::Prefixes);
        }
    };
    files(&raw.deny_files, "deny_files");
    files(&raw.allow_files, "allow_files");
    lock_down(file, raw, sink);
    Some(Firewall {
        deny: lists(&raw.deny, &raw.deny_files)?,
        allow: lists(&raw.allow, &raw.allow_files)?,
        dry_run: raw.dry_run.get()?.value,
        locked: raw.default.get()?.value,
        host_ports: raw
            .host_ports
            .get()?
            .value
            .iter()
            .map(|one| one.value)
            .collect(),
        rate: rate(&raw.rate, sink)?,
    })
}

/// Refuses a lock-down that would keep out whoever administers this.
fn lock_down(file: &raw::File, raw: &raw::Firewall, sink: &mut Sink) {
    let place = Place::TOP.table("firewall");
    let (Some(default), Some(ports)) = (raw.default.get(), raw.host_ports.get()) else {
        return;
    };
    if !default.value {
        if !ports.value.is_empty() {
            let warning = "host_ports does nothing without default = \"deny\"";
            sink.warning(ports.at, &place, "host_ports", warning);
        }
        return;
    }
    if file.app_host.given().is_some() {
        sink.problem(
            default.at,
            &place,
            "default",
            "default = \"deny\" and [app_host] do not go together: what other balancers send here \
             would be dropped",
        );
    }
    let listen = file
        .admin
        .get()
        .and_then(|admin| admin.value.listen.given());
    let Some(listen) = listen.filter(|one| !one.value.ip().to_canonical().is_loopback()) else {
        return;
    };
    let own = HostPort {
        protocol: Protocol::Tcp,
        port: listen.value.port(),
    };
    let is_named = ports.value.iter().any(|port| port.value == own);
    let lets_somebody_in = raw.allow.get().is_some_and(|list| !list.value.is_empty())
        || raw
            .allow_files
            .get()
            .is_some_and(|list| !list.value.is_empty());
    if !is_named && !lets_somebody_in {
        sink.problem(
            default.at,
            &place,
            "default",
            format!(
                "default = \"deny\" keeps everybody out of [admin] listen (add \"{own}\" to \
                 host_ports, or name who may reach this host in allow)"
            ),
        );
    }
}

/// The limit, if there is one.
fn rate(raw: &Field<raw::Rate>, sink: &mut Sink) -> Option<Option<Rate>> {
    let raw = &raw.get()?.value;
    let place = Place::TOP.table("firewall");
    let place = place.table("rate");
    let burst = match &raw.burst {
        Field::Given(burst) | Field::Default(burst) => Some(burst),
        Field::Absent => None,
        Field::Invalid => return None,
    };
    let new_connections = match &raw.new_connections {
        Field::Given(number) | Field::Default(number) => number.value,
        Field::Absent => {
            if let Some(burst) = burst {
                sink.warning(
                    burst.at,
                    &place,
                    "burst",
                    "burst does nothing without new_connections",
                );
            }
            return Some(None);
        }
        Field::Invalid => return None,
    };
    Some(Some(Rate {
        new_connections,
        burst: burst.map_or(new_connections, |burst| burst.value),
        prefix_v4: raw.prefix_v4.get()?.value,
        prefix_v6: raw.prefix_v6.get()?.value,
    }))
}

fn lists(
    prefixes: &Field<Vec<Located<Prefix>>>,
    files: &Field<Vec<Located<PathBuf>>>,
) -> Option<Lists> {
    let prefixes = prefixes.get()?.value.iter();
    let files = files.get()?.value.iter();
    Some(Lists {
        prefixes: prefixes.map(|one| one.value).collect(),
        files: files.map(|one| one.value.clone()).collect(),
        listed: Arc::default(),
    })
}
