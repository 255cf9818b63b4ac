//! A config in the making, and how it is written.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

/// What stands for what their file does not say. No key takes it.
const FILL_IN: &str = "\"FILL-IN\"";

/// Something about a line of their file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Their line, from 1.
    pub line: usize,
    /// What has no equivalent, or what to do.
    pub text: String,
}

impl Note {
    pub(super) fn new(line: usize, text: impl AsRef<str>) -> Self {
        let text = one_line(text.as_ref());
        Self { line, text }
    }
}

/// Without what would end a comment.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// A config.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) notes: Vec<Note>,
    pub(super) services: Vec<Service>,
}

/// A service. What is `None` is left to the default.
#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    pub(super) name: String,
    /// `None` has to be filled in.
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    /// Keys and their values in TOML.
    pub(super) keys: Vec<(&'static str, String)>,
    /// The same of its health check.
    pub(super) check: Vec<(&'static str, String)>,
    pub(super) backends: Vec<Backend>,
    pub(super) notes: Vec<Note>,
}

/// A backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) weight: Option<u16>,
    pub(super) is_backup: bool,
    pub(super) notes: Vec<Note>,
}

impl Draft {
    /// All notes, by line, each once.
    pub(super) fn notes(&self) -> Vec<Note> {
        let services = self.services.iter();
        let mut all: Vec<Note> = services
            .flat_map(|service| {
                let backends = service.backends.iter().flat_map(|backend| &backend.notes);
                service.notes.iter().chain(backends)
            })
            .chain(&self.notes)
            .cloned()
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// The config file.
    pub(super) fn write(&self, command: &str) -> String {
        let mut text = format!(
            "# Made by `{command}`. A comment that begins with \"line\" tells of\n# something that \
             has no equivalent, or has to be looked at, and its line there.\n"
        );
        comments(&mut text, &self.notes);
        text.push_str(
            "\n[agent]\n# Fill in the interfaces that packets of clients come in by and, for nat, \
             those of backends.\ninterfaces = [\"eth0\"]\n",
        );
        let mut names = Names::default();
        for service in &self.services {
            service.write(&names.take(&service.name), &mut text);
        }
        text
    }
}

impl Service {
    fn write(&self, name: &str, text: &mut String) {
        text.push_str("\n[[service]]\n");
        comments(text, &self.notes);
        key(text, "name", &quoted(name));
        address(text, self.address, "the address that clients connect to");
        match self.port {
            Some(port) => key(text, "port", &port.to_string()),
            None => {
                key(text, "port", FILL_IN);
                text.push_str("# ^ fill in the port that clients connect to\n");
            }
        }
        keys(text, &self.keys);
        if !self.check.is_empty() {
            text.push_str("\n[service.health_check]\n");
            keys(text, &self.check);
        }
        let mut names = Names::default();
        for backend in &self.backends {
            text.push_str("\n[[service.backend]]\n");
            comments(text, &backend.notes);
            key(text, "name", &quoted(&names.take(&backend.name)));
            address(text, backend.address, "the address of this server");
            if let Some(port) = backend.port.filter(|port| Some(*port) != self.port) {
                key(text, "port", &port.to_string());
            }
            if let Some(weight) = backend.weight.filter(|weight| *weight != 1) {
                key(text, "weight", &weight.to_string());
            }
            if backend.is_backup {
                key(text, "role", "\"backup\"");
            }
        }
    }
}

// Writing to a String cannot fail, here and below.
fn key(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name} = {value}");
}

/// Keys, and of those that are there twice the last, as theirs have it.
fn keys(text: &mut String, keys: &[(&'static str, String)]) {
    for (index, (name, value)) in keys.iter().enumerate() {
        if !keys[index + 1..].iter().any(|(later, _)| later == name) {
            key(text, name, value);
        }
    }
}

fn comments(text: &mut String, notes: &[Note]) {
    for Note { line, text: said } in notes {
        let _ = writeln!(text, "# line {line}: {said}");
    }
}

fn address(text: &mut String, address: Option<IpAddr>, what: &str) {
    match address {
        Some(address) => key(text, "address", &format!("\"{address}\"")),
        None => {
            key(text, "address", FILL_IN);
            let _ = writeln!(text, "# ^ fill in {what}");
        }
    }
}

/// The address of one host that others can reach, or why it is none.
pub(super) fn reachable(address: IpAddr) -> Result<IpAddr, &'static str> {
    let (is_mapped, is_local) = match address {
        IpAddr::V4(v4) => (false, v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.to_ipv4_mapped().is_some(), v6.is_unicast_link_local()),
    };
    if address.is_loopback() {
        Err("is a loopback address: fill in one that packets can be sent to")
    } else if address.is_unspecified() || address.is_multicast() || is_mapped || is_local {
        Err("is not the address of one host: fill it in")
    } else {
        Ok(address)
    }
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut written = String::from("\"");
    for c in one_line(text).chars() {
        if matches!(c, '"' | '\\') {
            written.push('\\');
        }
        written.push(c);
    }
    written.push('"');
    written
}

/// Seconds, within what our keys take.
pub(super) fn seconds(seconds: f64, least: f64, most: f64) -> String {
    let rounded = (seconds * 1000.0).round() / 1000.0;
    rounded.clamp(least, most).to_string()
}

/// Names that ours may be, each once.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn take(&mut self, wanted: &str) -> String {
        let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        let plain: String = wanted
            .chars()
            .map(|c| if odd(c) { '-' } else { c })
            .take(56)
            .collect();
        let plain = if plain.is_empty() {
            "unnamed".to_owned()
        } else {
            plain
        };
        let mut name = plain.clone();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{plain}-{number}");
            number += 1;
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_and_once() {
        let mut names = Names::default();
        let taken = ["web", "web", "a b/c", "", &"x".repeat(80)].map(|name| names.take(name));
        assert_eq!(taken[..4], ["web", "web-2", "a-b-c", "unnamed"]);
        assert_eq!(taken[4].len(), 56);
    }

    #[test]
    fn nothing_gets_out_of_its_comment_or_text() {
        assert_eq!(Note::new(1, "a\nb = 1").text, "a b = 1");
        assert_eq!(quoted("a\"\\\n"), "\"a\\\"\\\\ \"");
        assert_eq!(seconds(0.0004, 0.1, 60.0), "0.1");
        assert_eq!(seconds(2.0, 0.1, 60.0), "2");
    }
}
