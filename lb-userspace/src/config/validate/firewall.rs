//! `[firewall]`.

use std::{path::PathBuf, sync::Arc};

use lb_common::abi::Protocol;

use crate::config::{
    files::Needs,
    model::{
        Prefix,
        firewall::{Access, Bucket, Firewall, HostPort, Lists, Rate},
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
    need_files(&raw.deny_files, &place, "deny_files", sink);
    need_files(&raw.allow_files, &place, "allow_files", sink);
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

/// Who may use a service; nothing when there is a problem in the sink.
pub(super) fn access(
    raw: &Located<raw::ServiceFirewall>,
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<Access> {
    let raw = &raw.value;
    let place = place.table("firewall");
    need_files(&raw.deny_files, &place, "deny_files", sink);
    need_files(&raw.allow_files, &place, "allow_files", sink);
    Some(Access {
        deny: lists(&raw.deny, &raw.deny_files)?,
        allow: lists(&raw.allow, &raw.allow_files)?,
        set: Vec::new(),
    })
}

fn need_files(field: &Field<Vec<Located<PathBuf>>>, place: &Place<'_>, key: &str, sink: &mut Sink) {
    for file in field.get().into_iter().flat_map(|list| &list.value) {
        sink.needs(file.at, place, key, &file.value, Needs::Prefixes);
    }
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

/// The limits, if there are any.
fn rate(raw: &Field<raw::Rate>, sink: &mut Sink) -> Option<Option<Rate>> {
    let raw = &raw.get()?.value;
    let new_connections = bucket(
        (&raw.new_connections, "new_connections"),
        (&raw.burst, "burst"),
        sink,
    );
    let packets = bucket(
        (&raw.packets, "packets"),
        (&raw.packets_burst, "packets_burst"),
        sink,
    );
    let rate = Rate {
        flows: raw.flows.or_else(|| 0)?,
        deny_seconds: raw.deny_seconds.or_else(|| 0)?,
        new_connections: new_connections?,
        packets: packets?,
        prefix_v4: raw.prefix_v4.get()?.value,
        prefix_v6: raw.prefix_v6.get()?.value,
    };
    let is_limited = rate.new_connections.is_some() || rate.packets.is_some() || rate.flows != 0;
    if let (false, Some(deny)) = (is_limited, raw.deny_seconds.given()) {
        let place = Place::TOP.table("firewall");
        let warning = "deny_seconds does nothing without new_connections, packets or flows";
        sink.warning(deny.at, &place.table("rate"), "deny_seconds", warning);
    }
    Some(is_limited.then_some(rate))
}

/// One limit, of two keys and their names.
fn bucket(
    (rate, name): (&Field<u32>, &str),
    (burst, burst_name): (&Field<u32>, &str),
    sink: &mut Sink,
) -> Option<Option<Bucket>> {
    if let (Field::Absent, Some(burst)) = (rate, burst.given()) {
        let place = Place::TOP.table("firewall");
        sink.warning(
            burst.at,
            &place.table("rate"),
            burst_name,
            format!("{burst_name} does nothing without {name}"),
        );
    }
    let burst = burst.or_else(|| 0)?;
    let per_second = match rate {
        Field::Given(rate) | Field::Default(rate) => rate.value,
        Field::Absent => return Some(None),
        Field::Invalid => return None,
    };
    let burst = if burst == 0 { per_second } else { burst };
    Some(Some(Bucket { per_second, burst }))
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
