//! Where a server is, as a URL.

use serde_json::json;
use toml::{Spanned, de::DeValue};

use super::{basic_string, host::is_host_name, refuse, text};
use crate::config::schema::{Refusal, Rule};

/// `http://HOST:PORT`, or `https://`.
pub(in crate::config) struct Endpoint;

impl Rule for Endpoint {
    type Value = String;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Refusal>> {
        let url = text(value, "a URL")?;
        let authority = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"))
            .map(|rest| rest.trim_end_matches('/'));
        let is_one = authority
            .and_then(|rest| rest.rsplit_once(':'))
            .is_some_and(|(host, port)| {
                let is_v6 = host
                    .strip_prefix('[')
                    .and_then(|rest| rest.strip_suffix(']'))
                    .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
                let is_v4 = host.parse::<std::net::Ipv4Addr>().is_ok();
                (is_v4 || is_v6 || is_host_name(host))
                    && port.parse::<u16>().is_ok_and(|port| port != 0)
            });
        if is_one {
            return Ok(url.to_owned());
        }
        refuse(
            value.get_ref(),
            "is not where a server is (write \"http://10.0.0.5:2379\")",
        )
    }

    fn allowed(&self) -> String {
        "URL such as `\"http://10.0.0.5:2379\"`".to_owned()
    }

    fn show(&self, value: &String) -> String {
        basic_string(value)
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": r"^https?://[^/]+:\d{1,5}/*$" })
    }
}
