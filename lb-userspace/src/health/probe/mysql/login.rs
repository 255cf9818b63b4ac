//! The login to a MySQL or MariaDB server: a real one, as a client's.

use std::net::SocketAddr;

use ring::digest::{Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::{
    rsa,
    wire::{Packets, Reader, ServerError, Stream, not_mysql},
};
use crate::{
    config::model::{Mysql, Trust},
    health::probe::{CertificateEnd, Connection, Tools, failed::Failed, line::bounded, tls},
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
    stream: Connection,
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
        // Where the server would have another one, it says so. A password that is sent whole may be
        // too long for here.
        let known = Plugin::named(&greeting.plugin).filter(|plugin| *plugin != Plugin::Sha256);
        let plugin = known.unwrap_or(Plugin::Native);
        let mut nonce = greeting.nonce.clone();
        let proof = self.proof(plugin, &nonce);
        response.extend_from_slice(self.user.as_bytes());
        response.push(0);
        response.push(proof.len() as u8);
        response.extend_from_slice(&proof);
        response.extend_from_slice(plugin.name().as_bytes());
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
                // It is not, and the server has to have it whole.
                (1, [4]) if self.is_encrypted => packets.send(&self.whole()).await?,
                (1, [4]) => packets.send(&[Plugin::CachingSha2.asks_for_key()]).await?,
                // Nobody can read along, so that there is no need of a key.
                (1, key) if key.starts_with(b"-----BEGIN") && !self.is_encrypted => {
                    packets.send(&self.sealed(key, &nonce)?).await?;
                }
                (0xfe, data) => {
                    let mut reader = Reader(data);
                    let name = reader.until_zero().ok_or_else(not_mysql)?;
                    let name = bounded(&String::from_utf8_lossy(name));
                    let plugin = Plugin::named(&name).ok_or_else(|| unknown(&name))?;
                    nonce = reader.0.strip_suffix(&[0]).unwrap_or(reader.0).to_vec();
                    packets.send(&self.proof(plugin, &nonce)).await?;
                }
                _ => return Err(not_mysql()),
            }
        }
        Err(not_mysql())
    }

    /// What a login by this plugin begins with.
    fn proof(&self, plugin: Plugin, nonce: &[u8]) -> Vec<u8> {
        match plugin {
            Plugin::Sha256 if self.password.is_empty() => vec![0],
            Plugin::Sha256 if self.is_encrypted => self.whole(),
            Plugin::Sha256 => vec![plugin.asks_for_key()],
            Plugin::Native | Plugin::CachingSha2 if self.password.is_empty() => Vec::new(),
            Plugin::Native => native(self.password, nonce),
            Plugin::CachingSha2 => caching_sha2(self.password, nonce),
        }
    }

    /// The password as it is, with its end.
    fn whole(&self) -> Vec<u8> {
        [self.password, &[0]].concat()
    }

    /// The password for the owner of a key only.
    fn sealed(&self, key: &[u8], nonce: &[u8]) -> Result<Vec<u8>, Failed> {
        let mut message = self.whole();
        let pairs = message.iter_mut().zip(nonce.iter().cycle());
        pairs.for_each(|(byte, other)| *byte ^= other);
        rsa::encrypt(key, &message).ok_or_else(|| {
            Failed::because(
                "the server has no TLS, and its RSA key cannot encrypt the password; switch its \
                 TLS on",
            )
        })
    }
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugin {
    Native,
    CachingSha2,
    Sha256,
}

impl Plugin {
    const ALL: [Self; 3] = [Self::CachingSha2, Self::Sha256, Self::Native];

    const fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::Sha256 => "sha256_password",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }

    /// What a client says that wants the server's RSA key.
    const fn asks_for_key(self) -> u8 {
        match self {
            Self::Native | Self::Sha256 => 1,
            Self::CachingSha2 => 2,
        }
    }
}

fn unknown(name: &str) -> Failed {
    Failed::because(format!(
        "the server wants a login by {name}, which lb does not know; let the user have {}",
        Plugin::ALL.map(Plugin::name).join(" or ")
    ))
}

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

    #[test]
    fn proofs_are_those_that_servers_expect() {
        let nonce: Vec<u8> = (1..=20).collect();
        let hex =
            |proof: Vec<u8>| -> String { proof.iter().map(|byte| format!("{byte:02x}")).collect() };
        assert_eq!(
            hex(native(b"secret", &nonce)),
            "b32bb3a583e1340c0a1108d58b1be49781ad8c2f"
        );
        assert_eq!(
            hex(caching_sha2(b"secret", &nonce)),
            "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9"
        );
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Greeting::read(&packet);
            let _ = ServerError::read(&packet);
        }
    }
}
