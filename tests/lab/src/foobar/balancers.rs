//! The two balancers: `lb`, and keepalived that moves the VIP and the servers' gateway together.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::lab::Lab;
use crate::process::Process;

use super::agent::{self, Agent, PORT};
use super::certificate::Authority;
use super::network::{self, APPS, BALANCERS, GATEWAY};
use super::{NAME, Options, VIP, patience, write_command};

/// The service behind https://www.foobar.com/.
pub(super) const SERVICE: &str = "https";

/// Where balancers tell each other of their connections.
const TALK: u16 = 4789;

/// A balancer.
#[derive(Debug)]
pub struct Balancer {
    /// Its name, which is that of its namespace.
    pub name: String,
    /// Its `lb`.
    pub agent: Agent,
    number: u8,
    ca: PathBuf,
    keepalived: Process,
}

impl Balancer {
    pub(super) fn start(
        lab: &Lab,
        options: &Options,
        number: u8,
        authority: &Authority,
    ) -> Result<Self> {
        let name = format!("lb{number}");
        let config = config(lab, options, number, authority)?;
        let agent = Agent::start(lab, &options.lb, &name, &config)?;
        let keepalived = start_keepalived(lab, number, &authority.certificate())?;
        Ok(Self {
            name,
            agent,
            number,
            ca: authority.certificate(),
            keepalived,
        })
    }

    /// What it says of a backend of the service.
    ///
    /// # Errors
    /// When it does not answer, or has no such backend.
    pub fn backend(&self, backend: &str) -> Result<Value> {
        let status = self.agent.json(&["status", "--json"])?;
        let named = |list: Option<&Value>, name: &str| {
            let list = list.and_then(Value::as_array)?;
            list.iter().find(|one| one["name"] == name).cloned()
        };
        let service = named(status.get("services"), SERVICE);
        let found = service.and_then(|service| named(service.get("backends"), backend));
        match found {
            Some(value) => Ok(value),
            None => bail!("{} has no backend {SERVICE}/{backend}: {status}", self.name),
        }
    }

    /// Waits until it sees a backend of the service so, in its tables too.
    pub(super) fn await_health(&self, backend: &str, health: &str) -> Result<()> {
        let what = format!("{} sees {backend} {health}", self.name);
        patience::await_until(patience::LONG, &what, || {
            let backend = self.backend(backend)?;
            ensure!(backend["health"] == health, "{backend}");
            let passive = backend["role"] == "backup";
            ensure!(
                passive || backend["in_rotation"] == (health == "up"),
                "{backend}"
            );
            Ok(())
        })
        .map_err(|error| error.context(self.agent.log()))
    }

    /// Ends all of it at once, as when its power fails: nobody says good-bye to anybody.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn cut(&mut self, lab: &Lab) -> Result<()> {
        network::plug(lab, &self.name, false)?;
        self.keepalived.kill()?;
        self.agent.kill()
    }

    /// Starts it again as a machine that was switched on: it remembers nothing but its files.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn return_again(&mut self, lab: &Lab) -> Result<()> {
        let own = lab.namespace(&self.name)?;
        for (interface, address) in [("wan0", VIP), ("lan0", GATEWAY)] {
            // keepalived may have got to take it away.
            let _ = own.ip(&format!("addr del {address}/32 dev {interface}"));
        }
        self.agent.detach()?;
        network::plug(lab, &self.name, true)?;
        self.agent.start_again(lab)?;
        self.keepalived = start_keepalived(lab, self.number, &self.ca)?;
        Ok(())
    }

    /// What its keepalived wrote so far.
    #[must_use]
    pub fn keepalived_log(&self) -> String {
        self.keepalived.log()
    }
}

/// Whether this balancer has the VIP.
fn has_vip(lab: &Lab, balancer: &Balancer) -> Result<bool> {
    let addresses = lab
        .namespace(&balancer.name)?
        .ip("-4 -o addr show dev wan0")?;
    Ok(addresses.contains(&format!(" {VIP}/")))
}

/// Which balancer has the VIP.
pub(super) fn active(lab: &Lab, balancers: &[Balancer]) -> Result<usize> {
    let mut holders = Vec::new();
    for (index, balancer) in balancers.iter().enumerate() {
        if has_vip(lab, balancer)? {
            holders.push(index);
        }
    }
    match *holders {
        [one] => Ok(one),
        _ => bail!("{} balancers have the VIP", holders.len()),
    }
}

fn config(lab: &Lab, options: &Options, number: u8, authority: &Authority) -> Result<String> {
    let name = format!("lb{number}");
    let mut text = format!(
        r#"# Balancer {name} of www.foobar.com
[agent]
interfaces = ["wan0", "lan0"]
xdp_mode = "{mode}"
{common}
[cluster]
listen = "{own}:{TALK}"
peers = ["{other}:{TALK}"]
key_file = "{cluster_key}"

[firewall]
deny_files = ["{deny}"]

[limits]
flows = 65536
"#,
        mode = options.xdp_mode,
        own = network::balancer(number),
        other = network::balancer(BALANCERS + 1 - number),
        deny = deny_file(lab)?.display(),
        cluster_key = cluster_key(lab)?.display(),
        common = agent::common(lab, authority, (&name, network::balancer(number)))?,
    );
    let https = format!(
        "kind = \"https\"\npath = \"/healthz\"\nsni = \"{NAME}\"\nca_file = \"{}\"",
        authority.certificate().display()
    );
    let http = format!("kind = \"http\"\npath = \"/healthz\"\nhost = \"{NAME}\"");
    for (service, port, check) in [(SERVICE, 443, https), ("http", 80, http)] {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#"
[[service]]
name = "{service}"
address = "{VIP}"
port = {port}
scheduler = "round-robin"
forwarding = "nat"
syn_cookies = 256

[service.health_check]
{check}
interval_seconds = 0.5
timeout_seconds = 0.5
rise = 2
fall = 2
"#
        );
        for app in 1..=APPS {
            let role = match options.active_passive && app > 1 {
                true => "\nrole = \"backup\"",
                false => "",
            };
            let _ = write!(
                text,
                "\n[[service.backend]]\nname = \"app{app}\"\naddress = \"{}\"{role}\n",
                network::app(app)
            );
        }
    }
    Ok(text)
}

/// The list of those who are denied; at first there is nobody.
pub(super) fn deny_file(lab: &Lab) -> Result<PathBuf> {
    let file = lab.folder().join("deny.txt");
    if !file.exists() {
        fs::write(&file, "# Denied at both balancers.\n")?;
    }
    Ok(file)
}

/// The secret that both balancers share.
fn cluster_key(lab: &Lab) -> Result<PathBuf> {
    let file = lab.folder().join("cluster.key");
    if !file.exists() {
        fs::write(&file, "a-secret-of-both-balancers-that-nobody-else-knows\n")?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn start_keepalived(lab: &Lab, number: u8, ca: &Path) -> Result<Process> {
    let name = format!("lb{number}");
    let folder = lab.sub_folder(&format!("keepalived-{name}"))?;
    let ready = write_command(
        lab,
        &name,
        "ready",
        &format!(
            "#!/bin/sh\nexec curl --silent --fail --max-time 1 --output /dev/null \
             --cacert '{}' https://{}:{PORT}/readyz\n",
            ca.display(),
            network::balancer(number)
        ),
    )?;
    let mut text = format!(
        "global_defs {{
    router_id {name}
    vrrp_version 3
    script_user root
    enable_script_security
}}
vrrp_script ready {{
    script {}
    interval 1
    timeout 1
    fall 2
    rise 1
}}
# Both addresses move together, or replies would go where no flow is known.
vrrp_sync_group both {{
    group {{
        wan
        lan
    }}
    track_script {{
        ready
    }}
}}
",
        ready.display()
    );
    let priority = 110 - 10 * number;
    for (instance, interface, router, address) in
        [("wan", "wan0", 10, VIP), ("lan", "lan0", 20, GATEWAY)]
    {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "vrrp_instance {instance} {{
    state BACKUP
    nopreempt
    interface {interface}
    virtual_router_id {router}
    priority {priority}
    advert_int 0.1
    garp_master_delay 1
    virtual_ipaddress {{
        {address}/32
    }}
}}
"
        );
    }
    let file = folder.join("keepalived.conf");
    fs::write(&file, text)?;
    let mut command = lab.command(&name, "/usr/sbin/keepalived")?;
    command
        .args(["--dont-fork", "--log-console", "--vrrp", "--use-file"])
        .arg(&file);
    command.arg("--pid").arg(folder.join("pid"));
    command.arg("--vrrp_pid").arg(folder.join("vrrp.pid"));
    lab.spawn(&format!("keepalived-{name}"), command)
}
