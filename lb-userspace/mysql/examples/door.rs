//! A door to one server: clients log in here, are judged there, and talk to it through the
//! automaton. One connection to the server for each client, and a thread; no routing.
//!
//! `door LISTEN|SOCKET SERVER [tls] [listed=USER:PASSWORD]`. `tls` offers it to clients, with a
//! certificate made now; the server gets it where the client has it.

#[expect(dead_code, reason = "the other example uses the rest")]
mod common;

use std::{
    io::{self, Cursor, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
};

use lb_mysql::{
    auth::{
        Channel, Nonce, Secret, Secrets, client,
        rsa::KeyPair,
        server::{self, Action, Basis, Claim, Known},
    },
    wire::{
        Capabilities,
        change_user::ChangeUser,
        command::{Command, Request},
        error::{ERR, Refusal},
        greeting::{First, Greeting},
        ok::Done,
        packet::{self, Measure},
        reply::{FileWatch, Packet, Watch},
        response::{Answer, Response},
    },
};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer,
};

use self::common::{Connection, Fallible, Stream, secure};

/// A command is no longer than that.
const MOST_COMMAND: usize = 64 << 20;

/// What all clients share.
struct House {
    server: String,
    tls: Option<Arc<ServerConfig>>,
    listed: Option<(String, Secret)>,
    secrets: Mutex<Secrets>,
    pair: OnceLock<KeyPair>,
}

impl House {
    fn pair(&self) -> &KeyPair {
        // A proxy would do that on a thread of its own.
        self.pair
            .get_or_init(|| KeyPair::generate().unwrap_or_else(|| panic!("no random numbers")))
    }

    fn known(&self, user: &[u8]) -> Known {
        if let Some((name, secret)) = &self.listed
            && name.as_bytes() == user
        {
            return Known {
                secret: Some(secret.clone()),
                is_listed: true,
            };
        }
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        Known {
            secret: secrets.of(user),
            is_listed: false,
        }
    }

    fn remember(&self, user: &[u8], claim: &Claim, is_let_in: bool) {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        match (claim.basis, is_let_in) {
            (Basis::Said, true) => secrets.learn(user, claim.secret.clone()),
            (Basis::Proved(_), false) => secrets.forget(user, &claim.secret),
            (Basis::Said | Basis::Proved(_) | Basis::Empty | Basis::Wrong, _) => {}
        }
    }
}

/// A client and its server.
struct Session<'h> {
    house: &'h House,
    client: Connection,
    server: Connection,
    channel: Channel,
    /// To the server.
    server_channel: Channel,
    /// Agreed on with the client, and with the server.
    capabilities: (Capabilities, Capabilities),
    /// Of the server's greeting.
    plugin: Vec<u8>,
    nonce: [u8; 20],
}

impl Session<'_> {
    /// Lets the client say who it is, until a server can be asked.
    fn claim(&mut self, mut login: server::Login, first: Action) -> Fallible<Option<Claim>> {
        let mut action = first;
        loop {
            action = match action {
                Action::Send(payload) => {
                    self.client.send(&payload)?;
                    login.feed(&self.client.receive()?)
                }
                Action::Key => login.key(self.house.pair().public()),
                Action::Unseal(sealed) => login.unsealed(sealed.open(self.house.pair())),
                Action::Judge(claim) => {
                    println!("  {:?}", claim.basis);
                    return Ok(Some(claim));
                }
                Action::Refuse(refusal) => {
                    self.refuse(refusal)?;
                    return Ok(None);
                }
            };
        }
    }

    fn refuse(&mut self, refusal: Refusal<'_>) -> Fallible<()> {
        let mut out = Vec::new();
        refusal.put(&mut out);
        self.client.send(&out)
    }

    /// Passes the server's decision on.
    fn decided(&mut self, user: &[u8], claim: &Claim, decision: &[u8]) -> Fallible<bool> {
        let is_let_in = decision.first() != Some(&ERR);
        self.house.remember(user, claim, is_let_in);
        if !is_let_in {
            self.client.send(decision)?;
            return Ok(false);
        }
        if let Some(before) = claim.before_ok() {
            self.client.send(before)?;
        }
        let (client, server) = self.capabilities;
        // MariaDB's proof of the server's certificate says nothing about ours.
        let done = Done {
            info: b"",
            ..Done::read(decision, server)?
        };
        let mut out = Vec::new();
        done.put(client, &mut out);
        self.client.send(&out)?;
        Ok(true)
    }

    /// The login of a new client.
    fn log_in(&mut self, response: &Response<'_>, greeted: Nonce) -> Fallible<bool> {
        let known = self.house.known(response.user);
        let next = Nonce::random().ok_or("no random numbers")?;
        let mut login = server::Login::new(self.channel, greeted, next, known);
        let first = login.begin(response.plugin, response.proof);
        let Some(claim) = self.claim(login, first)? else {
            return Ok(false);
        };
        let mut head = response.head;
        head.capabilities = match self.server_channel {
            Channel::Tls => self.capabilities.1 | Capabilities::TLS,
            Channel::Plain | Channel::Socket => self.capabilities.1,
        };
        let mut login = client::Login::new(claim.secret.clone(), self.server_channel);
        let first = login.begin(&self.plugin, &self.nonce)?;
        let mut out = Vec::new();
        let towards = Response {
            head,
            proof: &first.proof,
            plugin: Some(first.plugin.name().as_bytes()),
            zstd_level: None,
            ..*response
        };
        if self.server_channel == Channel::Tls {
            towards.put_tls_request(&mut out);
            self.server.send(&out)?;
            let stream = std::mem::replace(&mut self.server.stream, Box::new(std::io::empty()));
            self.server.stream = Box::new(secure(stream)?);
            out.clear();
        }
        towards.put(&mut out);
        self.server.send(&out)?;
        let decision = self.server.log_in(login)?;
        self.decided(response.user, &claim, &decision)
    }

    fn change_user(&mut self, payload: &[u8]) -> Fallible<bool> {
        let (client, server) = self.capabilities;
        let change = ChangeUser::read(payload, client)?;
        let known = self.house.known(change.user);
        let nonces = (Nonce::random(), Nonce::random());
        let (Some(greeted), Some(next)) = nonces else {
            return Err("no random numbers".into());
        };
        let mut login = server::Login::new(self.channel, greeted, next, known);
        let first = login.begin_again(change.plugin, change.proof);
        let Some(claim) = self.claim(login, first)? else {
            return Ok(false);
        };
        let mut login = client::Login::new(claim.secret.clone(), self.server_channel);
        let first = login.begin(&self.plugin, &self.nonce)?;
        let towards = ChangeUser {
            proof: &first.proof,
            plugin: Some(first.plugin.name().as_bytes()),
            ..change
        };
        let mut out = Vec::new();
        towards.put(server, &mut out);
        self.server.sequence = 0;
        self.server.send(&out)?;
        let decision = self.server.log_in(login)?;
        self.decided(change.user, &claim, &decision)
    }

    /// Carries commands and replies until the client leaves.
    fn serve(&mut self) -> Fallible<()> {
        let mut watch = Watch::new(self.capabilities.1);
        loop {
            let extent = loop {
                match packet::measure(&self.client.buffer, 0, MOST_COMMAND)? {
                    Measure::Whole(extent) => break extent,
                    Measure::Needs(_) => self.client.fill()?,
                }
            };
            let raw: Vec<u8> = self.client.buffer.drain(..extent.bytes).collect();
            self.client.sequence = extent.next_sequence;
            let payload = packet::payload(&raw);
            let command = payload.first().copied().and_then(Command::from_byte);
            if let Err(error) = Request::read(&payload, self.capabilities.0) {
                println!("  {error}: {command:?}");
            }
            match command {
                Some(Command::ChangeUser) => {
                    if !self.change_user(&payload)? {
                        return Ok(());
                    }
                    continue;
                }
                Some(Command::Quit) => return Ok(()),
                _ => {}
            }
            let Some(expect) = command.and_then(Command::expects) else {
                self.refuse(Refusal::new(1047, b"08S01", "Unknown command"))?;
                continue;
            };
            self.server.stream.write_all(&raw)?;
            watch.begin(expect, extent.next_sequence);
            self.follow(&mut watch)?;
        }
    }

    /// Carries a reply.
    fn follow(&mut self, watch: &mut Watch) -> Fallible<()> {
        let client = self.capabilities.0;
        while !watch.is_ended() {
            let step = watch.feed(&self.server.buffer)?;
            let mut out = self.server.buffer[..step.forward].to_vec();
            let mut used = step.forward;
            let (mut file, must_read) = (None, step.event.is_none() && !step.is_last);
            if let Some(event) = step.event {
                used += event.raw.len();
                match event.packet {
                    Packet::Done(done) | Packet::ColumnsEnd(done) if !done.fits(client) => {
                        let mut sequence = event.sequence;
                        packet::put_with(&mut out, &mut sequence, |out| done.put(client, out));
                    }
                    Packet::File(_) => {
                        file = Some(event.sequence);
                        out.extend_from_slice(event.raw);
                    }
                    Packet::Done(_)
                    | Packet::ColumnsEnd(_)
                    | Packet::Refused(_)
                    | Packet::Progress
                    | Packet::Columns(_)
                    | Packet::Prepared(_)
                    | Packet::Text(_) => out.extend_from_slice(event.raw),
                }
            }
            self.server.buffer.drain(..used);
            self.client.stream.write_all(&out)?;
            if let Some(request) = file {
                self.carry_file(watch, request)?;
            } else if must_read {
                self.client.stream.flush()?;
                self.server.fill()?;
            }
        }
        Ok(self.client.stream.flush()?)
    }

    fn carry_file(&mut self, watch: &mut Watch, request: u8) -> Fallible<()> {
        self.client.stream.flush()?;
        let mut file = FileWatch::new(request);
        loop {
            let used = file.feed(&self.client.buffer)?;
            self.server.stream.write_all(&self.client.buffer[..used])?;
            self.client.buffer.drain(..used);
            if file.is_ended() {
                watch.file_sent(file.next_sequence());
                return Ok(());
            }
            self.client.fill()?;
        }
    }
}

/// A stream of which something was read already.
struct Behind {
    before: Cursor<Vec<u8>>,
    stream: Box<dyn Stream>,
}

impl Read for Behind {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.before.read(bytes)? {
            0 => self.stream.read(bytes),
            length => Ok(length),
        }
    }
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn session(house: &House, mut client: Connection, is_socket: bool) -> Fallible<()> {
    let mut server = Connection::open(&house.server)?;
    let payload = server.receive()?;
    let First::Greeting(greeting) = First::read(&payload).ok_or("not MySQL")? else {
        return client.send(&payload);
    };
    let has_tls = house.tls.is_some() && !is_socket;
    let offered = Capabilities::offer(greeting.capabilities, has_tls);
    let greeted = Nonce::random().ok_or("no random numbers")?;
    let own = Greeting {
        nonce: *greeted.bytes(),
        capabilities: offered,
        plugin: server::DEFAULT.name().as_bytes(),
        ..greeting
    };
    let mut out = Vec::new();
    own.put(&mut out);
    client.send(&out)?;
    let mut channel = if is_socket {
        Channel::Socket
    } else {
        Channel::Plain
    };
    let mut answer = client.receive()?;
    if let Ok(Answer::TlsRequest(_)) = Answer::read(&answer, offered) {
        let config = house.tls.clone().ok_or("no TLS")?;
        let stream = std::mem::replace(&mut client.stream, Box::new(std::io::empty()));
        // What was read behind the request is the beginning of TLS.
        let before = Cursor::new(std::mem::take(&mut client.buffer));
        let stream = Behind { before, stream };
        client.stream = Box::new(StreamOwned::new(ServerConnection::new(config)?, stream));
        channel = Channel::Tls;
        answer = client.receive()?;
    }
    let response = match Answer::read(&answer, offered) {
        Ok(Answer::Login(response)) => response,
        Ok(Answer::TlsRequest(_)) => return Err("TLS twice".into()),
        Err(refused) => {
            let mut out = Vec::new();
            refused.refusal().put(&mut out);
            return client.send(&out);
        }
    };
    let agreed = response.head.capabilities;
    // TLS as the client has it, where the server can.
    let server_has_tls = greeting.capabilities.has(Capabilities::TLS);
    let server_channel = match (house.server.starts_with('/'), channel) {
        (true, _) => Channel::Socket,
        (false, Channel::Tls | Channel::Socket) if server_has_tls => Channel::Tls,
        (false, _) => Channel::Plain,
    };
    println!(
        "{} over {channel:?} with {:#x}",
        String::from_utf8_lossy(response.user),
        agreed.0
    );
    let mut session = Session {
        house,
        client,
        server,
        channel,
        server_channel,
        capabilities: (agreed, agreed.towards(greeting.capabilities)),
        plugin: greeting.plugin.to_vec(),
        nonce: greeting.nonce,
    };
    if response.attributes.bytes().is_empty() {
        session.capabilities.1 = session
            .capabilities
            .1
            .without(Capabilities::CONNECT_ATTRIBUTES);
    } else {
        let attributes = greeting.capabilities & Capabilities::CONNECT_ATTRIBUTES;
        session.capabilities.1 = session.capabilities.1 | attributes;
    }
    if session.log_in(&response, greeted)? {
        session.serve()?;
    }
    Ok(())
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, server, options @ ..] = &arguments[..] else {
        return Err("usage: door LISTEN|SOCKET SERVER [tls] [listed=USER:PASSWORD]".into());
    };
    let listed = options.iter().find_map(|option| {
        let (user, password) = option.strip_prefix("listed=")?.split_once(':')?;
        Some((user.to_owned(), Secret::new(password.as_bytes().to_vec())))
    });
    let tls = if options.iter().any(|option| option == "tls") {
        Some(certificate()?)
    } else {
        None
    };
    let house = Arc::new(House {
        server: server.clone(),
        tls,
        listed,
        secrets: Mutex::new(Secrets::new(1000)),
        pair: OnceLock::new(),
    });
    let begin = |client: Connection, is_socket| {
        let house = Arc::clone(&house);
        thread::spawn(move || {
            if let Err(error) = session(&house, client, is_socket) {
                println!("  {error}");
            }
        });
    };
    if listen.starts_with('/') {
        for stream in UnixListener::bind(listen)?.incoming() {
            begin(Connection::of(Box::new(stream?)), true);
        }
    } else {
        for stream in TcpListener::bind(listen)?.incoming() {
            let stream: TcpStream = stream?;
            stream.set_nodelay(true)?;
            begin(Connection::of(Box::new(stream)), false);
        }
    }
    Ok(())
}

fn certificate() -> Fallible<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(Arc::new(config))
}
