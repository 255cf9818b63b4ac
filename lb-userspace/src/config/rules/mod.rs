//! What values keys take.

mod command;
mod endpoint;
mod forwarding;
mod host;
mod host_port;
mod list;
mod number;
mod server;
mod text;

use toml::{Spanned, de::DeValue};

pub(super) use self::{
    command::CommandLine,
    endpoint::Endpoint,
    forwarding::{PrefixOf, Prime, SegmentSize, ServerId, Switch, bare_prefix, parse_prefix},
    host::{HostHeader, HostName},
    host_port::PortOfHost,
    list::{Codes, InterfaceNames, List},
    number::{Seconds, Whole},
    server::ServerAddress,
    text::{AbsolutePath, Address, Choice, ListenAddress, Name, Plain, UrlPath},
};
use super::schema::Refusal;

fn refuse<T>(value: &DeValue<'_>, reason: impl Into<String>) -> Result<T, Vec<Refusal>> {
    Err(vec![Refusal::new(value, reason)])
}

fn text<'v>(value: &'v Spanned<DeValue<'_>>, what: &str) -> Result<&'v str, Vec<Refusal>> {
    match value.get_ref().as_str() {
        Some(text) => Ok(text),
        None => refuse(value.get_ref(), format!("is not {what} (a text in quotes)")),
    }
}

/// A text as TOML writes it.
pub(super) fn basic_string(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => written.extend(['\\', c]),
            c if c.is_control() => written.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => written.push(c),
        }
    }
    written.push('"');
    written
}
