//! The login to a MySQL or MariaDB server: a real one, as a client's.

use std::net::SocketAddr;

use ring::digest::{Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use tokio::net::TcpStream;

use super::wire::{Packets, Reader, ServerError, Stream, not_mysql};
use crate::{
    config::model::{Mysql, Trust},
    health::probe::{CertificateEnd, Tools, failed::Failed, line::bounded, tls},
};

mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const TLS: u32 = 1 << 11;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(super) const PLUGIN_AUTH: u32 = 1 << 19;
}

/// `utf8mb4`
const CHARACTER_SET: u8 = 45;
/// Steps of a login; more are a loop.
const MOST_STEPS: usize = 8;

/// What a server begins with.
#[derive(Debug, PartialEq, Eq)]
struct Greeting {
    version: String,
    capabilities: u32,
    nonce: Vec<u8>,
    plugin: String,
}

impl Greeting {
    fn read(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        if reader.array()? != [10] {
            return None;
        }
        let version = bounded(&String::from_utf8_lossy(reader.until_zero()?));
        reader.take(4)?;
        let mut nonce = reader.take(8)?.to_vec();
        reader.take(1)?;
        let low: [u8; 2] = reader.array()?;
        reader.take(3)?;
        let high: [u8; 2] = reader.array()?;
        let [nonce_length] = reader.array()?;
        reader.take(10)?;
        let rest = usize::from(nonce_length).saturating_sub(8).max(13);
        nonce.extend_from_slice(reader.take(rest)?);
        // It ends with a zero.
        nonce.truncate(20);
        let plugin = reader.until_zero().unwrap_or(reader.0);
        Some(Self {
            version,
            capabilities: u32::from_le_bytes([low[0], low[1], high[0], high[1]]),
            nonce,
            plugin: bounded(&String::from_utf8_lossy(plugin)),
        })
    }
}

/// A login in its course.
struct Login<'a> {
    user: &'a str,
    password: &'a [u8],
    is_encrypted: bool,
}

/// Logs in, over TLS where the server has it. Gives the connection and the server's version.
pub(super) async fn log_in(
    stream: TcpStream,
    address: SocketAddr,
    mysql: &Mysql,
    password: &[u8],
    tools: &Tools,
    ends: &CertificateEnd,
) -> Result<(Packets<Box<dyn Stream>>, String), Failed> {
    let mut packets = Packets {
        stream,
        sequence: 0,
    };
    let packet = packets.receive().await?;
    if let Some(error) = ServerError::read(&packet) {
        return Err(error.into());
    }
    let greeting = Greeting::read(&packet).ok_or_else(not_mysql)?;
    let has_tls = greeting.capabilities & capability::TLS != 0;
    if !has_tls && mysql.tls.trust != Trust::Anyone {
        return Err(Failed::because(
            "the server has no TLS, which ca_file asks for",
        ));
    }
    let mut capabilities = capability::LONG_PASSWORD
        | capability::PROTOCOL_41
        | capability::TRANSACTIONS
        | capability::SECURE_CONNECTION
        | capability::PLUGIN_AUTH;
    let mut head = Vec::new();
    if has_tls {
        capabilities |= capability::TLS;
    }
    head.extend_from_slice(&capabilities.to_le_bytes());
    head.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    head.push(CHARACTER_SET);
    head.extend_from_slice(&[0; 23]);
    let Packets {
        stream,
        mut sequence,
    } = packets;
    let stream: Box<dyn Stream> = if has_tls {
        let mut plain = Packets { stream, sequence };
        plain.send(&head).await?;
        sequence = plain.sequence;
        let verifier = tools.trusted.verifier(&mysql.tls.trust)?;
        Box::new(tls::handshake(plain.stream, address, (&mysql.tls, verifier, &[]), ends).await?)
    } else {
        Box::new(stream)
    };
    let mut packets = Packets { stream, sequence };
    let login = Login {
        user: &mysql.user,
        password,
        is_encrypted: has_tls,
    };
    login.run(&mut packets, head, &greeting).await?;
    Ok((packets, greeting.version))
}

impl Login<'_> {
    async fn run(
        &self,
        packets: &mut Packets<Box<dyn Stream>>,
        mut response: Vec<u8>,
        greeting: &Greeting,
    ) -> Result<(), Failed> {
        // Where the server would have another one, it says so.
        let is_known = PLUGINS.contains(&&*greeting.plugin);
        let plugin = if is_known {
            &*greeting.plugin
        } else {
            PLUGINS[0]
        };
        let proof = self.proof(plugin, &greeting.nonce)?;
        response.extend_from_slice(self.user.as_bytes());
        response.push(0);
        response.push(proof.len() as u8);
        response.extend_from_slice(&proof);
        response.extend_from_slice(plugin.as_bytes());
        response.push(0);
        packets.send(&response).await?;
        for _ in 0..MOST_STEPS {
            let packet = packets.receive().await?;
            if let Some(error) = ServerError::read(&packet) {
                return Err(error.into());
            }
            let (kind, data) = packet.split_first().ok_or_else(not_mysql)?;
            match (kind, data) {
                (0, _) => return Ok(()),
                // The password is known to it.
                (1, [3]) => {}
                (1, [4]) if self.is_encrypted => {
                    let password = [self.password, &[0]].concat();
                    packets.send(&password).await?;
                }
                (1, [4]) => {
                    return Err(Failed::because(
                        "the server has no TLS and wants the password of caching_sha2_password \
                         whole; switch TLS on, or let the user have mysql_native_password",
                    ));
                }
                (0xfe, data) => {
                    let mut reader = Reader(data);
                    let plugin = reader.until_zero().ok_or_else(not_mysql)?;
                    let plugin = bounded(&String::from_utf8_lossy(plugin));
                    let nonce = reader.0.strip_suffix(&[0]).unwrap_or(reader.0);
                    let proof = self.proof(&plugin, nonce)?;
                    packets.send(&proof).await?;
                }
                _ => return Err(not_mysql()),
            }
        }
        Err(not_mysql())
    }

    fn proof(&self, plugin: &str, nonce: &[u8]) -> Result<Vec<u8>, Failed> {
        match plugin {
            _ if self.password.is_empty() && PLUGINS.contains(&plugin) => Ok(Vec::new()),
            "mysql_native_password" => Ok(native(self.password, nonce)),
            "caching_sha2_password" => Ok(caching_sha2(self.password, nonce)),
            other => Err(Failed::because(format!(
                "the server wants a login by {other}, which lb does not know; let the user have {}",
                PLUGINS.join(" or ")
            ))),
        }
    }
}

/// The ways to log in that are known.
const PLUGINS: [&str; 2] = ["mysql_native_password", "caching_sha2_password"];

fn sha1(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

fn xor(a: &Digest, b: &Digest) -> Vec<u8> {
    let pairs = a.as_ref().iter().zip(b.as_ref());
    pairs.map(|(a, b)| a ^ b).collect()
}

/// `SHA1(password) ^ SHA1(nonce + SHA1(SHA1(password)))`
fn native(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = sha1(&[password]);
    let twice = sha1(&[once.as_ref()]);
    xor(&once, &sha1(&[nonce, twice.as_ref()]))
}

/// `SHA256(password) ^ SHA256(SHA256(SHA256(password)) + nonce)`
fn caching_sha2(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = sha256(&[password]);
    let twice = sha256(&[once.as_ref()]);
    xor(&once, &sha256(&[twice.as_ref(), nonce]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greeting_of_mariadb_is_read() {
        let mut packet = b"\x0a5.5.5-10.11.6-MariaDB\0\x08\0\0\0abcdefgh\0".to_vec();
        packet.extend_from_slice(b"\xfe\xf7\x2d\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0");
        packet.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        let greeting = Greeting::read(&packet).unwrap();
        assert_eq!(greeting.version, "5.5.5-10.11.6-MariaDB");
        assert_eq!(greeting.nonce, b"abcdefghijklmnopqrst");
        assert_eq!(greeting.plugin, "mysql_native_password");
        assert_eq!(greeting.capabilities, 0x81ff_f7fe);
        for length in 0..packet.len() - 24 {
            assert_eq!(Greeting::read(&packet[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Greeting::read(&packet);
            let _ = ServerError::read(&packet);
        }
    }
}
