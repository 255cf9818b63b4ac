//! What to run.

use serde_json::json;
use toml::{Spanned, de::DeValue};

use super::{basic_string, refuse};
use crate::config::schema::{Refusal, Rule};

/// A program by its absolute path, and its arguments.
pub(in crate::config) struct CommandLine;

const EXAMPLE: &str = "[\"/usr/local/bin/check\", \"argument\"]";

impl Rule for CommandLine {
    type Value = Vec<String>;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Vec<Refusal>> {
        let Some(elements) = value.get_ref().as_array() else {
            return refuse(
                value.get_ref(),
                format!("is not a list of texts (write {EXAMPLE})"),
            );
        };
        if elements.is_empty() {
            return refuse(value.get_ref(), format!("is empty (write {EXAMPLE})"));
        }
        let mut words = Vec::new();
        let mut refusals = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let reason = match element.get_ref().as_str() {
                None => "is not a text in quotes",
                Some(word) if word.contains('\0') => "has a character that no argument can have",
                Some(word) if index == 0 && !word.starts_with('/') => {
                    "is not an absolute path (it must begin with \"/\")"
                }
                Some(word) => {
                    words.push(word.to_owned());
                    continue;
                }
            };
            refusals.push(Refusal {
                element: Some((index, element.span().start)),
                ..Refusal::new(element.get_ref(), reason)
            });
        }
        if refusals.is_empty() {
            Ok(words)
        } else {
            Err(refusals)
        }
    }

    fn allowed(&self) -> String {
        "absolute path of a program, and arguments: `[\"/usr/local/bin/check\"]`".to_owned()
    }

    fn show(&self, value: &Vec<String>) -> String {
        let words: Vec<String> = value.iter().map(|word| basic_string(word)).collect();
        format!("[{}]", words.join(", "))
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "array", "minItems": 1, "items": { "type": "string" } })
    }
}
