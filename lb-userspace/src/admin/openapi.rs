//! The table of endpoints as an OpenAPI document and as a page of the reference.

use std::{collections::BTreeMap, fmt::Write as _, sync::LazyLock};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::endpoint::{Access, Content, ENDPOINTS, Endpoint, Kind, Parameter, Route};

/// The document, version 3.1.
#[must_use]
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(make);
    &DOCUMENT
}

fn make() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.for_serialize().into_generator();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for endpoint in ENDPOINTS {
        let operation = operation(endpoint, &mut generator);
        let method = endpoint.method.to_lowercase();
        let path = paths.entry(templated(endpoint.path)).or_default();
        path.insert(method, operation);
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert(
        "Refusal".to_owned(),
        json!({
            "type": "object",
            "properties": {
                "error": { "type": "string", "description": "Why, in a sentence." },
                "problems": { "type": "array", "items": { "type": "string" } }
            },
            "required": ["error"]
        }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "lb admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "On the Unix socket of the agent (admin.socket) everything is allowed. \
                            On the TCP socket (admin.listen) what has the security scheme needs \
                            the token of admin.token_file, and without such a file is refused. One \
                            request to a connection."
        },
        "servers": [{ "url": "http://127.0.0.1:9900" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } }
        }
    })
}

fn operation(endpoint: &Endpoint, generator: &mut schemars::SchemaGenerator) -> Value {
    let (kind, schema) = match endpoint.answer {
        Content::Json(shape) => ("application/json", json!({ "schema": shape(generator) })),
        Content::Other(kind) => (kind, json!({})),
    };
    let mut responses = Map::new();
    let content = BTreeMap::from([(kind, schema)]);
    let fine = json!({ "description": "Done.", "content": content });
    responses.insert("200".to_owned(), fine);
    let tokens: &[u16] = match endpoint.access {
        Access::Open => &[],
        Access::Guarded => &[401, 403],
    };
    for status in endpoint.refusals.iter().chain(tokens).chain(&[429, 500]) {
        responses.insert(status.to_string(), refusal(*status));
    }
    let mut operation = json!({
        "operationId": format!("{:?}", endpoint.route).to_lowercase(),
        "summary": endpoint.summary,
        "parameters": parameters(endpoint),
        "responses": responses
    });
    if let Some(shape) = endpoint.body {
        let content = json!({ "application/json": { "schema": shape(generator) } });
        let is_required = endpoint.route != Route::Reload;
        operation["requestBody"] = json!({ "required": is_required, "content": content });
    }
    if endpoint.access == Access::Guarded {
        operation["security"] = json!([{ "token": [] }]);
    }
    operation
}

fn refusal(status: u16) -> Value {
    let description = match status {
        400 => "The request is not to be understood.",
        401 => "TCP: the token is missing or wrong.",
        403 => "TCP: there is no token file.",
        404 => "There is no such thing.",
        422 => "What is asked for is wrong, or the config is.",
        429 => "TCP: too many requests or connections from this address.",
        503 => "Not now.",
        _ => "It went wrong.",
    };
    let schema = json!({ "$ref": "#/components/schemas/Refusal" });
    json!({
        "description": description,
        "content": { "application/json": { "schema": schema } }
    })
}

/// Those of the path, then those of the query.
fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let of_path = variables(endpoint.path).map(|name| {
        json!({
            "name": name.to_lowercase(),
            "in": "path",
            "required": true,
            "schema": { "type": "string", "minLength": 1 }
        })
    });
    let of_query = endpoint.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.doc,
            "schema": schema(parameter)
        })
    });
    of_path.chain(of_query).collect()
}

fn schema(parameter: &Parameter) -> Value {
    match parameter.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Words(words) => json!({ "type": "string", "enum": words }),
        Kind::Number(least, u64::MAX) => json!({ "type": "integer", "minimum": least }),
        Kind::Number(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
    }
}

/// The parts of a path that stand for others: those in capitals.
fn variables(path: &str) -> impl Iterator<Item = &str> {
    let is_variable = |part: &&str| part.starts_with(|first: char| first.is_ascii_uppercase());
    path.split('/').filter(is_variable)
}

/// A path as OpenAPI writes it.
fn templated(path: &str) -> String {
    variables(path).fold(path.to_owned(), |path, name| {
        path.replacen(name, &format!("{{{}}}", name.to_lowercase()), 1)
    })
}

/// The reference of the API, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = "# The admin API\n\n\
        <!-- Made by `lb gen-docs` from lb-userspace/src/admin/endpoint.rs. Do not edit. -->\n\n\
        HTTP and JSON, one request to a connection. On the Unix socket (`admin.socket`, mode 0600) \
        everything is allowed, and changes are logged with the user and process that asked for \
        them. On the TCP socket (`admin.listen`) what is marked *token* needs \
        `Authorization: Bearer TOKEN` with the token of `admin.token_file`, and is refused where \
        there is none.\n\n\
        Over TCP one address (with IPv6, one /64) has 8 connections at a time and 20 requests a \
        second, 60 in a row; 64 connections are open at a time, each for 15 s, with 5 s and 16 KiB \
        for the head. More gets status 429, or waits. A refusal is `{\"error\": SENTENCE}`. \
        [openapi.json](openapi.json) has the shapes.\n"
        .to_owned();
    for endpoint in ENDPOINTS {
        let token = match endpoint.access {
            Access::Open => "",
            Access::Guarded => " *token*",
        };
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            page,
            "\n## `{} {}`{token}\n\n{}.\n",
            endpoint.method, endpoint.path, endpoint.summary
        );
        if !endpoint.parameters.is_empty() {
            page.push_str("\n| query | |\n|---|---|\n");
        }
        for parameter in endpoint.parameters {
            let _ = writeln!(page, "| `{}` | {} |", parameter.name, parameter.doc);
        }
    }
    page
}
