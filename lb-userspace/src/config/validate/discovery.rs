//! `[service.discovery]`: what fits together, and what it means.

use super::etcd;
use crate::config::{
    model::{Discovery, DiscoverySource, DnsQuery, EtcdRange},
    problem::{Place, Sink},
    raw::{self, DiscoveryKind},
    schema::{Field, Located},
};

/// Where the service's backends come from beside the file; nothing where a problem was reported.
pub(super) fn discovery(
    raw: &Located<raw::Discovery>,
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<Option<Discovery>> {
    let Located { value: raw, at } = raw;
    let place = place.table("discovery");
    let kind = match &raw.kind {
        Field::Given(kind) | Field::Default(kind) => kind.value,
        Field::Invalid => return None,
        Field::Absent => {
            let given = given(raw);
            for (key, at) in &given {
                let message = format!("{key} without kind (write kind = \"dns\" or \"etcd\")");
                sink.problem(*at, &place, key, message);
            }
            return given.is_empty().then_some(None);
        }
    };
    let of_kind = match kind {
        DiscoveryKind::Dns => ["name", "record", "port", "server"].as_slice(),
        DiscoveryKind::Etcd => [
            "endpoints",
            "prefix",
            "tls_ca",
            "tls_client_certificate",
            "tls_client_key",
        ]
        .as_slice(),
    };
    for (key, at) in given(raw) {
        if key != "most" && !of_kind.contains(&key) {
            let word = match kind {
                DiscoveryKind::Dns => "dns",
                DiscoveryKind::Etcd => "etcd",
            };
            let message = format!("{key} is not looked at with kind \"{word}\"");
            sink.warning(at, &place, key, &message);
        }
    }
    let source = match kind {
        DiscoveryKind::Dns => {
            let name = needed(&raw.name, "name", "dns", (*at, &place), sink);
            DiscoverySource::Dns(DnsQuery {
                name: name?,
                record: raw.record.get()?.value,
                port: optional(&raw.port)?,
                server: optional(&raw.server)?,
            })
        }
        DiscoveryKind::Etcd => {
            let prefix = needed(&raw.prefix, "prefix", "etcd", (*at, &place), sink);
            let servers = etcd::servers(
                &etcd::Keys {
                    endpoints: &raw.endpoints,
                    ca: &raw.tls_ca,
                    certificate: &raw.tls_client_certificate,
                    key: &raw.tls_client_key,
                },
                &place,
                sink,
            );
            let endpoints = &raw.endpoints.get()?.value;
            if endpoints.is_empty() {
                let message = "endpoints is missing, and kind \"etcd\" needs one (write \
                               [\"http://10.0.0.5:2379\"])";
                sink.problem(*at, &place, "endpoints", message.to_owned());
                return None;
            }
            DiscoverySource::Etcd(EtcdRange {
                servers: servers?,
                prefix: prefix?,
            })
        }
    };
    Some(Some(Discovery {
        source,
        most: raw.most.get()?.value,
    }))
}

/// The keys of the file, but `kind`.
fn given(raw: &raw::Discovery) -> Vec<(&'static str, usize)> {
    fn at<T>(field: &Field<T>) -> Option<usize> {
        field.given().map(|located| located.at)
    }
    [
        ("name", at(&raw.name)),
        ("record", at(&raw.record)),
        ("port", at(&raw.port)),
        ("server", at(&raw.server)),
        ("endpoints", at(&raw.endpoints)),
        ("prefix", at(&raw.prefix)),
        ("tls_ca", at(&raw.tls_ca)),
        ("tls_client_certificate", at(&raw.tls_client_certificate)),
        ("tls_client_key", at(&raw.tls_client_key)),
        ("most", at(&raw.most)),
    ]
    .into_iter()
    .filter_map(|(key, at)| Some((key, at?)))
    .collect()
}

/// A key that this kind cannot do without.
fn needed(
    field: &Field<String>,
    key: &'static str,
    kind: &str,
    (at, place): (usize, &Place<'_>),
    sink: &mut Sink,
) -> Option<String> {
    match field {
        Field::Given(value) | Field::Default(value) if !value.value.is_empty() => {
            Some(value.value.clone())
        }
        Field::Invalid => None,
        Field::Given(_) | Field::Default(_) | Field::Absent => {
            let message = format!("{key} is missing, and kind \"{kind}\" needs one");
            sink.problem(at, place, key, message);
            None
        }
    }
}

/// What may be missing; `None` where a problem was reported.
fn optional<T: Clone>(field: &Field<T>) -> Option<Option<T>> {
    match field {
        Field::Given(value) | Field::Default(value) => Some(Some(value.value.clone())),
        Field::Absent => Some(None),
        Field::Invalid => None,
    }
}
