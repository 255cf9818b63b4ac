//! How HAProxy checks servers.

use super::{
    Proxy, expect,
    lines::{Line, time},
    other_checks, server,
};
use crate::import::draft::{Note, Service, quoted, seconds};

/// `option` lines that are about checks, or need nothing here.
pub(super) const OPTIONS: &[&str] = &[
    "httpchk",
    "tcp-check",
    "external-check",
    "ssl-hello-chk",
    "mysql-check",
    "pgsql-check",
    "redis-check",
    "smtpchk",
    "ldap-check",
];

/// Sets the health check of a service.
pub(super) fn check(proxy: &Proxy, service: &mut Service) {
    let all: Vec<_> = server::lines(proxy).collect();
    other_checks::agent(&all, service);
    let is_checked = |options: &server::Options<'_>| options.has("check", "no-check");
    let Some((first, options)) = all.iter().find(|(_, options)| is_checked(options)) else {
        if !all.is_empty() {
            service.check.push(("kind", "\"none\"".to_owned()));
        }
        return;
    };
    for (line, options) in &all {
        if !is_checked(options) {
            let text = format!("server {}: it is checked as the others are", line.word(1));
            service.notes.push(Note::new(line.number, text));
        }
    }
    let over_tls = options.has("check-ssl", "no-check-ssl") || options.has("ssl", "no-ssl");
    let kind = OPTIONS
        .iter()
        .filter_map(|option| proxy.last(&["option", option]))
        .max_by_key(|line| line.number);
    match kind {
        Some(line) if line.word(1) == "httpchk" => {
            let kind = if over_tls { "\"https\"" } else { "\"http\"" };
            service.check.push(("kind", kind.to_owned()));
            http(proxy, line, service);
            if over_tls {
                other_checks::verification(first, options, service);
            }
        }
        Some(line) if line.word(1) == "mysql-check" => other_checks::mysql(line, service),
        Some(line) if line.word(1) == "external-check" => {
            other_checks::program(proxy, line, service);
        }
        Some(line) if line.word(1) == "tcp-check" => other_checks::dialogue(proxy, service),
        Some(line) => {
            let text = format!("{}: a connect takes its place", line.text());
            service.notes.push(Note::new(line.number, text));
        }
        None => {}
    }
    if over_tls && kind.is_none_or(|line| line.word(1) != "httpchk") {
        let text = "checks over TLS: a connect without TLS takes their place; for web servers kind \
                    = \"https\" looks at their certificates";
        service.notes.push(Note::new(first.number, text));
    }
    rhythm(proxy, &all, service);
    observed(&all, service);
}

/// `observe` and what belongs to it: connections count as checks.
fn observed(all: &[(&Line, server::Options<'_>)], service: &mut Service) {
    /// HAProxy's, where the file names none.
    const ERROR_LIMIT: u32 = 10;
    let Some((line, options, layer)) = all
        .iter()
        .find_map(|(line, options)| Some((line, options, options.get("observe")?)))
    else {
        return;
    };
    let mut note = |text: String| service.notes.push(Note::new(line.number, text));
    if layer != "layer4" {
        note(format!(
            "observe {layer}: has no equivalent; passive = true is that of connections"
        ));
        return;
    }
    let action = options.get("on-error").unwrap_or("fail-check");
    if action != "mark-down" {
        note(format!("on-error {action}: mark-down takes its place"));
    }
    let limit = options
        .get("error-limit")
        .and_then(|text| text.parse().ok());
    let limit: u32 = limit.unwrap_or(ERROR_LIMIT);
    service.check.push(("passive", "true".to_owned()));
    let fall = limit.clamp(1, 1000).to_string();
    service.check.push(("passive_fall", fall));
}

fn rhythm(proxy: &Proxy, all: &[(&Line, server::Options<'_>)], service: &mut Service) {
    let mut ports = Vec::new();
    let mut first: Option<[Option<&str>; 3]> = None;
    for (line, options) in all {
        let own = ["inter", "rise", "fall"].map(|name| options.get(name));
        match first {
            None => first = Some(own),
            Some(first) if first != own => {
                let text = format!(
                    "server {}: its inter, rise and fall are others; a service has one of each",
                    line.word(1)
                );
                service.notes.push(Note::new(line.number, text));
            }
            Some(_) => {}
        }
        ports.push(options.get("port"));
    }
    let [inter, rise, fall] = first.unwrap_or_default();
    if let Some(time) = inter.and_then(time) {
        service
            .check
            .push(("interval_seconds", seconds(time, 0.1, 3600.0)));
    }
    let limit = proxy
        .last(&["timeout", "check"])
        .or(proxy.last(&["timeout", "connect"]));
    if let Some(time) = limit.and_then(|line| time(line.word(2))) {
        service
            .check
            .push(("timeout_seconds", seconds(time, 0.001, 3600.0)));
    }
    for (name, value) in [("rise", rise), ("fall", fall)] {
        if let Some(count) = value.and_then(|text| text.parse::<u32>().ok()) {
            service.check.push((name, count.clamp(1, 100).to_string()));
        }
    }
    ports.dedup();
    match ports.as_slice() {
        [Some(port)] => {
            if let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) {
                service.check.push(("port", port.to_string()));
            }
        }
        [_] | [] => {}
        _ => {
            let line = all.first().map_or(proxy.line, |(line, _)| line.number);
            let text = "the checks' ports differ; a service has one";
            service.notes.push(Note::new(line, text));
        }
    }
}

/// `option httpchk [METHOD] [PATH] [VERSION]`, and the lines that say it anew.
fn http(proxy: &Proxy, option: &Line, service: &mut Service) {
    let mut notes = Vec::new();
    let (mut method, mut path, mut host) = match (option.word(2), option.word(3)) {
        ("", _) => ("OPTIONS", "/", None),
        (path, "") => ("OPTIONS", path, None),
        (method, path) => (method, path, None),
    };
    let version = option.words.get(4..).unwrap_or_default().join(" ");
    if let Some((_, name)) = version.split_once("Host:") {
        host = name.split_whitespace().next();
    }
    if let Some(send) = proxy.last(&["http-check", "send"]) {
        let mut words = send.words.iter().skip(2).map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "meth" => method = words.next().unwrap_or(method),
                "uri" => path = words.next().unwrap_or(path),
                "hdr" => match (words.next(), words.next()) {
                    (Some(name), value) if name.eq_ignore_ascii_case("host") => host = value,
                    (name, _) => {
                        let text = format!("the check's header {}", name.unwrap_or_default());
                        notes.push(Note::new(send.number, text + ": has no equivalent"));
                    }
                },
                "ver" => drop(words.next()),
                other => {
                    let text = format!("http-check send {other}: has no equivalent");
                    notes.push(Note::new(send.number, text));
                }
            }
        }
    }
    if method != "GET" {
        let text = format!("the check sends GET, and not {method}");
        notes.push(Note::new(option.number, text));
    }
    let is_path = path.starts_with('/')
        && path.len() <= 2048
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_path {
        service.check.push(("path", quoted(path)));
    } else {
        let text = format!("the check's path {path} has to be filled in");
        notes.push(Note::new(option.number, text));
    }
    if let Some(host) = host {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if (1..=260).contains(&host.len()) && host.bytes().all(is_plain) {
            service.check.push(("host", quoted(host)));
        }
    }
    let expects = proxy.all(&["http-check", "expect"]);
    for line in expects {
        match expect::codes(line) {
            Some(codes) => service.check.push(("expect_status", quoted(&codes))),
            None => {
                let text = format!("{}: has no equivalent", line.text());
                notes.push(Note::new(line.number, text));
            }
        }
    }
    for line in proxy.all(&["http-check"]) {
        if !matches!(line.word(1), "send" | "expect") {
            let text = format!("{}: has no equivalent", line.text());
            notes.push(Note::new(line.number, text));
        }
    }
    service.notes.extend(notes);
}
