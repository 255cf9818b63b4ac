//! Checks of HAProxy that ask no web server: logins, programs, agents, and what TLS they use.

use super::{Proxy, lines::Line, server::Options};
use crate::import::draft::{Note, Service, quoted};

/// `option mysql-check [user NAME [post-41 | pre-41]]`
pub(super) fn mysql(option: &Line, service: &mut Service) {
    let user = match (option.word(2), option.word(3)) {
        ("user", name) if is_plain(name) => name,
        _ => {
            let text = format!(
                "{}: without a user HAProxy only reads the greeting; a connect takes its place, \
                 and kind = \"mysql\" with a user logs in",
                option.text()
            );
            return service.notes.push(Note::new(option.number, text));
        }
    };
    service.check.push(("kind", "\"mysql\"".to_owned()));
    service.check.push(("user", quoted(user)));
    let text = format!(
        "{}: HAProxy leaves in the middle of the login; this check ends it, over TLS where the \
         server has it, and asks for read_only. As with HAProxy {user} has no password; \
         password_file gives it one, require and max_lag_seconds look at its role",
        option.text()
    );
    service.notes.push(Note::new(option.number, text));
}

/// `option external-check`, `external-check command PROGRAM`
pub(super) fn program(proxy: &Proxy, option: &Line, service: &mut Service) {
    let command = proxy.last(&["external-check", "command"]);
    let program = command.map_or("", |line| line.word(2));
    if !program.starts_with('/') {
        let text = "external-check: a connect takes its place until its program is filled in, as \
                    kind = \"script\" and command = [\"/the/program\"]";
        let line = command.unwrap_or(option);
        return service.notes.push(Note::new(line.number, text));
    }
    service.check.push(("kind", "\"script\"".to_owned()));
    service
        .check
        .push(("command", format!("[{}]", quoted(program))));
    let text = "external-check: the program gets no arguments; it finds LB_SERVICE, LB_BACKEND, \
                LB_ADDRESS and LB_PORT in its environment";
    service
        .notes
        .push(Note::new(command.unwrap_or(option).number, text));
}

/// `agent-check agent-port PORT`, of the servers.
pub(super) fn agent(all: &[(&Line, Options<'_>)], service: &mut Service) {
    let port = |options: &Options<'_>| {
        let port = options.get("agent-port")?.parse::<u16>().ok()?;
        (options.has("agent-check", "no-agent-check") && port > 0).then_some(port)
    };
    let Some((first, own)) = all
        .iter()
        .find_map(|(line, options)| Some((*line, port(options)?)))
    else {
        return;
    };
    service.check.push(("agent_check_port", own.to_string()));
    for (line, options) in all {
        if port(options) != Some(own) {
            let text = format!(
                "server {}: it has an agent-check of port {own} as the others",
                line.word(1)
            );
            service.notes.push(Note::new(line.number, text));
        }
    }
    let asks_otherwise = all.iter().any(|(_, options)| {
        let names = ["agent-inter", "agent-addr", "agent-send"];
        names.iter().any(|name| options.get(name).is_some())
    });
    if asks_otherwise {
        let text = "agents are asked at the server's address, together with each check, and are \
                    sent nothing";
        service.notes.push(Note::new(first.number, text));
    }
}

/// What checks over TLS verify, for a kind of check that can.
pub(super) fn verification(line: &Line, options: &Options<'_>, service: &mut Service) {
    let name = ["check-sni", "verifyhost"]
        .iter()
        .find_map(|name| options.get(name));
    if let Some(name) = name.filter(|name| is_plain(name)) {
        service.check.push(("sni", quoted(name)));
    }
    let file = options.get("ca-file").unwrap_or_default();
    let is_verified = options.get("verify") != Some("none");
    if is_verified && file.starts_with('/') {
        service.check.push(("ca_file", quoted(file)));
        if name.is_none() {
            let text = "the certificate has to be for the server's address; sni names another one";
            service.notes.push(Note::new(line.number, text));
        }
    } else if !(is_verified && file == "@system-ca") {
        service.check.push(("insecure", "true".to_owned()));
        let text = "checks over TLS take any certificate; ca_file and sni verify it";
        service.notes.push(Note::new(line.number, text));
    }
}

/// `tcp-check` lines: only the port of a connect has an equivalent.
pub(super) fn dialogue(proxy: &Proxy, service: &mut Service) {
    for line in proxy.all(&["tcp-check"]) {
        let port = match (line.word(1), line.word(2), line.word(3)) {
            ("connect", "", _) => continue,
            ("connect", "port", port) if line.words.len() == 4 => port.parse::<u16>().ok(),
            _ => None,
        };
        match port.filter(|port| *port > 0) {
            Some(port) => service.check.push(("port", port.to_string())),
            None => {
                let text = format!("{}: has no equivalent, a connect is all", line.text());
                service.notes.push(Note::new(line.number, text));
            }
        }
    }
}

/// Whether a word can stand for a user or a host in our file.
fn is_plain(word: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=253).contains(&word.len()) && word.bytes().all(is_plain)
}
