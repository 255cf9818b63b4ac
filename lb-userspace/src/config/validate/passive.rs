//! `passive` and what belongs to it in `[service.health_check]`.

use std::time::Duration;

use lb_common::abi::Protocol;

use crate::config::{
    model::Passive,
    problem::{Place, Sink},
    raw,
    schema::{Field, Located},
};

/// When connections take a service's backends down; nothing where a problem has been reported.
pub(super) fn passive(
    raw: &Located<raw::HealthCheck>,
    (protocol, min_up_percent): (Option<Protocol>, Option<u8>),
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<Option<Passive>> {
    let raw = &raw.value;
    let place = place.table("health_check");
    let is_on = raw.passive.get()?.value;
    let companions = [
        ("passive_fall", at(&raw.passive_fall)),
        ("passive_window_seconds", at(&raw.passive_window_seconds)),
        ("passive_percent", at(&raw.passive_percent)),
        ("passive_hold_seconds", at(&raw.passive_hold_seconds)),
    ];
    if !is_on {
        for (key, at) in companions {
            if let Some(at) = at {
                let message = format!("{key} does nothing without passive = true");
                sink.warning(at, &place, key, message);
            }
        }
        return Some(None);
    }
    if let (Some(given), Some(Protocol::Udp)) = (raw.passive.given(), protocol) {
        let message = "passive true is for tcp services (nothing tells a datagram that found nobody \
                       from one that needs no answer; leave it out)";
        sink.problem(given.at, &place, "passive", message);
        return None;
    }
    if let Some(given) = raw.passive.given()
        && min_up_percent == Some(0)
    {
        let message = "passive true with min_up_percent 0 lets clients that all backends refuse or \
                       ban take every one of them down (set min_up_percent, to 50 say)";
        sink.warning(given.at, &place, "passive", message);
    }
    let kind = raw.kind.or_else(|| raw::CheckKind::Tcp);
    if let (Some(at), Some(kind)) = (at(&raw.passive_hold_seconds), kind)
        && kind != raw::CheckKind::None
    {
        let message = format!(
            "passive_hold_seconds does nothing with kind = \"{}\", which says when a backend is up \
             again",
            kind.word()
        );
        sink.warning(at, &place, "passive_hold_seconds", message);
    }
    Some(Some(Passive {
        fall: raw.passive_fall.get()?.value,
        window: Duration::from_secs_f64(raw.passive_window_seconds.get()?.value),
        percent: raw.passive_percent.get()?.value,
        hold: Duration::from_secs_f64(raw.passive_hold_seconds.get()?.value),
    }))
}

/// Where the file names a key.
fn at<T>(field: &Field<T>) -> Option<usize> {
    field.given().map(|value| value.at)
}
