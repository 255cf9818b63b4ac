//! A port of this host.

use lb_common::abi::Protocol;
use serde_json::json;
use toml::{Spanned, de::DeValue};

use super::{basic_string, refuse, text};
use crate::config::{
    model::firewall::HostPort,
    schema::{Refusal, Rule},
};

/// `tcp/22`.
pub(in crate::config) struct PortOfHost;

impl Rule for PortOfHost {
    type Value = HostPort;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<HostPort, Vec<Refusal>> {
        let written = text(value, "a port")?;
        let parsed = written.split_once('/').and_then(|(protocol, port)| {
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => return None,
            };
            let is_plain = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
            let port = port.parse().ok().filter(|_| is_plain)?;
            Some(HostPort { protocol, port })
        });
        parsed.map_or_else(
            || {
                refuse(
                    value.get_ref(),
                    "is not a port of this host (write \"tcp/22\" or \"udp/53\")",
                )
            },
            Ok,
        )
    }

    fn allowed(&self) -> String {
        "protocol and port such as `\"tcp/22\"`".to_owned()
    }

    fn show(&self, value: &HostPort) -> String {
        basic_string(&value.to_string())
    }

    fn schema(&self) -> serde_json::Value {
        let number = r"[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]";
        json!({ "type": "string", "pattern": format!("^(tcp|udp)/({number})$") })
    }
}
