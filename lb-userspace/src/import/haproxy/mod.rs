//! From HAProxy's file.
//!
//! Each bind line of a frontend or listen section becomes a service with the servers of its default
//! backend. What looks at requests has no equivalent: connections are balanced whole.

mod address;
mod check;
mod expect;
mod lines;
mod other_checks;
mod server;

use std::collections::BTreeMap;

use self::{
    address::{Bind, binds},
    lines::{Line, Section, sections, time},
};
use super::draft::{Draft, Note, Service, seconds};

/// A frontend, backend or listen section, with what it has from its defaults.
#[derive(Clone, Debug)]
struct Proxy {
    kind: String,
    name: String,
    line: usize,
    /// Those of its defaults first, which it overrides.
    lines: Vec<Line>,
    /// How many of them are its defaults'.
    inherited: usize,
}

impl Proxy {
    /// The last line that begins with these words.
    fn last(&self, words: &[&str]) -> Option<&Line> {
        self.all(words).last()
    }

    /// Lines that begin with these words; `no …` takes those before it away.
    fn all(&self, words: &[&str]) -> impl Iterator<Item = &Line> {
        let begins = |line: &Line, skip: usize| {
            let own = line.words.iter().skip(skip).map(String::as_str);
            own.take(words.len()).eq(words.iter().copied())
        };
        let end_of_no = self
            .lines
            .iter()
            .rposition(|line| line.word(0) == "no" && begins(line, 1));
        let from = end_of_no.map_or(0, |at| at + 1);
        self.lines[from..]
            .iter()
            .filter(move |line| begins(line, 0))
    }

    /// Its own lines, without those of its defaults.
    fn own(&self) -> &[Line] {
        &self.lines[self.inherited..]
    }

    fn serves(&self) -> bool {
        matches!(self.kind.as_str(), "frontend" | "listen")
    }
}

/// A config from a file.
pub(super) fn draft(text: &str) -> Draft {
    let (stray, sections) = sections(text);
    let mut draft = Draft::default();
    for line in stray {
        let text = format!("{}: before any section, left out", line.text());
        draft.notes.push(Note::new(line.number, text));
    }
    let proxies = proxies(sections, &mut draft);
    let mut used = Vec::new();
    for proxy in proxies.iter().filter(|proxy| proxy.serves()) {
        serve(proxy, &proxies, &mut used, &mut draft);
    }
    for proxy in proxies.iter().filter(|proxy| proxy.kind == "backend") {
        if !used.contains(&proxy.name) {
            let text = format!(
                "backend {}: no default_backend leads there, so its servers are left out",
                proxy.name
            );
            draft.notes.push(Note::new(proxy.line, text));
        }
    }
    if proxies.iter().any(Proxy::serves) {
        let text = "HAProxy's servers answer HAProxy. With nat they need this host as their gateway; \
                    where that cannot be, forwarding = \"full-nat\" with source_addresses does \
                    without";
        let first = proxies
            .iter()
            .find(|proxy| proxy.serves())
            .map_or(1, |proxy| proxy.line);
        draft.notes.push(Note::new(first, text));
    }
    draft
}

/// The proxies, each with its defaults; the rest becomes notes.
fn proxies(sections: Vec<Section>, draft: &mut Draft) -> Vec<Proxy> {
    let mut defaults: Vec<Line> = Vec::new();
    let mut named: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    let mut proxies = Vec::new();
    for Section { head, lines } in sections {
        // `backend NAME from DEFAULTS`
        let parent = head.words.iter().skip_while(|word| *word != "from").nth(1);
        let base = parent
            .and_then(|name| named.get(name))
            .unwrap_or(&defaults)
            .clone();
        match head.word(0) {
            "defaults" => {
                draft.notes.extend(unknown(&lines, "defaults"));
                defaults = if parent.is_some() { base } else { Vec::new() };
                defaults.extend(lines);
                named.insert(head.word(1).to_owned(), defaults.clone());
            }
            kind @ ("frontend" | "backend" | "listen") => {
                let inherited = base.len();
                let mut all = base;
                // `listen NAME ADDRESS`, as it was once written.
                if kind != "backend" && !matches!(head.word(2), "" | "from") {
                    let bind = ["bind", head.word(2)].map(str::to_owned).to_vec();
                    let number = head.number;
                    all.push(Line {
                        number,
                        words: bind,
                    });
                }
                all.extend(lines);
                proxies.push(Proxy {
                    kind: kind.to_owned(),
                    name: head.word(1).to_owned(),
                    line: head.number,
                    lines: all,
                    inherited,
                });
            }
            _ => {
                let last = lines.last().map_or(head.number, |line| line.number);
                let text = format!("{}, up to line {last}: has no equivalent", head.text());
                draft.notes.push(Note::new(head.number, text));
            }
        }
    }
    proxies
}

/// Whether the services of a proxy come from lines that begin so.
fn is_known(line: &Line) -> bool {
    let second = line.word(1);
    match line.word(0) {
        "bind" | "server" | "balance" | "default_backend" | "default-server" | "mode"
        | "http-check" | "tcp-check" | "external-check" | "description" | "id" | "hash-type" => {
            true
        }
        "timeout" => matches!(second, "client" | "server" | "tunnel" | "check" | "connect"),
        "option" => check::OPTIONS.contains(&second),
        "stick" => second == "on" && line.word(2) == "src",
        "stick-table" => true,
        "no" => line.word(1) == "option",
        _ => false,
    }
}

fn unknown<'l>(lines: &'l [Line], place: &'l str) -> impl Iterator<Item = Note> + 'l {
    let unknown = lines.iter().filter(|line| !is_known(line));
    unknown.map(move |line| {
        let text = format!("{place}: {}: has no equivalent", line.text());
        Note::new(line.number, text)
    })
}

fn serve(proxy: &Proxy, proxies: &[Proxy], used: &mut Vec<String>, draft: &mut Draft) {
    let mut notes: Vec<Note> = unknown(proxy.own(), &proxy.name)
        .filter(|note| !note.text.contains(": use_backend "))
        .collect();
    for rule in proxy.all(&["use_backend"]) {
        let text = format!(
            "{}: has no equivalent: requests are not looked at",
            rule.text()
        );
        notes.push(Note::new(rule.number, text));
    }
    let back = match proxy.last(&["default_backend"]) {
        Some(line) => {
            let name = line.word(1);
            used.push(name.to_owned());
            let found = proxies
                .iter()
                .find(|one| one.kind == "backend" && one.name == name);
            if found.is_none() {
                let text = format!("there is no backend {name}: fill in its servers");
                notes.push(Note::new(line.number, text));
            }
            found
        }
        None if proxy.kind == "listen" => Some(proxy),
        None => {
            let text = format!("{} has no default_backend: fill in its servers", proxy.name);
            notes.push(Note::new(proxy.line, text));
            None
        }
    };
    let mut service = Service {
        name: proxy.name.clone(),
        ..Service::default()
    };
    if let Some(back) = back {
        if !std::ptr::eq(back, proxy) {
            notes.extend(unknown(back.own(), &back.name));
        }
        balance(back, &mut service, &mut notes);
        affinity(back, &mut service, &mut notes);
    }
    timeouts(proxy, back, &mut service);
    if proxy
        .last(&["mode"])
        .is_some_and(|mode| mode.word(1) == "http")
    {
        let text = "mode http: connections are balanced whole, requests are not looked at";
        let line = proxy.last(&["mode"]).map_or(proxy.line, |mode| mode.number);
        notes.push(Note::new(line, text));
    }
    let bound = binds(proxy, &mut notes);
    if bound.is_empty() {
        notes.push(Note::new(
            proxy.line,
            "no bind line: fill in address and port",
        ));
    }
    let count = bound.len();
    let places = if bound.is_empty() {
        vec![Bind::default()]
    } else {
        bound
    };
    for (index, bind) in places.into_iter().enumerate() {
        let mut own = service.clone();
        if count > 1 {
            let port = bind
                .port
                .map_or_else(|| index.to_string(), |port| port.to_string());
            own.name = format!("{}-{port}", proxy.name);
        }
        (own.address, own.port) = (bind.address, bind.port);
        own.notes.extend(bind.notes);
        if index == 0 {
            own.notes.extend(notes.iter().cloned());
        }
        if let Some(back) = back {
            server::servers(back, &mut own);
            check::check(back, &mut own);
        }
        own.notes.sort();
        own.notes.dedup();
        draft.services.push(own);
    }
}

fn balance(back: &Proxy, service: &mut Service, notes: &mut Vec<Note>) {
    let Some(line) = back.last(&["balance"]) else {
        return;
    };
    let scheduler = match line.word(1) {
        "roundrobin" | "static-rr" => return,
        "leastconn" => "\"least-connections\"",
        "source" => "\"source-hash\"",
        _ => {
            let text = format!(
                "{}: has no equivalent, round-robin takes its place",
                line.text()
            );
            return notes.push(Note::new(line.number, text));
        }
    };
    service.keys.push(("scheduler", scheduler.to_owned()));
}

fn affinity(back: &Proxy, service: &mut Service, notes: &mut Vec<Note>) {
    let Some(table) = back.last(&["stick-table"]) else {
        return;
    };
    let has_type = |kind: &str| {
        let mut pairs = table.words.windows(2);
        pairs.any(|pair| pair[0] == "type" && pair[1] == kind)
    };
    let by_source = back.last(&["stick", "on", "src"]).is_some();
    if !by_source || !(has_type("ip") || has_type("ipv6")) {
        let text = format!(
            "{}: has no equivalent: only source addresses stick",
            table.text()
        );
        return notes.push(Note::new(table.number, text));
    }
    let expire = table.words.windows(2).find(|pair| pair[0] == "expire");
    let lasts = expire.and_then(|pair| time(&pair[1])).unwrap_or(86_400.0);
    service
        .keys
        .push(("affinity_seconds", seconds(lasts, 1.0, 604_800.0)));
}

/// How long nothing may be heard of a connection: the longest that either side may be silent.
fn timeouts(front: &Proxy, back: Option<&Proxy>, service: &mut Service) {
    let all = [Some(front), back].into_iter().flatten().flat_map(|proxy| {
        ["client", "server", "tunnel"]
            .into_iter()
            .filter_map(move |name| time(proxy.last(&["timeout", name])?.word(2)))
    });
    if let Some(longest) = all.max_by(f64::total_cmp) {
        let value = seconds(longest, 1.0, 604_800.0);
        service.keys.push(("idle_timeout_seconds", value));
    }
}
