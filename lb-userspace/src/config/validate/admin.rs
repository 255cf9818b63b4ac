//! `[admin]`

use super::key_pair::key_pair;
use crate::config::{
    model::Admin,
    problem::{Place, Sink},
    raw,
    schema::Field,
};

/// How to talk to the agent, or nothing when there is a problem in the sink.
pub(super) fn admin(file: &raw::File, sink: &mut Sink) -> Option<Admin> {
    let raw = &file.admin.get()?.value;
    let place = Place::TOP.table("admin");
    let tls = key_pair(
        (&raw.tls_certificate, "tls_certificate"),
        (&raw.tls_key, "tls_key"),
        &place,
        sink,
    );
    if let (Some(certificate), Field::Absent) = (raw.tls_certificate.given(), &raw.listen) {
        let warning = "tls_certificate does nothing without listen";
        sink.warning(certificate.at, &place, "tls_certificate", warning);
    }
    let is_encrypted = matches!(tls, Some(Some(_)));
    if let Some(token_file) = raw.token_file.given() {
        let warning = match &raw.listen {
            Field::Absent => Some("token_file does nothing without listen"),
            Field::Given(listen) | Field::Default(listen)
                if !is_encrypted && !listen.value.ip().to_canonical().is_loopback() =>
            {
                Some(
                    "the token crosses the network in clear text: whoever can read along can make \
                     changes (tls_certificate and tls_key keep it secret)",
                )
            }
            Field::Given(_) | Field::Default(_) | Field::Invalid => None,
        };
        if let Some(warning) = warning {
            sink.warning(token_file.at, &place, "token_file", warning);
        }
    }
    Some(Admin {
        socket: raw.socket.get()?.value.clone(),
        listen: given(&raw.listen)?,
        token_file: given(&raw.token_file)?,
        tls: tls?,
    })
}

/// What the file names, if it does; nothing at all where a problem has been reported.
fn given<T: Clone>(field: &Field<T>) -> Option<Option<T>> {
    match field {
        Field::Given(located) | Field::Default(located) => Some(Some(located.value.clone())),
        Field::Absent => Some(None),
        Field::Invalid => None,
    }
}
