//! Texts: words, names, addresses, paths.

use std::{
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde_json::json;
use toml::{Spanned, de::DeValue};

use super::{basic_string, refuse, text};
use crate::config::{
    schema::{Refusal, Rule},
    suggest::nearest,
};

/// One of several words.
pub(in crate::config) struct Choice<T: 'static> {
    /// The words and what they mean.
    pub(in crate::config) words: &'static [(&'static str, T)],
    /// Words that a later version will know.
    pub(in crate::config) later: &'static [&'static str],
}

impl<T> Choice<T> {
    fn list(&self) -> String {
        let words: Vec<String> = self
            .words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        words.join(", ")
    }
}

impl<T: Copy + PartialEq + Debug> Rule for Choice<T> {
    type Value = T;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<T, Vec<Refusal>> {
        let found = value.get_ref().as_str();
        if let Some((_, meaning)) = self.words.iter().find(|(word, _)| found == Some(*word)) {
            return Ok(*meaning);
        }
        let why = match found {
            None => "is not a text".to_owned(),
            Some(found) if self.later.contains(&found) => "is not in this version yet".to_owned(),
            Some(found) => {
                let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
                match nearest(found, &words) {
                    Some(near) => format!("is unknown, did you mean \"{near}\"?"),
                    None => "is unknown".to_owned(),
                }
            }
        };
        refuse(value.get_ref(), format!("{why} (allowed: {})", self.list()))
    }

    fn allowed(&self) -> String {
        self.words
            .iter()
            .map(|(word, _)| format!("`\"{word}\"`"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn show(&self, value: &T) -> String {
        let word = self
            .words
            .iter()
            .find(|(_, meaning)| meaning == value)
            .map(|(word, _)| *word);
        format!("\"{}\"", word.unwrap_or("?"))
    }

    fn schema(&self) -> serde_json::Value {
        let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        json!({ "enum": words })
    }
}

/// The name of a service or backend.
pub(in crate::config) struct Name;

impl Rule for Name {
    type Value = String;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Refusal>> {
        let name = text(value, "a name")?;
        let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.chars().count() > 64 || name.contains(odd) {
            return refuse(
                value.get_ref(),
                "is not a name (allowed: 1 to 64 characters, no spaces and no \"/\")",
            );
        }
        Ok(name.to_owned())
    }

    fn allowed(&self) -> String {
        "text, 1 to 64 characters, no spaces and no `/`".to_owned()
    }

    fn show(&self, value: &String) -> String {
        basic_string(value)
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[^/\s]+$" })
    }
}

/// Any text that fits a line.
pub(in crate::config) struct Plain;

impl Rule for Plain {
    type Value = String;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Refusal>> {
        let plain = text(value, "a text")?;
        if plain.chars().count() > 256 || plain.contains(char::is_control) {
            return refuse(
                value.get_ref(),
                "is too long or has control characters (allowed: up to 256 others)",
            );
        }
        Ok(plain.to_owned())
    }

    fn allowed(&self) -> String {
        "text, up to 256 characters".to_owned()
    }

    fn show(&self, value: &String) -> String {
        format!("{value:?}")
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "maxLength": 256 })
    }
}

/// An IP address.
pub(in crate::config) struct Address;

impl Rule for Address {
    type Value = IpAddr;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<IpAddr, Vec<Refusal>> {
        let address = text(value, "an IP address")?;
        match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => refuse(
                value.get_ref(),
                format!(
                    "is an IPv4 address in IPv6 clothes (write \"{}\")",
                    v6.to_canonical()
                ),
            ),
            Ok(parsed) => Ok(parsed),
            Err(_) => refuse(
                value.get_ref(),
                format!("is not an IP address{}", advice(address)),
            ),
        }
    }

    fn allowed(&self) -> String {
        "IPv4 or IPv6 address".to_owned()
    }

    fn show(&self, value: &IpAddr) -> String {
        format!("\"{value}\"")
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] })
    }
}

/// How what is not an address might become one.
fn advice(text: &str) -> String {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let bare = text.trim_matches(|c: char| c == '[' || c == ']' || c.is_whitespace());
    let has_leading_zero = text
        .split('.')
        .any(|part| part.len() > 1 && part.starts_with('0'));
    let before = |separator: char| text.split_once(separator).map(|(before, _)| before);
    if is_address(bare) {
        format!(" (write \"{bare}\")")
    } else if let Ok(endpoint) = text.parse::<SocketAddr>() {
        format!(" (write \"{}\", and the port as port)", endpoint.ip())
    } else if let Some(address) = before('/').filter(|before| is_address(before)) {
        format!(" (write \"{address}\", without a prefix)")
    } else if before('%').is_some_and(is_address) {
        " (an address with a zone is for one interface of one host)".to_owned()
    } else if text.bytes().all(|byte| b"0123456789.".contains(&byte)) && has_leading_zero {
        " (a number with a leading zero is octal to some)".to_owned()
    } else if text == "*" {
        " (name one address)".to_owned()
    } else if text.bytes().any(|byte| byte.is_ascii_alphabetic()) && !text.contains(':') {
        " (a name is not looked up)".to_owned()
    } else {
        String::new()
    }
}

/// An IP address of this host and a port.
pub(in crate::config) struct ListenAddress;

impl Rule for ListenAddress {
    type Value = SocketAddr;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<SocketAddr, Vec<Refusal>> {
        let address = text(value, "an address and a port")?;
        match address.parse::<SocketAddr>() {
            Ok(parsed) if parsed.port() == 0 => {
                refuse(value.get_ref(), "has port 0 (allowed: 1 to 65535)")
            }
            Ok(parsed) if parsed.ip().is_multicast() => {
                refuse(value.get_ref(), "is a multicast address")
            }
            Ok(parsed) => Ok(parsed),
            Err(_) => refuse(
                value.get_ref(),
                "is not an IP address and a port (write \"127.0.0.1:9900\" or \"[::1]:9900\")",
            ),
        }
    }

    fn allowed(&self) -> String {
        "IPv4 or IPv6 address and port, as in `\"127.0.0.1:9900\"`, `\"[::1]:9900\"`".to_owned()
    }

    fn show(&self, value: &SocketAddr) -> String {
        format!("\"{value}\"")
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": r"^(\d{1,3}(\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]):\d{1,5}$" })
    }
}

/// A path from the root of the file system.
pub(in crate::config) struct AbsolutePath;

impl Rule for AbsolutePath {
    type Value = PathBuf;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<PathBuf, Vec<Refusal>> {
        let path = text(value, "a path")?;
        if !path.starts_with('/') || path.contains('\0') {
            return refuse(
                value.get_ref(),
                "is not an absolute path (it must begin with \"/\")",
            );
        }
        Ok(PathBuf::from(path))
    }

    fn allowed(&self) -> String {
        "absolute path".to_owned()
    }

    fn show(&self, value: &PathBuf) -> String {
        basic_string(&value.display().to_string())
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": "^/" })
    }
}

/// The path of a URL, with its query.
pub(in crate::config) struct UrlPath;

impl Rule for UrlPath {
    type Value = String;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Refusal>> {
        let path = text(value, "a path")?;
        let fits = path.starts_with('/') && path.len() <= 2048;
        if !fits || !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains('#') {
            return refuse(
                value.get_ref(),
                "is not the path of a URL (it must begin with \"/\"; no spaces, no \"#\", \
                 other than ASCII as %XX)",
            );
        }
        Ok(path.to_owned())
    }

    fn allowed(&self) -> String {
        "path of a URL, with or without a query".to_owned()
    }

    fn show(&self, value: &String) -> String {
        basic_string(value)
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "maxLength": 2048, "pattern": r#"^/[!"$-~]*$"# })
    }
}
