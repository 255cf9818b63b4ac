//! What can be asked of the firewall of a running agent, and what it answers.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{self, model::Prefix};

/// What to do with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "FirewallAct")]
pub enum Act {
    /// Drop its packets.
    Deny,
    /// Let them through, whatever a shorter prefix or the config says.
    Allow,
    /// Go back to what the config says of it.
    Clear,
    /// The same for all that was set at run time.
    ClearAll,
    /// Take over the `[firewall]` of the config file, and go back to the present one unless that is
    /// confirmed within `seconds`.
    Apply,
    /// Keep what was applied.
    Confirm,
}

/// What is wanted of the firewall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FirewallWish")]
pub struct Wish {
    /// What to do.
    pub act: Act,
    /// `deny`, `allow`, `clear`: a prefix or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `deny`, `allow`, `clear`, `clear-all`: of this service alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `deny`, `allow`: for how long; for ever without. `apply`: how long to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// Also if connections to this host end by it.
    #[serde(default)]
    pub force: bool,
    /// Whoever sits behind the request and must not be cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<IpAddr>,
}

impl Wish {
    /// Nothing but an act.
    #[must_use]
    pub fn new(act: Act) -> Self {
        Self {
            act,
            prefix: None,
            service: None,
            seconds: None,
            force: false,
            caller: None,
        }
    }

    /// The prefix it is about, where it is about one.
    ///
    /// # Errors
    /// With a sentence, when it should name one and does not.
    pub fn parsed_prefix(&self) -> Result<Option<Prefix>, String> {
        if self.service.is_some() && matches!(self.act, Act::Apply | Act::Confirm) {
            return Err("this takes no service".to_owned());
        }
        match (self.act, &self.prefix) {
            (Act::Deny | Act::Allow | Act::Clear, Some(text)) => {
                config::parsed_prefix(text).map(Some)
            }
            (Act::Deny | Act::Allow | Act::Clear, None) => Err(
                "there is no prefix: {\"act\": \"deny\", \"prefix\": \"198.51.100.0/24\"}"
                    .to_owned(),
            ),
            (Act::ClearAll | Act::Apply | Act::Confirm, None) => Ok(None),
            (Act::ClearAll | Act::Apply | Act::Confirm, Some(_)) => {
                Err("this takes no prefix".to_owned())
            }
        }
    }
}

/// What became of a wish.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FirewallChanged")]
pub struct Changed {
    /// What holds now, a line each.
    pub lines: Vec<String>,
    /// What is probably not meant, or does not survive a restart.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Firewall")]
pub struct Document {
    /// Whether the program looks at sources at all.
    pub active: bool,
    /// Whether it only counts.
    pub dry_run: bool,
    /// Prefixes that are denied, from everywhere.
    pub denied: u64,
    /// Prefixes that are allowed, from everywhere.
    pub allowed: u64,
    /// Packets that were dropped (`drop_denied`).
    pub dropped: u64,
    /// Packets of sources that are denied for a while (`drop_offender`).
    #[serde(default)]
    pub dropped_of_offenders: u64,
    /// Packets that a dry run did not drop (`firewall_would_drop`).
    pub would_drop: u64,
    /// Seconds until what was applied is taken back unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits_confirmation: Option<u64>,
    /// What was set at run time, then what stands in the config itself; the lines of files are only
    /// counted.
    pub rules: Vec<Rule>,
    /// Files of the config.
    pub files: Vec<Listed>,
    /// Services with lists of their own (`[service.firewall]`).
    #[serde(default)]
    pub services: Vec<ServiceRules>,
    /// Sources that exceeded a limit and are denied for a while, the first 20,000 of them.
    #[serde(default)]
    pub offenders: Vec<Offender>,
}

/// A source that exceeded a limit of `[firewall.rate]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FirewallOffender")]
pub struct Offender {
    /// It.
    pub prefix: String,
    /// The key of the limit.
    pub exceeded: String,
    /// How long it is denied yet.
    pub seconds_left: u64,
}

/// A prefix of the firewall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FirewallRule")]
pub struct Rule {
    /// It.
    pub prefix: String,
    /// `deny` or `allow`.
    pub action: String,
    /// `run time` or `config`.
    pub origin: String,
    /// How long it holds yet, if not for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

/// A service's own lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FirewallService")]
pub struct ServiceRules {
    /// Its name.
    pub service: String,
    /// Whether only those that are allowed may use it.
    pub allowed_only: bool,
    /// What was set at run time, then what stands in the config itself.
    pub rules: Vec<Rule>,
    /// Files of the config.
    pub files: Vec<Listed>,
}

/// Files with prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FirewallFiles")]
pub struct Listed {
    /// `deny` or `allow`.
    pub action: String,
    /// Their names.
    pub files: Vec<String>,
    /// Prefixes in them.
    pub prefixes: u64,
}
