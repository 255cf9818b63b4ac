//! One check of one backend: a question asked over the network, within its time.

mod certificate;
mod connection;
mod failed;
mod grpc;
mod http;
mod line;
mod mysql;
mod script;
mod tls;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use self::script::Script;
pub(super) use self::{
    connection::Connection,
    failed::{Failed, system_words},
    line::{bounded, first_line},
};
use super::{
    BackendKey,
    lane::{Lane, Passage},
};
use crate::config::model::{CheckKind, HealthCheck};

/// How a check ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) result: Result,
    /// For people: "HTTP 200 in 1.2 ms".
    pub(super) detail: String,
    pub(super) took: Duration,
    /// When the certificate that it showed ends, also where that is why it failed.
    pub(super) certificate_ends: Option<SystemTime>,
    /// How many seconds its replication is behind, also where that is why it failed.
    pub(super) lag: Option<f64>,
}

/// What a check says about the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Result {
    Success,
    Failure,
    /// This machine could not even ask; nothing is known about the backend.
    NotAsked,
}

/// What checks share.
#[derive(Default)]
pub(super) struct Tools {
    trusted: tls::Trusted,
    lane: RwLock<Option<Arc<dyn Lane>>>,
}

impl Tools {
    pub(super) fn set_lane(&self, lane: Option<Arc<dyn Lane>>) {
        *self.lane.write().unwrap_or_else(PoisonError::into_inner) = lane;
    }

    fn is_lane(&self, lane: &Arc<dyn Lane>) -> bool {
        self.lane().is_some_and(|now| Arc::ptr_eq(&now, lane))
    }

    fn lane(&self) -> Option<Arc<dyn Lane>> {
        let lane = self.lane.read().unwrap_or_else(PoisonError::into_inner);
        lane.clone()
    }
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tools")
    }
}

/// What a backend said, and when.
struct Answer {
    is_good: bool,
    /// "HTTP 200", "connected"
    what: String,
    /// What stands behind the time it took.
    more: String,
    at: Instant,
}

impl Answer {
    fn good(what: impl Into<String>) -> Self {
        Self {
            is_good: true,
            what: what.into(),
            more: String::new(),
            at: Instant::now(),
        }
    }
}

/// Where the end of a certificate is noted as soon as it is seen.
type CertificateEnd = Arc<OnceLock<SystemTime>>;

/// What is noted as soon as it is seen, whatever becomes of the check.
#[derive(Default)]
struct Seen {
    certificate_end: CertificateEnd,
    /// In seconds.
    lag: OnceLock<f64>,
}

/// Checks a backend once, at its address or through its service.
pub(super) async fn probe(
    key: &BackendKey,
    (address, through): (SocketAddr, Option<SocketAddr>),
    check: &HealthCheck,
    tools: &Tools,
) -> Outcome {
    if check.kind == CheckKind::None {
        return Outcome {
            result: Result::Success,
            detail: "not checked".to_owned(),
            took: Duration::ZERO,
            certificate_ends: None,
            lag: None,
        };
    }
    let start = Instant::now();
    let deadline = start + check.timeout;
    let seen = Seen::default();
    let lane = through.and_then(|_| tools.lane());
    let asked = match &check.kind {
        // It sees to its time itself, to tell what it said until then.
        CheckKind::Script { command } => {
            let script = Script {
                command,
                key,
                address,
            };
            Ok(script::run(script, deadline, check.timeout).await)
        }
        kind @ (CheckKind::None
        | CheckKind::Tcp
        | CheckKind::Http(_)
        | CheckKind::Https(..)
        | CheckKind::Grpc { .. }
        | CheckKind::Mysql(_)) => {
            let passage = through.map(|service| Passage {
                lane: lane.as_ref(),
                backend: key,
                server: address.ip(),
                service,
                patience: check.timeout / 2,
            });
            let asked = ask((address, passage), kind, deadline, tools, &seen);
            timeout_at(deadline, asked).await
        }
    };
    let certificate_ends = seen.certificate_end.get().copied();
    let is_astray = lane.is_some_and(|lane| !tools.is_lane(&lane));
    let (result, detail, end) = match asked {
        Err(_) => {
            let detail = format!("timed out after {}", in_words(check.timeout));
            (Result::Failure, detail, Instant::now())
        }
        Ok(Err(Failed { result, words })) => (result, words, Instant::now()),
        Ok(Ok(Answer {
            is_good,
            what,
            more,
            at,
        })) => {
            let result = if is_good {
                Result::Success
            } else {
                Result::Failure
            };
            let took = in_words(at - start);
            let certificate = certificate_ends
                .map(|end| format!(", {}", certificate::in_words(end, SystemTime::now())))
                .unwrap_or_default();
            (result, format!("{what} in {took}{more}{certificate}"), at)
        }
    };
    let (result, detail) = match result {
        // What was sent, or the answer, may have been lost with it.
        Result::Failure if is_astray => {
            let Failed { result, words } =
                Failed::not_asked("the way through the service was lost meanwhile");
            (result, words)
        }
        Result::Success | Result::Failure | Result::NotAsked => (result, detail),
    };
    let way = if through.is_some() && result != Result::NotAsked {
        ", through the service"
    } else {
        ""
    };
    Outcome {
        result,
        detail: detail + way,
        took: end - start,
        certificate_ends,
        lag: seen.lag.get().copied(),
    }
}

async fn ask(
    (server, passage): (SocketAddr, Option<Passage<'_>>),
    kind: &CheckKind,
    deadline: Instant,
    tools: &Tools,
    seen: &Seen,
) -> std::result::Result<Answer, Failed> {
    // As long as the connection, which ends before it.
    let mut _permit = None;
    let address = passage.map_or(server, |passage| passage.service);
    let mut connect = async || {
        let Some(passage) = passage else {
            let stream = TcpStream::connect(address).await;
            return stream
                .map(Connection::new)
                .map_err(|error| Failed::to_connect(&error));
        };
        let (stream, given) = passage.connect().await?;
        _permit = Some(given);
        Ok(stream)
    };
    match kind {
        CheckKind::None | CheckKind::Tcp | CheckKind::Script { .. } => {
            let connection = connect().await?;
            let answer = Answer::good("connected");
            // A reset leaves nothing behind. Ten thousand closed connections a second would fill
            // this machine's table of those that wait.
            drop(connection.ending_by_reset());
            Ok(answer)
        }
        CheckKind::Http(get) => {
            let host = http::host(get.host.as_deref(), None, address, 80);
            http::get(connect().await?, &host, get, deadline).await
        }
        CheckKind::Https(get, tls) => {
            let verifier = tools.trusted.verifier(&tls.trust)?;
            let how = (tls, verifier, &["http/1.1"][..]);
            let stream =
                tls::handshake(connect().await?, address, how, &seen.certificate_end).await?;
            let host = http::host(get.host.as_deref(), tls.sni.as_deref(), address, 443);
            http::get(stream, &host, get, deadline).await
        }
        CheckKind::Mysql(mysql) => {
            mysql::check(connect().await?, address, mysql, tools, seen, deadline).await
        }
        CheckKind::Grpc { host, service } => {
            let authority = http::host(host.as_deref(), None, address, 80);
            grpc::check(connect().await?, &authority, service).await
        }
    }
}

/// "1.2 ms", "1.0 s"
pub(super) fn in_words(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!(in_words(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(in_words(Duration::from_millis(1000)), "1.0 s");
    }
}
