//! What `lb status --json` says: the shapes, in the order of their keys.
//!
//! Keys are a contract; new ones go to the end of their object.

use std::{collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, MapAccess, Visitor},
    ser::{SerializeMap as _, Serializer},
};

/// Everything a running agent tells about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of `lb`.
    pub version: String,
    /// The process.
    pub agent: Agent,
    /// Where steering is attached.
    pub interfaces: Vec<Interface>,
    /// In the order of the config.
    pub services: Vec<Service>,
    /// Packets by verdict, all of them, zeros included.
    pub verdicts: Counts,
    /// How full the flow tables are.
    #[serde(default)]
    pub flow_tables: Vec<FlowTable>,
    /// What happened beside verdicts, zeros included.
    #[serde(default)]
    pub events: Counts,
    /// Only where the config has `[app_host]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_host: Option<AppHost>,
    /// Only where the config has `[mysql]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mysql: Option<Mysql>,
    /// Only where the config has `[cluster]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// Addresses of services with `announce`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub announced: Vec<Vip>,
}

/// Other balancers of the same services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cluster {
    /// Where this one listens.
    pub listen: String,
    /// Whether the others have told of all their connections, as far as they are there, or were
    /// waited for long enough; until then this balancer is not ready and announces nothing.
    pub caught_up: bool,
    /// In the order of the config.
    pub peers: Vec<ClusterPeer>,
    /// What became of flows that peers told of, zeros included.
    pub flows: Counts,
    /// Datagrams that were not taken, by the reason, zeros included.
    pub refused: Counts,
    /// Flows that the data path told of faster than the agent read; they are told later.
    pub overwritten: u64,
    /// Datagrams that could not be sent.
    pub unsent: u64,
    /// Addresses of services that this host and a peer have on an interface at the same time.
    pub shared_addresses: Vec<String>,
}

/// Another balancer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterPeer {
    /// Where it listens.
    pub address: String,
    /// Whether there is a session with it.
    pub up: bool,
    /// Whether it has told of all its connections since that began.
    pub has_told: bool,
    /// Since it was heard of.
    pub heard_seconds: Option<f64>,
    /// How often a session with it began.
    pub sessions: u64,
    /// Flows that it was told of; each is told of more than once.
    pub flows_sent: u64,
    /// Flows that it told of.
    pub flows_received: u64,
    /// All that went to it, in UDP.
    pub bytes_sent: u64,
    /// All that came from it, in UDP.
    pub bytes_received: u64,
}

/// The MySQL proxy; also what `lb mysql status --json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mysql {
    /// In the order of the config.
    pub servers: Vec<MysqlServer>,
    /// Clients that are there.
    pub sessions: u64,
    /// Of users that may have so many at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<MysqlUser>,
    /// Statements by where they went.
    pub statements: MysqlStatements,
    /// Statements by the reason for which they went there.
    pub reasons: BTreeMap<String, u64>,
    /// Why nobody takes writes, if so.
    pub no_primary: Option<String>,
    /// Rises with each change of the primary.
    pub epoch: u64,
    /// What `intercept` does, where it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intercept: Option<MysqlIntercept>,
    /// Statements by target and reason: `"replica/read"`.
    pub by_target: BTreeMap<String, u64>,
    /// How long statements took, by where they went.
    pub durations: BTreeMap<String, MysqlDurations>,
    /// What went wrong, by kind, zeros included.
    pub errors: BTreeMap<String, u64>,
}

/// Connections of this host's programs to the servers that are taken into the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MysqlIntercept {
    /// Whose connections.
    pub cgroup: String,
    /// The servers.
    pub servers: Vec<String>,
    /// Taken.
    pub intercepted: u64,
    /// Not taken, as the agent made them.
    pub own: u64,
    /// Not taken, as they were made in another network namespace.
    pub other_namespace: u64,
    /// Not taken, as they were made by IPv4 sockets and the proxy listens on IPv6 only.
    pub no_listener: u64,
}

/// A database server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MysqlServer {
    /// Of the config.
    pub name: String,
    /// Of the config.
    pub address: String,
    /// `primary`, `replica` or `unknown`.
    pub role: String,
    /// `up`, `down` or `checking`.
    pub health: String,
    /// How far behind it is, if it is a replica and that is known.
    pub lag_seconds: Option<f64>,
    /// Whether it refuses writes, when it was seen last.
    pub read_only: Option<bool>,
    /// Whether it gets statements: writes as the primary, reads as a replica.
    pub in_rotation: bool,
    /// Connections that the proxy has to it.
    pub connections: u64,
    /// Of how many at a time, if there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// Clients that wait for one, where there is a limit.
    #[serde(default)]
    pub waiting: u64,
    /// Statements that it got.
    pub statements: u64,
    /// Seconds that they took together, with what they waited in the proxy.
    #[serde(default)]
    pub seconds: f64,
    /// Transactions that it has.
    pub gtid: String,
    /// Its version.
    pub version: Option<String>,
    /// Why it is not up.
    pub trouble: Option<String>,
    /// Why it gets no reads.
    pub no_reads: Option<String>,
}

/// A user with a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MysqlUser {
    /// Its name.
    pub name: String,
    /// Clients that it has.
    pub sessions: u64,
    /// That it may have at a time.
    pub max_connections: u64,
}

/// Statements by where they went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MysqlStatements {
    /// To the primary.
    pub primary: u64,
    /// To replicas.
    pub replica: u64,
}

/// How long statements took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MysqlDurations {
    /// Upper bounds in seconds, and how many took no longer.
    pub buckets: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// Seconds, all together.
    pub seconds: f64,
}

/// A backend's own host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppHost {
    /// In the order of the config.
    pub interfaces: Vec<AppHostInterface>,
    /// In the order of the config.
    pub vips: Vec<Vip>,
    /// Packets by verdict of the decapsulation program, all of them, zeros included.
    pub verdicts: Counts,
}

/// An interface that packets for VIPs come in by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppHostInterface {
    /// Its name.
    pub name: String,
    /// `native` or `generic`; nothing where no program is attached.
    pub xdp_mode: Option<String>,
    /// The kernel's id of the decapsulation program.
    pub program_id: Option<u32>,
}

/// An address of services whose backend this host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vip {
    /// The address.
    pub address: String,
    /// Whether it is on `lo` now.
    pub on_lo: bool,
}

/// The running process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    /// Its id.
    pub pid: u32,
    /// Since it started.
    pub uptime_seconds: f64,
    /// As named to `lb run`.
    pub config_file: String,
    /// 1 at start, one more with every reload.
    pub config_generation: u64,
    /// Version of the tables it shares with the kernel program.
    pub abi: u32,
}

/// An interface where steering is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub xdp_mode: String,
    /// The kernel's id of the program.
    pub program_id: u32,
}

/// A service and its backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The VIP.
    pub address: String,
    /// The port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// As in the config.
    pub scheduler: String,
    /// As in the config.
    pub forwarding: String,
    /// New flows since the tables were made.
    pub connections: u64,
    /// Flows now that are open: TCP from the end of the handshake on.
    pub active_flows: u64,
    /// Packets steered to backends.
    pub packets: u64,
    /// Their lengths, by the IP header.
    pub bytes: u64,
    /// Who may use it, if the config says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<ServiceFirewall>,
    /// In the order of the config.
    pub backends: Vec<Backend>,
}

/// A service's own lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceFirewall {
    /// Prefixes that may not use it.
    pub deny: u64,
    /// Prefixes that may.
    pub allow: u64,
    /// Whether only those may.
    pub allowed_only: bool,
    /// Packets that were kept out, with `dry_run` those that would have been.
    pub denied: u64,
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// The port there.
    pub port: u16,
    /// Its share of new connections.
    pub weight: u16,
    /// `ready`, `drain` or `maint`.
    pub state: String,
    /// `active` or `backup`.
    pub role: String,
    /// `up`, `down` or `checking`.
    pub health: String,
    /// Whether new connections go to it now.
    pub in_rotation: bool,
    /// New flows since the tables were made.
    pub connections: u64,
    /// Flows now that are open: TCP from the end of the handshake on.
    pub active_flows: u64,
    /// Packets steered to it.
    pub packets: u64,
    /// Their lengths, by the IP header.
    pub bytes: u64,
    /// What the last check said.
    pub last_check: String,
    /// Since its health changed.
    pub since_seconds: f64,
    /// Where its packets go next, nothing while that is unknown.
    #[serde(default)]
    pub next_hop: Option<String>,
    /// Packets from it to clients, where they pass here.
    #[serde(default)]
    pub reply_packets: u64,
    /// Their lengths, by the IP header.
    #[serde(default)]
    pub reply_bytes: u64,
    /// How long its last check took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_seconds: Option<f64>,
    /// When the certificate that its health check saw ends, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<u64>,
    /// How far its replication was behind at its last check, where that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_lag_seconds: Option<f64>,
    /// What became of clients' handshakes with it; only where they count (`passive = true`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<Handshakes>,
}

/// What became of clients' handshakes with a backend, since the tables were made or `passive` was
/// switched on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Handshakes {
    /// Completed.
    pub accepted: u64,
    /// Refused by the backend, where its replies pass the balancer.
    pub refused: u64,
    /// Asked for again by the client, because nothing came back.
    pub unanswered: u64,
}

/// How full a flow table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowTable {
    /// `established` or `half_open`.
    pub name: String,
    /// Flows in it that have not expired; closed ones stay for a moment.
    pub entries: u64,
    /// Flows it is made for.
    pub capacity: u64,
    /// Expired flows that the agent took out since it started. Those whose place a new flow took
    /// before are not among them.
    #[serde(default)]
    pub expired: u64,
}

/// Numbers by label, in an order that means something: a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub Vec<(String, u64)>);

impl Counts {
    /// The number of a label.
    #[must_use]
    pub fn get(&self, label: &str) -> Option<u64> {
        self.0
            .iter()
            .find(|(own, _)| own == label)
            .map(|(_, count)| *count)
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(label, count)| (&**label, *count))
    }

    /// The labels with something to tell.
    pub fn non_zero(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(label, count)| (&**label, *count))
    }
}

impl<Label: Into<String>> FromIterator<(Label, u64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (Label, u64)>>(counts: I) -> Self {
        Self(
            counts
                .into_iter()
                .map(|(label, count)| (label.into(), count))
                .collect(),
        )
    }
}

impl JsonSchema for Counts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Counts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Numbers by label.",
            "additionalProperties": { "type": "integer", "format": "uint64", "minimum": 0 }
        })
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (label, count) in &self.0 {
            map.serialize_entry(label, count)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
                let mut counts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    counts.push(entry);
                }
                Ok(Counts(counts))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The contract's example.
    const CONTRACT: &str = r#"{"version": "0.1.0",
 "agent": {"pid": 4711, "uptime_seconds": 3.2, "config_file": "lb.toml", "config_generation": 1, "abi": 1},
 "interfaces": [{"name": "eth0", "xdp_mode": "native", "program_id": 12}],
 "services": [{"name": "web", "address": "203.0.113.10", "port": 80, "protocol": "tcp",
   "scheduler": "round-robin", "forwarding": "nat",
   "connections": 12, "active_flows": 3, "packets": 240, "bytes": 18000,
   "backends": [{"name": "web1", "address": "10.0.0.11", "port": 8080, "weight": 1,
     "state": "ready", "role": "active", "health": "up", "in_rotation": true,
     "connections": 4, "active_flows": 1, "packets": 80, "bytes": 6000,
     "last_check": "HTTP 200 in 1.2 ms", "since_seconds": 3.0}]}],
 "verdicts": {"steered": 240, "pass_not_ours": 12, "drop_no_backend": 0}}"#;

    /// What it says.
    pub(crate) fn example() -> Status {
        serde_json::from_str(CONTRACT).unwrap()
    }

    /// Without the spaces outside of texts.
    fn compact(json: &str) -> String {
        let mut in_text = false;
        json.chars()
            .filter(|c| {
                in_text ^= *c == '"';
                in_text || !c.is_whitespace()
            })
            .collect()
    }

    #[test]
    fn the_contract_s_keys_come_back_in_its_order_with_ours_at_the_end() {
        let written = serde_json::to_string(&example()).unwrap();
        let ours_in_backend = r#","next_hop":null,"reply_packets":0,"reply_bytes":0"#;
        let ours_at_the_end = r#","flow_tables":[],"events":{}"#;
        assert_eq!(written.matches(ours_in_backend).count(), 1);
        assert_eq!(written.matches(ours_at_the_end).count(), 1);
        let contract = written
            .replace(ours_in_backend, "")
            .replace(ours_at_the_end, "");
        assert_eq!(contract, compact(CONTRACT));
    }

    #[test]
    fn counts_keep_their_order() {
        let counts: Counts = serde_json::from_str(r#"{"b": 1, "a": 0, "c": 7}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&counts).unwrap(),
            r#"{"b":1,"a":0,"c":7}"#
        );
        assert_eq!(counts.get("c"), Some(7));
        assert_eq!(counts.get("d"), None);
        assert_eq!(counts.non_zero().collect::<Vec<_>>(), [("b", 1), ("c", 7)]);
        assert!(serde_json::from_str::<Counts>("[1]").is_err());
    }
}
