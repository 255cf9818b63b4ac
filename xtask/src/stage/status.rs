//! `lb status --json`, as far as the demonstration needs it.

use anyhow::{Context, Result};
use serde_json::Value;

/// The state of lb at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    /// `name (mode)` of each interface.
    pub(crate) interfaces: Vec<String>,
    pub(crate) services: Vec<Service>,
    /// Label and count, of those that occurred.
    pub(crate) verdicts: Vec<(String, u64)>,
}

/// One service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) backends: Vec<Backend>,
}

/// One backend.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) health: String,
    pub(crate) in_rotation: bool,
    pub(crate) connections: u64,
    pub(crate) active_flows: u64,
    pub(crate) packets: u64,
}

impl Status {
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        let document: Value =
            serde_json::from_slice(json).context("`lb status --json` is no JSON")?;
        Self::read(&document).with_context(|| format!("`lb status --json` lacks keys: {document}"))
    }

    fn read(document: &Value) -> Option<Self> {
        let interfaces = list(document, "interfaces", |interface| {
            Some(format!(
                "{} ({})",
                text(interface, "name")?,
                text(interface, "xdp_mode")?
            ))
        })?;
        let counted = |(label, count): (&String, &Value)| Some((label.clone(), count.as_u64()?));
        let verdicts = document
            .get("verdicts")?
            .as_object()?
            .iter()
            .filter_map(counted);
        Some(Self {
            interfaces,
            services: list(document, "services", Service::read)?,
            verdicts: verdicts.filter(|(_, count)| *count > 0).collect(),
        })
    }

    /// The service of this name.
    pub(crate) fn service(&self, name: &str) -> Result<&Service> {
        let service = self.services.iter().find(|service| service.name == name);
        service.with_context(|| format!("lb has no service {name}"))
    }
}

impl Service {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            name: text(value, "name")?,
            address: format!(
                "{} port {}",
                text(value, "address")?,
                number(value, "port")?
            ),
            backends: list(value, "backends", Backend::read)?,
        })
    }
}

impl Backend {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            name: text(value, "name")?,
            state: text(value, "state")?,
            health: text(value, "health")?,
            in_rotation: value.get("in_rotation")?.as_bool()?,
            connections: number(value, "connections")?,
            active_flows: number(value, "active_flows")?,
            packets: number(value, "packets")?,
        })
    }
}

fn list<T>(value: &Value, key: &str, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.get(key)?.as_array()?.iter().map(read).collect()
}

fn text(value: &Value, key: &str) -> Option<String> {
    Some(value.get(key)?.as_str()?.to_owned())
}

fn number(value: &Value, key: &str) -> Option<u64> {
    value.get(key)?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::Status;

    const EXAMPLE: &str = r#"{"version": "0.1.0",
        "interfaces": [{"name": "eth0", "xdp_mode": "native", "program_id": 12}],
        "services": [{"name": "web", "address": "203.0.113.10", "port": 80, "protocol": "tcp",
          "connections": 12, "active_flows": 3, "packets": 240, "bytes": 18000,
          "backends": [{"name": "web1", "address": "10.0.0.11", "port": 8080, "weight": 1,
            "state": "ready", "role": "active", "health": "up", "in_rotation": true,
            "connections": 4, "active_flows": 1, "packets": 80, "bytes": 6000}]}],
        "verdicts": {"steered": 240, "pass_not_ours": 12, "drop_no_backend": 0}}"#;

    #[test]
    fn the_contracts_example_is_read() {
        let status = Status::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(status.interfaces, ["eth0 (native)"]);
        assert_eq!(status.service("web").unwrap().backends[0].connections, 4);
        assert_eq!(status.verdicts.len(), 2);
        assert!(status.service("other").is_err());
    }

    #[test]
    fn a_missing_key_is_said() {
        assert!(Status::parse(b"{}").is_err());
        assert!(Status::parse(b"no JSON").is_err());
    }
}
