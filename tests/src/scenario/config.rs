//! The config of a scenario's `lb`.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use lb_lab::{Lab, Routed, Segment};

use super::Mode;

/// A config file in the making.
#[derive(Clone, Debug)]
pub struct Config {
    agent: BTreeMap<&'static str, String>,
    /// Where the pins go.
    pub pins: PathBuf,
    /// The admin socket.
    pub socket: PathBuf,
    /// Keys of `[admin]` beside the socket.
    admin: BTreeMap<&'static str, String>,
    /// `limits.flows`, where it is not the default.
    flows: Option<u32>,
    services: Vec<Service>,
    /// Keys of `[app_host]`; without any there is no such table.
    app_host: BTreeMap<&'static str, String>,
    /// Tables as they stand in the file.
    tables: String,
}

impl Config {
    /// With pins, socket and state file that belong to the lab alone.
    #[must_use]
    pub fn new(lab: &Lab, interfaces: &[String], mode: Mode) -> Self {
        let pins = lab.pins().join("lb");
        let agent = BTreeMap::from([
            ("interfaces", format!("{interfaces:?}")),
            ("xdp_mode", quoted(mode.word())),
            (
                "state_file",
                quoted(lab.folder().join("state.json").display()),
            ),
        ]);
        let socket = lab.folder().join("lb.sock");
        Self {
            agent,
            pins,
            socket,
            admin: BTreeMap::new(),
            flows: None,
            services: Vec::new(),
            app_host: BTreeMap::new(),
            tables: String::new(),
        }
    }

    /// Of an agent on an app host of that name, which steers nothing. It has pins and a socket of
    /// its own.
    #[must_use]
    pub fn of_app_host(lab: &Lab, name: &str, mode: Mode) -> Self {
        Self {
            agent: BTreeMap::from([("xdp_mode", quoted(mode.word()))]),
            pins: lab.pins().join(name),
            socket: lab.folder().join(format!("{name}.sock")),
            admin: BTreeMap::new(),
            flows: None,
            services: Vec::new(),
            app_host: BTreeMap::new(),
            tables: String::new(),
        }
    }

    /// Adds tables as they stand in the file.
    #[must_use]
    pub fn tables(mut self, text: &str) -> Self {
        self.tables.push_str(text);
        self
    }

    /// Names the interfaces where steering attaches.
    #[must_use]
    pub fn agent_interfaces(mut self, names: &[&str]) -> Self {
        self.agent.insert("interfaces", format!("{names:?}"));
        self
    }

    /// Sets a key of `[app_host]` to a list of texts.
    #[must_use]
    pub fn app_host<T: Display>(mut self, key: &'static str, list: &[T]) -> Self {
        let list: Vec<String> = list.iter().map(quoted).collect();
        self.app_host.insert(key, format!("[{}]", list.join(", ")));
        self
    }

    /// Sets a key of `[agent]` to a word.
    #[must_use]
    pub fn agent(mut self, key: &'static str, word: &str) -> Self {
        self.agent.insert(key, quoted(word));
        self
    }

    /// Sets a key of `[admin]` to a word.
    #[must_use]
    pub fn admin(mut self, key: &'static str, word: impl Display) -> Self {
        self.admin.insert(key, quoted(word));
        self
    }

    /// Sets how many established flows there is room for.
    #[must_use]
    pub const fn flows(mut self, flows: u32) -> Self {
        self.flows = Some(flows);
        self
    }

    /// Adds a service.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Takes a backend out of a service.
    pub fn forget_backend(&mut self, service: &str, backend: &str) -> Option<()> {
        let mut services = self.services.iter_mut();
        let service = services.find(|one| one.name == service)?;
        service.backends.retain(|one| one.name != backend);
        Some(())
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from("[agent]\n");
        for (key, value) in &self.agent {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{key} = {value}");
        }
        let _ = writeln!(text, "pin_path = {}", quoted(self.pins.display()));
        let _ = writeln!(
            text,
            "\n[admin]\nsocket = {}",
            quoted(self.socket.display())
        );
        for (key, value) in &self.admin {
            let _ = writeln!(text, "{key} = {value}");
        }
        if let Some(flows) = self.flows {
            let _ = writeln!(text, "\n[limits]\nflows = {flows}");
        }
        if !self.app_host.is_empty() {
            text.push_str("\n[app_host]\n");
        }
        for (key, value) in &self.app_host {
            let _ = writeln!(text, "{key} = {value}");
        }
        text.push_str(&self.tables);
        for service in &self.services {
            service.write(&mut text);
        }
        text
    }

    /// Writes it under this name into the lab's folder.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, lab: &Lab, name: &str) -> Result<PathBuf> {
        let path = lab.folder().join(name);
        fs::write(&path, self.text())?;
        Ok(path)
    }
}

/// How a service's backends are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Not at all.
    None,
    /// By connecting.
    Tcp,
    /// By `GET /healthz`.
    Http,
}

impl Check {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tcp => "tcp",
            Self::Http => "http",
        }
    }
}

/// A service of a config.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    address: IpAddr,
    port: u16,
    protocol: &'static str,
    keys: BTreeMap<&'static str, String>,
    check: Check,
    check_port: Option<u16>,
    /// Lines of its `[service.health_check]`, instead of those that `check` gives.
    check_lines: Option<String>,
    /// Lines of its `[service.discovery]`.
    discovery: Option<String>,
    backends: Vec<Backend>,
}

/// A backend of a service.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its weight; 1 is left to the default.
    pub weight: u16,
    /// Whether it has the role `backup`.
    pub is_backup: bool,
}

impl Service {
    /// A TCP service with HTTP checks and NAT.
    #[must_use]
    pub fn tcp(name: &str, address: impl Into<IpAddr>, port: u16, backends: Vec<Backend>) -> Self {
        Self {
            name: name.to_owned(),
            address: address.into(),
            port,
            protocol: "tcp",
            keys: BTreeMap::new(),
            check: Check::Http,
            check_port: None,
            check_lines: None,
            discovery: None,
            backends,
        }
    }

    /// A UDP service without checks and with NAT.
    #[must_use]
    pub fn udp(name: &str, address: impl Into<IpAddr>, port: u16, backends: Vec<Backend>) -> Self {
        let service = Self::tcp(name, address, port, backends);
        Self {
            protocol: "udp",
            check: Check::None,
            ..service
        }
    }

    /// Leaves a backend out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.backends.retain(|backend| backend.name != name);
        self
    }

    /// Chooses the health check.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// Has another port checked than the one that serves.
    #[must_use]
    pub fn check_port(mut self, port: u16) -> Self {
        self.check_port = Some(port);
        self
    }

    /// Gives the lines of `[service.health_check]`, but for its rhythm.
    #[must_use]
    pub fn check_lines(mut self, lines: impl Into<String>) -> Self {
        self.check_lines = Some(lines.into());
        self
    }

    /// Gives the lines of `[service.discovery]`.
    #[must_use]
    pub fn discovery(mut self, lines: impl Into<String>) -> Self {
        self.discovery = Some(lines.into());
        self
    }

    /// Sets a key of the service to a number.
    #[must_use]
    pub fn number(mut self, key: &'static str, number: u32) -> Self {
        self.keys.insert(key, number.to_string());
        self
    }

    /// Sets a key of the service to a word.
    #[must_use]
    pub fn key(mut self, key: &'static str, word: &str) -> Self {
        self.keys.insert(key, quoted(word));
        self
    }

    /// Sets a key of the service to anything that TOML knows.
    #[must_use]
    pub fn raw(mut self, key: &'static str, value: &str) -> Self {
        self.keys.insert(key, value.to_owned());
        self
    }

    /// Makes a backend the one for emergencies.
    #[must_use]
    pub fn backup(mut self, name: &str) -> Self {
        for backend in &mut self.backends {
            backend.is_backup |= backend.name == name;
        }
        self
    }

    /// Sets the weights of its backends.
    #[must_use]
    pub fn weights(mut self, weights: &[u16]) -> Self {
        for (backend, weight) in self.backends.iter_mut().zip(weights) {
            backend.weight = *weight;
        }
        self
    }

    fn write(&self, text: &mut String) {
        let Self {
            name,
            address,
            port,
            protocol,
            keys,
            check,
            check_port,
            check_lines,
            discovery,
            backends,
        } = self;
        let _ = writeln!(
            text,
            "\n[[service]]\nname = \"{name}\"\naddress = \"{address}\"\nport = {port}\n\
             protocol = \"{protocol}\""
        );
        for (key, value) in keys {
            let _ = writeln!(text, "{key} = {value}");
        }
        text.push_str("\n[service.health_check]\n");
        match check_lines {
            Some(lines) => {
                let _ = writeln!(text, "{lines}");
            }
            None => {
                let _ = writeln!(text, "kind = \"{}\"", check.word());
                if *check == Check::Http {
                    text.push_str("path = \"/healthz\"\n");
                }
            }
        }
        if let Some(port) = check_port {
            let _ = writeln!(text, "port = {port}");
        }
        if *check != Check::None {
            text.push_str("interval_seconds = 0.2\ntimeout_seconds = 1.0\nrise = 2\nfall = 2\n");
        }
        if let Some(discovery) = discovery {
            let _ = write!(text, "\n[service.discovery]\n{discovery}");
        }
        for Backend {
            name,
            address,
            port,
            weight,
            is_backup,
        } in backends
        {
            let _ = writeln!(
                text,
                "\n[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\nport = {port}"
            );
            if *weight != 1 {
                let _ = writeln!(text, "weight = {weight}");
            }
            if *is_backup {
                text.push_str("role = \"backup\"\n");
            }
        }
    }
}

/// Backends `web1`, `web2`, … on the first servers of a [`Routed`] lab, of the VIP's family.
#[must_use]
pub fn routed_backends(vip: impl Into<IpAddr>, count: u8, port: u16) -> Vec<Backend> {
    backends(vip.into(), count, port, Routed::server_addresses)
}

/// Backends `web1`, `web2`, … on the first servers of a [`Segment`], of the VIP's family.
#[must_use]
pub fn segment_backends(vip: impl Into<IpAddr>, count: u8, port: u16) -> Vec<Backend> {
    backends(vip.into(), count, port, Segment::server_addresses)
}

fn backends(
    vip: IpAddr,
    count: u8,
    port: u16,
    addresses: impl Fn(u8) -> [IpAddr; 2],
) -> Vec<Backend> {
    (1..=count)
        .map(|number| {
            let [v4, v6] = addresses(number);
            Backend {
                name: format!("web{number}"),
                address: if vip.is_ipv4() { v4 } else { v6 },
                port,
                weight: 1,
                is_backup: false,
            }
        })
        .collect()
}

/// A plain word as a string of TOML.
fn quoted(word: impl Display) -> String {
    format!("\"{word}\"")
}
