//! The question, as the query of a URL.

use super::{ClientFilter, State};
use crate::query_string;

/// Which flows, and what of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only those of this service.
    pub service: Option<String>,
    /// Only those of this backend: its name, or `SERVICE/BACKEND`.
    pub backend: Option<String>,
    /// Only those of these clients.
    pub client: Option<ClientFilter>,
    /// Only those in this state.
    pub state: Option<State>,
    /// At most so many; the total counts all the same.
    pub limit: Option<u64>,
    /// Only how many there are.
    pub count: bool,
}

impl Query {
    /// As the query of a URL, without the question mark.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self {
            service,
            backend,
            client,
            state,
            limit,
            count,
        } = self;
        let pairs = [
            ("service", service.clone()),
            ("backend", backend.clone()),
            ("client", client.map(|client| client.to_string())),
            ("state", state.map(|state| state.to_string())),
            ("limit", limit.map(|limit| limit.to_string())),
            ("count", count.then(|| "true".to_owned())),
        ];
        query_string::encode(pairs)
    }

    /// From the query of a URL.
    ///
    /// # Errors
    /// With a sentence about what is wrong in it.
    pub fn decode(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in query_string::decode(text) {
            let (name, value) = pair?;
            match name {
                "service" => query.service = Some(value),
                "backend" => query.backend = Some(value),
                "client" => query.client = Some(value.parse()?),
                "state" => query.state = Some(value.parse()?),
                "limit" => {
                    let limit = value.parse();
                    let limit = limit.map_err(|_| format!("limit: {value:?} is no number"))?;
                    query.limit = Some(limit);
                }
                "count" => {
                    let count = value.parse();
                    query.count =
                        count.map_err(|_| format!("count: {value:?} is neither true nor false"))?;
                }
                _ => {
                    return Err(format!(
                        "{name:?} is nothing that flows can be asked for (allowed: service, \
                         backend, client, state, limit, count)"
                    ));
                }
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_the_way_to_the_agent() {
        let all = Query {
            service: Some("web & more=50%+ä".to_owned()),
            backend: Some("web/web1".to_owned()),
            client: Some("[2001:db8::1]:40000".parse().unwrap()),
            state: Some(State::HalfOpen),
            limit: Some(7),
            count: true,
        };
        for query in [Query::default(), all] {
            let text = query.encode();
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
            assert_eq!(Query::decode(&text), Ok(query));
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_a_sentence() {
        for (text, word) in [
            ("colour=red", "allowed: service"),
            ("state=open", "established, half-open, closed"),
            ("limit=-1", "is no number"),
            ("count=1", "neither true nor false"),
            ("client=web", "10.1.0.0/16"),
            ("service=%", "as URLs are"),
            ("service=%+1", "as URLs are"),
            ("service=%ff", "as URLs are"),
        ] {
            let sentence = Query::decode(text).unwrap_err();
            assert!(sentence.contains(word), "{text}: {sentence}");
        }
    }
}
