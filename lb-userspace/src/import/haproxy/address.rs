//! Addresses, and where a proxy listens.

use std::net::IpAddr;

use super::{Proxy, lines::Line};
use crate::import::draft::{Note, reachable};

/// Where a proxy listens.
#[derive(Debug, Default)]
pub(super) struct Bind {
    /// None stands for any.
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) notes: Vec<Note>,
}

/// All places where it listens.
pub(super) fn binds(proxy: &Proxy, notes: &mut Vec<Note>) -> Vec<Bind> {
    let mut binds = Vec::new();
    for line in proxy.all(&["bind"]) {
        for part in line.word(1).split(',') {
            let Some((address, port)) = split(part) else {
                let text = format!("bind {part}: has no equivalent");
                notes.push(Note::new(line.number, text));
                continue;
            };
            let mut bind = Bind {
                address,
                port: port.parse().ok().filter(|port| *port > 0),
                notes: Vec::new(),
            };
            options(line, &mut bind.notes);
            if let Some(Err(why)) = address.map(reachable) {
                bind.address = None;
                let text = format!("bind {part} {why}");
                bind.notes.push(Note::new(line.number, text));
            }
            if address.is_none() {
                let text = format!("bind {part} is any address: fill in the one of the service");
                bind.notes.push(Note::new(line.number, text));
            }
            if bind.port.is_none() {
                let text = format!("bind {part}: a service has one port; fill it in");
                bind.notes.push(Note::new(line.number, text));
            }
            binds.push(bind);
        }
    }
    binds
}

fn options(line: &Line, notes: &mut Vec<Note>) {
    let rest = line.words.get(2..).unwrap_or_default();
    if rest.iter().any(|word| word == "ssl") {
        let text = format!(
            "{}: TLS is not ended here: the servers need the certificate, and to be reached on a \
             port that speaks TLS",
            line.text()
        );
        notes.push(Note::new(line.number, text));
    } else if !rest.is_empty() {
        let text = format!("bind options {}: have no equivalent", rest.join(" "));
        notes.push(Note::new(line.number, text));
    }
}

/// Address and port; none as address is any. Nothing where it is a path or the like.
pub(super) fn split(text: &str) -> Option<(Option<IpAddr>, &str)> {
    let text = ["ipv4@", "ipv6@", "tcp4@", "tcp6@", "tcp@"]
        .iter()
        .find_map(|family| text.strip_prefix(family))
        .unwrap_or(text);
    if text.contains('@') || text.starts_with('/') {
        return None;
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            (address, rest.strip_prefix(':').unwrap_or(""))
        }
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    if matches!(address, "" | "*" | "::" | "0.0.0.0") {
        return Some((None, port));
    }
    Some((Some(address.parse().ok()?), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_in_many_ways() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (text, expected) in [
            ("10.0.0.1:80", Some((ip("10.0.0.1"), "80"))),
            ("ipv4@10.0.0.1:80", Some((ip("10.0.0.1"), "80"))),
            ("[2001:db8::1]:443", Some((ip("2001:db8::1"), "443"))),
            ("2001:db8::1:443", Some((ip("2001:db8::1"), "443"))),
            (":80", Some((None, "80"))),
            ("*:80", Some((None, "80"))),
            (":::80", Some((None, "80"))),
            ("10.0.0.1", Some((ip("10.0.0.1"), ""))),
            ("10.0.0.1:8000-8010", Some((ip("10.0.0.1"), "8000-8010"))),
            ("/run/x.sock", None),
            ("unix@/run/x.sock", None),
            ("abns@x", None),
            ("web1.example:80", None),
            ("[::1", None),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
