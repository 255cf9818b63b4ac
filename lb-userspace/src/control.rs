//! What can be asked of a running agent that changes something, and what it answers.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The highest weight of a backend, as in the config.
pub const HIGHEST_WEIGHT: u16 = 256;

/// The administrative state of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It gets new connections while it is up.
    #[default]
    Ready,
    /// It gets no new connections, and keeps those it has.
    Drain,
    /// It gets no packets and is not checked; its live flows go the way of a backend that is down.
    Maint,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Drain, Self::Maint];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl State {
    /// The one of two that keeps more away.
    #[must_use]
    pub const fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Maint, _) | (_, Self::Maint) => Self::Maint,
            (Self::Drain, _) | (_, Self::Drain) => Self::Drain,
            (Self::Ready, Self::Ready) => Self::Ready,
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.word() == word)
            .ok_or_else(|| format!("{word:?} is no state (allowed: ready, drain, maint)"))
    }
}

/// Which backends: `SERVICE/BACKEND`, where `*` stands for any number of any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Of the service's name.
    pub service: String,
    /// Of the backend's name.
    pub backend: String,
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((service, backend))
                if !service.is_empty() && !backend.is_empty() && !backend.contains('/') =>
            {
                Ok(Self {
                    service: service.to_owned(),
                    backend: backend.to_owned(),
                })
            }
            _ => Err(format!(
                "{text:?} names no backend: SERVICE/BACKEND does, and * stands for any characters"
            )),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.backend)
    }
}

impl Pattern {
    /// Whether a backend is meant.
    #[must_use]
    pub fn matches(&self, service: &str, backend: &str) -> bool {
        is_like(&self.service, service) && is_like(&self.backend, backend)
    }
}

/// Whether a text is like a pattern with stars. Takes time in proportion to both lengths multiplied
/// at most, whatever the pattern.
fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut of) = (0, 0);
    // Where to go on after the last star: it takes one character more.
    let mut back: Option<(usize, usize)> = None;
    while at < text.len() {
        if pattern.get(of) == Some(&b'*') {
            back = Some((of + 1, at));
            of += 1;
        } else if pattern.get(of) == Some(&text[at]) {
            (at, of) = (at + 1, of + 1);
        } else if let Some((after_star, taken)) = back {
            back = Some((after_star, taken + 1));
            (at, of) = (taken + 1, after_star);
        } else {
            return false;
        }
    }
    pattern[of..].iter().all(|byte| *byte == b'*')
}

/// What to change about backends. What is not named stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// 0 to [`HIGHEST_WEIGHT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The administrative state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

impl Change {
    /// Whether it is one that can be made.
    ///
    /// # Errors
    /// With a sentence.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self {
                weight: None,
                state: None,
            } => Err("nothing is to be changed: name a weight, a state or both".to_owned()),
            Self {
                weight: Some(weight),
                ..
            } if *weight > HIGHEST_WEIGHT => Err(format!(
                "weight {weight} is too large (allowed: 0 to {HIGHEST_WEIGHT})"
            )),
            Self { .. } => Ok(()),
        }
    }
}

/// Something to do with backends at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Set weight, state or both.
    Set(Change),
    /// Go back to what the config says.
    Reset,
}

/// A backend after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Name of its service.
    pub service: String,
    /// Its own name.
    pub backend: String,
    /// Its weight now.
    pub weight: u16,
    /// Its administrative state now.
    pub state: State,
    /// Whether that is another weight or state than before.
    pub is_new: bool,
}

/// The backends after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// All that were meant, in the order of the config.
    pub backends: Vec<Changed>,
    /// Why the next start would not know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// How the config is to be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadWish {
    /// Also if its firewall cuts off whoever is named below.
    #[serde(default)]
    pub force: bool,
    /// Whoever is logged in to the host, or asks, and must not be cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<std::net::IpAddr>,
}

/// The agent after a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// Of the config, one more than before.
    pub config_generation: u64,
    /// What changed, a line each.
    pub changes: Vec<String>,
    /// What is allowed in the file and probably not meant.
    pub warnings: Vec<String>,
}

/// Another server is to be the primary of MySQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPrimary {
    /// Whether the primary is there.
    pub kind: PrimaryKind,
    /// Which server, by its name in the config.
    pub to: Option<String>,
    /// Only say whether it can be done.
    pub check: bool,
}

/// Whether the primary is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryKind {
    /// It hands over.
    Switchover,
    /// It is lost.
    Failover,
    /// It stays, and a former one that has come back becomes a replica.
    Rejoin,
}

/// A request for another primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrimaryWish {
    /// The server that is to be the primary, by its name in the config. A switch-over needs one; a
    /// failover takes the replica that has most. To rejoin: the server that is to be a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only say whether it can be done, and in which steps.
    #[serde(default)]
    pub check: bool,
}

/// What came of the wish for another primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrimaryChanged {
    /// How it ended.
    pub end: End,
    /// What was done, what failed and what was taken back, in order; or what would be done.
    pub steps: Vec<String>,
}

/// How a change of the primary ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It was only checked, and can be done.
    Checked,
    /// There is another primary; or another replica, where one was to rejoin.
    Done,
    /// It failed, and all is as it was.
    Undone,
    /// It failed, and the steps say what is left to be done by hand.
    Stuck,
}

/// Why something was not done. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is to blame.
    pub fault: Fault,
    /// Why, in a sentence.
    pub sentence: String,
    /// The problems of a config, a line each.
    pub problems: Vec<String>,
}

/// What is to blame for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for does not exist.
    NotFound,
    /// What was asked for is wrong, or the config is.
    Wrong,
    /// The system, or the moment.
    Failed,
}

impl Refusal {
    /// Without problems of a config.
    #[must_use]
    pub fn new(fault: Fault, sentence: impl Into<String>) -> Self {
        Self {
            fault,
            sentence: sentence.into(),
            problems: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_names_a_service_and_a_backend() {
        for text in ["", "web", "/", "web/", "/web1", "a/b/c"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
        let pattern: Pattern = "web*/*1".parse().unwrap();
        assert!(pattern.matches("web", "web1"));
        assert!(pattern.matches("website", "1"));
        assert!(!pattern.matches("we", "web1"));
        assert!(!pattern.matches("web", "web12"));
        assert_eq!(pattern.to_string(), "web*/*1");
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("**", "a", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbY", false),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*a*a*a*a*b", &"a".repeat(200), false),
        ] {
            assert_eq!(is_like(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_like_itself_with_any_part_starred(text in "[a-c*]{0,12}", from in 0usize..13, to in 0usize..13) {
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            let (from, to) = (from.min(to), from.max(to));
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(is_like(&pattern, &text));
            prop_assert!(is_like(&text, &text));
        }
    }

    #[test]
    fn a_change_changes_something_that_exists() {
        let change = |weight, state| Change { weight, state }.check();
        assert!(change(None, None).is_err());
        assert!(change(Some(257), None).is_err());
        assert_eq!(change(Some(256), None), Ok(()));
        assert_eq!(change(None, Some(State::Drain)), Ok(()));
    }
}
