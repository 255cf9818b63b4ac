//! A validator for the part of JSON schema that `lb.schema.json` uses. It fails on words it does
//! not know, so that nothing goes unjudged.

use std::{fs, net, path::Path};

use regex_lite::Regex;
use serde_json::Value;

/// The schema as it is packaged; another test says when it is stale.
pub(super) fn of_the_docs() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lb.schema.json");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Where a document is not as the schema has it, and by which of its words.
pub(super) fn faults(schema: &Value, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    judge(schema, document, "", &mut found);
    found
}

fn judge(schema: &Value, document: &Value, path: &str, found: &mut Vec<String>) {
    for (word, ask) in schema.as_object().unwrap() {
        let fits = match word.as_str() {
            "$schema" | "$comment" | "title" | "description" | "default" => true,
            "type" => is_type(ask.as_str().unwrap(), document),
            "enum" => ask.as_array().unwrap().contains(document),
            "anyOf" => ask
                .as_array()
                .unwrap()
                .iter()
                .any(|one| faults(one, document).is_empty()),
            "not" => !faults(ask, document).is_empty(),
            "format" => has_format(ask.as_str().unwrap(), document),
            "pattern" => document
                .as_str()
                .is_none_or(|text| Regex::new(ask.as_str().unwrap()).unwrap().is_match(text)),
            "minLength" => length(document).is_none_or(|length| length >= ask.as_u64().unwrap()),
            "maxLength" => length(document).is_none_or(|length| length <= ask.as_u64().unwrap()),
            "minimum" => document
                .as_f64()
                .is_none_or(|number| number >= ask.as_f64().unwrap()),
            "maximum" => document
                .as_f64()
                .is_none_or(|number| number <= ask.as_f64().unwrap()),
            "uniqueItems" => document.as_array().is_none_or(|list| {
                list.iter()
                    .enumerate()
                    .all(|(index, one)| !list[..index].contains(one))
            }),
            "minItems" => document
                .as_array()
                .is_none_or(|list| list.len() as u64 >= ask.as_u64().unwrap()),
            "items" => {
                for (index, one) in document.as_array().into_iter().flatten().enumerate() {
                    judge(ask, one, &format!("{path}[{index}]"), found);
                }
                true
            }
            "properties" => {
                for (name, one) in document.as_object().into_iter().flatten() {
                    if let Some(schema) = ask.get(name) {
                        judge(schema, one, &format!("{path}.{name}"), found);
                    }
                }
                true
            }
            "required" => document.as_object().is_none_or(|table| {
                let mut names = ask.as_array().unwrap().iter();
                names.all(|name| table.contains_key(name.as_str().unwrap()))
            }),
            "additionalProperties" => {
                assert_eq!(*ask, false);
                let known = schema["properties"].as_object().unwrap();
                document
                    .as_object()
                    .is_none_or(|table| table.keys().all(|name| known.contains_key(name)))
            }
            word => panic!("{path}: {word} is not judged here"),
        };
        if !fits {
            found.push(format!("{path}: {word} {ask}"));
        }
    }
}

fn length(document: &Value) -> Option<u64> {
    document.as_str().map(|text| text.chars().count() as u64)
}

fn is_type(name: &str, document: &Value) -> bool {
    match name {
        "object" => document.is_object(),
        "array" => document.is_array(),
        "string" => document.is_string(),
        "boolean" => document.is_boolean(),
        "number" => document.is_number(),
        "integer" => document.is_i64() || document.is_u64(),
        name => panic!("no type {name}"),
    }
}

fn has_format(name: &str, document: &Value) -> bool {
    let Some(text) = document.as_str() else {
        return true;
    };
    match name {
        "ipv4" => text.parse::<net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<net::Ipv6Addr>().is_ok(),
        name => panic!("no format {name}"),
    }
}

#[test]
fn the_validator_refuses() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "n": { "type": "integer", "minimum": 1, "maximum": 3 },
            "l": { "type": "array", "items": { "type": "string", "pattern": "^a" }, "uniqueItems": true },
            "i": { "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] },
        },
        "required": ["n"],
        "additionalProperties": false,
    });
    let count = |document: Value| faults(&schema, &document).len();
    assert_eq!(
        count(serde_json::json!({ "n": 1, "l": ["a", "ab"], "i": "::1" })),
        0
    );
    assert_eq!(
        count(serde_json::json!({ "n": 4, "l": ["a", "b", "a"], "i": "x", "x": 1 })),
        5
    );
    assert_eq!(count(serde_json::json!({ "n": 1.5 })), 1);
    assert_eq!(count(serde_json::json!([])), 1);
    assert_eq!(count(serde_json::json!({})), 1);
}
