//! The question, as the query of a URL.

use std::fmt::Write as _;

use super::{ClientFilter, State};

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
        let pairs: Vec<String> = pairs
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", escape(&value?))))
            .collect();
        pairs.join("&")
    }

    /// From the query of a URL.
    ///
    /// # Errors
    /// With a sentence about what is wrong in it.
    pub fn decode(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescape(value)
                .ok_or_else(|| format!("the value of {name:?} is not written as URLs are"))?;
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

/// RFC 3986, section 2.1: all but unreserved characters.
fn escape(value: &str) -> String {
    let mut escaped = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            // `from_str_radix` takes a sign.
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
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
