//! `[mysql] intercept = true`: an application that connects to the servers comes into the proxy, for
//! as long as there is one. What is intercepted is in a cgroup that only the test is in.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::Lab;
use lb_tests::cgroup::Cgroup;
use lb_tests::database::{Family, Pair};
use lb_tests::scenario::{Agent, Config, Mode, await_until};

const PATIENCE: Duration = Duration::from_secs(20);
/// Where the primary is, by IPv6, and the replica, by IPv4.
const PRIMARY: (IpAddr, u16) = (IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 3301);
const REPLICA: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3302);
/// What the proxy answers at the primary, and nobody else: a read goes to the replica.
const READ: &str = "SELECT /* lb:replica */ @@port";

/// An application's statement to an address, as it has it in its configuration.
fn ask(lab: &Lab, family: Family, (host, port): (IpAddr, u16), sql: &str) -> Result<String> {
    let mut command = lab.command("db", family.client())?;
    command.args(family.first_options()).args([
        "--protocol=tcp",
        &format!("-h{host}"),
        &format!("-P{port}"),
        "-uapp",
        "-papp",
        "-BN",
        "--comments",
        "-e",
        sql,
    ]);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{host} port {port}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn config(lab: &Lab, family: Family, pair: &Pair<'_>, cgroup: &Cgroup) -> Result<Config> {
    let monitor = match family {
        Family::MySql => "REPLICATION CLIENT",
        Family::MariaDb => "SLAVE MONITOR",
    };
    pair.primary.run(&format!(
        "CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT ALL ON *.* TO app@'%'; CREATE USER \
         watcher@'%' IDENTIFIED BY 'watch'; GRANT {monitor} ON *.* TO watcher@'%'"
    ))?;
    pair.write(1)?;
    pair.await_copy(1)?;
    let (watcher, app) = (lab.folder().join("watcher"), lab.folder().join("app"));
    fs::write(&watcher, "watch\n")?;
    fs::write(&app, "app\n")?;
    Ok(
        Config::of_app_host(lab, "proxy", Mode::Generic).tables(&format!(
            "\n[mysql]\nlisten = [\"127.0.0.1:3306\", \"[::1]:3306\"]\nintercept = true\n\
         intercept_cgroup = \"{}\"\n[mysql.monitor]\nuser = \"watcher\"\npassword_file = \"{}\"\n\
         interval_seconds = 0.2\n[[mysql.server]]\nname = \"one\"\naddress = \"[{}]:{}\"\n\
         [[mysql.server]]\nname = \"two\"\naddress = \"{}:{}\"\n[[mysql.user]]\nname = \"app\"\n\
         password_file = \"{}\"\n",
            cgroup.path().display(),
            watcher.display(),
            PRIMARY.0,
            PRIMARY.1,
            REPLICA.0,
            REPLICA.1,
            app.display()
        )),
    )
}

fn status(agent: &Agent) -> Result<serde_json::Value> {
    let outcome = agent.asked(&["mysql", "status", "--json"])?;
    Ok(serde_json::from_str(&outcome.stdout)?)
}

fn await_servers(agent: &Agent) -> Result<()> {
    await_until(PATIENCE, "both servers get statements", || {
        let status = status(agent)?;
        let servers = status["servers"].as_array().context("no servers")?;
        ensure!(
            servers.iter().all(|one| one["in_rotation"] == true),
            "{status}"
        );
        Ok(())
    })
}

fn connects_come_into_the_proxy_while_it_is_there(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    // Before all that is to be in it, and dropped after that.
    let cgroup = Cgroup::enter()?;
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    let at = |(host, port): (IpAddr, u16)| ("db", (host, port).into());
    let pair = Pair::start(&lab, family, at(PRIMARY), at(REPLICA))?;
    let config = config(&lab, family, &pair, &cgroup)?;
    let (primary, replica) = (PRIMARY.1.to_string(), REPLICA.1.to_string());
    // Where a read and a transaction are answered, asked at the primary and at the replica.
    let answers = || -> Result<[String; 2]> {
        Ok([
            ask(&lab, family, PRIMARY, READ)?,
            ask(&lab, family, REPLICA, "BEGIN; SELECT @@port; COMMIT")?,
        ])
    };
    let direct = [primary.clone(), replica.clone()];
    let routed = [replica, primary];
    ensure!(answers()? == direct, "{:?}", answers()?);

    let mut agent = Agent::start_in(&lab, "db", &config)?;
    await_servers(&agent)?;
    ensure!(answers()? == routed, "{:?}", answers()?);
    let seen = status(&agent)?;
    let intercept = &seen["intercept"];
    ensure!(intercept["intercepted"].as_u64() >= Some(2), "{seen}");
    // The proxy reaches them, although it is in the cgroup too.
    ensure!(intercept["own"].as_u64() > Some(0), "{seen}");
    ensure!(
        seen["sessions"].as_u64() < Some(4),
        "it serves itself: {seen}"
    );
    let page = agent.asked(&["mysql", "status"])?.stdout;
    ensure!(
        page.contains("intercepts connections to [::1]:3301, 127.0.0.1:3302"),
        "{page}"
    );

    agent.kill()?;
    let reached = "connects reach the servers again";
    let are_direct = || {
        let found = answers()?;
        ensure!(found == direct, "{found:?}");
        Ok(())
    };
    await_until(PATIENCE, reached, are_direct)?;
    agent.start_again(&lab)?;
    await_servers(&agent)?;
    ensure!(answers()? == routed, "{:?}", answers()?);
    let ended = agent.stop()?;
    ensure!(ended.success(), "{ended}");
    are_direct()
}

of_both_families!(connects_come_into_the_proxy_while_it_is_there);
