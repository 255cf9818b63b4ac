//! Where a database server is.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use toml::{Spanned, de::DeValue};

use super::{refuse, text};
use crate::config::schema::{Refusal, Rule};

/// An IP address and a port of another host, or of this one.
pub(in crate::config) struct ServerAddress;

impl Rule for ServerAddress {
    type Value = SocketAddr;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<SocketAddr, Vec<Refusal>> {
        let address = text(value, "an address and a port")?;
        let wrong = |why: &str| refuse(value.get_ref(), why);
        match address.parse::<SocketAddr>() {
            Ok(parsed) if parsed.port() == 0 => wrong("has port 0 (allowed: 1 to 65535)"),
            Ok(parsed) if parsed.ip().is_unspecified() => {
                wrong("is the unspecified address (name one host)")
            }
            Ok(parsed) if parsed.ip().is_multicast() => {
                wrong("is a multicast address (name one host)")
            }
            Ok(parsed) => Ok(SocketAddr::new(parsed.ip().to_canonical(), parsed.port())),
            Err(_) => match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(v4)) => wrong(&format!("has no port (write \"{v4}:3306\")")),
                Ok(IpAddr::V6(v6)) => wrong(&format!("has no port (write \"[{v6}]:3306\")")),
                Err(_) => wrong(
                    "is not an IP address and a port (write \"10.0.0.11:3306\" or \
                     \"[2001:db8::11]:3306\"; a name is not looked up)",
                ),
            },
        }
    }

    fn allowed(&self) -> String {
        "IPv4 or IPv6 address and port, as in `\"10.0.0.11:3306\"`, `\"[2001:db8::11]:3306\"`"
            .to_owned()
    }

    fn show(&self, value: &SocketAddr) -> String {
        format!("\"{value}\"")
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": r"^(\d{1,3}(\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]):\d{1,5}$" })
    }
}
