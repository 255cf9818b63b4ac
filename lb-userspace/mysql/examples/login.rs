//! Logs in to a server and asks, by the state machines of this crate and a blocking socket.
//!
//! `login ADDRESS|SOCKET USER PASSWORD [tls] [old] [capabilities=HEX] [without=HEX] COMMAND…`, where
//! a command is SQL, `prepared:SQL` (without parameters, with a cursor), `change_user:USER:PASSWORD`, or
//! `raw:HEX` (a payload). `old` leaves out [`Capabilities::DEPRECATE_EOF`]; `capabilities` adds some,
//! `without` takes some away. TLS trusts everyone: this is for trying things out.

use std::{
    error::Error,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::Arc,
};

use lb_mysql::{
    auth::{
        Channel, Secret,
        client::{Action, Login},
    },
    wire::{
        Capabilities,
        change_user::ChangeUser,
        command::Command,
        error::Refusal,
        greeting::{First, Greeting},
        packet::{self, Measure},
        reply::{Event, Packet, Watch},
        response::{Attributes, Head, Response, put_attribute},
    },
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Packets of a login are no longer.
const MOST: usize = 64 << 10;

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    sequence: u8,
}

impl Connection {
    fn fill(&mut self) -> Fallible<()> {
        let mut bytes = [0; 16 << 10];
        let length = self.stream.read(&mut bytes)?;
        if length == 0 {
            return Err("closed".into());
        }
        self.buffer.extend_from_slice(&bytes[..length]);
        Ok(())
    }

    fn receive(&mut self) -> Fallible<Vec<u8>> {
        loop {
            if let Measure::Whole(extent) = packet::measure(&self.buffer, self.sequence, MOST)? {
                let payload = packet::payload(&self.buffer[..extent.bytes]).into_owned();
                self.buffer.drain(..extent.bytes);
                self.sequence = extent.next_sequence;
                return Ok(payload);
            }
            self.fill()?;
        }
    }

    fn send(&mut self, payload: &[u8]) -> Fallible<()> {
        let mut out = Vec::new();
        packet::put(&mut out, &mut self.sequence, payload);
        self.stream.write_all(&out)?;
        Ok(self.stream.flush()?)
    }

    /// Answers the server until it has decided.
    fn log_in(&mut self, mut login: Login) -> Fallible<()> {
        loop {
            let payload = self.receive()?;
            println!("  server: {}", shown(&payload));
            match login.feed(&payload)? {
                Action::Send(answer) => {
                    println!("  client: {} bytes", answer.len());
                    self.send(&answer)?;
                }
                Action::Read => {}
                Action::Done => return Ok(()),
                Action::Refused => return Err(refused(&payload).into()),
            }
        }
    }

    /// Sends a command and follows its reply. Gives the id of a prepared statement.
    fn ask(&mut self, watch: &mut Watch, command: &[u8]) -> Fallible<Option<u32>> {
        self.sequence = 0;
        self.send(command)?;
        let kind = command.first().copied().and_then(Command::from_byte);
        let expect = kind.and_then(Command::expects).ok_or("not carried")?;
        watch.begin(expect, self.sequence);
        let (mut forwarded, mut statement) = (0, None);
        while !watch.is_ended() {
            let step = watch
                .feed(&self.buffer)
                .map_err(|error| format!("{error}: {}", shown(&self.buffer)))?;
            forwarded += step.forward;
            let mut used = step.forward;
            let mut file = None;
            match step.event {
                Some(event) => {
                    println!("  {forwarded} bytes, then {}", told(&event));
                    used += event.raw.len();
                    match event.packet {
                        Packet::Prepared(prepared) => statement = Some(prepared.statement),
                        Packet::File(_) => file = Some(event.sequence),
                        Packet::Done(_)
                        | Packet::ColumnsEnd(_)
                        | Packet::Refused(_)
                        | Packet::Progress
                        | Packet::Columns(_)
                        | Packet::Text(_) => {}
                    }
                }
                None if step.is_last => println!("  {forwarded} bytes, and that is all"),
                None => {
                    self.buffer.drain(..used);
                    self.fill()?;
                    continue;
                }
            }
            self.buffer.drain(..used);
            if let Some(request) = file {
                self.sequence = request.wrapping_add(1);
                self.send(b"1\n2\n3\n")?;
                self.send(b"")?;
                watch.file_sent(self.sequence);
            }
        }
        Ok(statement)
    }
}

fn told(event: &Event<'_>) -> String {
    let trackers = match event.packet {
        Packet::Done(done) | Packet::ColumnsEnd(done) => {
            let tracked: Vec<_> = done.trackers.iter().collect();
            let words = tracked.iter().map(|one| match one {
                Ok(tracked) => format!(" {}", text(&format!("{tracked:?}"))),
                Err(error) => format!(" {error}"),
            });
            words.collect()
        }
        Packet::Refused(error) => text(&String::from_utf8_lossy(error.message)),
        Packet::Progress
        | Packet::Columns(_)
        | Packet::Prepared(_)
        | Packet::File(_)
        | Packet::Text(_) => String::new(),
    };
    format!("{}{trackers}", shown(&event.raw[packet::HEADER..]))
}

fn text(words: &str) -> String {
    words.escape_debug().collect()
}

fn shown(payload: &[u8]) -> String {
    let bytes = payload.iter().take(100).map(|byte| match *byte {
        byte @ b' '..=b'~' => char::from(byte).to_string(),
        byte => format!("<{byte:02x}>"),
    });
    bytes.collect()
}

fn refused(payload: &[u8]) -> String {
    let words = |error: Refusal<'_>| {
        format!(
            "error {}: {}",
            error.code,
            String::from_utf8_lossy(error.message)
        )
    };
    Refusal::read(payload).map_or_else(|| "not MySQL".to_owned(), words)
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, user, password, rest @ ..] = &arguments[..] else {
        return Err("usage: login ADDRESS|SOCKET USER PASSWORD [tls] [old] COMMAND…".into());
    };
    let has = |word: &str| rest.iter().any(|argument| argument == word);
    let (is_socket, wants_tls) = (address.starts_with('/'), has("tls"));
    let stream: Box<dyn Stream> = if is_socket {
        Box::new(UnixStream::connect(address)?)
    } else {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Box::new(stream)
    };
    let mut connection = Connection {
        stream,
        buffer: Vec::new(),
        sequence: 0,
    };
    let payload = connection.receive()?;
    let greeting = match First::read(&payload).ok_or("not MySQL")? {
        First::Greeting(greeting) => greeting,
        First::Refused(_) => return Err(refused(&payload).into()),
    };
    println!(
        "{} {:#x} {}",
        shown(greeting.version),
        greeting.capabilities.0,
        shown(greeting.plugin)
    );
    let capabilities = wanted(&greeting, rest, wants_tls)?;
    let mut attributes = Vec::new();
    put_attribute(&mut attributes, "program_name", "lb");
    let head = Head {
        capabilities,
        most_packet: 1 << 24,
        collation: 45,
    };
    let channel = match (is_socket, wants_tls) {
        (true, _) => Channel::Socket,
        (_, true) => Channel::Tls,
        (_, false) => Channel::Plain,
    };
    if wants_tls {
        let mut request = Vec::new();
        head.put(&mut request);
        connection.send(&request)?;
        connection.stream = Box::new(secure(connection.stream)?);
    }
    let mut login = Login::new(Secret::new(password.clone().into_bytes()), channel);
    let first = login.begin(greeting.plugin, &greeting.nonce)?;
    let response = Response {
        head,
        user: user.as_bytes(),
        proof: &first.proof,
        database: None,
        plugin: Some(first.plugin.name().as_bytes()),
        attributes: Attributes::made(&attributes),
        zstd_level: None,
    };
    let mut out = Vec::new();
    response.put(&mut out);
    connection.send(&out)?;
    connection.log_in(login)?;
    println!("logged in over {channel:?} with {:#x}", capabilities.0);
    let mut watch = Watch::new(capabilities);
    for command in rest {
        let options = ["capabilities=", "without="];
        if ["tls", "old"].contains(&&command[..])
            || options.iter().any(|option| command.starts_with(option))
        {
            continue;
        }
        println!("{}", text(command));
        let has_attributes = capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        let query = |sql: &str| {
            let head: &[u8] = if has_attributes {
                b"\x03\0\x01"
            } else {
                b"\x03"
            };
            [head, sql.as_bytes()].concat()
        };
        if let Some(sql) = command.strip_prefix("prepared:") {
            let prepare = [b"\x16", sql.as_bytes()].concat();
            if let Some(statement) = connection.ask(&mut watch, &prepare)? {
                let id = statement.to_le_bytes();
                let execute = [&[0x17], &id[..], &[1, 1, 0, 0, 0]].concat();
                connection.ask(&mut watch, &execute)?;
                let fetch = [&[0x1c], &id[..], &[2, 0, 0, 0]].concat();
                connection.ask(&mut watch, &fetch)?;
                connection.ask(&mut watch, &[&[0x19], &id[..]].concat())?;
            }
        } else if let Some(hex) = command.strip_prefix("raw:") {
            let byte = |at| u8::from_str_radix(hex.get(at..at + 2).unwrap_or_default(), 16);
            let payload: Result<Vec<u8>, _> = (0..hex.len()).step_by(2).map(byte).collect();
            connection.ask(&mut watch, &payload?)?;
        } else if let Some(who) = command.strip_prefix("change_user:") {
            let (user, password) = who.split_once(':').ok_or("no password")?;
            let mut login = Login::new(Secret::new(password.as_bytes().to_vec()), channel);
            let first = login.begin(greeting.plugin, &greeting.nonce)?;
            let change = ChangeUser {
                user: user.as_bytes(),
                proof: &first.proof,
                collation: Some(45),
                plugin: Some(first.plugin.name().as_bytes()),
                attributes: Attributes::made(&attributes),
                ..ChangeUser::default()
            };
            let mut out = Vec::new();
            change.put(capabilities, &mut out);
            connection.sequence = 0;
            connection.send(&out)?;
            connection.log_in(login)?;
        } else {
            connection.ask(&mut watch, &query(command))?;
        }
    }
    connection.sequence = 0;
    connection.send(&[Command::Quit as u8])
}

fn wanted(greeting: &Greeting<'_>, words: &[String], tls: bool) -> Fallible<Capabilities> {
    let mut client = Capabilities::MULTI_STATEMENTS
        | Capabilities::MULTI_RESULTS
        | Capabilities::PS_MULTI_RESULTS
        | Capabilities::LOCAL_FILES
        | Capabilities::DEPRECATE_EOF;
    for word in words {
        if word == "old" {
            client = client.without(Capabilities::DEPRECATE_EOF);
        } else if let Some(more) = word.strip_prefix("capabilities=") {
            client = client | Capabilities(u64::from_str_radix(more, 16)?);
        }
    }
    let mut agreed = client.towards(greeting.capabilities);
    for word in words {
        if let Some(fewer) = word.strip_prefix("without=") {
            agreed = agreed.without(Capabilities(u64::from_str_radix(fewer, 16)?));
        }
    }
    let attributes = greeting.capabilities & Capabilities::CONNECT_ATTRIBUTES;
    Ok(if tls {
        agreed | attributes | Capabilities::TLS
    } else {
        agreed | attributes
    })
}

fn secure(stream: Box<dyn Stream>) -> Fallible<StreamOwned<ClientConnection, Box<dyn Stream>>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("server")?;
    let client = ClientConnection::new(Arc::new(config), name)?;
    Ok(StreamOwned::new(client, stream))
}

/// Trusts everyone.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
