//! Lines that begin with `server`.

use super::{
    Proxy,
    address::split,
    lines::{Line, time},
};
use crate::import::draft::{Backend, Note, Service, reachable, seconds};

/// Options that take a word, and those that take none, and mean nothing here.
const WITH_WORD: &[&str] = &[
    "inter",
    "fastinter",
    "downinter",
    "rise",
    "fall",
    "port",
    "addr",
    "weight",
    "slowstart",
    "on-marked-down",
    "on-error",
    "error-limit",
    "observe",
    "maxconn",
    "minconn",
    "maxqueue",
    "cookie",
    "id",
    "source",
    "track",
    "sni",
    "check-sni",
    "ca-file",
    "crt",
    "verify",
    "verifyhost",
    "ciphers",
    "alpn",
    "check-alpn",
    "proto",
    "check-proto",
    "agent-port",
    "agent-inter",
    "agent-addr",
    "agent-send",
    "resolvers",
    "resolve-prefer",
    "resolve-net",
    "resolve-opts",
    "init-addr",
    "pool-max-conn",
    "pool-purge-delay",
    "tcp-ut",
    "namespace",
    "redir",
    "crl-file",
    "ciphersuites",
    "ssl-min-ver",
    "ssl-max-ver",
    "shard",
    "ws",
    "log-proto",
    "socks4",
    "set-proxy-v2-tlv-fmt",
];

/// Options that are read, and need no comment.
const READ: &[&str] = &[
    "inter",
    "rise",
    "fall",
    "port",
    "weight",
    "slowstart",
    "check",
    "backup",
    "disabled",
    "id",
    "on-marked-down",
    "on-error",
    "error-limit",
    "observe",
    "no-check",
    "enabled",
    "check-ssl",
    "check-sni",
    "verify",
    "verifyhost",
    "ca-file",
    "agent-check",
    "agent-port",
    "agent-inter",
    "agent-addr",
    "agent-send",
];

/// Options of a server: what a word stands for. Those of `default-server` lines come first.
#[derive(Debug)]
pub(super) struct Options<'p>(Vec<(&'p str, &'p str)>);

impl<'p> Options<'p> {
    /// Of a server's line.
    pub(super) fn of(proxy: &'p Proxy, line: &'p Line) -> Self {
        let defaults = proxy
            .all(&["default-server"])
            .flat_map(|line| pairs(line, 1));
        Self(defaults.chain(pairs(line, 3)).collect())
    }

    /// What the last one of that name says.
    pub(super) fn get(&self, name: &str) -> Option<&'p str> {
        let found = self.0.iter().rev().find(|(own, _)| *own == name);
        found.map(|(_, value)| *value)
    }

    /// Whether it is on.
    pub(super) fn has(&self, name: &str, off: &str) -> bool {
        let last = self
            .0
            .iter()
            .rev()
            .find(|(own, _)| *own == name || *own == off);
        last.is_some_and(|(own, _)| *own == name)
    }
}

fn pairs(line: &Line, skip: usize) -> Vec<(&str, &str)> {
    let mut words = line.words.iter().skip(skip).map(String::as_str);
    let mut pairs = Vec::new();
    while let Some(name) = words.next() {
        let value = if WITH_WORD.contains(&name) {
            words.next().unwrap_or("")
        } else {
            ""
        };
        pairs.push((name, value));
    }
    pairs
}

/// The servers of a proxy, with their options.
pub(super) fn lines(proxy: &Proxy) -> impl Iterator<Item = (&Line, Options<'_>)> {
    let lines = proxy.all(&["server"]);
    lines.map(|line| (line, Options::of(proxy, line)))
}

/// Adds the servers of a proxy to a service.
pub(super) fn servers(proxy: &Proxy, service: &mut Service) {
    let mut slow_start: Option<f64> = None;
    let mut resets = false;
    for (line, options) in lines(proxy) {
        let mut backend = Backend {
            name: line.word(1).to_owned(),
            ..Backend::default()
        };
        let mut note = |text: String| backend.notes.push(Note::new(line.number, text));
        let place = line.word(2);
        match split(place) {
            Some((Some(address), port)) => {
                backend.address = Some(address);
                let offset = port.starts_with(['+', '-']);
                backend.port = match (port.parse::<i32>(), service.port) {
                    (Ok(by), Some(own)) if offset => u16::try_from(i32::from(own) + by).ok(),
                    (Ok(port), _) => u16::try_from(port).ok(),
                    (Err(_), own) => own,
                };
            }
            Some((None, _)) | None => {
                let text = format!("server {place}: fill in its address; a name is not looked up");
                note(text);
                let port = place
                    .rsplit_once(':')
                    .and_then(|(_, port)| port.parse().ok());
                backend.port = port;
            }
        }
        backend.port = backend.port.filter(|port| *port > 0);
        if let Some(Err(why)) = backend.address.map(reachable) {
            backend.address = None;
            note(format!("server {place} {why}"));
        }
        let v6 = |address: std::net::IpAddr| address.is_ipv6();
        if let (Some(vip), Some(own)) = (service.address, backend.address)
            && v6(vip) != v6(own)
        {
            backend.address = None;
            note(format!(
                "{own} is not of the service's family: fill in one that is"
            ));
        }
        if let Some(weight) = options.get("weight") {
            backend.weight = weight.parse().ok().filter(|weight| *weight <= 256);
        }
        if options.has("disabled", "enabled") {
            backend.weight = Some(0);
            note(
                "disabled: it has weight 0; lb backend set … --state maint does it at run time"
                    .to_owned(),
            );
        }
        backend.is_backup = options.has("backup", "");
        if options.get("on-marked-down") == Some("shutdown-sessions") {
            resets = true;
        }
        if let Some(time) = options.get("slowstart").and_then(time) {
            slow_start = Some(slow_start.map_or(time, |known| known.max(time)));
        }
        for (name, value) in pairs(line, 3) {
            if !READ.contains(&name) {
                let text = format!("server {}: {name} {value}", line.word(1));
                note(format!("{}: has no equivalent", text.trim_end()));
            }
        }
        service.backends.push(backend);
    }
    for line in proxy.all(&["default-server"]) {
        for (name, value) in pairs(line, 1) {
            if !READ.contains(&name) {
                let text = format!("default-server: {name} {value}");
                let text = format!("{}: has no equivalent", text.trim_end());
                service.notes.push(Note::new(line.number, text));
            }
        }
    }
    if let Some(time) = slow_start {
        service
            .keys
            .push(("slow_start_seconds", seconds(time, 0.0, 3600.0)));
    }
    if resets {
        service
            .keys
            .push(("on_backend_down", "\"reset\"".to_owned()));
    }
}
