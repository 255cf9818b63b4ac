//! Everything that can be asked over the admin sockets, once: routing, the sentence for what is not
//! there and the reference come from this table.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{
    control::{Change, Changes, PrimaryChanged, PrimaryWish, ReloadWish, Reloaded},
    events, firewall, flow_list, metrics,
    mysql::seen as mysql,
    status::Status,
    why,
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Page,
    Metrics,
    Healthz,
    Readyz,
    OpenApi,
    Status,
    Events,
    Flows,
    Why,
    Capture,
    MysqlSessions,
    MysqlKill,
    MysqlDigests,
    Firewall,
    ChangeFirewall,
    Set,
    Reset,
    Reload,
    Switchover,
    Failover,
    Rejoin,
}

/// Who may ask. On the Unix socket, everybody who can open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Also over TCP, without a token.
    Open,
    /// Over TCP with the token only: it names clients, costs much, or changes something.
    Guarded,
}

/// One method on one path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    pub(super) route: Route,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// Of a request's body, which is JSON.
    pub(super) body: Option<Shape>,
    pub(super) answer: Content,
    /// How it may be refused, beside what can happen everywhere.
    pub(super) refusals: &'static [u16],
}

/// A key of the query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) doc: &'static str,
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Number(u64, u64),
    Flag,
    Words(&'static [&'static str]),
}

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Json(Shape),
    /// With this content type.
    Other(&'static str),
}

/// Makes the schema of a document.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

fn alive(_: &mut SchemaGenerator) -> Schema {
    yes("alive")
}

fn ready(_: &mut SchemaGenerator) -> Schema {
    yes("ready")
}

fn yes(key: &str) -> Schema {
    json_schema!({ "type": "object", "properties": { key: { "const": true } }, "required": [key] })
}

const fn parameter(name: &'static str, kind: Kind, doc: &'static str) -> Parameter {
    Parameter { name, kind, doc }
}

const NUMBER: Kind = Kind::Number(0, u64::MAX);

/// All there are.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get(
        Route::Page,
        "/",
        "The status page, for browsers",
        Content::Other("text/html; charset=utf-8"),
    ),
    get(
        Route::Metrics,
        "/metrics",
        "The metrics, for Prometheus",
        Content::Other(metrics::CONTENT_TYPE),
    ),
    get(
        Route::Healthz,
        "/healthz",
        "Whether the agent is alive",
        Content::Json(alive),
    ),
    Endpoint {
        refusals: &[503],
        ..get(
            Route::Readyz,
            "/readyz",
            "Whether steering is attached and the tables are filled; 503 and why, if not",
            Content::Json(ready),
        )
    },
    get(
        Route::OpenApi,
        "/openapi.json",
        "This document",
        Content::Json(any_object),
    ),
    Endpoint {
        refusals: &[503],
        ..get(
            Route::Status,
            "/status.json",
            "Services, backends and counters, as `lb status --json`",
            Content::Json(shape::<Status>),
        )
    },
    Endpoint {
        parameters: &[
            parameter("since", NUMBER, "Only events with a larger number."),
            parameter(
                "wait",
                Kind::Number(0, 30),
                "While there is none, answer so many seconds later.",
            ),
            parameter("limit", Kind::Number(1, 1000), "So many at most."),
        ],
        refusals: &[400, 503],
        ..get(
            Route::Events,
            "/events.json",
            "What happened lately, as `lb events --json`",
            Content::Json(shape::<events::Page>),
        )
    },
    Endpoint {
        access: Access::Guarded,
        parameters: &[
            parameter("service", Kind::Text, "Only those of this service."),
            parameter(
                "backend",
                Kind::Text,
                "Only those of this backend, SERVICE/BACKEND.",
            ),
            parameter("client", Kind::Text, "Only those of this client or prefix."),
            parameter(
                "state",
                Kind::Words(&["established", "half-open", "closed"]),
                "Only those in this state.",
            ),
            parameter("limit", NUMBER, "So many at most."),
            parameter("count", Kind::Flag, "Only how many there are."),
        ],
        refusals: &[400, 404, 503],
        ..get(
            Route::Flows,
            "/flows.json",
            "Flows, as `lb flows --json`",
            Content::Json(shape::<flow_list::Document>),
        )
    },
    Endpoint {
        access: Access::Guarded,
        parameters: &[
            parameter(
                "frame",
                Kind::Text,
                "A frame in hexadecimal digits; or the four below.",
            ),
            parameter("from", Kind::Text, "Source, ADDRESS:PORT."),
            parameter("to", Kind::Text, "Destination, ADDRESS:PORT."),
            parameter("proto", Kind::Words(&["tcp", "udp"]), "The protocol."),
            parameter("flags", Kind::Text, "Flags of TCP, with commas between."),
            parameter("interface", Kind::Text, "The interface it comes in by."),
        ],
        refusals: &[400, 422],
        ..get(
            Route::Why,
            "/why.json",
            "What would become of a packet, as `lb why --json`",
            Content::Json(shape::<why::Answer>),
        )
    },
    Endpoint {
        access: Access::Guarded,
        parameters: &[
            parameter("service", Kind::Text, "Only packets of this service."),
            parameter(
                "verdict",
                Kind::Text,
                "Only these verdicts, with commas between; * stands for anything.",
            ),
            parameter("sample", NUMBER, "One packet in so many."),
            parameter("count", NUMBER, "So many packets; 0 for no end."),
            parameter("seconds", NUMBER, "So many seconds; 0 for no end."),
            parameter("snaplen", NUMBER, "Bytes of each packet."),
        ],
        refusals: &[400, 404, 503],
        ..get(
            Route::Capture,
            "/capture.pcapng",
            "Packets and what became of them, as `lb capture`",
            Content::Other("application/octet-stream"),
        )
    },
    Endpoint {
        refusals: &[404],
        ..guarded(
            Route::MysqlSessions,
            "GET",
            "/mysql/sessions.json",
            "Clients' sessions of the MySQL proxy, as `lb mysql sessions --json`",
            Content::Json(shape::<mysql::Sessions>),
        )
    },
    Endpoint {
        refusals: &[404],
        ..guarded(
            Route::MysqlDigests,
            "GET",
            "/mysql/digests.json",
            "Statements by their kinds, as `lb mysql digests --json`",
            Content::Json(shape::<mysql::Digests>),
        )
    },
    Endpoint {
        refusals: &[400, 404],
        ..guarded(
            Route::MysqlKill,
            "DELETE",
            "/mysql/sessions/ID",
            "Ends a session of the MySQL proxy, as `lb mysql kill`",
            Content::Json(shape::<mysql::Killed>),
        )
    },
    guarded(
        Route::Firewall,
        "GET",
        "/firewall.json",
        "What the firewall denies and allows, as `lb firewall list --json`",
        Content::Json(shape::<firewall::Document>),
    ),
    Endpoint {
        body: Some(shape::<firewall::Wish>),
        refusals: &[400, 404, 422, 503],
        ..guarded(
            Route::ChangeFirewall,
            "POST",
            "/firewall",
            "Changes the firewall, as `lb firewall deny`, `allow`, `clear`, `apply` and `confirm`",
            Content::Json(shape::<firewall::Changed>),
        )
    },
    Endpoint {
        body: Some(shape::<Change>),
        refusals: &[400, 404, 422, 503],
        ..guarded(
            Route::Set,
            "PATCH",
            "/backends/SERVICE/BACKEND",
            "Sets weight, state or both of backends, as `lb backend set`; * stands for any characters",
            Content::Json(shape::<Changes>),
        )
    },
    Endpoint {
        refusals: &[400, 404, 422, 503],
        ..guarded(
            Route::Reset,
            "DELETE",
            "/backends/SERVICE/BACKEND",
            "Has the config say weight and state of backends again, as `lb backend reset`",
            Content::Json(shape::<Changes>),
        )
    },
    Endpoint {
        body: Some(shape::<ReloadWish>),
        refusals: &[400, 422, 503],
        ..guarded(
            Route::Reload,
            "POST",
            "/reload",
            "Reads the config file again, as `lb reload`",
            Content::Json(shape::<Reloaded>),
        )
    },
    Endpoint {
        body: Some(shape::<PrimaryWish>),
        refusals: &[400, 404, 422, 503],
        ..guarded(
            Route::Switchover,
            "POST",
            "/mysql/switchover",
            "Has another server of MySQL take over from the primary, as `lb mysql switchover`",
            Content::Json(shape::<PrimaryChanged>),
        )
    },
    Endpoint {
        body: Some(shape::<PrimaryWish>),
        refusals: &[400, 404, 422, 503],
        ..guarded(
            Route::Failover,
            "POST",
            "/mysql/failover",
            "Has a replica take the place of a primary that is lost, as `lb mysql failover`",
            Content::Json(shape::<PrimaryChanged>),
        )
    },
    Endpoint {
        body: Some(shape::<PrimaryWish>),
        refusals: &[400, 404, 422, 503],
        ..guarded(
            Route::Rejoin,
            "POST",
            "/mysql/rejoin",
            "Has a former primary that has come back replicate from the primary, as `lb mysql rejoin`",
            Content::Json(shape::<PrimaryChanged>),
        )
    },
];

const fn get(route: Route, path: &'static str, summary: &'static str, answer: Content) -> Endpoint {
    Endpoint {
        route,
        method: "GET",
        path,
        access: Access::Open,
        summary,
        parameters: &[],
        body: None,
        answer,
        refusals: &[],
    }
}

const fn guarded(
    route: Route,
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    answer: Content,
) -> Endpoint {
    Endpoint {
        method,
        access: Access::Guarded,
        ..get(route, path, summary, answer)
    }
}

impl Endpoint {
    /// Whether a path is meant: capitals in the table stand for anything but slashes.
    fn is_at(&self, path: &str) -> bool {
        let (mut own, mut asked) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), asked.next()) {
                (None, None) => return true,
                (Some(own), Some(asked)) => {
                    let is_any = own.starts_with(|first: char| first.is_ascii_uppercase());
                    if own != asked && (!is_any || asked.is_empty()) {
                        return false;
                    }
                }
                (Some(_), None) | (None, Some(_)) => return false,
            }
        }
    }
}

/// What the table has for a method and a path.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Endpoint(&'static Endpoint),
    /// The path, but not with this method; with these.
    OtherMethods(Vec<&'static str>),
    Nothing,
}

/// Looks a method and a path up.
pub(super) fn find(method: &str, path: &str) -> Found {
    // As RFC 9110, section 9.1, wants it: what can be read can be asked about. The body is left
    // out where the answer is written.
    let method = if method == "HEAD" { "GET" } else { method };
    let there = ENDPOINTS.iter().filter(|one| one.is_at(path));
    let mut methods = Vec::new();
    for endpoint in there {
        if endpoint.method == method {
            return Found::Endpoint(endpoint);
        }
        methods.push(endpoint.method);
    }
    if methods.is_empty() {
        Found::Nothing
    } else {
        Found::OtherMethods(methods)
    }
}

/// What to say of a path that is not there.
pub(super) fn nothing_here() -> String {
    let mut paths: Vec<&str> = ENDPOINTS.iter().map(|one| one.path).collect();
    paths.dedup();
    let last = paths.pop().unwrap_or_default();
    format!("there is nothing here; try {} or {last}", paths.join(", "))
}
