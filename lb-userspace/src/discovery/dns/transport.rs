//! Asking DNS servers: by UDP, and by TCP where an answer is too long for that.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::message::{self, Answer, Kind, Unusable};

/// For one server to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often all servers are asked.
const ROUNDS: usize = 2;
/// Where the system says who is to be asked.
const SYSTEM: &str = "/etc/resolv.conf";
/// Servers of the system that are asked, as in the C library.
const MOST_SERVERS: usize = 3;
/// Bytes of the system's file that are looked at.
const MOST_TEXT: usize = 64 << 10;

/// Who is to be asked.
pub(super) fn servers(given: Option<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    if let Some(server) = given {
        return Ok(vec![server]);
    }
    let text = fs::read_to_string(SYSTEM)
        .map_err(|error| format!("cannot read {SYSTEM}: {error}; or name a server"))?;
    let servers = system_servers(&text);
    if servers.is_empty() {
        return Err(format!("{SYSTEM} names no server; name one in the config"));
    }
    Ok(servers)
}

fn system_servers(text: &str) -> Vec<SocketAddr> {
    text.get(..MOST_TEXT)
        .unwrap_or(text)
        .lines()
        .filter_map(|line| {
            let address = line.strip_prefix("nameserver")?.trim();
            // A zone (fe80::1%eth0) is not understood, and skipped.
            address.parse::<IpAddr>().ok()
        })
        .map(|address| SocketAddr::new(address, 53))
        .take(MOST_SERVERS)
        .collect()
}

/// Asks one server after the other.
pub(super) async fn ask(servers: &[SocketAddr], name: &str, kind: Kind) -> Result<Answer, String> {
    let mut last = String::new();
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        match timeout(PATIENCE, ask_one(*server, name, kind)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(sentence)) => last = sentence,
            Err(_) => {
                last = format!(
                    "{server} does not answer for {name} {} within {} s",
                    kind.word(),
                    PATIENCE.as_secs()
                );
            }
        }
    }
    Err(last)
}

async fn ask_one(server: SocketAddr, name: &str, kind: Kind) -> Result<Answer, String> {
    let failed = |error: io::Error| format!("cannot ask {server} for {name}: {error}");
    let id = fastrand::u16(..);
    let question = message::question(id, name, kind)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of the kernel's choice, which a liar would have to guess as well as the id.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))
        .await
        .map_err(failed)?;
    // From then on nobody else is heard.
    socket.connect(server).await.map_err(failed)?;
    socket.send(&question).await.map_err(failed)?;
    let mut bytes = [0; 4096];
    loop {
        let length = socket.recv(&mut bytes).await.map_err(failed)?;
        match message::answer(&bytes[..length], id, name, kind) {
            Ok(answer) => return Ok(answer),
            Err(Unusable::Cut) => break,
            Err(Unusable::Foreign) => {}
            Err(Unusable::Refused(sentence)) => return Err(sentence),
        }
    }
    let bytes = ask_by_tcp(server, &question).await.map_err(failed)?;
    message::answer(&bytes, id, name, kind).map_err(|unusable| match unusable {
        Unusable::Refused(sentence) => sentence,
        Unusable::Cut | Unusable::Foreign => {
            format!("{server} answers something else than {name}")
        }
    })
}

/// RFC 7766: the length goes first.
async fn ask_by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes(), question].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_servers_are_found() {
        let text = "# comment\nnameserver 10.0.0.53\nsearch example.org\nnameserver\t::1\n\
                    nameserver fe80::1%eth0\nnameserver 10.0.0.54\nnameserver 10.0.0.55\n";
        let expected = ["10.0.0.53:53", "[::1]:53", "10.0.0.54:53"].map(|one| one.parse().unwrap());
        assert_eq!(system_servers(text), expected);
        assert!(system_servers("").is_empty());
    }
}
