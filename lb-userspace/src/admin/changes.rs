//! Requests that change something.

use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
};
use serde::Serialize;

use super::{StatusSource, answers::Peer, endpoint::Route};
use crate::{
    control::{
        Act, Change, Fault, NewPrimary, Pattern, PrimaryKind, PrimaryWish, Refusal, ReloadWish,
    },
    firewall::Wish,
    mysql::seen::{Killed, NO_PROXY},
    query_string::unescape,
};

/// Of a request's body.
const LARGEST_BODY: usize = 64 << 10;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To change backends.
    Act(Pattern, Act),
    /// To read the config again.
    Reload(ReloadWish),
    /// To make another server of MySQL the primary.
    NewPrimary(NewPrimary),
    /// To end a session of the MySQL proxy.
    Kill(u32),
    /// To change the firewall.
    Firewall(Wish),
}

/// Reads what is asked for at a route that changes something; a sentence if it is not to be
/// understood.
pub(super) async fn read(
    route: Route,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Asked, String> {
    if route == Route::Reload {
        return Ok(Asked::Reload(reload(&body(request).await?, peer)?));
    }
    if route == Route::MysqlKill {
        return session(request.uri().path()).map(Asked::Kill);
    }
    if route == Route::ChangeFirewall {
        return Ok(Asked::Firewall(wish(&body(request).await?, peer)?));
    }
    let primary = if route == Route::Switchover {
        Some(PrimaryKind::Switchover)
    } else if route == Route::Rejoin {
        Some(PrimaryKind::Rejoin)
    } else {
        (route == Route::Failover).then_some(PrimaryKind::Failover)
    };
    if let Some(kind) = primary {
        let body = body(request).await?;
        return Ok(Asked::NewPrimary(new_primary(kind, &body)?));
    }
    let pattern = pattern(request.uri().path())?;
    if route == Route::Reset {
        return Ok(Asked::Act(pattern, Act::Reset));
    }
    let body = body(request).await?;
    Ok(Asked::Act(pattern, Act::Set(change(&body)?)))
}

async fn body(request: Request<Incoming>) -> Result<Bytes, String> {
    let body = Limited::new(request.into_body(), LARGEST_BODY);
    let collected = body.collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| format!("the body could not be read: {error}"))
}

/// Without a body there are no wishes.
fn reload(body: &Bytes, peer: Peer) -> Result<ReloadWish, String> {
    let mut wish = if body.is_empty() {
        ReloadWish::default()
    } else {
        serde_json::from_slice(body)
            .map_err(|error| format!("the body is not {{\"force\": true}}, or nothing: {error}"))?
    };
    if let Peer::Remote(address) = peer {
        wish.callers.push(address.ip());
    }
    Ok(wish)
}

fn wish(body: &Bytes, peer: Peer) -> Result<Wish, String> {
    let mut wish: Wish = serde_json::from_slice(body).map_err(|error| {
        format!("the body is not {{\"act\": \"deny\", \"prefix\": \"198.51.100.0/24\"}}: {error}")
    })?;
    wish.parsed_prefix()?;
    if let Peer::Remote(address) = peer {
        wish.caller = Some(address.ip());
    }
    Ok(wish)
}

fn new_primary(kind: PrimaryKind, body: &Bytes) -> Result<NewPrimary, String> {
    let PrimaryWish { to, check } = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not {{\"to\": \"NAME\"}}: {error}"))?;
    if kind == PrimaryKind::Switchover && to.is_none() {
        return Err("a switch-over needs to know to which server: {\"to\": \"NAME\"}".to_owned());
    }
    if kind == PrimaryKind::Rejoin && to.is_none() {
        return Err("which server is to be a replica? {\"to\": \"NAME\"}".to_owned());
    }
    Ok(NewPrimary { kind, to, check })
}

/// The backends that a path names.
fn pattern(path: &str) -> Result<Pattern, String> {
    let parts = || {
        let (service, backend) = path.strip_prefix("/backends/")?.split_once('/')?;
        Some(format!("{}/{}", unescape(service)?, unescape(backend)?))
    };
    let text =
        parts().ok_or("the path is /backends/SERVICE/BACKEND, escaped as URLs are".to_owned())?;
    text.parse()
}

/// The session that a path names.
fn session(path: &str) -> Result<u32, String> {
    let number = path.strip_prefix("/mysql/sessions/").unwrap_or_default();
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|_| is_number);
    number.ok_or("the path is /mysql/sessions/ID, with a session's number".to_owned())
}

fn kill(source: &dyn StatusSource, id: u32, who: &str) -> Result<Killed, Refusal> {
    let not_there = |sentence: String| Refusal::new(Fault::NotFound, sentence);
    let proxy = source.mysql().ok_or_else(|| not_there(NO_PROXY.into()))?;
    if !proxy.kill(id) {
        return Err(not_there(format!("there is no session {id}")));
    }
    tracing::info!(
        kind = "mysql_kill",
        "session {id} of MySQL killed, as {who} asked"
    );
    Ok(Killed { id })
}

fn change(body: &Bytes) -> Result<Change, String> {
    let change: Change = serde_json::from_slice(body).map_err(|error| {
        format!("the body is not {{\"weight\": N, \"state\": \"ready|drain|maint\"}}: {error}")
    })?;
    change.check()?;
    Ok(change)
}

/// Has it done, and says with which status and what to answer. On a thread where waiting is
/// allowed.
pub(super) fn perform(source: &dyn StatusSource, asked: Asked, who: &str) -> (StatusCode, String) {
    match asked {
        Asked::Act(pattern, act) => answer(source.act(pattern, act, who.to_owned())),
        Asked::Reload(wish) => answer(source.reload(&wish, who)),
        Asked::NewPrimary(change) => answer(source.change_primary(change, who)),
        Asked::Kill(id) => answer(kill(source, id, who)),
        Asked::Firewall(wish) => answer(source.change_firewall(wish, who)),
    }
}

fn answer<T: Serialize>(done: Result<T, Refusal>) -> (StatusCode, String) {
    let (status, document) = match done {
        Ok(done) => (StatusCode::OK, serde_json::to_value(&done)),
        Err(refusal) => {
            let status = match refusal.fault {
                Fault::NotFound => StatusCode::NOT_FOUND,
                Fault::Wrong => StatusCode::UNPROCESSABLE_ENTITY,
                Fault::Failed => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, Ok(refusal_body(&refusal)))
        }
    };
    (status, document.unwrap_or_default().to_string())
}

fn refusal_body(refusal: &Refusal) -> serde_json::Value {
    let mut body = serde_json::json!({ "error": refusal.sentence });
    if refusal.fault == Fault::Wrong {
        body["problems"] = serde_json::json!(refusal.problems);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::State;

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/backends/web/web1", Some("web/web1")),
            ("/backends/%2a/w%2A", Some("*/w*")),
            ("/backends/web", None),
            ("/backends/web/", None),
            ("/backends/web/a%2Fb", None),
            ("/backends/web/%zz", None),
            ("/backends/web/a/b", None),
        ] {
            let found = pattern(path).ok();
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{path}");
        }
    }

    #[test]
    fn sessions() {
        for (path, expected) in [
            ("/mysql/sessions/7", Some(7)),
            ("/mysql/sessions/4294967295", Some(u32::MAX)),
            ("/mysql/sessions/4294967296", None),
            ("/mysql/sessions/+7", None),
            ("/mysql/sessions/", None),
            ("/mysql/sessions/seven", None),
        ] {
            assert_eq!(session(path).ok(), expected, "{path}");
        }
    }

    #[test]
    fn bodies() {
        let read = |text: &'static str| change(&Bytes::from_static(text.as_bytes()));
        assert_eq!(
            read("{\"weight\": 3, \"state\": \"drain\"}"),
            Ok(Change {
                weight: Some(3),
                state: Some(State::Drain)
            })
        );
        for wrong in [
            "",
            "{}",
            "[]",
            "{\"weight\": 257}",
            "{\"weight\": -1}",
            "{\"weight\": 1, \"wieght\": 2}",
            "{\"state\": \"off\"}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
