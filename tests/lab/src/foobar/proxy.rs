//! The proxy on each app host: the application finds its database at 127.0.0.1, and `lb` sends
//! writes to the primary and reads to the replica.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::lab::Lab;

use super::agent::{self, Agent};
use super::certificate::Authority;
use super::{Options, network, patience};

/// Starts the agent of an app host, and waits until it knows both servers.
pub(super) fn start(
    lab: &Lab,
    options: &Options,
    number: u8,
    (authority, passwords): (&Authority, &Path),
) -> Result<Agent> {
    let name = format!("app{number}");
    let config = config(lab, &name, number, (authority, passwords))?;
    let agent = Agent::start(lab, &options.lb, &name, &config)?;
    await_roles(&agent, "db1", Some("db2"))?;
    Ok(agent)
}

/// Waits until a proxy sees the primary and, if there is to be one, the replica, and both get
/// statements.
pub(super) fn await_roles(agent: &Agent, primary: &str, replica: Option<&str>) -> Result<()> {
    let what = format!("{primary} is the primary, {replica:?} the replica");
    patience::await_until(patience::LONG, &what, || {
        let status = agent.json(&["mysql", "status", "--json"])?;
        let is = |name: &str, role: &str| {
            let servers = status["servers"].as_array().into_iter().flatten();
            let mut named = servers.filter(|server| server["name"] == name);
            named.any(|server| server["role"] == role && server["in_rotation"] == true)
        };
        let fine = is(primary, "primary") && replica.is_none_or(|name| is(name, "replica"));
        ensure!(fine, "{status}");
        Ok(())
    })
    .map_err(|error| error.context(agent.log()))
}

/// How many statements a proxy has sent to primaries and to replicas.
pub(super) fn statements(agent: &Agent) -> Result<[u64; 2]> {
    let status = agent.json(&["mysql", "status", "--json"])?;
    let count = |target: &str| {
        let found = status.pointer(&format!("/statements/{target}"));
        found.and_then(Value::as_u64).unwrap_or(0)
    };
    Ok([count("primary"), count("replica")])
}

fn config(
    lab: &Lab,
    name: &str,
    number: u8,
    (authority, passwords): (&Authority, &Path),
) -> Result<String> {
    let password = |name: &str| passwords.join(name).display().to_string();
    let mut text = format!(
        r#"# The agent of app host {name}
[agent]
{common}
[mysql]
listen = ["127.0.0.1:3306"]
authentication = "list"
consistency = "global"

[[mysql.user]]
name = "foobar"
password_file = "{foobar}"

[mysql.monitor]
user = "lbmon"
password_file = "{lbmon}"
interval_seconds = 0.5

[mysql.failover]
replication_user = "copy"
replication_password_file = "{copy}"
"#,
        common = agent::common(lab, authority, (name, network::app(number)))?,
        foobar = password("foobar"),
        lbmon = password("lbmon"),
        copy = password("copy"),
    );
    for server in 1..=network::APPS {
        text.push_str(&format!(
            r#"
[[mysql.server]]
name = "db{server}"
address = "{}:3306"
tls = "require"
tls_ca = "{}"
tls_name = "db{server}"
"#,
            network::app(server),
            authority.certificate().display()
        ));
    }
    Ok(text)
}
