//! A certificate and its key.

use std::path::PathBuf;

use crate::config::{
    files::Needs,
    model::KeyPair,
    problem::{Place, Sink},
    schema::Field,
};

/// Two files of which neither is of use alone; nothing where a problem was reported.
pub(super) fn key_pair(
    (certificate, its_name): (&Field<PathBuf>, &str),
    (key, key_name): (&Field<PathBuf>, &str),
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<Option<KeyPair>> {
    match (certificate.given(), key.given()) {
        (Some(certificate), Some(key)) => {
            let (file, needs) = (&certificate.value, Needs::Certificates);
            sink.needs(certificate.at, place, its_name, file, needs);
            sink.needs(key.at, place, key_name, &key.value, Needs::Content);
            Some(Some(KeyPair {
                certificate: file.clone(),
                key: key.value.clone(),
            }))
        }
        (Some(alone), None) if matches!(key, Field::Absent) => {
            let message = format!("{its_name} without {key_name}");
            sink.problem(alone.at, place, its_name, message);
            None
        }
        (None, Some(alone)) if matches!(certificate, Field::Absent) => {
            let message = format!("{key_name} without {its_name}");
            sink.problem(alone.at, place, key_name, message);
            None
        }
        (None, None) => {
            let fine = |field: &Field<PathBuf>| !matches!(field, Field::Invalid);
            (fine(certificate) && fine(key)).then_some(None)
        }
        (Some(_), None) | (None, Some(_)) => None,
    }
}
