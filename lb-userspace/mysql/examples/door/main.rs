//! A door to one server: clients log in here, are judged there, and talk to it through the
//! automaton. One connection to the server for each client, and a thread; no routing.
//!
//! `door LISTEN|SOCKET SERVER [tls=CERTIFICATES,KEY] [listed=USER:PASSWORD]`. TLS is offered to
//! clients with these files; the server gets it where the client has it.

#[expect(dead_code, reason = "the other example uses the rest")]
#[path = "../common/mod.rs"]
mod common;
mod session;

use std::{
    io::{self, Cursor, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
};

use lb_mysql::{
    auth::{
        Channel, Nonce, Secret, Secrets,
        rsa::KeyPair,
        server::{self, Basis, Claim, Known},
    },
    wire::{
        Capabilities,
        greeting::{First, Greeting},
        response::Answer,
    },
};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use self::{
    common::{Connection, Fallible, Stream},
    session::Session,
};

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
        let stream = std::mem::replace(&mut client.stream, Box::new(io::empty()));
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
        is_mariadb: !greeting.capabilities.has(Capabilities::MYSQL),
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
        return Err(
            "usage: door LISTEN|SOCKET SERVER [tls=CERTIFICATES,KEY] [listed=USER:PASSWORD]".into(),
        );
    };
    let listed = options.iter().find_map(|option| {
        let (user, password) = option.strip_prefix("listed=")?.split_once(':')?;
        Some((user.to_owned(), Secret::new(password.as_bytes().to_vec())))
    });
    let files = options.iter().find_map(|option| {
        let (certificates, key) = option.strip_prefix("tls=")?.split_once(',')?;
        Some(certificate(certificates, key))
    });
    let tls = files.transpose()?;
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

fn certificate(chain: &str, key: &str) -> Fallible<Arc<ServerConfig>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(chain)?.collect();
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates?, key)?;
    Ok(Arc::new(config))
}
