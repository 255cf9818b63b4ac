//! Which events: the query of the URL.

use std::time::Duration;

use crate::query_string;

/// Seconds to wait, at most.
const LONGEST_WAIT: u64 = 30;
/// Events on a page, at most and by default.
const MOST: usize = super::MOST;

/// Which events, and how long to wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Those with a larger number.
    pub since: u64,
    /// While there is none, the answer may come that much later, in whole seconds.
    pub wait: Duration,
    /// So many.
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            since: 0,
            wait: Duration::ZERO,
            limit: MOST,
        }
    }
}

impl Query {
    /// As in a URL.
    #[must_use]
    pub fn encode(&self) -> String {
        query_string::encode([
            ("since", Some(self.since.to_string())),
            ("wait", Some(self.wait.as_secs().to_string())),
            ("limit", Some(self.limit.to_string())),
        ])
    }

    /// From a URL.
    ///
    /// # Errors
    /// With a sentence.
    pub fn decode(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in query_string::decode(text) {
            let (name, value) = pair?;
            match name {
                "since" => query.since = number(name, &value, 0, u64::MAX)?,
                "wait" => {
                    query.wait = Duration::from_secs(number(name, &value, 0, LONGEST_WAIT)?);
                }
                "limit" => query.limit = number(name, &value, 1, MOST as u64)? as usize,
                _ => {
                    return Err(format!(
                        "unknown key {name:?} (allowed: since, wait, limit)"
                    ));
                }
            }
        }
        Ok(query)
    }
}

fn number(name: &str, value: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = value.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| match most {
            u64::MAX => format!("{name} {value:?} is not a whole number"),
            _ => format!("{name} {value:?} is not a whole number from {least} to {most}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_comes_back_as_it_was() {
        let query = Query {
            since: 7,
            wait: Duration::from_secs(20),
            limit: 50,
        };
        assert_eq!(Query::decode(&query.encode()), Ok(query));
        assert_eq!(Query::decode(""), Ok(Query::default()));
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        for (text, sentence) in [
            ("since=-1", "since \"-1\" is not a whole number"),
            ("wait=31", "wait \"31\" is not a whole number from 0 to 30"),
            (
                "limit=0",
                "limit \"0\" is not a whole number from 1 to 1000",
            ),
            ("x=1", "unknown key \"x\" (allowed: since, wait, limit)"),
        ] {
            assert_eq!(Query::decode(text).unwrap_err(), sentence);
        }
    }
}
