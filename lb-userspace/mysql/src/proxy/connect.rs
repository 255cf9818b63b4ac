//! Connections to servers are opened, and made those of other users.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    connection::{Applied, Connection, Counted, Key},
    keepalive,
    limits::Room,
    peer::{Lost, Peer},
    settings::{Server, Tls},
    shared::Shared,
    stream::Stream,
};
use crate::{
    auth::{
        Channel, Secret,
        client::{self, Action, Login},
    },
    wire::{
        Capabilities, Status,
        attributes::Attributes,
        change_user::ChangeUser,
        greeting::First,
        ok::Done,
        reply::Watch,
        response::{Head, Response},
    },
};

/// For a server to take a connection and to log it in.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a packet of a login at most.
const MOST: usize = 64 << 10;
/// The longest packet that we say we take: all of them.
const MOST_PACKET: u32 = 1 << 30;

/// Who logs in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'w> {
    pub(super) user: &'w [u8],
    pub(super) secret: &'w Secret,
    /// Agreed on with the client.
    pub(super) capabilities: Capabilities,
    pub(super) collation: u16,
    pub(super) database: Option<&'w [u8]>,
    pub(super) attributes: Attributes<'w>,
    /// Whether the client came by a way that nobody else hears.
    pub(super) is_private: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server does not want to: the payload of its error.
    Refused(Vec<u8>),
    /// It is not there, or does not speak as it should.
    Trouble(String),
    /// All connections that it may have are in use: the payload of an error.
    Full(Vec<u8>),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        Self::Trouble(lost.to_string())
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self::Trouble(error.to_string())
    }
}

/// A login that a server has taken.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) connection: Connection,
    /// The payload of its OK.
    pub(super) ok: Vec<u8>,
    /// What the server began with, where it was greeted.
    pub(super) greeted: Option<Greeted>,
}

/// What a server begins with.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeted {
    pub(super) version: Box<[u8]>,
    pub(super) capabilities: Capabilities,
    pub(super) collation: u8,
}

/// Opens a connection and logs in.
pub(super) async fn connect(
    shared: &Arc<Shared>,
    server: usize,
    who: &Who<'_>,
    epoch: u64,
) -> Result<LoggedIn, Failure> {
    let settings = shared.now();
    let settings = &settings.servers[server];
    // From here on it counts, also when it has to be given up.
    let counted = Counted::new(shared, server);
    let opened = open(settings, who, (server, epoch), counted);
    timeout_at(Instant::now() + PATIENCE, opened)
        .await
        .unwrap_or_else(|_| {
            Err(Failure::Trouble(format!(
                "no answer within {} s",
                PATIENCE.as_secs()
            )))
        })
}

async fn open(
    settings: &Server,
    who: &Who<'_>,
    (server, epoch): (usize, u64),
    counted: Counted,
) -> Result<LoggedIn, Failure> {
    let stream = TcpStream::connect(settings.address)
        .await
        .map_err(|error| Failure::Trouble(error.to_string()))?;
    // A command would wait for the acknowledgement of the one before otherwise.
    let _ = stream.set_nodelay(true);
    keepalive::of_server(&stream);
    let mut peer = Peer::new(Stream::Tcp(stream));
    let mut sequence = 0;
    let payload = peer.receive(&mut sequence, MOST).await?;
    let greeting = match First::read(&payload) {
        Some(First::Greeting(greeting)) => greeting,
        Some(First::Refused(_)) => return Err(Failure::Refused(payload)),
        None => {
            return Err(Failure::Trouble(
                "what answers there is no MySQL".to_owned(),
            ));
        }
    };
    let greeted = Greeted {
        version: greeting.version.into(),
        capabilities: greeting.capabilities,
        collation: greeting.collation,
    };
    let has_tls = greeting.capabilities.has(Capabilities::TLS);
    let tls = match &settings.tls {
        Tls::Prefer(config, name) if has_tls && who.is_private => Some((config, name)),
        Tls::Require(config, name) if has_tls => Some((config, name)),
        Tls::Require(..) => {
            return Err(Failure::Trouble(
                "it has no TLS, which tls = \"require\" asks for".to_owned(),
            ));
        }
        Tls::Prefer(..) | Tls::Off => None,
    };
    let mut capabilities = who.capabilities.towards(greeting.capabilities);
    if tls.is_some() {
        capabilities = capabilities.with(Capabilities::TLS);
    }
    // Whoever has agreed on attributes has to send them with each COM_CHANGE_USER, even none.
    if !who.attributes.bytes().is_empty() {
        capabilities = capabilities.with(Capabilities::CONNECT_ATTRIBUTES);
    }
    let head = Head {
        capabilities,
        most_packet: MOST_PACKET,
        collation: who.collation,
    };
    let channel = match tls {
        Some(_) => Channel::Tls,
        None => Channel::Plain,
    };
    let mut login = Login::new(who.secret.clone(), channel);
    let first = login.begin(greeting.plugin, &greeting.nonce)?;
    let login_packet = Response {
        head,
        user: who.user,
        proof: &first.proof,
        database: who.database,
        plugin: Some(first.plugin.name().as_bytes()),
        attributes: who.attributes,
        zstd_level: None,
    };
    if let Some((config, name)) = tls {
        let mut request = Vec::new();
        login_packet.put_tls_request(&mut request);
        peer.send(&mut sequence, &request).await?;
        let Stream::Tcp(stream) = peer.stream.take() else {
            return Err(Failure::Trouble("TLS is over TCP only".to_owned()));
        };
        let stream = TlsConnector::from(Arc::clone(config))
            .connect(name.clone(), stream)
            .await
            .map_err(|error| Failure::Trouble(format!("TLS: {error}")))?;
        peer = Peer::new(Stream::TlsServer(Box::new(stream)));
    }
    let mut response = Vec::new();
    login_packet.put(&mut response);
    peer.send(&mut sequence, &response).await?;
    let ok = decide(&mut peer, &mut sequence, &mut login).await?;
    let status = status(&ok, capabilities);
    let key = Key {
        user: who.user.into(),
        capabilities: who.capabilities.shaping(),
        is_tls: channel.is_private(),
    };
    Ok(LoggedIn {
        connection: Connection {
            watch: Watch::new(capabilities),
            capabilities,
            key: Rc::new(key),
            server,
            number: greeting.connection,
            epoch,
            owner: 0,
            state: Applied {
                schema: who.database.unwrap_or_default().into(),
                ..Applied::default()
            },
            statements: Default::default(),
            status,
            used: std::time::Instant::now(),
            _counted: counted,
            peer,
            was_reset: false,
            open: Default::default(),
            closes: 0,
            room: Room::default(),
        },
        ok,
        greeted: Some(greeted),
    })
}

/// Makes a connection that of a user, as after a login; its capabilities stay.
pub(super) async fn change_user(
    connection: &mut Connection,
    who: &Who<'_>,
) -> Result<Vec<u8>, Failure> {
    let changed = change(connection, who);
    timeout_at(Instant::now() + PATIENCE, changed)
        .await
        .unwrap_or_else(|_| {
            Err(Failure::Trouble(format!(
                "no answer within {} s",
                PATIENCE.as_secs()
            )))
        })
}

async fn change(connection: &mut Connection, who: &Who<'_>) -> Result<Vec<u8>, Failure> {
    let Connection {
        peer, capabilities, ..
    } = connection;
    let mut login = Login::new(who.secret.clone(), channel(peer));
    let mut command = Vec::new();
    ChangeUser {
        user: who.user,
        proof: &[],
        database: who.database.unwrap_or_default(),
        collation: Some(who.collation),
        // No account has it, so that the server asks by the one that the account has, with a new
        // nonce. An empty proof by the right one would be taken for an empty password.
        plugin: Some(b"lb_ask"),
        attributes: who.attributes,
    }
    .put(*capabilities, &mut command);
    let mut sequence = 0;
    peer.send(&mut sequence, &command).await?;
    let ok = decide(peer, &mut sequence, &mut login).await?;
    connection.status = status(&ok, *capabilities);
    connection.statements.clear();
    connection.was_reset = false;
    connection.state = Applied {
        schema: who.database.unwrap_or_default().into(),
        // Nor does this take COM_SET_OPTION back.
        multi_statements: connection.state.multi_statements,
        ..Applied::default()
    };
    let key = Key {
        user: who.user.into(),
        ..(*connection.key).clone()
    };
    connection.key = Rc::new(key);
    Ok(ok)
}

/// Goes on until the server has decided; gives the payload of its OK.
async fn decide(peer: &mut Peer, sequence: &mut u8, login: &mut Login) -> Result<Vec<u8>, Failure> {
    loop {
        let payload = peer.receive(sequence, MOST).await?;
        match login.feed(&payload)? {
            Action::Send(answer) => peer.send(sequence, &answer).await?,
            Action::Read => {}
            Action::Done => return Ok(payload),
            Action::Refused => return Err(Failure::Refused(payload)),
        }
    }
}

fn status(ok: &[u8], capabilities: Capabilities) -> Status {
    Done::read(ok, capabilities)
        .map(|done| done.status)
        .unwrap_or_default()
}

/// Who could hear what is said to a peer.
pub(super) const fn channel(peer: &Peer) -> Channel {
    match &peer.stream {
        Stream::Unix(_) => Channel::Socket,
        Stream::TlsClient(_) | Stream::TlsServer(_) => Channel::Tls,
        Stream::Tcp(_) | Stream::Gone => Channel::Plain,
    }
}
