//! The query of a URL.

use std::fmt::Write as _;

/// The pairs that have a value, without the question mark.
pub(crate) fn encode<const N: usize>(pairs: [(&str, Option<String>); N]) -> String {
    let pairs: Vec<String> = pairs
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", escape(&value?))))
        .collect();
    pairs.join("&")
}

/// The pairs in a query; a sentence for each that is not to be understood.
pub(crate) fn decode(text: &str) -> impl Iterator<Item = Result<(&str, String), String>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = unescape(value)
            .ok_or_else(|| format!("the value of {name:?} is not written as URLs are"))?;
        Ok((name, value))
    })
}

/// RFC 3986, section 2.1: all but unreserved characters.
pub(crate) fn escape(value: &str) -> String {
    let mut escaped = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

pub(crate) fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            // `from_str_radix` takes a sign.
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
