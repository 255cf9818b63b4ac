//! The lease of `[mysql.failover] automatic = true`, in etcd.
//!
//! Two keys below the prefix: `leader`, which goes with etcd's lease, and `primary`, the record,
//! which stays. The record is only changed in a transaction that compares the leader.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lb_mysql::proxy::{Later, Lease};
use serde_json::{Value, json};

use crate::{
    config::model::{EtcdServers, mysql::Automatic},
    discovery::etcd::{self, Way},
};

/// More than asked for, so that one request does for several steps.
const MORE: Duration = Duration::from_secs(10);

/// A lease in etcd.
#[derive(Debug)]
pub(super) struct EtcdLease {
    servers: EtcdServers,
    leader: String,
    primary: String,
    /// Who holds it, for people: the host and the process.
    name: String,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// etcd's number of the lease, and until when it is certainly ours.
    held: Option<(String, Instant)>,
    /// The revision of the record that was read last; 0 for none.
    recorded: String,
}

impl EtcdLease {
    pub(super) fn new(config: &Automatic) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        Self {
            servers: config.servers.clone(),
            leader: format!("{}leader", config.prefix),
            primary: format!("{}primary", config.prefix),
            name: format!("{host}/{}", std::process::id()),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done in there.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one endpoint after the other until one answers.
    async fn ask(&self, path: &str, asked: &Value) -> Result<Value, String> {
        let mut last = "there is no endpoint".to_owned();
        for way in Way::to_all(&self.servers) {
            match etcd::ask(way, path, asked).await {
                Ok(answer) => return Ok(answer),
                Err(sentence) => last = sentence,
            }
        }
        Err(last)
    }

    /// Prolongs the lease that is there; false if etcd does not know it any more.
    async fn prolong(&self, id: &str, least: Duration) -> Result<bool, String> {
        let asked = Instant::now();
        let answer = self
            .ask("/v3/lease/keepalive", &json!({ "ID": id }))
            .await?;
        let seconds = number(&answer["result"]["TTL"]).unwrap_or_default();
        let until = asked + Duration::from_secs(seconds);
        let is_ours = seconds > 0 && until >= Instant::now() + least;
        self.state().held = is_ours.then(|| (id.to_owned(), until));
        Ok(is_ours)
    }

    async fn take(&self, least: Duration) -> Result<(), String> {
        let asked = Instant::now();
        let seconds = (least + MORE).as_secs() + 1;
        let wanted = json!({ "TTL": seconds.to_string() });
        let granted = self.ask("/v3/lease/grant", &wanted).await?;
        let id = granted["ID"].as_str().ok_or("etcd grants no lease")?;
        let given = number(&granted["TTL"]).unwrap_or_default();
        let key = STANDARD.encode(&self.leader);
        let put = json!({
            "compare": [{ "key": key, "target": "CREATE", "result": "EQUAL",
                "create_revision": "0" }],
            "success": [{ "request_put": { "key": key, "lease": id,
                "value": STANDARD.encode(&self.name) } }],
            "failure": [{ "request_range": { "key": key } }],
        });
        // Where there is no answer it may have been taken all the same, and ends by itself.
        let taken = self.ask("/v3/kv/txn", &put).await?;
        if taken["succeeded"] != json!(true) {
            let holder = &taken["responses"][0]["response_range"]["kvs"][0]["value"];
            let holder = text(holder).unwrap_or_else(|| "another".to_owned());
            // It ends by itself otherwise.
            let _ = self.ask("/v3/lease/revoke", &json!({ "ID": id })).await;
            return Err(format!("the proxy {holder} is about to do the same"));
        }
        let until = asked + Duration::from_secs(given);
        if until < Instant::now() + least {
            return Err("etcd grants leases that are too short, or answers too late".to_owned());
        }
        self.state().held = Some((id.to_owned(), until));
        Ok(())
    }
}

impl Lease for EtcdLease {
    fn hold(&self, least: Duration) -> Later<'_, ()> {
        Box::pin(async move {
            let held = self.state().held.clone();
            if let Some((id, until)) = held {
                if until >= Instant::now() + least {
                    return Ok(());
                }
                if self.prolong(&id, least).await? {
                    return Ok(());
                }
                return Err("the lease in etcd was lost".to_owned());
            }
            self.take(least).await
        })
    }

    fn give_back(&self) -> Later<'_, ()> {
        Box::pin(async move {
            let held = self.state().held.take();
            if let Some((id, _)) = held {
                self.ask("/v3/lease/revoke", &json!({ "ID": id })).await?;
            }
            Ok(())
        })
    }

    fn recorded(&self) -> Later<'_, Option<String>> {
        Box::pin(async move {
            let key = STANDARD.encode(&self.primary);
            // Not from a member that is behind: etcd's reads are linearizable unless asked otherwise.
            let answer = self.ask("/v3/kv/range", &json!({ "key": key })).await?;
            let entry = &answer["kvs"][0];
            let revision = entry["mod_revision"].as_str().unwrap_or("0").to_owned();
            self.state().recorded = revision;
            Ok(text(&entry["value"]))
        })
    }

    fn record(&self, address: String) -> Later<'_, ()> {
        Box::pin(async move {
            let (leader, primary) = (
                STANDARD.encode(&self.leader),
                STANDARD.encode(&self.primary),
            );
            let (id, recorded) = {
                let state = self.state();
                let held = state.held.as_ref().map(|(id, _)| id.clone());
                (held.ok_or("the lease is not held")?, state.recorded.clone())
            };
            let answer = self
                .ask(
                    "/v3/kv/txn",
                    &json!({
                        "compare": [
                            { "key": leader, "target": "LEASE", "result": "EQUAL", "lease": id },
                            { "key": primary, "target": "MOD", "result": "EQUAL",
                                "mod_revision": recorded },
                        ],
                        "success": [{ "request_put": { "key": primary,
                            "value": STANDARD.encode(&address) } }],
                    }),
                )
                .await?;
            if answer["succeeded"] != json!(true) {
                return Err("the lease in etcd was lost, or the record changed".to_owned());
            }
            let revision = answer["header"]["revision"].as_str().unwrap_or("0");
            self.state().recorded = revision.to_owned();
            Ok(())
        })
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_str().and_then(|text| text.parse().ok())
}

fn text(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()
}
