//! Names of hosts.

use serde_json::json;
use toml::{Spanned, de::DeValue};

use super::{basic_string, refuse, text};
use crate::config::schema::{Refusal, Rule};

/// A name as DNS and certificates have it.
pub(in crate::config) struct HostName;

impl Rule for HostName {
    type Value = String;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Refusal>> {
        let name = text(value, "the name of a host")?;
        if is_host_name(name) {
            return Ok(name.to_owned());
        }
        refuse(
            value.get_ref(),
            "is not the name of a host (write \"www.example.org\")",
        )
    }

    fn allowed(&self) -> String {
        "name of a host: `\"www.example.org\"`".to_owned()
    }

    fn show(&self, value: &String) -> String {
        basic_string(value)
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[A-Za-z0-9_.-]+$" })
    }
}

/// What a `Host` header says.
pub(in crate::config) struct HostHeader;

impl Rule for HostHeader {
    type Value = String;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Refusal>> {
        let header = text(value, "the name of a host")?;
        let fits = (1..=260).contains(&header.len());
        if fits
            && header
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
        {
            return Ok(header.to_owned());
        }
        refuse(
            value.get_ref(),
            "is not the name of a host (write \"www.example.org\" or \"www.example.org:8080\")",
        )
    }

    fn allowed(&self) -> String {
        "name of a host, with or without a port: `\"www.example.org\"`".to_owned()
    }

    fn show(&self, value: &String) -> String {
        basic_string(value)
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 260, "pattern": r"^[A-Za-z0-9_.:\[\]-]+$" })
    }
}

/// A name, not an address: its last label begins with a letter or is made of more than digits.
pub(super) fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let odd = |byte: u8| !byte.is_ascii_alphanumeric() && byte != b'-' && byte != b'_';
        (1..=63).contains(&label.len())
            && !label.bytes().any(odd)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(is_label)
        && last.bytes().any(|byte| !byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_those_that_certificates_have() {
        for name in [
            "localhost",
            "www.example.org",
            "a_b.xn--bcher-kva.example",
            "1.example",
        ] {
            assert!(is_host_name(name), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "",
            ".",
            "example.org.",
            "10.0.0.1",
            "a b",
            "a/b",
            "a:80",
            "-a.b",
            "a-.b",
            "a..b",
            "[::1]",
            "é.example",
            &long,
        ] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
