//! The OpenAPI document against the server that it describes: every endpoint answers as it says,
//! and nothing that is made up from it breaks anything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "common/proxy.rs"]
mod common;

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use lb_mysql::proxy::Proxy;
use lb_userspace::{
    admin::{Pieces, Server, StatusSource, openapi},
    control::{
        Act, Changed, Changes, End, Fault, NewPrimary, Pattern, PrimaryChanged, Refusal,
        ReloadWish, Reloaded, State,
    },
    events::{Entry, EventLog, Level},
    firewall, flow_list, status, why,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct Source(Arc<EventLog>, Proxy);

struct Text(&'static [u8]);

impl Pieces for Text {
    fn next(&mut self, piece: &mut Vec<u8>) -> bool {
        piece.extend_from_slice(self.0);
        false
    }
}

impl StatusSource for Source {
    fn status(&self) -> status::Status {
        let text = r#"{"version": "0.1.0",
            "agent": {"pid": 1, "uptime_seconds": 3.2, "config_file": "f", "config_generation": 1,
                "abi": 1},
            "interfaces": [{"name": "eth0", "xdp_mode": "native", "program_id": 12}],
            "services": [{"name": "web", "address": "203.0.113.10", "port": 80, "protocol": "tcp",
                "scheduler": "round-robin", "forwarding": "nat", "connections": 12,
                "active_flows": 3, "packets": 240, "bytes": 18000,
                "backends": [{"name": "web1", "address": "10.0.0.11", "port": 8080, "weight": 1,
                    "state": "ready", "role": "active", "health": "up", "in_rotation": true,
                    "connections": 4, "active_flows": 1, "packets": 80, "bytes": 6000,
                    "last_check": "HTTP 200", "since_seconds": 3.0, "check_seconds": 0.001}]}],
            "verdicts": {"steered": 240},
            "flow_tables": [{"name": "established", "entries": 1, "capacity": 2, "expired": 3}]}"#;
        serde_json::from_str(text).unwrap()
    }

    fn mysql(&self) -> Option<&Proxy> {
        Some(&self.1)
    }

    fn events(&self) -> Arc<EventLog> {
        Arc::clone(&self.0)
    }

    fn flows(&self, query: &flow_list::Query) -> Result<Box<dyn Pieces>, String> {
        if query.service.as_deref().is_some_and(|name| name != "web") {
            return Err("there is no such service".to_owned());
        }
        Ok(Box::new(Text(
            br#"{"flows": [
{"protocol":"tcp","client":"198.51.100.7:40000","service":"web","service_address":"203.0.113.10:80","backend":null,"backend_address":null,"state":"half-open","expires_in_seconds":2.5}
],"total": 1}
"#,
        )))
    }

    fn capture(&self, _: &lb_userspace::capture::Query) -> Result<Box<dyn Pieces>, String> {
        Ok(Box::new(Text(b"pcapng")))
    }

    fn act(&self, pattern: Pattern, _: Act, _: String) -> Result<Changes, Refusal> {
        if !pattern.matches("web", "web1") {
            return Err(Refusal::new(Fault::NotFound, "there is no such backend"));
        }
        Ok(Changes {
            backends: vec![Changed {
                service: "web".to_owned(),
                backend: "web1".to_owned(),
                weight: 1,
                state: State::Drain,
                is_new: true,
            }],
            warning: None,
        })
    }

    fn change_primary(&self, _: NewPrimary, _: &str) -> Result<PrimaryChanged, Refusal> {
        Ok(PrimaryChanged {
            end: End::Done,
            steps: vec!["done: set one read-only".to_owned()],
        })
    }

    fn reload(&self, _: &ReloadWish, _: &str) -> Result<Reloaded, Refusal> {
        Ok(Reloaded::default())
    }

    fn firewall(&self) -> firewall::Document {
        firewall::Document {
            active: true,
            rules: vec![firewall::Rule {
                prefix: "198.51.100.0/24".to_owned(),
                action: "deny".to_owned(),
                origin: "run time".to_owned(),
                seconds_left: Some(7),
            }],
            ..firewall::Document::default()
        }
    }

    fn change_firewall(&self, wish: firewall::Wish, _: &str) -> Result<firewall::Changed, Refusal> {
        wish.parsed_prefix()
            .map_err(|sentence| Refusal::new(Fault::Wrong, sentence))?;
        Ok(firewall::Changed {
            lines: vec!["198.51.100.0/24 is denied".to_owned()],
            warnings: Vec::new(),
        })
    }

    fn why(&self, _: &why::Query) -> Result<why::Answer, String> {
        Ok(why::Answer {
            packet: "TCP".to_owned(),
            interface: "eth0".to_owned(),
            decisions: vec!["steered".to_owned()],
            verdict: "steered".to_owned(),
            explanation: "Sent to a backend.".to_owned(),
            egress: None,
            sent: None,
            frame: "00".to_owned(),
            sent_frame: None,
        })
    }
}

/// The fields are dropped in this order.
struct Stage {
    _server: Server,
    _runtime: Runtime,
    socket: PathBuf,
    _folder: TempDir,
}

struct Answer {
    status: u16,
    kind: String,
    body: Vec<u8>,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("lb.sock");
        let runtime = Runtime::new().unwrap();
        let mut server = Server::bind(&socket).unwrap();
        let log = EventLog::new();
        log.note(Entry {
            time: "2026-01-02T03:04:05.678901Z".to_owned(),
            level: Level::Warn,
            kind: "backend_down".to_owned(),
            service: Some("web".to_owned()),
            backend: None,
            message: "web/web1 is down".to_owned(),
        });
        let source = Source(log, common::proxy(folder.path(), 10));
        runtime.block_on(async { server.serve(Arc::new(source)).unwrap() });
        Self {
            _server: server,
            _runtime: runtime,
            socket,
            _folder: folder,
        }
    }

    fn ask(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: lb\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // It may be refused before all of it was said.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("{method} {target}: {answer:?}"));
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let kind = head
            .lines()
            .find_map(|line| line.strip_prefix("content-type: "));
        Answer {
            status: head[9..12].parse().unwrap(),
            kind: kind.unwrap_or_default().to_owned(),
            body: plain(&head, &answer[end + 4..]),
        }
    }
}

/// A body, taken out of its chunks if it came in some.
fn plain(head: &str, body: &[u8]) -> Vec<u8> {
    if !head.contains("transfer-encoding: chunked") {
        return body.to_vec();
    }
    let (mut whole, mut rest) = (Vec::new(), body);
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    whole
}

/// Checks a value against as much of JSON Schema as the document uses.
fn check(schema: &Value, value: &Value, at: &str) {
    if schema == &json!(true) {
        return;
    }
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.strip_prefix('#').unwrap();
        let target = openapi().pointer(pointer);
        return check(
            target.unwrap_or_else(|| panic!("{name} at {at}")),
            value,
            at,
        );
    }
    if let Some(expected) = schema.get("const") {
        assert_eq!(expected, value, "{at}");
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value} is none of {words:?}");
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(options) = schema[key].as_array() {
            let fits = |one: &Value| std::panic::catch_unwind(|| check(one, value, at)).is_ok();
            assert!(
                options.iter().any(fits),
                "{at}: {value} is none of {options:?}"
            );
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: the test does not know the type {other}"),
    };
    assert!(
        types.is_empty() || types.iter().any(is),
        "{at}: {value} is not {types:?}"
    );
    if let Some(object) = value.as_object() {
        for key in schema["required"].as_array().into_iter().flatten() {
            let key = key.as_str().unwrap();
            assert!(object.contains_key(key), "{at}: {key} is missing");
        }
        for (key, inner) in object {
            let at = format!("{at}.{key}");
            match (
                schema["properties"].get(key),
                schema.get("additionalProperties"),
            ) {
                (Some(schema), _) => check(schema, inner, &at),
                (None, Some(schema)) if schema.is_object() => check(schema, inner, &at),
                (None, _) => assert!(schema.get("properties").is_none(), "{at} is not described"),
            }
        }
    }
    if let (Some(list), Some(items)) = (value.as_array(), schema.get("items")) {
        for (index, inner) in list.iter().enumerate() {
            check(items, inner, &format!("{at}[{index}]"));
        }
    }
}

/// Path, method and operation of each.
fn operations() -> Vec<(&'static str, String, &'static Value)> {
    let paths = openapi()["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(|(method, operation)| (&**path, method.to_uppercase(), operation))
        })
        .collect()
}

fn check_answer(operation: &Value, answer: &Answer, what: &str) {
    let status = answer.status.to_string();
    let described = &operation["responses"][&status];
    assert!(
        described.is_object(),
        "{what}: status {status} is not described"
    );
    let contents = described["content"].as_object().unwrap();
    let (kind, content) = contents.iter().next().unwrap();
    assert_eq!(*kind, answer.kind, "{what}");
    if let Some(schema) = content.get("schema") {
        let body = serde_json::from_slice(&answer.body).unwrap();
        check(schema, &body, what);
    }
}

#[test]
fn every_endpoint_answers_as_it_says() {
    let stage = Stage::new();
    for (path, method, operation) in operations() {
        let target = match path {
            "/why.json" => format!("{path}?from=198.51.100.7:4&to=203.0.113.10:80&proto=tcp"),
            _ => path
                .replace("{service}", "w*")
                .replace("{backend}", "web1")
                .replace("{id}", "7"),
        };
        let body: &[u8] = if path.starts_with("/mysql/") {
            br#"{"to": "two"}"#
        } else if path == "/firewall" {
            br#"{"act": "deny", "prefix": "198.51.100.0/24", "seconds": 60}"#
        } else if path == "/reload" {
            br#"{"force": true}"#
        } else {
            br#"{"state": "drain"}"#
        };
        let answer = stage.ask(&method, &target, body);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        // Nobody is there who could be sent away.
        let expected = if path == "/mysql/sessions/{id}" {
            404
        } else {
            200
        };
        assert_eq!(answer.status, expected, "{method} {target}: {said}");
        check_answer(operation, &answer, &format!("{method} {target}"));
    }
    let served = stage.ask("GET", "/openapi.json", b"");
    assert_eq!(
        &serde_json::from_slice::<Value>(&served.body).unwrap(),
        openapi()
    );
}

#[test]
fn the_document_names_what_it_refers_to_and_each_operation_once() {
    let text = openapi().to_string();
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(openapi().pointer(pointer).is_some(), "{pointer}");
    }
    let mut ids: Vec<&Value> = operations()
        .iter()
        .map(|(_, _, one)| &one["operationId"])
        .collect();
    let count = ids.len();
    ids.sort_by_key(|id| id.to_string());
    ids.dedup();
    assert_eq!(ids.len(), count);
    let guarded = operations()
        .into_iter()
        .filter(|(_, method, _)| method != "GET");
    for (path, method, operation) in guarded {
        assert!(
            operation["security"].is_array(),
            "{method} {path} needs no token"
        );
    }
}

/// Bounded, and the same at each run.
#[test]
fn nothing_made_up_from_the_document_breaks_the_server() {
    let stage = Stage::new();
    let mut random = fastrand::Rng::with_seed(4);
    let odd = [
        "",
        "web",
        "web1",
        "*",
        "-1",
        "0",
        "1",
        "2",
        "99999999999999999999",
        "true",
        "tcp",
        "established",
        "%",
        "%0",
        "%00",
        "%ff",
        "%2F",
        "..",
        "'\"<>",
        "a=b",
        "&&==",
        "1e9",
        "\u{e4}",
        "0x10",
        "198.51.100.7:1",
        "[::1]:1",
        "steered",
        "drop_*",
        "()",
    ];
    let bodies: [&[u8]; 13] = [
        b"",
        b"{}",
        b"null",
        br#"{"weight": 300}"#,
        br#"{"weight": -1}"#,
        br#"{"state": "gone"}"#,
        br#"{"state": "drain", "x": 1}"#,
        b"\xff\xfe{",
        br#"[[[[[[[["#,
        br#"{"act": "deny"}"#,
        br#"{"act": "deny", "prefix": "0/0"}"#,
        br#"{"act": "clear-all", "prefix": "10.0.0.0/8"}"#,
        br#"{"act": "apply", "seconds": -1}"#,
    ];
    let operations = operations();
    let all: Vec<String> = ["GET", "HEAD", "PUT", "OPTIONS", "TRACE"]
        .iter()
        .map(|method| (*method).to_owned())
        .chain(operations.iter().map(|(_, method, _)| method.clone()))
        .collect();
    for round in 0..1500 {
        let (path, method, operation) = random.choice(&operations).unwrap();
        let text = |random: &mut fastrand::Rng| {
            let count = random.usize(1..=2);
            let pick = |_| *random.choice(&odd).unwrap();
            // What a head cannot hold at all is hyper's business.
            let raw: String = (0..count).map(pick).collect();
            raw.chars()
                .filter(|c| c.is_ascii_graphic() && !"<>\"'".contains(*c))
                .collect::<String>()
        };
        let mut target = path
            .replace("{service}", &text(&mut random))
            .replace("{backend}", &text(&mut random));
        let parameters = operation["parameters"].as_array().unwrap();
        let of_query = parameters.iter().filter(|one| one["in"] == "query");
        let mut separator = '?';
        for parameter in of_query {
            if random.bool() {
                // Nobody wants to wait for events here.
                let name = parameter["name"].as_str().unwrap();
                if name != "wait" {
                    let value = text(&mut random);
                    target.push_str(&format!("{separator}{name}={value}"));
                    separator = '&';
                }
            }
        }
        let method = if random.u8(..) < 40 {
            random.choice(&all).unwrap()
        } else {
            method
        };
        let body = random.choice(&bodies).unwrap();
        let answer = stage.ask(method, &target, body);
        let what = format!("round {round}: {method} {target}");
        assert!(answer.status < 500, "{what}: {}", answer.status);
        if answer.status >= 400 && method != "HEAD" {
            let refusal: Value = serde_json::from_slice(&answer.body).unwrap();
            assert!(
                refusal["error"]
                    .as_str()
                    .is_some_and(|said| said.len() > 10),
                "{what}"
            );
        }
    }
    assert_eq!(stage.ask("GET", "/healthz", b"").status, 200);
}
