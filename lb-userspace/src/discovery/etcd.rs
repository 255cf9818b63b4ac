//! Backends from etcd: one key each below a prefix, by etcd's JSON gateway (`/v3/`).
//!
//! A watch only says that something changed; then all keys are read again, so that what is told is
//! the state of one moment, whatever was missed.

mod way;

use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::Sender,
    time::{sleep, timeout},
};

pub(crate) use self::way::Way;
use super::{Found, News, RETRY, Remarks, about, tell};
use crate::config::model::EtcdRange;

/// For etcd to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a watch may be silent before all is read again: a connection may have died unheard.
const SILENCE: Duration = Duration::from_secs(30);
/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(50);
/// Bytes of an answer.
const LARGEST: usize = 64 << 20;

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
pub(super) async fn watch(
    service: &Arc<str>,
    range: &EtcdRange,
    most: u32,
    known: Vec<Found>,
    news: &Sender<News>,
) {
    let mut retry = RETRY.0;
    let mut remarks = Remarks::default();
    let mut memory = Memory {
        found: known,
        store: None,
    };
    // The one that answered last goes first.
    let mut servers = range.servers.clone();
    loop {
        let mut read = Err("there is no endpoint".to_owned());
        for _ in 0..servers.endpoints.len() {
            read = all(Way::first(&servers), &range.prefix, most).await;
            if read.is_ok() {
                break;
            }
            servers.endpoints.rotate_left(1);
        }
        let mut state = match read {
            Ok(state) => state,
            Err(sentence) => {
                if !tell(news, service, Err(sentence)).await {
                    return;
                }
                sleep(about(retry)).await;
                retry = (retry * 2).min(RETRY.1);
                continue;
            }
        };
        retry = RETRY.0;
        remarks.tell(service, memory.complete(&mut state));
        let revision = state.revision;
        let way = Way::first(&servers);
        let found = memory
            .believe(state)
            .map_err(|reason| format!("etcd at {}: {reason} below {}", way.endpoint, range.prefix));
        if !tell(news, service, found).await {
            return;
        }
        if let Err(sentence) = wait_for_change(way, &range.prefix, revision).await {
            tracing::debug!("service {service}: {sentence}");
            sleep(about(RETRY.0)).await;
        }
        sleep(GATHER).await;
    }
}

/// All keys at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    found: Vec<Found>,
    cluster: String,
    revision: u64,
    /// What is not understood.
    bad: Vec<Bad>,
}

/// A key that is not understood, or too many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bad {
    /// Of the backend.
    name: Option<String>,
    sentence: String,
}

/// What was read before.
#[derive(Debug, Default)]
struct Memory {
    found: Vec<Found>,
    /// The store that had it, and its revision then. A store without any key is believed if it is
    /// this one, going on: somebody has deleted them. One that has lost its data, or was never seen,
    /// is not.
    store: Option<(String, u64)>,
}

impl Memory {
    /// Puts in what was known of keys that are not understood any more; says what is to be told.
    fn complete(&self, state: &mut State) -> Vec<String> {
        let remarks = std::mem::take(&mut state.bad).into_iter().map(|bad| {
            let mut known = self.found.iter();
            let known = known.find(|one| Some(&one.name) == bad.name.as_ref());
            match known {
                Some(known) => {
                    state.found.push(known.clone());
                    format!("{}; what it said before stays", bad.sentence)
                }
                None => bad.sentence,
            }
        });
        let remarks = remarks.collect();
        state.found.sort();
        remarks
    }

    /// The backends, or why that is not to be believed.
    fn believe(&mut self, state: State) -> Result<Vec<Found>, String> {
        if state.found.is_empty() {
            let is_known = self.store.as_ref().is_some_and(|(cluster, revision)| {
                *cluster == state.cluster && *revision <= state.revision
            });
            if !is_known {
                let why = match self.store.take() {
                    Some((_, revision)) => format!(
                        "it has lost its data (revision {}, after {revision}), and has no key",
                        state.revision
                    ),
                    None => "there is no key".to_owned(),
                };
                return Err(why);
            }
        }
        self.store = Some((state.cluster, state.revision));
        self.found.clone_from(&state.found);
        Ok(state.found)
    }
}

async fn all(way: Way<'_>, prefix: &str, most: u32) -> Result<State, String> {
    let endpoint = way.endpoint;
    let asked = json!({
        "key": STANDARD.encode(prefix),
        "range_end": STANDARD.encode(end_of(prefix)),
        "limit": most.to_string(),
    });
    let ask = async {
        let body = way.post("/v3/kv/range", &asked).await?;
        let body = Limited::new(body, LARGEST).collect().await;
        body.map_err(|error| format!("etcd at {endpoint} broke off: {error}"))
    };
    let body = timeout(PATIENCE, ask)
        .await
        .map_err(|_| silent(endpoint))??
        .to_bytes();
    state(&body, prefix, most).map_err(|reason| format!("etcd at {endpoint}: {reason}"))
}

/// Asks etcd something else than for backends, in JSON.
pub(crate) async fn ask(way: Way<'_>, path: &str, asked: &Value) -> Result<Value, String> {
    let endpoint = way.endpoint;
    let ask = async {
        let body = way.post(path, asked).await?;
        let body = Limited::new(body, LARGEST).collect().await;
        body.map_err(|error| format!("etcd at {endpoint} broke off: {error}"))
    };
    let body = timeout(PATIENCE, ask).await;
    let body = body.map_err(|_| silent(endpoint))??.to_bytes();
    serde_json::from_slice(&body)
        .map_err(|error| format!("etcd at {endpoint}: its answer is no JSON: {error}"))
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
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok());
    let header = &answer["header"];
    let revision = number(&header["revision"]).ok_or("its answer has no revision")?;
    let empty = Vec::new();
    let entries = answer["kvs"].as_array().unwrap_or(&empty);
    let mut state = State {
        revision,
        cluster: header["cluster_id"].as_str().unwrap_or_default().to_owned(),
        ..State::default()
    };
    let count = number(&answer["count"]).unwrap_or_default();
    if count > u64::from(most) {
        state.bad.push(Bad {
            name: None,
            sentence: format!(
                "etcd has more keys below {prefix} than service.discovery.most, {most}: the first \
                 {most} of them are used"
            ),
        });
    }
    for entry in entries.iter().take(most as usize) {
        let text = |field: &str| {
            let bytes = STANDARD
                .decode(entry[field].as_str().unwrap_or_default())
                .ok()?;
            String::from_utf8(bytes).ok()
        };
        let Some(key) = text("key") else {
            state.bad.push(Bad {
                name: None,
                sentence: format!("a key below {prefix} is no text"),
            });
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
            Err(reason) => state.bad.push(Bad {
                name: Some(name),
                sentence: format!(
                    "the value of etcd's key {key:?} is left out: {reason} (write {{\"address\": \
                     \"10.0.0.11\", \"port\": 8080, \"weight\": 1}})"
                ),
            }),
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
async fn wait_for_change(way: Way<'_>, prefix: &str, revision: u64) -> Result<(), String> {
    let endpoint = way.endpoint;
    let asked = json!({ "create_request": {
        "key": STANDARD.encode(prefix),
        "range_end": STANDARD.encode(end_of(prefix)),
        "start_revision": (revision + 1).to_string(),
    }});
    let mut body = timeout(PATIENCE, way.post("/v3/watch", &asked))
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
            if is_news(&message) {
                return Ok(());
            }
        }
    }
}

/// What is not the word that the watch exists is a change, or a watch that is gone, because etcd does
/// not know the changes any more that it begins with, for example.
fn is_news(message: &[u8]) -> bool {
    let message: Value = serde_json::from_slice(message).unwrap_or_default();
    let is_created = message["result"]["created"] == json!(true);
    let is_canceled = message["result"]["canceled"] == json!(true);
    !is_created || is_canceled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str) -> Value {
        json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) })
    }

    fn read(entries: &[Value]) -> Result<State, String> {
        read_at("7", entries)
    }

    fn read_at(revision: &str, entries: &[Value]) -> Result<State, String> {
        let body = json!({
            "header": { "revision": revision, "cluster_id": "1" },
            "kvs": entries,
            "count": entries.len().to_string(),
        });
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
        assert!(state.bad[0].sentence.contains("\"/lb/web/a\""), "{state:?}");
        assert!(state_of(b"<html>").is_err());
        assert!(state_of(b"{}").is_err());
    }

    #[test]
    fn of_too_many_the_first_are_used() {
        let four = ["a", "b", "c", "d"]
            .map(|key| entry(&format!("/lb/web/{key}"), r#"{"address": "10.0.0.1"}"#));
        let state = read(&four).unwrap();
        assert_eq!((state.found.len(), state.bad.len()), (3, 1), "{state:?}");
        let sentence = &state.bad[0].sentence;
        assert!(sentence.contains("the first 3 of them"), "{sentence}");
    }

    /// What a memory makes of these states, one after the other: how many backends, or why not.
    fn believed(states: &[(&str, &[Value])]) -> Vec<Result<usize, String>> {
        let mut memory = Memory::default();
        let believe = |(revision, entries): &(&str, &[Value])| {
            let mut state = read_at(revision, entries).unwrap();
            memory.complete(&mut state);
            memory.believe(state).map(|found| found.len())
        };
        states.iter().map(believe).collect()
    }

    #[test]
    fn no_key_is_believed_if_somebody_has_deleted_them() {
        let one: &[Value] = &[entry("/lb/web/a", r#"{"address": "10.0.0.1"}"#)];
        assert_eq!(believed(&[("7", one), ("9", &[])]), [Ok(1), Ok(0)]);
        let never = believed(&[("9", &[]), ("9", &[]), ("10", one), ("11", &[])]);
        assert_eq!(
            never[..2],
            [Err("there is no key".to_owned()), never[0].clone()]
        );
        assert_eq!(never[2..], [Ok(1), Ok(0)]);
    }

    #[test]
    fn a_store_that_lost_its_data_is_believed_as_soon_as_it_has_a_key() {
        let one: &[Value] = &[entry("/lb/web/a", r#"{"address": "10.0.0.1"}"#)];
        // Other keys drive the revision beyond what it was.
        let said = believed(&[("7", one), ("1", &[]), ("9", &[]), ("3", one), ("4", &[])]);
        let lost = said[1].clone().unwrap_err();
        assert!(lost.contains("revision 1, after 7"), "{lost}");
        assert!(said[2].is_err());
        assert_eq!(said[3..], [Ok(1), Ok(0)]);
    }

    #[test]
    fn a_value_that_is_spoilt_leaves_what_it_said_before() {
        let good: &[Value] = &[entry("/lb/web/a", r#"{"address": "10.0.0.1"}"#)];
        let spoilt: &[Value] = &[entry("/lb/web/a", "{"), entry("/lb/web/b", "{")];
        assert_eq!(believed(&[("7", good), ("8", spoilt)]), [Ok(1), Ok(1)]);
    }

    fn state_of(body: &[u8]) -> Result<State, String> {
        state(body, "/", 3)
    }

    #[test]
    fn all_but_the_beginning_of_a_watch_is_news() {
        let rows = [
            (
                r#"{"result":{"header":{"revision":"9"},"created":true}}"#,
                false,
            ),
            (r#"{"result":{"events":[{"type":"DELETE"}]}}"#, true),
            (
                r#"{"result":{"canceled":true,"compact_revision":"8"}}"#,
                true,
            ),
            (r#"{"result":{"created":true,"canceled":true}}"#, true),
            (r#"{"error":{"message":"no leader"}}"#, true),
            ("garbage", true),
        ];
        for (message, expected) in rows {
            assert_eq!(is_news(message.as_bytes()), expected, "{message}");
        }
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(end_of("/lb/"), b"/lb0");
        assert_eq!(end_of(""), [0]);
    }
}
