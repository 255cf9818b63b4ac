//! The PROXY protocol, both versions: a balancer in front says first whom it has connected.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. Only those whom the settings name
//! are believed, and they have to say it: whoever could leave it out could also make it up. What
//! comes behind the addresses in version 2 (TLVs) is passed over.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str,
    time::Duration,
};

use tokio::time::timeout;

use super::{
    login,
    peer::{Lost, Peer},
    settings::Network,
    stream::Stream,
};
use crate::wire::error::Refusal;

/// The beginning of version 1.
const TEXT: &[u8] = b"PROXY ";
/// Bytes of a line of version 1 at most, with its end.
const LONGEST_TEXT: usize = 107;
/// The beginning of version 2.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses.
const FIXED: usize = BINARY.len() + 4;
/// Bytes of version 2 at most: what is behind the addresses is short, or somebody's mischief.
const LONGEST_BINARY: usize = 4096;

/// For a balancer to say it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It says something else.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It says nothing.
    #[error("the header of the PROXY protocol did not come in time")]
    Late,
}

/// Who has come in, and by whom, if it is one who has to say it; a client who comes for itself is who
/// it is. One that says something else is told so.
pub(super) async fn receive(
    balancers: &[Network],
    client: &mut Peer,
) -> Result<Option<SocketAddr>, Failure> {
    let Stream::Tcp(stream) = &client.stream else {
        return Ok(None);
    };
    let Ok(from) = stream.peer_addr() else {
        return Ok(None);
    };
    if !balancers.iter().any(|network| network.has(from.ip())) {
        return Ok(None);
    }
    let said = timeout(PATIENCE, header(client));
    match said.await.unwrap_or(Err(Failure::Late)) {
        Ok(said) => Ok(said),
        Err(failure) => {
            // Whoever is behind a balancer that says nothing sees why.
            let why = failure.to_string();
            let refusal = Refusal {
                state: None,
                ..Refusal::new(1043, b"08S01", &why)
            };
            let _ = login::refuse(client, &mut 0, &refusal).await;
            Err(failure)
        }
    }
}

async fn header(client: &mut Peer) -> Result<Option<SocketAddr>, Failure> {
    loop {
        if let Some(said) = read(client.inbox())? {
            client.consume(said.length);
            return Ok(said.client);
        }
        client.more().await?;
    }
}

/// What a balancer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Bytes that it took.
    pub(super) length: usize,
    /// Who came to it; nobody where it comes for itself, to see whether somebody answers.
    pub(super) client: Option<SocketAddr>,
}

/// What came is not the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came first is no header of the PROXY protocol: {0}")]
pub(super) struct Malformed(&'static str);

/// Reads the header that the bytes begin with; nothing if more of it has to come.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Said>, Malformed> {
    let begins = |with: &[u8]| {
        let length = with.len().min(bytes.len());
        bytes[..length] == with[..length]
    };
    if begins(BINARY) {
        binary(bytes)
    } else if begins(TEXT) {
        text(bytes)
    } else {
        Err(Malformed("it begins as neither version does"))
    }
}

fn text(bytes: &[u8]) -> Result<Option<Said>, Malformed> {
    let seen = &bytes[..bytes.len().min(LONGEST_TEXT)];
    let Some(end) = seen.windows(2).position(|two| two == b"\r\n") else {
        return if seen.len() < LONGEST_TEXT {
            Ok(None)
        } else {
            Err(Malformed("its line is too long"))
        };
    };
    let line =
        str::from_utf8(&seen[TEXT.len()..end]).map_err(|_| Malformed("its line is no text"))?;
    let mut words = line.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let family = next();
    let client = match family {
        // Whatever else the line says.
        "UNKNOWN" => None,
        "TCP4" => {
            let (from, to) = (next().parse::<Ipv4Addr>(), next().parse::<Ipv4Addr>());
            let port = ports(next(), next());
            match (from, to) {
                (Ok(from), Ok(_)) => Some(SocketAddr::new(from.into(), port?)),
                _ => return Err(Malformed("its addresses are not of its family")),
            }
        }
        "TCP6" => {
            let (from, to) = (next().parse::<Ipv6Addr>(), next().parse::<Ipv6Addr>());
            let port = ports(next(), next());
            match (from, to) {
                (Ok(from), Ok(_)) => Some(SocketAddr::new(canonical(from), port?)),
                _ => return Err(Malformed("its addresses are not of its family")),
            }
        }
        _ => return Err(Malformed("its family is unknown")),
    };
    if client.is_some() && words.next().is_some() {
        return Err(Malformed("its line has too many words"));
    }
    Ok(Some(Said {
        length: end + 2,
        client,
    }))
}

/// The first of two ports, if both are.
fn ports(from: &str, to: &str) -> Result<u16, Malformed> {
    let port = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| text.parse().ok()).flatten()
    };
    match (port(from), port(to)) {
        (Some(port), Some(_)) => Ok(port),
        _ => Err(Malformed("its ports are none")),
    }
}

fn binary(bytes: &[u8]) -> Result<Option<Said>, Malformed> {
    let Some((head, rest)) = bytes.split_at_checked(FIXED) else {
        return Ok(None);
    };
    let &[version, family, high, low] = &head[BINARY.len()..] else {
        return Ok(None);
    };
    if version >> 4 != 2 {
        return Err(Malformed("its version is unknown"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > LONGEST_BINARY {
        return Err(Malformed("it is too long"));
    }
    let Some(addresses) = rest.get(..length) else {
        return Ok(None);
    };
    let client = match version & 0xf {
        0 => None,
        1 => source(family, addresses)?,
        _ => return Err(Malformed("its command is unknown")),
    };
    Ok(Some(Said {
        length: FIXED + length,
        client,
    }))
}

/// Who came, by the addresses of version 2.
fn source(family: u8, addresses: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    const STREAM: u8 = 1;
    const SHORT: Malformed = Malformed("its addresses are cut short");
    let (family, transport) = (family >> 4, family & 0xf);
    // An unspecified one, or a Unix socket: whoever it was is not to be told by an address.
    if matches!(family, 0 | 3) {
        return Ok(None);
    }
    if transport != STREAM {
        return Err(Malformed("it is not about a stream"));
    }
    let port = |at: usize| {
        let port = addresses.get(at..at + 2).ok_or(SHORT)?;
        port.try_into().map(u16::from_be_bytes).map_err(|_| SHORT)
    };
    let (ip, port) = match family {
        1 => {
            let octets = addresses.first_chunk::<4>().ok_or(SHORT)?;
            port(10)?;
            (IpAddr::from(*octets), port(8)?)
        }
        2 => {
            let octets = addresses.first_chunk::<16>().ok_or(SHORT)?;
            port(34)?;
            (canonical(Ipv6Addr::from(*octets)), port(32)?)
        }
        _ => return Err(Malformed("its family is unknown")),
    };
    Ok(Some(SocketAddr::new(ip, port)))
}

fn canonical(address: Ipv6Addr) -> IpAddr {
    IpAddr::V6(address).to_canonical()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [BINARY, &[0x20 | command, family], &length, rest].concat()
    }

    fn said(bytes: &[u8], client: &str) {
        let mut more = bytes.to_vec();
        more.extend(b"what the client says");
        let client = (!client.is_empty()).then(|| client.parse().unwrap());
        let expected = Said {
            length: bytes.len(),
            client,
        };
        assert_eq!(read(&more), Ok(Some(expected)), "{bytes:?}");
        // Nothing of it is enough before all of it has come.
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), Ok(None), "{length} of {bytes:?}");
        }
    }

    #[test]
    fn headers_of_both_versions() {
        said(
            b"PROXY TCP4 192.0.2.7 10.0.0.5 51234 3306\r\n",
            "192.0.2.7:51234",
        );
        said(
            b"PROXY TCP6 2001:db8::7 2001:db8::5 51234 3306\r\n",
            "[2001:db8::7]:51234",
        );
        said(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7:1");
        said(b"PROXY UNKNOWN\r\n", "");
        said(b"PROXY UNKNOWN whatever else it says\r\n", "");
        let v4 = [192, 0, 2, 7, 10, 0, 0, 5, 0xc8, 0x22, 0x0c, 0xea];
        said(&version2(1, 0x11, &v4), "192.0.2.7:51234");
        let mut with_more = v4.to_vec();
        with_more.extend([4, 0, 1, 0]);
        said(&version2(1, 0x11, &with_more), "192.0.2.7:51234");
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        v6[15] = 7;
        v6[32..34].copy_from_slice(&[0xc8, 0x22]);
        said(&version2(1, 0x21, &v6), "[2001:db8::7]:51234");
        // For itself, of a family that has no address, and of a Unix socket.
        said(&version2(0, 0x11, &v4), "");
        said(&version2(0, 0, &[]), "");
        said(&version2(1, 0, &[]), "");
        said(&version2(1, 0x31, &[0; 216]), "");
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
        let v4 = [192, 0, 2, 7, 10, 0, 0, 5, 0xc8, 0x22, 0x0c, 0xea];
        let mut version3 = version2(1, 0x11, &v4);
        version3[12] = 0x31;
        for bytes in [
            b"\x20\0\0\x01\x85".as_slice(),
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP5 192.0.2.7 10.0.0.5 51234 3306\r\n",
            b"PROXY TCP4 ::1 ::1 51234 3306\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.5 51234 3306\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.5 65536 3306\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.5 +1 3306\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.5 51234\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.5 51234 3306 1\r\n",
            b"PROXY  TCP4 192.0.2.7 10.0.0.5 51234 3306\r\n",
            b"PROXY TCP4 \xff\xfe 10.0.0.5 51234 3306\r\n",
            &long,
            &version3,
            &version2(2, 0x11, &v4),
            &version2(1, 0x12, &v4),
            &version2(1, 0x41, &v4),
            &version2(1, 0x11, &v4[..11]),
            &version2(1, 0x21, &[0; 35]),
            &version2(1, 0x11, &[0; LONGEST_BINARY]),
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        /// Whatever comes is read without a panic, never waited for beyond the longest header, and
        /// never takes more than there is.
        #[test]
        fn anything_is_read(
            which in 0..3_usize,
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
        ) {
            let begins = [&b""[..], TEXT, BINARY][which];
            let bytes = [begins, &bytes].concat();
            match read(&bytes) {
                Ok(Some(said)) => prop_assert!(said.length <= bytes.len()),
                Ok(None) => prop_assert!(bytes.len() < LONGEST_BINARY),
                Err(_) => {}
            }
        }
    }
}
