//! `[admin]`

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
    if let Some(token_file) = raw.token_file.given() {
        let warning = match &raw.listen {
            Field::Absent => Some("token_file does nothing without listen"),
            Field::Given(listen) | Field::Default(listen)
                if !listen.value.ip().to_canonical().is_loopback() =>
            {
                Some(
                    "the token crosses the network in clear text: whoever can read along can make \
                     changes (a listen address on loopback, with a TLS proxy before it, keeps it \
                     secret)",
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
