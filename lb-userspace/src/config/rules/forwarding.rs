//! What forwarding and scheduling take: switches, prefixes, segment sizes, server ids.

use std::net::IpAddr;

use serde_json::json;
use toml::{Spanned, de::DeValue};

use super::{refuse, text};
use crate::config::{
    model::{Mss, Prefix},
    schema::{Refusal, Rule},
};

/// `true` or `false`.
pub(in crate::config) struct Switch;

impl Rule for Switch {
    type Value = bool;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<bool, Vec<Refusal>> {
        match value.get_ref().as_bool() {
            Some(value) => Ok(value),
            None => refuse(value.get_ref(), "is not a switch (allowed: true, false)"),
        }
    }

    fn allowed(&self) -> String {
        "`true`, `false`".to_owned()
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "boolean" })
    }
}

/// An address and the length of its prefix.
pub(in crate::config) struct PrefixOf;

impl Rule for PrefixOf {
    type Value = Prefix;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Prefix, Vec<Refusal>> {
        let written = text(value, "a prefix")?;
        match parse_prefix(written) {
            Some(prefix) => bare_prefix(prefix).or_else(|reason| refuse(value.get_ref(), reason)),
            None => refuse(
                value.get_ref(),
                "is not a prefix (write \"172.16.0.0/16\" or \"10.0.0.2\")",
            ),
        }
    }

    fn allowed(&self) -> String {
        "IP prefix: `\"172.16.0.0/16\"`, or one address".to_owned()
    }

    fn show(&self, value: &Prefix) -> String {
        format!("\"{value}\"")
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$" })
    }
}

/// The prefix, unless there is more in it.
///
/// # Errors
/// With the end of a sentence.
pub(in crate::config) fn bare_prefix(prefix: Prefix) -> Result<Prefix, String> {
    if is_mapped(prefix.address) {
        let reason = "is a prefix of IPv4 addresses in IPv6 clothes (write \"10.0.0.0/8\")";
        return Err(reason.to_owned());
    }
    if prefix.has_host_bits() {
        let network = prefix.network();
        return Err(format!(
            "has bits set behind its prefix (write \"{network}\")"
        ));
    }
    Ok(prefix)
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// A prefix, or an address as one.
pub(crate) fn parse_prefix(text: &str) -> Option<Prefix> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None => longest,
    };
    (length <= longest).then_some(Prefix { address, length })
}

/// The largest segment that a handshake may announce.
pub(in crate::config) struct SegmentSize;

impl Rule for SegmentSize {
    type Value = Mss;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Mss, Vec<Refusal>> {
        const ALLOWED: &str = "(allowed: \"off\", \"auto\", 536 to 65495)";
        match value.get_ref() {
            DeValue::String(word) if word == "auto" => Ok(Mss::Auto),
            DeValue::String(word) if word == "off" => Ok(Mss::Off),
            DeValue::Integer(integer) => {
                let size = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
                match size.filter(|size| (536..=65_495).contains(size)) {
                    Some(size) => Ok(Mss::Most(size as u16)),
                    None => refuse(value.get_ref(), format!("is out of range {ALLOWED}")),
                }
            }
            DeValue::String(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                refuse(value.get_ref(), format!("is not a segment size {ALLOWED}"))
            }
        }
    }

    fn allowed(&self) -> String {
        "`\"off\"`, `\"auto\"`, or a whole number, 536 to 65495".to_owned()
    }

    fn show(&self, value: &Mss) -> String {
        match value {
            Mss::Off => "\"off\"".to_owned(),
            Mss::Auto => "\"auto\"".to_owned(),
            Mss::Most(size) => size.to_string(),
        }
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "anyOf": [
            { "enum": ["off", "auto"] },
            { "type": "integer", "minimum": 536, "maximum": 65_495 },
        ] })
    }
}

/// A number of slots that a Maglev table may have.
pub(in crate::config) struct Prime;

/// More would take too long to fill.
const LARGEST: u32 = 655_373;

impl Rule for Prime {
    type Value = u32;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<u32, Vec<Refusal>> {
        let number = super::Whole(3..=LARGEST).read(value)?;
        if is_prime(number) {
            return Ok(number);
        }
        let next = (number..=LARGEST).find(|number| is_prime(*number));
        refuse(
            value.get_ref(),
            format!(
                "is not a prime number (the next one is {})",
                next.unwrap_or(LARGEST)
            ),
        )
    }

    fn allowed(&self) -> String {
        format!("prime number, 3 to {LARGEST}")
    }

    fn show(&self, value: &u32) -> String {
        value.to_string()
    }

    fn schema(&self) -> serde_json::Value {
        super::Whole(3..=LARGEST).schema()
    }
}

fn is_prime(number: u32) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// Bytes in hexadecimal digits.
pub(in crate::config) struct ServerId;

impl Rule for ServerId {
    type Value = Vec<u8>;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<u8>, Vec<Refusal>> {
        let digits = text(value, "a server id")?;
        let bytes = (digits.is_ascii() && digits.len().is_multiple_of(2))
            .then(|| {
                digits
                    .as_bytes()
                    .chunks(2)
                    .map(|pair| {
                        let pair = std::str::from_utf8(pair).ok()?;
                        u8::from_str_radix(pair, 16).ok()
                    })
                    .collect::<Option<Vec<u8>>>()
            })
            .flatten();
        match bytes {
            Some(bytes) if (1..=15).contains(&bytes.len()) && !digits.contains('+') => Ok(bytes),
            _ => refuse(
                value.get_ref(),
                "is not a server id (allowed: 1 to 15 bytes in hexadecimal digits, \"0a0b\")",
            ),
        }
    }

    fn allowed(&self) -> String {
        "1 to 15 bytes in hexadecimal digits: `\"0a0b\"`".to_owned()
    }

    fn show(&self, value: &Vec<u8>) -> String {
        let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\"{digits}\"")
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": "^([0-9A-Fa-f]{2}){1,15}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_as_written() {
        for (text, length) in [
            ("172.16.0.0/16", 16),
            ("10.0.0.2", 32),
            ("0.0.0.0/0", 0),
            ("0100::/64", 64),
            ("fd00::1", 128),
        ] {
            let prefix = parse_prefix(text).expect(text);
            assert_eq!(prefix.length, length, "{text}");
            assert!(!prefix.has_host_bits(), "{text}");
        }
        for text in [
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "/8",
        ] {
            assert_eq!(parse_prefix(text), None, "{text}");
        }
        let sloppy = parse_prefix("172.16.5.0/16").expect("parses");
        assert!(sloppy.has_host_bits());
        assert_eq!(sloppy.network().to_string(), "172.16.0.0/16");
    }

    #[test]
    fn primes_are_known() {
        let primes: Vec<u32> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(16_381) && is_prime(65_537) && is_prime(LARGEST));
    }
}
