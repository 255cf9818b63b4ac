//! A client logs in: it says who it is, and a server judges.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use super::{
    connect::{self, Failure, LoggedIn, Who},
    incoming,
    limits::UserPlace,
    logging_in::says_full,
    peer::{Lost, Peer},
    rewound::Rewound,
    sessions::{Entered, Running},
    settings::User,
    stream::Stream,
    trouble::Trouble,
    view::{Face, View},
    worker::Worker,
};
use crate::{
    auth::{
        Nonce, Secret,
        server::{Action, Basis, Claim, DEFAULT, Known, Login, Sealed},
    },
    wire::{
        Capabilities, Status,
        attributes::Attributes,
        error::Refusal,
        greeting::Greeting,
        ok::Done,
        response::{Answer, Response},
    },
};

/// For a client to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the packet in which a client says who it is, at most: 64 KiB are for its attributes.
const MOST_RESPONSE: usize = 72 << 10;
/// Bytes of what it says after that: a password is the longest.
const MOST_ANSWER: usize = 4 << 10;
/// The error of a server that does not believe a password.
const DENIED: u16 = 1045;

/// A client that a server has let in.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) identity: Identity,
    /// Agreed on with the client.
    pub(super) capabilities: Capabilities,
    pub(super) face: Arc<Face>,
    /// What it was asked with last.
    pub(super) nonce: Nonce,
    /// Where it was judged, and the payload of the OK.
    pub(super) judged: LoggedIn,
}

/// Who a client is, to log in at other servers.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) user: Box<[u8]>,
    pub(super) secret: Secret,
    pub(super) collation: u16,
    pub(super) database: Option<Box<[u8]>>,
    pub(super) attributes: Box<[u8]>,
    pub(super) is_private: bool,
    /// What it has of its user's limit.
    pub(super) place: Option<Arc<UserPlace>>,
}

impl Identity {
    /// As servers are told.
    pub(super) fn who(&self, capabilities: Capabilities) -> Who<'_> {
        Who {
            user: &self.user,
            secret: &self.secret,
            capabilities,
            collation: self.collation,
            database: self.database.as_deref(),
            attributes: Attributes::made(&self.attributes),
            is_private: self.is_private,
        }
    }
}

/// Why a client was not let in.
#[derive(Debug)]
pub(super) enum Turned {
    /// It went away, or never said anything.
    Away,
    /// It was told so.
    Refused(Trouble),
}

impl From<Lost> for Turned {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Framing(_) => Self::Refused(Trouble::BadHandshake),
            Lost::Closed | Lost::Broken(_) => Self::Away,
        }
    }
}

/// Greets a client and has it judged. Whoever is not let in has been told why.
pub(super) async fn admit(
    worker: &Rc<Worker>,
    client: &mut Peer,
    entered: &Entered,
) -> Result<Admitted, Turned> {
    let mut sequence = 0;
    let admitted = timeout_at(
        Instant::now() + PATIENCE,
        enter(worker, client, entered, &mut sequence),
    );
    admitted.await.unwrap_or(Err(Turned::Away))
}

/// Sends an error, as the last thing.
pub(super) async fn refuse(
    client: &mut Peer,
    sequence: &mut u8,
    refusal: &Refusal<'_>,
) -> Result<(), Lost> {
    let mut payload = Vec::new();
    refusal.put(&mut payload);
    client.send(sequence, &payload).await
}

async fn enter(
    worker: &Rc<Worker>,
    client: &mut Peer,
    entered: &Entered,
    sequence: &mut u8,
) -> Result<Admitted, Turned> {
    let shared = &worker.shared;
    let early = |refusal| Refusal {
        state: None,
        ..refusal
    };
    if shared.session_count() > shared.now().max_connections {
        let many = early(Refusal::new(1040, b"08004", "Too many connections"));
        refuse(client, sequence, &many).await?;
        return Err(Turned::Refused(Trouble::TooManyConnections));
    }
    let Some(face) = worker.view().greeting.clone() else {
        let nobody = "lb has not reached any of its MySQL servers yet; see lb mysql status";
        let nobody = early(Refusal::new(1105, b"HY000", nobody));
        refuse(client, sequence, &nobody).await?;
        return Err(Turned::Refused(Trouble::NoServer));
    };
    let (Some(nonce), Some(next)) = (Nonce::random(), Nonce::random()) else {
        return Err(Turned::Away);
    };
    let has_tls = shared.settings.tls.is_some() && matches!(client.stream, Stream::Tcp(_));
    let offered = Capabilities::offer(face.capabilities, has_tls);
    let mut greeting = Vec::new();
    Greeting {
        version: &face.version,
        connection: entered.number,
        nonce: *nonce.bytes(),
        capabilities: offered,
        collation: face.collation,
        status: Status::AUTOCOMMIT,
        plugin: DEFAULT.name().as_bytes(),
    }
    .put(&mut greeting);
    client.send(sequence, &greeting).await?;

    let mut payload = incoming::of_stranger(client, shared, sequence, MOST_RESPONSE).await?;
    if let Ok(Answer::TlsRequest(_)) = Answer::read(&payload, offered) {
        encrypt(worker, client).await?;
        payload = incoming::of_stranger(client, shared, sequence, MOST_RESPONSE).await?;
    }
    let response = match Answer::read(&payload, offered) {
        Ok(Answer::Login(response)) => response,
        Ok(Answer::TlsRequest(_)) => return Err(Turned::Away),
        Err(refused) => {
            refuse(client, sequence, &refused.refusal()).await?;
            return Err(Turned::Refused(Trouble::BadHandshake));
        }
    };
    let known = known(worker, response.user);
    let mut login = Login::new(connect::channel(client), nonce, next, known);
    let action = login.begin(response.plugin, response.proof);
    let claim = converse(worker, client, sequence, &mut login, action).await?;
    let place = enter_user(worker, client, sequence, response.user).await?;
    let identity = Identity {
        place,
        ..identity(&response, &claim, client)
    };
    let judged = judge(
        worker,
        client,
        sequence,
        (&identity, &entered.running),
        &claim,
        response.head.capabilities,
    );
    let judged = judged.await?;
    Ok(Admitted {
        capabilities: response.head.capabilities,
        identity,
        face,
        nonce: login.nonce(),
        judged,
    })
}

/// A place for another session of a user.
pub(super) async fn enter_user(
    worker: &Worker,
    client: &mut Peer,
    sequence: &mut u8,
    user: &[u8],
) -> Result<Option<Arc<UserPlace>>, Turned> {
    match worker.shared.users.enter(user) {
        Ok(place) => Ok(place),
        Err(sentence) => {
            refuse(client, sequence, &Refusal::new(1226, b"42000", &sentence)).await?;
            Err(Turned::Refused(Trouble::UserLimit))
        }
    }
}

/// What is known of a user.
pub(super) fn known(worker: &Worker, user: &[u8]) -> Known {
    let settings = worker.shared.now();
    let mut users = settings.users.iter();
    if let Some(User { secret, .. }) = users.find(|one| one.name.as_bytes() == user) {
        return Known {
            secret: Some(secret.clone()),
            is_listed: true,
        };
    }
    Known {
        secret: worker.shared.secrets().of(user),
        is_listed: false,
    }
}

fn identity(response: &Response<'_>, claim: &Claim, client: &Peer) -> Identity {
    Identity {
        user: response.user.into(),
        secret: claim.secret.clone(),
        collation: response.head.collation,
        database: response.database.map(Into::into),
        attributes: response.attributes.bytes().into(),
        is_private: client.stream.is_secure(),
        place: None,
    }
}

async fn encrypt(worker: &Worker, client: &mut Peer) -> Result<(), Turned> {
    let config = worker.shared.now().tls.clone().ok_or(Turned::Away)?;
    let first = client.take_inbox();
    let Stream::Tcp(stream) = client.stream.take() else {
        return Err(Turned::Away);
    };
    let accepted = TlsAcceptor::from(config).accept(Rewound::new(first, stream));
    let stream = accepted.await.map_err(|error| {
        tracing::debug!("mysql: a client's TLS: {error}");
        Turned::Away
    })?;
    client.stream = Stream::TlsClient(Box::new(stream));
    Ok(())
}

/// Goes on until it is clear what the client claims.
pub(super) async fn converse(
    worker: &Worker,
    client: &mut Peer,
    sequence: &mut u8,
    login: &mut Login,
    mut action: Action,
) -> Result<Claim, Turned> {
    loop {
        action = match action {
            Action::Send(payload) => {
                client.send(sequence, &payload).await?;
                let answer =
                    incoming::of_stranger(client, &worker.shared, sequence, MOST_ANSWER).await?;
                login.feed(&answer)
            }
            Action::Key => {
                let pair = worker.shared.key_pair().await.ok_or(Turned::Away)?;
                login.key(pair.public())
            }
            Action::Unseal(sealed) => login.unsealed(unseal(worker, sealed).await),
            Action::Judge(_) if !worker.shared.now().learns && !login.is_listed() => {
                // Whatever was said: a server refuses, in its own words.
                return Ok(Claim {
                    secret: Secret::nobodys().ok_or(Turned::Away)?,
                    basis: Basis::Wrong,
                });
            }
            Action::Judge(claim) => return Ok(claim),
            Action::Refuse(refusal) => {
                refuse(client, sequence, &refusal).await?;
                return Err(Turned::Refused(Trouble::BadHandshake));
            }
        };
    }
}

/// Takes a millisecond, in which others go on.
async fn unseal(worker: &Worker, sealed: Sealed) -> Option<Secret> {
    let pair = worker.shared.key_pair().await?;
    spawn_blocking(move || sealed.open(&pair)).await.ok()?
}

/// Has a server say whether the client may come in, and tells it.
pub(super) async fn judge(
    worker: &Rc<Worker>,
    client: &mut Peer,
    sequence: &mut u8,
    (identity, running): (&Identity, &Running),
    claim: &Claim,
    capabilities: Capabilities,
) -> Result<LoggedIn, Turned> {
    let view = worker.view();
    let mut trouble = None;
    for server in judges(&view) {
        match worker
            .log_in_in_turn(server, &identity.who(capabilities), view.epoch)
            .await
        {
            Ok(judged) => {
                if claim.basis == Basis::Said {
                    let mut secrets = worker.shared.secrets();
                    secrets.learn(&identity.user, claim.secret.clone());
                }
                let mut out = Vec::new();
                if let Some(before) = claim.before_ok() {
                    crate::wire::packet::put(&mut out, sequence, before);
                }
                let ok = ok_for(&judged.ok, judged.connection.capabilities, capabilities);
                crate::wire::packet::put(&mut out, sequence, &ok);
                // Who is told of its login may be killed by others from then on.
                running.set_who(&identity.user, identity.database.as_deref());
                client.write_all(&out).await?;
                return Ok(judged);
            }
            Err(Failure::Refused(payload)) => {
                let code = Refusal::read(&payload).map(|refused| refused.code);
                // Other reasons, such as an unknown database, say nothing against the password.
                if code == Some(DENIED) && matches!(claim.basis, Basis::Proved(_)) {
                    let mut secrets = worker.shared.secrets();
                    secrets.forget(&identity.user, &claim.secret);
                }
                let trouble = if says_full(&payload) {
                    Trouble::ServerFull
                } else {
                    Trouble::Login
                };
                client.send(sequence, &payload).await?;
                return Err(Turned::Refused(trouble));
            }
            Err(Failure::Full(payload)) => {
                client.send(sequence, &payload).await?;
                return Err(Turned::Refused(Trouble::ServerFull));
            }
            Err(Failure::Trouble(sentence)) => {
                let name = &worker.shared.settings.servers[server].name;
                worker
                    .shared
                    .tell_rarely(&format!("mysql: server {name}: {sentence}"));
                trouble = Some(sentence);
            }
        }
    }
    let sentence = match trouble {
        Some(sentence) => format!("lb reached no MySQL server to log in at: {sentence}"),
        None => "lb reaches none of its MySQL servers; see lb mysql status".to_owned(),
    };
    refuse(client, sequence, &Refusal::new(1105, b"HY000", &sentence)).await?;
    Err(Turned::Refused(Trouble::NoServer))
}

/// Servers that may judge, the best first: the primary knows what was changed last.
fn judges(view: &View) -> impl Iterator<Item = usize> {
    let primary = view.primary.as_ref().ok().copied();
    let others = (0..view.servers.len()).filter(|server| view.servers[*server].is_up);
    primary
        .into_iter()
        .chain(others.filter(move |server| Some(*server) != primary))
        .collect::<Vec<_>>()
        .into_iter()
}

/// A server's OK for a client.
pub(super) fn ok_for(ok: &[u8], server: Capabilities, client: Capabilities) -> Vec<u8> {
    let done = Done::read(ok, server).unwrap_or_default();
    let mut payload = Vec::new();
    done.put(client, &mut payload);
    payload
}
