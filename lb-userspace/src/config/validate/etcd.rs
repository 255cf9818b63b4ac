//! Where etcd is, for whoever asks it.

use std::path::PathBuf;

use super::key_pair::key_pair;
use crate::config::{
    files::Needs,
    model::{EtcdServers, EtcdTls},
    problem::{Place, Sink},
    schema::{Field, Located},
};

/// What the file says.
pub(super) struct Keys<'a> {
    pub(super) endpoints: &'a Field<Vec<Located<String>>>,
    pub(super) ca: &'a Field<PathBuf>,
    pub(super) certificate: &'a Field<PathBuf>,
    pub(super) key: &'a Field<PathBuf>,
}

/// Those servers; nothing where a problem was reported.
pub(super) fn servers(keys: &Keys<'_>, place: &Place<'_>, sink: &mut Sink) -> Option<EtcdServers> {
    let own = key_pair(
        (keys.certificate, "tls_client_certificate"),
        (keys.key, "tls_client_key"),
        place,
        sink,
    );
    let endpoints = &keys.endpoints.get()?.value;
    let encrypted = endpoints
        .iter()
        .find(|one| one.value.starts_with("https://"));
    if let Some(ca) = keys.ca.given() {
        sink.needs(ca.at, place, "tls_ca", &ca.value, Needs::Certificates);
    }
    let ca = match (keys.ca, encrypted) {
        (Field::Invalid, _) => return None,
        (Field::Given(ca) | Field::Default(ca), Some(_)) => Some(ca.value.clone()),
        (Field::Given(ca) | Field::Default(ca), None) => {
            let message = "tls_ca does nothing without an endpoint by https://";
            sink.warning(ca.at, place, "tls_ca", message);
            None
        }
        (Field::Absent, Some(endpoint)) => {
            let message = format!(
                "{} is encrypted, and tls_ca is missing: the file (PEM) of those who sign etcd's \
                 certificates",
                endpoint.value
            );
            sink.problem(endpoint.at, place, "tls_ca", message);
            return None;
        }
        (Field::Absent, None) => {
            if let Some(certificate) = keys.certificate.given() {
                let message = "tls_client_certificate does nothing without an endpoint by https://";
                sink.warning(certificate.at, place, "tls_client_certificate", message);
            }
            None
        }
    };
    let own = own?;
    Some(EtcdServers {
        endpoints: endpoints.iter().map(|one| one.value.clone()).collect(),
        tls: ca.map(|ca| EtcdTls { ca, own }),
    })
}
