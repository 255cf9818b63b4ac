//! Logins: what a client says to the proxy, and what a server says to it.
//!
//! Nobody is taken for who knows the password but one who has proved it, and no server hears the
//! password as it is on a connection that others may listen to.

use lb_mysql::auth::{
    Channel, Nonce, Plugin, Secret, client,
    rsa::PublicKey,
    scramble,
    server::{self, Basis, Known},
};
use lb_mysql::wire::{
    Capabilities,
    greeting::First,
    response::{Answer, Response},
};

use super::{choice, demand, payloads};
use crate::Signature;

const PASSWORD: &[u8] = b"correct horse";
const GREETED: [u8; 20] = *b"abcdefghijklmnopqrst";
const NEXT: [u8; 20] = *b"ABCDEFGHIJKLMNOPQRST";
/// Steps of a login at most.
const MOST_STEPS: usize = 16;
/// Of the proxy. Nobody has the other half.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAx4TaWigOW1ROvkkiG0qS
hMMZOUmLXmoYFFyMJIkA5zs9ybxauugLKB39pg3fV8GBHWpiEipYb359RSepG2oD
a0sLmZB+UaNkc/nkYGX4hFkAPU/89bF3PKmN38jXX4GL7j5sOo4hWZTENJztidpQ
zbY5Hx3OSwEeVucOrSHVIxy7F7bICgLv03Emuqh1f6WDmypif/oBFGUhvEYfjL53
68Q9D/5mzh3Kf+0GELnLlPv5dFXvRkmU55CN9oY/FDOVCSa1r5NhHa88DCqRooKY
uHTay10TkareRszlWajDFTyqcZdocvwizT8Oc/i9JZ/r7y1IFceg0ISZA+iAnnl+
EQIDAQAB
-----END PUBLIC KEY-----
";

pub(crate) fn run(mut input: &[u8]) -> Result<Signature, String> {
    let how = choice(&mut input);
    let channel = [Channel::Plain, Channel::Tls, Channel::Socket][usize::from(how & 3) % 3];
    if how & 4 == 0 {
        of_a_client(input, channel, how)
    } else {
        at_a_server(input, channel)
    }
}

fn of_a_client(input: &[u8], channel: Channel, how: u8) -> Result<Signature, String> {
    let offered = Capabilities::offer(Capabilities(!0), how & 8 != 0);
    let mut payloads = payloads(input).into_iter();
    let first = payloads.next().unwrap_or_default();
    let response = match Answer::read(first, offered) {
        Ok(Answer::Login(response)) => response,
        Ok(Answer::TlsRequest(_)) => return Ok(vec![1]),
        Err(_) => return Ok(vec![2]),
    };
    put_together(&response, offered)?;
    let secret = (how & 16 != 0).then(|| Secret::new(PASSWORD.to_vec()));
    let known = Known {
        is_listed: how & 32 != 0 && secret.is_some(),
        secret,
    };
    let (greeted, next) = (Nonce::from_bytes(GREETED), Nonce::from_bytes(NEXT));
    let mut login = server::Login::new(channel, greeted, next, known);
    let again = how & 64 != 0;
    let mut action = if again {
        login.begin_again(response.plugin, response.proof)
    } else {
        login.begin(response.plugin, response.proof)
    };
    let mut said = response.proof;
    let mut signature = vec![10 + u32::from(how & 0x73)];
    for step in 0.. {
        demand!(step < MOST_STEPS, "the login does not end");
        signature.push(match &action {
            server::Action::Send(payload) => {
                demand!(payload.len() < 1024, "{} bytes are sent", payload.len());
                demand!(!holds(payload, PASSWORD), "a client is told a password");
                let Some(payload) = payloads.next() else {
                    return Ok(signature);
                };
                said = payload;
                action = login.feed(payload);
                200
            }
            server::Action::Key => {
                let key = PublicKey::read(KEY.as_bytes()).ok_or("the key is none")?;
                action = login.key(&key);
                201
            }
            server::Action::Unseal(_) => {
                let is_mine = said.len() > 255;
                action = login.unsealed(is_mine.then(|| Secret::new(b"said".to_vec())));
                202
            }
            server::Action::Judge(claim) => {
                let secret = claim.secret.expose();
                match claim.basis {
                    Basis::Proved(plugin) => demand!(
                        secret == PASSWORD && is_proof(plugin, said),
                        "{said:?} counts as a proof by {plugin:?}"
                    ),
                    // What one who does not know it cannot say.
                    Basis::Said => demand!(
                        secret != PASSWORD || holds(said, PASSWORD),
                        "the known password is claimed by {said:?}"
                    ),
                    Basis::Empty => demand!(secret.is_empty(), "an empty password is not"),
                    Basis::Wrong => demand!(
                        secret != PASSWORD && !secret.is_empty(),
                        "nobody's password is somebody's"
                    ),
                }
                let basis = match claim.basis {
                    Basis::Proved(_) => 0,
                    Basis::Said => 1,
                    Basis::Empty => 2,
                    Basis::Wrong => 3,
                };
                signature.push(210 + basis);
                return Ok(signature);
            }
            server::Action::Refuse(refusal) => {
                signature.push(220 + u32::from(refusal.code & 7));
                return Ok(signature);
            }
        });
    }
    Ok(signature)
}

/// A login that was read is put for a server, and read again as that would do it.
fn put_together(response: &Response<'_>, offered: Capabilities) -> Result<(), String> {
    let mut out = Vec::new();
    response.put(&mut out);
    // Servers that take long proofs are the ones that are asked.
    if response.proof.len() > 255 {
        return Ok(());
    }
    let again = Answer::read(&out, offered);
    let is_same = matches!(&again, Ok(Answer::Login(again)) if again.user == response.user
        && again.proof == response.proof
        && again.database == response.database);
    demand!(is_same, "{response:?}\n is put as {again:?}");
    Ok(())
}

fn is_proof(plugin: Plugin, said: &[u8]) -> bool {
    [GREETED, NEXT].into_iter().any(|nonce| {
        let nonce = Nonce::from_bytes(nonce);
        said == match plugin {
            Plugin::Native => scramble::native(PASSWORD, nonce.bytes()),
            Plugin::CachingSha2 => scramble::caching_sha2(PASSWORD, nonce.bytes()),
            Plugin::Sha256 | Plugin::Clear | Plugin::Ed25519 | Plugin::Parsec => return false,
        }
    })
}

fn at_a_server(input: &[u8], channel: Channel) -> Result<Signature, String> {
    let mut payloads = payloads(input).into_iter();
    let greeting = match First::read(payloads.next().unwrap_or_default()) {
        Some(First::Greeting(greeting)) => greeting,
        Some(First::Refused(_)) => return Ok(vec![3]),
        None => return Ok(vec![4]),
    };
    let mut put = Vec::new();
    greeting.put(&mut put);
    let again = First::read(&put);
    demand!(
        matches!(&again, Some(First::Greeting(again)) if again.nonce == greeting.nonce
            && again.capabilities == greeting.capabilities),
        "{greeting:?}\n is put as {again:?}"
    );
    let mut login = client::Login::new(Secret::new(PASSWORD.to_vec()), channel);
    let Ok(first) = login.begin(greeting.plugin, &greeting.nonce) else {
        return Ok(vec![5]);
    };
    demand!(
        !holds(&first.proof, PASSWORD),
        "the password is said unasked"
    );
    let mut signature = vec![400 + first.plugin as u32];
    for (step, payload) in payloads.enumerate() {
        let kind = match login.feed(payload) {
            Ok(client::Action::Send(sent)) => {
                demand!(
                    channel.is_private() || !holds(&sent, PASSWORD),
                    "the password is said for everyone to hear, after {payload:?}"
                );
                demand!(sent.len() <= 1024, "{} bytes are sent", sent.len());
                410
            }
            Ok(client::Action::Read) => 411,
            Ok(client::Action::Done) => 412,
            Ok(client::Action::Refused) => 413,
            Err(error) => {
                signature.push(match error {
                    client::Error::UnknownPlugin(name) => {
                        demand!(name.len() <= 1024, "{} bytes are shown", name.len());
                        420
                    }
                    client::Error::WouldTell => 421,
                    client::Error::BadKey => 422,
                    client::Error::Malformed => 423,
                    client::Error::NoRandom => 424,
                });
                return Ok(signature);
            }
        };
        demand!(step < MOST_STEPS, "the login does not end");
        signature.push(kind);
        if kind >= 412 {
            break;
        }
    }
    Ok(signature)
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}
