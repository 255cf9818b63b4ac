//! Lists: status codes and interface names.

use serde_json::json;
use toml::{Spanned, de::DeValue};

use super::{basic_string, refuse};
use crate::config::{
    model::StatusCodes,
    schema::{Located, Refusal, Rule},
};

/// HTTP status codes, single or ranges.
pub(in crate::config) struct Codes;

impl Rule for Codes {
    type Value = StatusCodes;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<StatusCodes, Vec<Refusal>> {
        let codes = match value.get_ref() {
            DeValue::String(text) => parse_codes(text),
            DeValue::Integer(integer) if integer.radix() == 10 => parse_codes(integer.as_str()),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        match codes {
            Some(codes) => Ok(codes),
            None => refuse(
                value.get_ref(),
                "is not a list of HTTP status codes from 100 to 599 (write \"200-399\" or \
                 \"200,204,301-302\")",
            ),
        }
    }

    fn allowed(&self) -> String {
        "HTTP status codes and ranges, 100 to 599: `\"200,204,301-302\"`".to_owned()
    }

    fn show(&self, value: &StatusCodes) -> String {
        format!("\"{value}\"")
    }

    fn schema(&self) -> serde_json::Value {
        let list = r"^\s*[1-5]\d\d\s*(-\s*[1-5]\d\d\s*)?(,\s*[1-5]\d\d\s*(-\s*[1-5]\d\d\s*)?)*$";
        json!({ "anyOf": [
            { "type": "string", "pattern": list },
            { "type": "integer", "minimum": 100, "maximum": 599 },
        ] })
    }
}

fn parse_codes(text: &str) -> Option<StatusCodes> {
    let code = |text: &str| -> Option<u16> {
        let digits = text.trim();
        let plain = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .parse()
            .ok()
            .filter(|code| plain && (100..=599).contains(code))
    };
    let range = |part: &str| match part.split_once('-') {
        None => code(part).map(|code| code..=code),
        Some((first, last)) => {
            let range = code(first)?..=code(last)?;
            (!range.is_empty()).then_some(range)
        }
    };
    text.split(',')
        .map(range)
        .collect::<Option<Vec<_>>>()
        .map(StatusCodes)
}

/// A list of what another rule takes, each once.
pub(in crate::config) struct List<R> {
    /// The rule for an element.
    pub(in crate::config) of: R,
    /// A list as it should be written.
    pub(in crate::config) example: &'static str,
}

impl<R: Rule<Value: PartialEq>> Rule for List<R> {
    type Value = Vec<Located<R::Value>>;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Refusal>> {
        let Some(elements) = value.get_ref().as_array() else {
            return refuse(
                value.get_ref(),
                format!("is not a list (write {})", self.example),
            );
        };
        let mut list: Self::Value = Vec::new();
        let mut refusals = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let at = element.span().start;
            let refused = match self.of.read(element) {
                Ok(value) if list.iter().any(|known| known.value == value) => {
                    vec![Refusal::new(element.get_ref(), "is in the list twice")]
                }
                Ok(value) => {
                    list.push(Located { value, at });
                    continue;
                }
                Err(refused) => refused,
            };
            refusals.extend(refused.into_iter().map(|refusal| Refusal {
                element: Some((index, at)),
                ..refusal
            }));
        }
        if refusals.is_empty() {
            Ok(list)
        } else {
            Err(refusals)
        }
    }

    fn allowed(&self) -> String {
        format!("list of {}", self.of.allowed())
    }

    fn show(&self, value: &Self::Value) -> String {
        let elements: Vec<String> = value.iter().map(|one| self.of.show(&one.value)).collect();
        format!("[{}]", elements.join(", "))
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "array", "items": self.of.schema(), "uniqueItems": true })
    }
}

/// The names of network interfaces, each once.
pub(in crate::config) struct InterfaceNames;

impl Rule for InterfaceNames {
    type Value = Vec<Located<String>>;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Refusal>> {
        let Some(elements) = value.get_ref().as_array() else {
            return refuse(value.get_ref(), "is not a list (write [\"eth0\"])");
        };
        let mut names: Vec<Located<String>> = Vec::new();
        let mut refusals = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let at = element.span().start;
            let reason = match element.get_ref().as_str() {
                None => "is not the name of an interface (a text in quotes)",
                Some(name) if !is_interface_name(name) => {
                    "is not the name of an interface (allowed: 1 to 15 characters, no spaces, \
                     no \"/\" and no \":\")"
                }
                Some(name) if names.iter().any(|known| known.value == name) => {
                    "is in the list twice"
                }
                Some(name) => {
                    names.push(Located {
                        value: name.to_owned(),
                        at,
                    });
                    continue;
                }
            };
            let refusal = Refusal::new(element.get_ref(), reason);
            refusals.push(Refusal {
                element: Some((index, at)),
                ..refusal
            });
        }
        if refusals.is_empty() {
            Ok(names)
        } else {
            Err(refusals)
        }
    }

    fn allowed(&self) -> String {
        "list of interface names".to_owned()
    }

    fn show(&self, value: &Self::Value) -> String {
        let names: Vec<String> = value.iter().map(|name| basic_string(&name.value)).collect();
        format!("[{}]", names.join(", "))
    }

    fn schema(&self) -> serde_json::Value {
        let name = json!({
            "type": "string", "minLength": 1, "maxLength": 15, "pattern": r"^[^/:\s]+$",
            "not": { "enum": [".", ".."] },
        });
        json!({ "type": "array", "items": name, "uniqueItems": true })
    }
}

/// As the kernel has it, `dev_valid_name`.
fn is_interface_name(name: &str) -> bool {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    !name.is_empty() && name.len() < 16 && name != "." && name != ".." && !name.contains(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_read_as_written() {
        for text in ["200", "200-399", "200,204,301-302"] {
            let codes = parse_codes(text).expect(text);
            assert_eq!(codes.to_string(), text);
        }
        let codes = parse_codes("200, 301-302").expect("a space is no harm");
        assert!(codes.contains(200) && codes.contains(302));
        assert!(!codes.contains(201) && !codes.contains(303));
        for text in [
            "", "99", "600", "2xx", "300-200", "200-", "-200", "200,,300", "+20", "0200",
        ] {
            assert_eq!(parse_codes(text), None, "{text}");
        }
    }

    #[test]
    fn interface_names_are_those_the_kernel_takes() {
        for name in [
            "eth0",
            "enp3s0f0np0",
            "wg-home",
            "br_1.42",
            "abcdefghijklmno",
        ] {
            assert!(is_interface_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "eth0:1",
            "abcdefghijklmnop",
            "a\0",
        ] {
            assert!(!is_interface_name(name), "{name}");
        }
    }
}
