//! `[app_host]`.

use std::net::IpAddr;

use crate::config::{
    address,
    model::AppHost,
    problem::{Place, Sink, quoted},
    raw,
    schema::{Field, Located},
};

/// The app host, if the file has one; also nothing when there is a problem in the sink.
pub(super) fn app_host(file: &raw::File, sink: &mut Sink) -> Option<AppHost> {
    let Located { value: raw, at } = file.app_host.given()?;
    let place = Place::TOP.table("app_host");
    let interfaces = needed(
        (&raw.interfaces, "interfaces"),
        "name those that packets for the VIPs come in by: interfaces = [\"eth0\"]",
        (*at, &place, sink),
    );
    let vips = needed(
        (&raw.vips, "vips"),
        "name the addresses of the services: vips = [\"203.0.113.10\"]",
        (*at, &place, sink),
    );
    for vip in vips.into_iter().flatten() {
        check_vip(vip, &place, sink);
    }
    let decap = raw.decap.get();
    let sources = raw.allowed_sources.get();
    if let (Some(decap), Some(sources)) = (decap, sources)
        && decap.value.is_empty()
        && !sources.value.is_empty()
    {
        sink.warning(
            sources.at,
            &place,
            "allowed_sources",
            "allowed_sources does nothing without decap",
        );
    }
    let steered = file
        .agent
        .get()
        .and_then(|agent| agent.value.interfaces.get());
    if let (Some(steered), Some(own), Some(decap)) = (steered, interfaces, decap)
        && !decap.value.is_empty()
    {
        let is_steered = |name: &Located<String>| {
            let mut names = steered.value.iter();
            names.any(|steered| steered.value == name.value)
        };
        for name in own.iter().filter(|name| is_steered(name)) {
            let message = format!(
                "interfaces {} is also in agent.interfaces, and an interface takes one XDP program: \
                 take it out of one of the two lists (without decap, app_host needs no program)",
                quoted(&name.value)
            );
            sink.problem(name.at, &place, "interfaces", message);
        }
    }
    Some(AppHost {
        interfaces: values(interfaces?),
        vips: values(vips?),
        decap: values(&decap?.value),
        allowed_sources: values(&sources?.value),
    })
}

fn values<T: Clone>(list: &[Located<T>]) -> Vec<T> {
    list.iter().map(|one| one.value.clone()).collect()
}

/// A list that must be there with something in it.
fn needed<'f, T>(
    (field, name): (&'f Field<Vec<Located<T>>>, &str),
    advice: &str,
    (at, place, sink): (usize, &Place<'_>, &mut Sink),
) -> Option<&'f [Located<T>]> {
    match field {
        Field::Given(list) | Field::Default(list) if !list.value.is_empty() => {
            return Some(&list.value);
        }
        Field::Given(list) | Field::Default(list) => {
            sink.problem(list.at, place, name, format!("{name} is empty ({advice})"));
        }
        Field::Absent => {
            sink.problem(at, place, name, format!("{name} is missing ({advice})"));
        }
        Field::Invalid => {}
    }
    None
}

fn check_vip(vip: &Located<IpAddr>, place: &Place<'_>, sink: &mut Sink) {
    if let Some(reason) = address::refused_vip(vip.value) {
        let message = format!("vips \"{}\" {reason}", vip.value);
        sink.problem(vip.at, place, "vips", message);
    }
}
