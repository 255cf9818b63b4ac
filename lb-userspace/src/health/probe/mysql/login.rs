//! The login to a MySQL or MariaDB server: a real one, as a client's.

use std::net::SocketAddr;

use lb_mysql::{
    auth::{
        Channel, Secret,
        client::{Action, Error, First as Proof, Login},
    },
    wire::{
        Capabilities,
        greeting::First,
        response::{Head, Response},
    },
};

use super::wire::{Packets, ServerError, Stream, not_mysql};
use crate::{
    config::model::{Mysql, Trust},
    health::probe::{CertificateEnd, Connection, Tools, failed::Failed, tls},
};

/// `utf8mb4`
const CHARACTER_SET: u16 = 45;
/// For information only.
const LONGEST_PACKET: u32 = 1 << 24;

/// Logs in, over TLS where the server has it. Gives the connection.
pub(super) async fn log_in(
    stream: Connection,
    address: SocketAddr,
    mysql: &Mysql,
    password: Secret,
    tools: &Tools,
    ends: &CertificateEnd,
) -> Result<Packets<Box<dyn Stream>>, Failed> {
    let mut plain = Packets {
        stream,
        sequence: 0,
    };
    let packet = plain.receive().await?;
    let greeting = match First::read(&packet).ok_or_else(not_mysql)? {
        First::Greeting(greeting) => greeting,
        First::Refused(refusal) => return Err(ServerError::from(refusal).into()),
    };
    let has_tls = greeting.capabilities.has(Capabilities::TLS);
    if !has_tls && mysql.tls.trust != Trust::Anyone {
        return Err(Failed::because(
            "the server has no TLS, which ca_file asks for",
        ));
    }
    let (channel, tls) = if has_tls {
        (Channel::Tls, Capabilities::TLS)
    } else {
        (Channel::Plain, Capabilities::NONE)
    };
    let mut login = Login::new(password, channel);
    let begun = login.begin(greeting.plugin, &greeting.nonce);
    let Proof { plugin, proof } = begun.map_err(|error| told(&error))?;
    let response = Response {
        head: Head {
            capabilities: Capabilities::MYSQL | Capabilities::TRANSACTIONS | tls,
            most_packet: LONGEST_PACKET,
            collation: CHARACTER_SET,
        },
        user: mysql.user.as_bytes(),
        proof: &proof,
        plugin: Some(plugin.name().as_bytes()),
        ..Response::default()
    };
    let mut payload = Vec::new();
    let mut packets = if has_tls {
        response.put_tls_request(&mut payload);
        plain.send(&payload).await?;
        payload.clear();
        let Packets { stream, sequence } = plain;
        let verifier = tools.trusted.verifier(&mysql.tls.trust)?;
        let stream = tls::handshake(stream, address, (&mysql.tls, verifier, &[]), ends).await?;
        let stream: Box<dyn Stream> = Box::new(stream);
        Packets { stream, sequence }
    } else {
        let Packets { stream, sequence } = plain;
        let stream: Box<dyn Stream> = Box::new(stream);
        Packets { stream, sequence }
    };
    response.put(&mut payload);
    packets.send(&payload).await?;
    loop {
        let packet = packets.receive().await?;
        match login.feed(&packet).map_err(|error| told(&error))? {
            Action::Send(answer) => packets.send(&answer).await?,
            Action::Read => {}
            Action::Done => return Ok(packets),
            Action::Refused => {
                let error = ServerError::read(&packet).ok_or_else(not_mysql)?;
                return Err(error.into());
            }
        }
    }
}

/// What keeps from a login, if it is not the server's own word.
fn told(error: &Error) -> Failed {
    match error {
        Error::Malformed => not_mysql(),
        Error::UnknownPlugin(_) | Error::WouldTell | Error::BadKey | Error::NoRandom => {
            Failed::because(error.to_string())
        }
    }
}
