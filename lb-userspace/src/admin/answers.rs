//! What the admin sockets say.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::combinators::UnsyncBoxBody;
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
};
use lb_mysql::proxy::Proxy;
use serde::Serialize;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use super::{
    Pieces, StatusSource, changes,
    endpoint::{self, Access, Endpoint, Found, Route},
    held::Held,
    listing::{Deadline, Listing},
    openapi,
    reply::{Answer, json, other_methods, page, refusal, too_busy, with},
    token::Token,
};
use crate::{capture, events, flow_list::Query, metrics, mysql, why};

/// Lists of flows at a time; more are refused, so that others find a connection.
const MOST_LISTINGS: usize = 4;
/// Captures at a time, which lists do not keep out.
const MOST_CAPTURES: usize = 1;
/// Clients that wait for events at a time, so that others find a connection.
const MOST_WAITING: usize = 16;
/// KiB of answers that clients of one socket have not taken yet.
const MOST_HELD: usize = 128 << 10;

/// What a reload is given beyond the usual time: files are read, and a program may be loaded.
const RELOAD_TIME: Duration = Duration::from_secs(60);
/// The same for another primary: the config may let transactions take an hour to end, and replicas an
/// hour to catch up.
const PRIMARY_TIME: Duration = Duration::from_secs(3 * 3600);
/// How often a wrong token is told of.
const WRONG_TOKENS_EVERY: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A process of this host, by the Unix socket.
    Local { uid: u32, pid: Option<i32> },
    /// By TCP.
    Remote(SocketAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Local {
                uid,
                pid: Some(pid),
            } => write!(f, "uid {uid}, pid {pid}"),
            Self::Remote(address) => address.fmt(f),
        }
    }
}

/// What is told to strangers.
#[derive(Debug)]
pub(super) enum Openness {
    /// All who get this far may ask everything.
    Trusted,
    /// Only what is [open](Access::Open), and the rest with the token, if there is one.
    Public(Option<Token>),
}

/// The source, and how much of it is given at a time.
pub(super) struct Answers {
    source: Arc<dyn StatusSource>,
    openness: Openness,
    is_up: Arc<AtomicBool>,
    /// One client at a time has a document made.
    status: Document,
    metrics: Document,
    listings: Arc<Semaphore>,
    captures: Arc<Semaphore>,
    room: Arc<Semaphore>,
    waiting: Semaphore,
    wrong_token_told: std::sync::Mutex<Option<Instant>>,
}

/// A document that is made for one client at a time.
#[derive(Debug, Default)]
struct Document(Mutex<Option<Made>>);

#[derive(Debug)]
struct Made {
    body: Bytes,
    at: Instant,
    took: Duration,
}

impl Made {
    /// Strangers may not keep more than a fifth of a core busy: what took long to make is given to
    /// others for four times as long.
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < self.took * 4
    }
}

impl Answers {
    pub(super) fn new(
        source: Arc<dyn StatusSource>,
        openness: Openness,
        is_up: Arc<AtomicBool>,
    ) -> Self {
        Self {
            source,
            openness,
            is_up,
            status: Document::default(),
            metrics: Document::default(),
            listings: Arc::new(Semaphore::new(MOST_LISTINGS)),
            captures: Arc::new(Semaphore::new(MOST_CAPTURES)),
            room: Arc::new(Semaphore::new(MOST_HELD)),
            waiting: Semaphore::new(MOST_WAITING),
            wrong_token_told: std::sync::Mutex::default(),
        }
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        deadline: Deadline,
    ) -> Answer {
        let endpoint = match endpoint::find(request.method().as_str(), request.uri().path()) {
            Found::Endpoint(endpoint) => endpoint,
            Found::OtherMethods(methods) => return other_methods(&methods),
            Found::Nothing => return refusal(StatusCode::NOT_FOUND, &endpoint::nothing_here()),
        };
        if let Some(refused) = self.refuse(endpoint, &request, peer) {
            return refused;
        }
        let query = request.uri().query().unwrap_or_default();
        match endpoint.route {
            Route::Page => page(),
            Route::OpenApi => json(StatusCode::OK, &openapi::document().to_string()),
            Route::Healthz => json(StatusCode::OK, r#"{"alive":true}"#),
            Route::Readyz => self.readyz().await,
            Route::Status => {
                let make = |source: &dyn StatusSource| {
                    let mut body = serde_json::to_vec(&source.status()).ok()?;
                    body.push(b'\n');
                    Some(body)
                };
                self.document(&self.status, "application/json", make).await
            }
            Route::Metrics => {
                let make = |source: &dyn StatusSource| {
                    Some(metrics::page(&source.status(), &source.measures()).into_bytes())
                };
                self.document(&self.metrics, metrics::CONTENT_TYPE, make)
                    .await
            }
            Route::Events => self.events(query, &deadline).await,
            Route::Flows => self.flows(query, deadline).await,
            Route::Why => self.why(query).await,
            Route::Capture => self.capture(query, deadline).await,
            Route::MysqlSessions => self.mysql(mysql::seen::sessions).await,
            Route::MysqlDigests => self.mysql(mysql::seen::digests).await,
            Route::Firewall => {
                let source = Arc::clone(&self.source);
                let made = spawn_blocking(move || serde_json::to_vec(&source.firewall()));
                match made.await {
                    Ok(Ok(body)) => self.whole("application/json", body.into()),
                    Ok(Err(_)) | Err(_) => refusal(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "the firewall could not be asked",
                    ),
                }
            }
            Route::Set | Route::Reset | Route::MysqlKill => {
                self.change(endpoint.route, request, peer).await
            }
            Route::Reload | Route::ChangeFirewall => {
                deadline.postpone(RELOAD_TIME);
                self.change(endpoint.route, request, peer).await
            }
            Route::Switchover | Route::Failover | Route::Rejoin => {
                deadline.postpone(PRIMARY_TIME);
                self.change(endpoint.route, request, peer).await
            }
        }
    }

    /// Says why this client may not ask that, if so.
    fn refuse(
        &self,
        endpoint: &Endpoint,
        request: &Request<Incoming>,
        peer: Peer,
    ) -> Option<Answer> {
        let token = match (&self.openness, endpoint.access) {
            (Openness::Trusted, _) | (_, Access::Open) => return None,
            (Openness::Public(token), Access::Guarded) => token,
        };
        let what = format!("{} {}", endpoint.method, endpoint.path);
        let Some(token) = token else {
            let sentence = format!(
                "{what} is answered over TCP only with a token, and the config names no \
                 admin.token_file; the Unix socket answers it"
            );
            return Some(refusal(StatusCode::FORBIDDEN, &sentence));
        };
        if token.is_in(request.headers()) {
            return None;
        }
        self.tell_wrong_token(peer, &what);
        let sentence =
            format!("{what} needs the token of admin.token_file: Authorization: Bearer TOKEN");
        let mut answer = refusal(StatusCode::UNAUTHORIZED, &sentence);
        let scheme = HeaderValue::from_static("Bearer");
        answer
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
        Some(answer)
    }

    /// Says that somebody may be guessing, and not more often than is good for the log.
    fn tell_wrong_token(&self, peer: Peer, what: &str) {
        let mut told = self
            .wrong_token_told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= WRONG_TOKENS_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!("{peer} asked for {what} without the right token");
        }
    }

    async fn readyz(&self) -> Answer {
        if !self.is_up.load(Ordering::Acquire) {
            return refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "the agent is starting: it does not steer yet",
            );
        }
        let source = Arc::clone(&self.source);
        match spawn_blocking(move || source.unready()).await {
            Ok(None) => json(StatusCode::OK, r#"{"ready":true}"#),
            Ok(Some(sentence)) => refusal(StatusCode::SERVICE_UNAVAILABLE, &sentence),
            Err(_) => refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the agent could not be asked",
            ),
        }
    }

    /// A document as of now, or for strangers perhaps of a moment ago.
    async fn document(
        &self,
        document: &Document,
        kind: &'static str,
        make: impl FnOnce(&dyn StatusSource) -> Option<Vec<u8>> + Send + 'static,
    ) -> Answer {
        let mut made = document.0.lock().await;
        let is_public = matches!(self.openness, Openness::Public(_));
        let body = match &*made {
            Some(made) if is_public && made.is_fresh() => made.body.clone(),
            _ => {
                let source = Arc::clone(&self.source);
                let start = Instant::now();
                let body = match spawn_blocking(move || make(&*source)).await {
                    Ok(Some(body)) => Bytes::from(body),
                    Ok(None) | Err(_) => {
                        let sentence = "the status could not be read";
                        return refusal(StatusCode::INTERNAL_SERVER_ERROR, sentence);
                    }
                };
                let at = Instant::now();
                *made = is_public.then(|| Made {
                    body: body.clone(),
                    at,
                    took: at - start,
                });
                body
            }
        };
        drop(made);
        self.whole(kind, body)
    }

    /// An answer in one piece, if there is room for it until its client has taken it.
    fn whole(&self, kind: &'static str, body: Bytes) -> Answer {
        let kib = u32::try_from(body.len() >> 10).unwrap_or(u32::MAX) + 1;
        match Arc::clone(&self.room).try_acquire_many_owned(kib) {
            Ok(permit) => {
                let body = Held::new(body, permit);
                with(StatusCode::OK, kind, UnsyncBoxBody::new(body))
            }
            Err(_) => too_busy("other clients have not taken their answers yet; ask again later"),
        }
    }

    /// Has something changed. What is under way is finished even if the client goes.
    async fn change(&self, route: Route, request: Request<Incoming>, peer: Peer) -> Answer {
        let asked = match changes::read(route, request, peer).await {
            Ok(asked) => asked,
            Err(sentence) => return refusal(StatusCode::BAD_REQUEST, &sentence),
        };
        let source = Arc::clone(&self.source);
        let who = peer.to_string();
        match spawn_blocking(move || changes::perform(&*source, asked, &who)).await {
            Ok((status, document)) => json(status, &document),
            Err(_) => refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "it is not known what became of it; lb status tells",
            ),
        }
    }

    /// Events at once, or as soon as there is one.
    async fn events(&self, query: &str, deadline: &Deadline) -> Answer {
        let query = match events::Query::decode(query) {
            Ok(query) => query,
            Err(sentence) => return refusal(StatusCode::BAD_REQUEST, &sentence),
        };
        let log = self.source.events();
        if !query.wait.is_zero() {
            let Ok(_permit) = self.waiting.try_acquire() else {
                return too_busy(&format!(
                    "{MOST_WAITING} clients wait for events already; ask without wait"
                ));
            };
            deadline.postpone(query.wait);
            log.wait(query.since, query.wait).await;
        }
        match serde_json::to_string(&log.page(query.since, query.limit)) {
            Ok(body) => json(StatusCode::OK, &body),
            Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// What only the MySQL proxy knows.
    async fn mysql<T: Serialize>(&self, ask: impl FnOnce(&Proxy) -> T + Send + 'static) -> Answer {
        let source = Arc::clone(&self.source);
        let asked = spawn_blocking(move || {
            let proxy = source.mysql()?;
            Some(serde_json::to_vec(&ask(proxy)))
        });
        match asked.await {
            Ok(Some(Ok(body))) => self.whole("application/json", body.into()),
            Ok(None) => refusal(StatusCode::NOT_FOUND, mysql::seen::NO_PROXY),
            Ok(Some(Err(_))) | Err(_) => refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the proxy could not be asked",
            ),
        }
    }

    async fn why(&self, query: &str) -> Answer {
        let query = match why::Query::decode(query) {
            Ok(query) => query,
            Err(sentence) => return refusal(StatusCode::BAD_REQUEST, &sentence),
        };
        let source = Arc::clone(&self.source);
        let answered = spawn_blocking(move || {
            let answer = source.why(&query)?;
            serde_json::to_string(&answer).map_err(|error| error.to_string())
        });
        match answered.await {
            Ok(Ok(body)) => json(StatusCode::OK, &body),
            Ok(Err(sentence)) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &sentence),
            Err(_) => refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the packet could not be tried",
            ),
        }
    }

    async fn flows(&self, query: &str, deadline: Deadline) -> Answer {
        let query = match Query::decode(query) {
            Ok(query) => query,
            Err(sentence) => return refusal(StatusCode::BAD_REQUEST, &sentence),
        };
        let source = Arc::clone(&self.source);
        let begin = move || source.flows(&query);
        let Ok(permit) = Arc::clone(&self.listings).try_acquire_owned() else {
            return too_busy(&format!(
                "{MOST_LISTINGS} lists of flows are being read already; wait for one of them, or \
                 end it"
            ));
        };
        pieces(begin, deadline, permit, "application/json").await
    }

    async fn capture(&self, query: &str, deadline: Deadline) -> Answer {
        let query = match capture::Query::decode(query) {
            Ok(query) => query,
            Err(sentence) => return refusal(StatusCode::BAD_REQUEST, &sentence),
        };
        let source = Arc::clone(&self.source);
        let begin = move || source.capture(&query);
        let Ok(permit) = Arc::clone(&self.captures).try_acquire_owned() else {
            return too_busy("somebody captures already; there is one capture at a time");
        };
        pieces(begin, deadline, permit, "application/octet-stream").await
    }
}

async fn pieces(
    begin: impl FnOnce() -> Result<Box<dyn Pieces>, String> + Send + 'static,
    deadline: Deadline,
    permit: OwnedSemaphorePermit,
    kind: &'static str,
) -> Answer {
    match spawn_blocking(begin).await {
        Ok(Ok(pieces)) => {
            let listing = Listing::new(pieces, deadline, permit);
            with(StatusCode::OK, kind, UnsyncBoxBody::new(listing))
        }
        Ok(Err(sentence)) => refusal(StatusCode::NOT_FOUND, &sentence),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "it could not be begun"),
    }
}
