//! `docs/lb.schema.json`: the list of keys for editors, as a JSON schema.
//!
//! It knows what one value can be judged by. What takes more than one, `lb check` says.

use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::{
    raw,
    schema::{Key, Rule, Table, Visitor},
};

/// The schema of the config file. Editors for TOML know this draft.
#[must_use]
pub fn json_schema() -> String {
    let mut schema = table::<raw::File>();
    if let Value::Object(top) = &mut schema {
        let draft = "http://json-schema.org/draft-07/schema#";
        top.insert("$schema".to_owned(), draft.into());
        top.insert("title".to_owned(), "The config file of lb".into());
        let comment = "Made by `lb gen-docs` from lb-userspace/src/config/raw.rs. Do not edit.";
        top.insert("$comment".to_owned(), comment.into());
    }
    // Pretty printing of a plain value cannot fail.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// A TOML text as JSON has it; nothing if it is not TOML. Dates are texts, and numbers that JSON
/// does not know are null.
#[must_use]
pub fn as_json(text: &str) -> Option<Value> {
    let (table, errors) = DeTable::parse_recoverable(text);
    errors.is_empty().then(|| object(table.get_ref()))
}

fn object(table: &DeTable<'_>) -> Value {
    let members = table.iter().map(|(key, member)| {
        let key = key.get_ref().clone().into_owned();
        (key, value(member.get_ref()))
    });
    Value::Object(members.collect())
}

fn value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(integer) => {
            match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => i64::try_from(number).map_or(json!(number as f64), Value::from),
                Err(_) => Value::from(f64::MAX),
            }
        }
        DeValue::Float(float) => float
            .as_str()
            .parse::<f64>()
            .map_or(Value::Null, Value::from),
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(list) => list.iter().map(|one| self::value(one.get_ref())).collect(),
        DeValue::Table(table) => object(table),
    }
}

fn table<T: Table>() -> Value {
    let mut collected = Collector::default();
    T::visit(&mut collected);
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    if !T::DOC.is_empty() {
        schema.insert("description".to_owned(), paragraph(T::DOC).into());
    }
    schema.insert("properties".to_owned(), Value::Object(collected.properties));
    if !collected.required.is_empty() {
        schema.insert("required".to_owned(), collected.required.into());
    }
    schema.insert("additionalProperties".to_owned(), false.into());
    Value::Object(schema)
}

#[derive(Default)]
struct Collector {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Visitor for Collector {
    fn key<R: Rule>(&mut self, name: &'static str, key: &Key<R>, doc: &'static str) {
        let (mut schema, default) = key.schema();
        if let Value::Object(schema) = &mut schema {
            schema.insert("description".to_owned(), paragraph(doc).into());
            if let Some(default) = default.and_then(|shown| as_json(&format!("v = {shown}"))) {
                schema.insert("default".to_owned(), default["v"].clone());
            }
        }
        if key.is_required() {
            self.required.push(name);
        }
        self.properties.insert(name.to_owned(), schema);
    }

    fn table<T: Table>(&mut self, name: &'static str) {
        self.properties.insert(name.to_owned(), table::<T>());
    }

    fn tables<T: Table>(&mut self, name: &'static str) {
        let list = json!({ "type": "array", "items": table::<T>() });
        self.properties.insert(name.to_owned(), list);
    }
}

/// Lines of a doc comment as one, without Markdown's quotes of code.
fn paragraph(doc: &str) -> String {
    let lines: Vec<&str> = doc.lines().map(str::trim).collect();
    lines.join(" ").trim().replace('`', "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_says_what_it_takes() {
        fn look(schema: &Value, path: &str) {
            let properties = schema["properties"].as_object().unwrap();
            for (name, property) in properties {
                let path = format!("{path}.{name}");
                let says = ["type", "enum", "anyOf"]
                    .iter()
                    .any(|word| property.get(word).is_some());
                assert!(says, "{path}: {property}");
                for table in [property, &property["items"]] {
                    if table.get("properties").is_some() {
                        look(table, &path);
                    }
                }
            }
        }
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        look(&schema, "");
        let service = &schema["properties"]["service"]["items"];
        assert_eq!(service["required"], json!(["name", "address", "port"]));
        assert_eq!(service["properties"]["port"]["maximum"], 65_535);
        assert_eq!(service["properties"]["protocol"]["default"], "tcp");
        let app_host = &schema["properties"]["app_host"];
        assert_eq!(app_host["required"], json!(["interfaces", "vips"]));
    }

    #[test]
    fn toml_becomes_json() {
        let json = as_json("a = 0x10\nb = [1.5, true, 1979-05-27]\n[c]\nd = \"e\"\n[[f]]\n");
        let expected = json!({
            "a": 16, "b": [1.5, true, "1979-05-27"], "c": { "d": "e" }, "f": [{}],
        });
        assert_eq!(json, Some(expected));
        assert_eq!(as_json("a = "), None);
        assert_eq!(as_json("a = nan"), Some(json!({ "a": null })));
    }
}
