//! Backends from etcd: one key each below a prefix, by etcd's JSON gateway (`/v3/`).
//!
//! A watch only says that something changed; then all keys are read again, so that what is told is
//! the state of one moment, whatever was missed.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::mpsc::Sender,
    time::{sleep, timeout},
};

use super::{Found, News, RETRY, tell};
use crate::config::model::EtcdRange;

/// For etcd to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a watch may be silent before all is read again: a connection may have died unheard.
const SILENCE: Duration = Duration::from_secs(30);
/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(50);
/// Bytes of an answer.
const LARGEST: usize = 16 << 20;

/// The value of a key.
#[derive(Debug, Deserialize)]
struct Stored {
    address: IpAddr,
    port: Option<u16>,
    weight: Option<u16>,
    role: Option<StoredRole>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredRole {
    Active,
    Backup,
}

/// Reads, and reads again whenever something has changed.
pub(super) async fn watch(service: &Arc<str>, range: &EtcdRange, most: u32, news: &Sender<News>) {
    let mut retry = RETRY.0;
    let mut told = BTreeSet::new();
    // The one that answered last goes first.
    let mut endpoints = range.endpoints.clone();
    loop {
        let mut read = Err("there is no endpoint".to_owned());
        for _ in 0..endpoints.len() {
            read = all(&endpoints[0], &range.prefix, most).await;
            if read.is_ok() {
                break;
            }
            endpoints.rotate_left(1);
        }
        let (found, revision) = match read {
            Ok(State {
                found,
                revision,
                bad,
            }) => {
                for sentence in &bad {
                    if !told.contains(sentence) {
                        tracing::warn!("service {service}: {sentence}");
                    }
                }
                told = bad.into_iter().collect();
                (found, revision)
            }
            Err(sentence) => {
                if !tell(news, service, Err(sentence)).await {
                    return;
                }
                sleep(retry).await;
                retry = (retry * 2).min(RETRY.1);
                continue;
            }
        };
        retry = RETRY.0;
        if !tell(news, service, Ok(found)).await {
            return;
        }
        if let Err(sentence) = wait_for_change(&endpoints[0], &range.prefix, revision).await {
            tracing::debug!("service {service}: {sentence}");
            sleep(RETRY.0).await;
        }
        sleep(GATHER).await;
    }
}

/// All keys at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    found: Vec<Found>,
    revision: u64,
    /// What is not understood, a sentence each.
    bad: Vec<String>,
}

async fn all(endpoint: &str, prefix: &str, most: u32) -> Result<State, String> {
    let asked = json!({
        "key": STANDARD.encode(prefix),
        "range_end": STANDARD.encode(end_of(prefix)),
        "limit": (u64::from(most) + 1).to_string(),
    });
    let ask = async {
        let body = post(endpoint, "/v3/kv/range", &asked).await?;
        let body = Limited::new(body, LARGEST).collect().await;
        body.map_err(|error| format!("etcd at {endpoint} broke off: {error}"))
    };
    let body = timeout(PATIENCE, ask)
        .await
        .map_err(|_| silent(endpoint))??
        .to_bytes();
    state(&body, prefix, most).map_err(|reason| format!("etcd at {endpoint}: {reason}"))
}

fn silent(endpoint: &str) -> String {
    format!(
        "etcd at {endpoint} does not answer within {} s",
        PATIENCE.as_secs()
    )
}

fn state(body: &[u8], prefix: &str, most: u32) -> Result<State, String> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|error| format!("its answer is no JSON: {error}"))?;
    let revision = answer["header"]["revision"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or("its answer has no revision")?;
    let empty = Vec::new();
    let entries = answer["kvs"].as_array().unwrap_or(&empty);
    if entries.len() > most as usize {
        return Err(format!(
            "there are more than {most} keys below {prefix}, which service.discovery.most takes \
             for a mistake"
        ));
    }
    let mut state = State {
        revision,
        ..State::default()
    };
    for entry in entries {
        let text = |field: &str| {
            let bytes = STANDARD
                .decode(entry[field].as_str().unwrap_or_default())
                .ok()?;
            String::from_utf8(bytes).ok()
        };
        let Some(key) = text("key") else {
            state.bad.push(format!("a key below {prefix} is no text"));
            continue;
        };
        let name = key.strip_prefix(prefix).unwrap_or(&key).to_owned();
        let stored = text("value")
            .ok_or("it is no text".to_owned())
            .and_then(|value| {
                serde_json::from_str::<Stored>(&value).map_err(|error| error.to_string())
            });
        match stored {
            Ok(stored) => state.found.push(Found {
                name,
                address: stored.address,
                port: stored.port,
                weight: stored.weight,
                is_backup: stored.role == Some(StoredRole::Backup),
            }),
            Err(reason) => state.bad.push(format!(
                "the value of etcd's key {key:?} is left out: {reason} (write {{\"address\": \
                 \"10.0.0.11\", \"port\": 8080, \"weight\": 1}})"
            )),
        }
    }
    state.found.sort();
    Ok(state)
}

/// The first key behind all that begin with the prefix; of an empty one, behind all keys.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Returns when something has changed since that revision, or may have.
async fn wait_for_change(endpoint: &str, prefix: &str, revision: u64) -> Result<(), String> {
    let asked = json!({ "create_request": {
        "key": STANDARD.encode(prefix),
        "range_end": STANDARD.encode(end_of(prefix)),
        "start_revision": (revision + 1).to_string(),
    }});
    let mut body = timeout(PATIENCE, post(endpoint, "/v3/watch", &asked))
        .await
        .map_err(|_| silent(endpoint))??;
    let mut line = Vec::new();
    loop {
        let Ok(frame) = timeout(SILENCE, body.frame()).await else {
            return Ok(());
        };
        let frame = frame
            .ok_or_else(|| format!("etcd at {endpoint} ended the watch"))?
            .map_err(|error| format!("etcd at {endpoint} broke the watch off: {error}"))?;
        let Some(bytes) = frame.data_ref() else {
            continue;
        };
        line.extend_from_slice(bytes);
        if line.len() > LARGEST {
            return Err(format!("etcd at {endpoint} says too much at once"));
        }
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let rest = line.split_off(end + 1);
            let message = std::mem::replace(&mut line, rest);
            // What is not the news that the watch exists is a change, or a watch that is gone.
            let message: Value = serde_json::from_slice(&message).unwrap_or_default();
            let is_created = message["result"]["created"] == json!(true);
            let is_canceled = message["result"]["canceled"] == json!(true);
            if !is_created || is_canceled {
                return Ok(());
            }
        }
    }
}

async fn post(endpoint: &str, path: &str, body: &Value) -> Result<Incoming, String> {
    let failed =
        |error: &dyn ToString| format!("cannot ask etcd at {endpoint}: {}", error.to_string());
    let authority = endpoint
        .strip_prefix("http://")
        .unwrap_or(endpoint)
        .trim_end_matches('/');
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    // It ends when the answer was read, or dropped.
    tokio::spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| failed(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))?;
    if response.status() != StatusCode::OK {
        return Err(failed(&response.status()));
    }
    Ok(response.into_body())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str) -> Value {
        json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) })
    }

    fn read(entries: &[Value]) -> Result<State, String> {
        let body = json!({ "header": { "revision": "7" }, "kvs": entries });
        state(body.to_string().as_bytes(), "/lb/web/", 3)
    }

    #[test]
    fn keys_are_names_and_values_are_backends() {
        let state = read(&[
            entry(
                "/lb/web/b",
                r#"{"address": "10.0.0.2", "weight": 5, "role": "backup"}"#,
            ),
            entry(
                "/lb/web/a",
                r#"{"address": "10.0.0.1", "port": 8080, "note": "new"}"#,
            ),
        ])
        .unwrap();
        assert_eq!((state.revision, state.bad.len()), (7, 0));
        let [a, b] = state.found.as_slice() else {
            panic!("{state:?}");
        };
        assert_eq!(
            (&*a.name, a.port, a.weight, a.is_backup),
            ("a", Some(8080), None, false)
        );
        assert_eq!(
            (&*b.name, b.port, b.weight, b.is_backup),
            ("b", None, Some(5), true)
        );
    }

    #[test]
    fn what_is_not_understood_is_left_out_and_told() {
        let state = read(&[
            entry("/lb/web/a", "10.0.0.1"),
            entry("/lb/web/b", r#"{"address": "10.0.0.999"}"#),
            entry("/lb/web/c", r#"{"address": "10.0.0.1"}"#),
        ])
        .unwrap();
        assert_eq!((state.found.len(), state.bad.len()), (1, 2), "{state:?}");
        assert!(state.bad[0].contains("\"/lb/web/a\""), "{state:?}");
        let four = ["a", "b", "c", "d"].map(|key| entry(key, "{}"));
        assert!(read(&four).unwrap_err().contains("more than 3 keys"));
        assert!(state_of(b"<html>").is_err());
        assert!(state_of(b"{}").is_err());
    }

    fn state_of(body: &[u8]) -> Result<State, String> {
        state(body, "/", 3)
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(end_of("/lb/"), b"/lb0");
        assert_eq!(end_of(""), [0]);
    }
}
