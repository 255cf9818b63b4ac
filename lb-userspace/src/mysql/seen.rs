//! What is asked about sessions and statements, as documents.

use lb_mysql::{
    digest::{Counts, Report},
    proxy::{Proxy, SessionStatus},
    route::Reason,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an agent without a proxy says.
pub const NO_PROXY: &str = "the agent routes no MySQL sessions: its config has no [mysql]";

/// Clients' sessions; what `lb mysql sessions --json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sessions {
    /// In the order of their numbers.
    pub sessions: Vec<Session>,
}

/// A client's session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// What the client takes for its connection's number; what `lb mysql kill` takes.
    pub id: u32,
    /// Who has logged in; empty before that.
    pub user: String,
    /// Where the client is, `ADDRESS:PORT` or `unix socket`.
    pub client: String,
    /// The default schema.
    pub schema: Option<String>,
    /// `login`; `idle`: the client says nothing; `in_transaction`: the same, and one is open;
    /// `running` at a server; `waiting` for a server, a connection or a replica that is behind.
    pub state: String,
    /// For how long.
    pub state_seconds: f64,
    /// Since the client came.
    pub age_seconds: f64,
    /// The server where something runs, or that the session stays with.
    pub server: Option<String>,
    /// The server's number of the connection where something runs.
    pub server_connection: Option<u32>,
    /// Whether a transaction is open.
    pub in_transaction: bool,
    /// Why it stays with the primary beside transactions, as one of the reasons.
    pub pinned: Option<String>,
    /// Its last statement.
    pub last: Option<Decision>,
}

/// Where a statement went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// `primary`, `replica`, `both` or `proxy`.
    pub target: String,
    /// Why, as one of the reasons.
    pub reason: String,
}

/// A session that was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Killed {
    /// Its number.
    pub id: u32,
}

/// Statements by their kinds; what `lb mysql digests --json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Digests {
    /// Whether they are counted: not with `statement_digests = 0`.
    pub counted: bool,
    /// Those that took longest together come first.
    pub digests: Vec<Digest>,
    /// All whose kinds came too seldom to be kept.
    pub other: Totals,
}

/// A kind of statements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Digest {
    /// Its number, 16 hexadecimal digits.
    pub digest: String,
    /// Its text, with marks for values, cut at 1024 bytes.
    pub text: String,
    /// What became of them.
    #[serde(flatten)]
    pub totals: Totals,
}

/// What became of statements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// How many there were.
    pub count: u64,
    /// Of them to the primary.
    pub primary: u64,
    /// Of them to replicas.
    pub replica: u64,
    /// Why they went to the primary.
    pub primary_reasons: Vec<String>,
    /// Why they went to replicas.
    pub replica_reasons: Vec<String>,
    /// Answers that were errors.
    pub errors: u64,
    /// Seconds that they took together, with what they waited in the proxy.
    pub seconds: f64,
    /// Seconds that the longest took.
    pub longest_seconds: f64,
}

fn totals(counts: &Counts) -> Totals {
    let reasons = |is_replica| {
        let reasons = counts.reasons(is_replica);
        reasons.map(|reason| reason.label().to_owned()).collect()
    };
    Totals {
        count: counts.count(),
        primary: counts.targets[0],
        replica: counts.targets[1],
        primary_reasons: reasons(false),
        replica_reasons: reasons(true),
        errors: counts.errors,
        seconds: counts.total.as_secs_f64(),
        longest_seconds: counts.longest.as_secs_f64(),
    }
}

/// Statements by their kinds.
#[must_use]
pub fn digests(proxy: &Proxy) -> Digests {
    let report = proxy.digests();
    let counted = report.is_some();
    let Report { mut kinds, other } = report.unwrap_or_default();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.counts.total));
    let digests = kinds.into_iter().map(|kind| Digest {
        digest: format!("{:016x}", kind.number),
        text: String::from_utf8_lossy(&kind.text).into_owned(),
        totals: totals(&kind.counts),
    });
    Digests {
        counted,
        digests: digests.collect(),
        other: totals(&other),
    }
}

/// Clients' sessions.
#[must_use]
pub fn sessions(proxy: &Proxy) -> Sessions {
    Sessions {
        sessions: proxy.sessions().into_iter().map(session).collect(),
    }
}

fn session(one: SessionStatus) -> Session {
    Session {
        id: one.id,
        user: one.user,
        client: one.client,
        schema: one.schema,
        state: one.state.to_owned(),
        state_seconds: one.state_seconds,
        age_seconds: one.age_seconds,
        server: one.server,
        server_connection: one.server_connection,
        in_transaction: one.in_transaction,
        pinned: one.pinned.map(Reason::label).map(str::to_owned),
        last: one.last.map(|(target, reason)| Decision {
            target: target.label().to_owned(),
            reason: reason.label().to_owned(),
        }),
    }
}
