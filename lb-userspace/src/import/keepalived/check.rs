//! How keepalived checks real servers: the first one's check is the service's.

use super::tree::Node;
use crate::import::draft::{Note, Service, quoted, seconds};

/// Blocks of checks.
pub(super) const CHECKS: &[&str] = &[
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "MISC_CHECK",
    "SMTP_CHECK",
    "DNS_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "BFD_CHECK",
    "FILE_CHECK",
];

/// Sets the health check of a service.
pub(super) fn check(node: &Node, service: &mut Service) {
    let reals: Vec<&Node> = node
        .children
        .iter()
        .filter(|child| child.word(0) == "real_server")
        .collect();
    let checks: Vec<&Node> = reals.iter().filter_map(|real| real.child(CHECKS)).collect();
    let Some(first) = checks.first() else {
        if !reals.is_empty() {
            service.check.push(("kind", "\"none\"".to_owned()));
        }
        return;
    };
    for real in &reals {
        let own = real.child(CHECKS);
        if own.map(|own| own.word(0)) != Some(first.word(0)) {
            let text = format!("{}: it is checked as the first one is", real.text());
            service.notes.push(Note::new(real.line, text));
        }
    }
    match first.word(0) {
        "TCP_CHECK" => service.check.push(("kind", "\"tcp\"".to_owned())),
        "HTTP_GET" => http("\"http\"", node, first, service),
        "SSL_GET" => {
            http("\"https\"", node, first, service);
            // keepalived takes any certificate.
            service.check.push(("insecure", "true".to_owned()));
            let text = "SSL_GET: any certificate is taken, as there; ca_file and sni verify it";
            service.notes.push(Note::new(first.line, text));
        }
        "MISC_CHECK" => script(&checks, first, service),
        // A server of names answers by TCP as well.
        other if is_udp(node) && other != "DNS_CHECK" => {
            let text = format!(
                "{other}: has no equivalent, and its servers are taken for up; kind = \"script\" \
                 runs a program that asks them"
            );
            service.notes.push(Note::new(first.line, text));
            service.check.push(("kind", "\"none\"".to_owned()));
        }
        other => {
            let text = format!("{other}: a connect by TCP takes its place");
            service.notes.push(Note::new(first.line, text));
            service.check.push(("kind", "\"tcp\"".to_owned()));
        }
    }
    rhythm(node, first, service);
}

fn is_udp(node: &Node) -> bool {
    let protocol = node.value(&["protocol"]).unwrap_or_default();
    protocol.eq_ignore_ascii_case("UDP")
}

fn rhythm(node: &Node, check: &Node, service: &mut Service) {
    let number = |node: &Node, names: &[&str]| node.value(names)?.parse::<f64>().ok();
    let inherited = |names: &[&str]| number(check, names).or_else(|| number(node, names));
    if let Some(time) = number(check, &["delay_loop"]).or_else(|| number(node, &["delay_loop"])) {
        service
            .check
            .push(("interval_seconds", seconds(time, 0.1, 3600.0)));
    }
    if let Some(time) = inherited(&["connect_timeout", "misc_timeout"]) {
        service
            .check
            .push(("timeout_seconds", seconds(time, 0.001, 3600.0)));
    }
    // One success is enough there, and `retry` counts what comes after the first failure.
    service.check.push(("rise", "1".to_owned()));
    if let Some(retries) = inherited(&["retry", "nb_get_retry"]) {
        service.check.push((
            "fall",
            (retries as u32).saturating_add(1).clamp(1, 100).to_string(),
        ));
    }
    let port = check
        .value(&["connect_port"])
        .and_then(|text| text.parse::<u16>().ok());
    if let Some(port) = port.filter(|port| *port > 0) {
        service.check.push(("port", port.to_string()));
    }
    for child in &check.children {
        let is_known = [
            "connect_timeout",
            "misc_timeout",
            "retry",
            "nb_get_retry",
            "connect_port",
            "url",
            "misc_path",
            "delay_loop",
            "virtualhost",
        ];
        if !is_known.contains(&child.word(0)) {
            let text = format!("{}: has no equivalent", child.text());
            service.notes.push(Note::new(child.line, text));
        }
    }
}

fn http(kind: &str, node: &Node, check: &Node, service: &mut Service) {
    service.check.push(("kind", kind.to_owned()));
    let urls: Vec<&Node> = check
        .children
        .iter()
        .filter(|one| one.word(0) == "url")
        .collect();
    for more in urls.iter().skip(1) {
        let text = "a service's check asks for one path; this one is left out";
        service.notes.push(Note::new(more.line, text));
    }
    let url = urls.first().copied();
    let path = url.and_then(|url| url.value(&["path"])).unwrap_or("/");
    let is_path = path.starts_with('/')
        && path.len() <= 2048
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_path {
        service.check.push(("path", quoted(path)));
    } else {
        let text = format!("the check's path {path} has to be filled in");
        service.notes.push(Note::new(check.line, text));
    }
    let host = [url, Some(check), Some(node)].into_iter().flatten();
    let host = host.filter_map(|node| node.value(&["virtualhost"])).next();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if let Some(host) = host
        && (1..=260).contains(&host.len())
        && host.bytes().all(is_plain)
    {
        service.check.push(("host", quoted(host)));
    }
    for child in url.map(|url| &*url.children).unwrap_or_default() {
        match child.word(0) {
            "path" | "virtualhost" => {}
            "status_code" => {
                let codes = child.words.get(1..).unwrap_or_default().join(",");
                if is_codes(&codes) {
                    service.check.push(("expect_status", quoted(&codes)));
                } else {
                    let text = format!("{}: has to be filled in", child.text());
                    service.notes.push(Note::new(child.line, text));
                }
            }
            _ => {
                let text = format!("{}: has no equivalent", child.text());
                service.notes.push(Note::new(child.line, text));
            }
        }
    }
}

fn is_codes(text: &str) -> bool {
    let code = |text: &str| {
        let number = text.parse::<u16>().ok().filter(|_| text.len() == 3);
        number.filter(|code| (100..600).contains(code))
    };
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => matches!((code(first), code(last)), (Some(a), Some(b)) if a <= b),
        None => code(part).is_some(),
    })
}

fn script(checks: &[&Node], first: &Node, service: &mut Service) {
    let path = first.value(&["misc_path"]).unwrap_or_default();
    let words: Vec<String> = path.split_whitespace().map(quoted).collect();
    if !path.starts_with('/') {
        let text = "misc_path has to be filled in, as command = [\"/the/script\"]";
        service.notes.push(Note::new(first.line, text));
        service.check.push(("kind", "\"tcp\"".to_owned()));
        return;
    }
    service.check.push(("kind", "\"script\"".to_owned()));
    service
        .check
        .push(("command", format!("[{}]", words.join(", "))));
    if checks
        .iter()
        .any(|check| check.value(&["misc_path"]) != Some(path))
    {
        let text = "the scripts of the servers differ, or their arguments do: this one finds \
                    LB_ADDRESS and LB_PORT in its environment";
        service.notes.push(Note::new(first.line, text));
    }
}
