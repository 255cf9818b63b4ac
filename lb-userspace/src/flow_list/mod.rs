//! What `lb flows` asks and what it gets: the shapes that the agent and the command share.
//!
//! The answer is one JSON document with a flow on each line, so that neither side ever holds more
//! than a few of a million: see [`document`].

mod client_filter;
pub mod document;
mod query;

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{client_filter::ClientFilter, query::Query};

/// A flow that has not expired. New keys go to the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flow<'a> {
    /// `tcp` or `udp`.
    #[serde(borrow)]
    pub protocol: Cow<'a, str>,
    /// The client, as `address:port`; an IPv6 address in brackets.
    #[serde(borrow)]
    pub client: Cow<'a, str>,
    /// Name of the service; nothing if the config has it no more.
    pub service: Option<String>,
    /// The service, as `address:port`.
    #[serde(borrow)]
    pub service_address: Cow<'a, str>,
    /// Name of the backend; nothing if the config has it no more.
    pub backend: Option<String>,
    /// The backend, as `address:port`; nothing if there is none any more.
    pub backend_address: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// Until it is forgotten, unless a packet prolongs it. Steps of 0.27 s.
    pub expires_in_seconds: f64,
}

/// A document of flows as a whole; [`document`] makes and reads it in pieces.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Flows")]
pub(crate) struct Document {
    /// Missing where only their number was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[allow(dead_code, reason = "only its shape is of use")]
    flows: Option<Vec<Flow<'static>>>,
    /// How many there are, listed or not.
    #[allow(dead_code, reason = "as above")]
    total: u64,
}

/// Where a flow is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// TCP: the handshake was done; UDP: a second datagram or a reply was seen.
    Established,
    /// Only the beginning was seen.
    HalfOpen,
    /// Both sides said goodbye, or one reset it; it stays for late packets.
    Closed,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Established, Self::HalfOpen, Self::Closed];

    /// Its word, here and in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::HalfOpen => "half-open",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let state = Self::ALL.into_iter().find(|state| state.word() == word);
        state.ok_or_else(|| {
            let words = Self::ALL.map(Self::word).join(", ");
            format!("{word:?} is no state of a flow (allowed: {words})")
        })
    }
}
