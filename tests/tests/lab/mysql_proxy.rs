//! `[mysql]`: an application's connection, its statements at the primary and the replica, with real
//! servers of both families.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::Lab;
use lb_tests::database::{Family, Pair};
use lb_tests::scenario::{Agent, Config, Mode, Outcome, await_until};

const PATIENCE: Duration = Duration::from_secs(20);
const PRIMARY: u16 = 3301;
const REPLICA: u16 = 3302;
const PROXY: u16 = 3306;

/// A pair of servers, a proxy and an application's account.
pub(super) struct Routed<'l> {
    lab: &'l Lab,
    family: Family,
    pub(super) pair: Pair<'l>,
    pub(super) agent: Agent,
}

impl<'l> Routed<'l> {
    pub(super) fn start(lab: &'l Lab, family: Family, more: &str) -> Result<Self> {
        Self::start_limited(lab, family, (more, "", ""))
    }

    /// With more keys of the proxy, of each server, and of the user.
    pub(super) fn start_limited(
        lab: &'l Lab,
        family: Family,
        (more, of_server, of_user): (&str, &str, &str),
    ) -> Result<Self> {
        let place = |port: u16| ("db", ([127, 0, 0, 1], port).into());
        let pair = Pair::start(lab, family, place(PRIMARY), place(REPLICA))?;
        let monitor = match family {
            Family::MySql => "REPLICATION CLIENT",
            Family::MariaDb => "SLAVE MONITOR",
        };
        pair.primary.run(&format!(
            "CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT ALL ON *.* TO app@'%'; CREATE USER \
             watcher@'%' IDENTIFIED BY 'watch'; GRANT {monitor} ON *.* TO watcher@'%'; CREATE \
             DATABASE shop; CREATE TABLE shop.items (number INT PRIMARY KEY, server INT)"
        ))?;
        pair.write(1)?;
        pair.await_copy(1)?;
        let (watcher, app) = (lab.folder().join("watcher"), lab.folder().join("app"));
        fs::write(&watcher, "watch\n")?;
        fs::write(&app, "app\n")?;
        let config = Config::of_app_host(lab, "proxy", Mode::Generic).tables(&format!(
            "\n[mysql]\nlisten = [\"127.0.0.1:{PROXY}\"]\n{more}\n[mysql.monitor]\nuser = \
             \"watcher\"\npassword_file = \"{}\"\ninterval_seconds = 0.2\n[[mysql.server]]\nname = \
             \"one\"\naddress = \"127.0.0.1:{PRIMARY}\"\n{of_server}\n[[mysql.server]]\nname = \
             \"two\"\naddress = \"127.0.0.1:{REPLICA}\"\n{of_server}\n[[mysql.user]]\nname = \
             \"app\"\npassword_file = \"{}\"\n{of_user}\n",
            watcher.display(),
            app.display()
        ));
        let agent = Agent::start_in(lab, "db", &config)?;
        let routed = Self {
            lab,
            family,
            pair,
            agent,
        };
        await_until(PATIENCE, "both servers get statements", || {
            let status = routed.status()?;
            let servers = status["servers"].as_array().context("no servers")?;
            ensure!(
                servers.iter().all(|one| one["in_rotation"] == true),
                "{status}"
            );
            Ok(())
        })?;
        Ok(routed)
    }

    /// What `lb mysql status --json` says.
    pub(super) fn status(&self) -> Result<serde_json::Value> {
        let outcome = self.agent.asked(&["mysql", "status", "--json"])?;
        Ok(serde_json::from_str(&outcome.stdout)?)
    }

    /// `lb_config_last_reload_success`
    fn was_reloaded(&self) -> Result<bool> {
        let socket = self.agent.socket().display().to_string();
        let words = ["-sS", "--unix-socket", &socket, "http://lb/metrics"];
        let page = self.lab.run("db", "curl", &words)?;
        let mut lines = page.lines();
        let line = lines.find(|line| line.starts_with("lb_config_last_reload_success "));
        Ok(line.context("no such metric")?.ends_with(" 1"))
    }

    /// Runs statements in one session of the proxy's, as an application that may be refused.
    pub(super) fn try_sql(&self, user: &str, password: &str, sql: &str) -> Result<Output> {
        Ok(self.client(user, password)?.args(["-e", sql]).output()?)
    }

    /// A client of the proxy's, which takes statements from where it is told.
    pub(super) fn client(&self, user: &str, password: &str) -> Result<Command> {
        let mut command = self.lab.command("db", self.family.client())?;
        command.args(self.family.first_options()).args([
            "-h127.0.0.1",
            &format!("-P{PROXY}"),
            &format!("-u{user}"),
            &format!("-p{password}"),
            "-BN",
            // Hints are comments.
            "--comments",
        ]);
        Ok(command)
    }

    /// Runs statements in one session of the proxy's; the rows, without heads.
    pub(super) fn sql(&self, sql: &str) -> Result<Vec<String>> {
        self.sql_of("app", &[], sql)
    }

    /// The same, of a user whose password is his name, by a client with these options.
    pub(super) fn sql_of(&self, user: &str, options: &[&str], sql: &str) -> Result<Vec<String>> {
        let mut client = self.client(user, user)?;
        let output = client.args(options).args(["-e", sql]).output()?;
        ensure!(output.status.success(), "{sql}: {}", text(&output.stderr));
        Ok(text(&output.stdout).lines().map(str::to_owned).collect())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A lab of one host.
pub(super) fn one_host() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    Ok(lab)
}

/// The port that a server says it listens on, asked where reads go.
const WHERE: &str = "SELECT /* lb:replica */ @@port";

fn each_statement_goes_where_it_belongs(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let routed = Routed::start(&lab, family, "")?;
    let said = routed.sql(&format!(
        "{WHERE}; INSERT INTO shop.items VALUES (1, @@server_id); SELECT * FROM shop.items; BEGIN; \
         SELECT @@port; COMMIT; {WHERE}"
    ))?;
    let (primary, replica) = (PRIMARY.to_string(), REPLICA.to_string());
    ensure!(said == [&replica, "1\t1", &primary, &replica], "{said:?}");
    let status = routed.status()?;
    for reason in ["read", "write", "in_transaction", "hint"] {
        ensure!(
            status["reasons"][reason].as_u64() > Some(0),
            "{reason}: {status}"
        );
    }
    Ok(())
}

fn a_session_sees_its_own_writes(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let routed = Routed::start(&lab, family, "consistency_timeout_seconds = 0.1")?;
    routed.pair.stop_applying()?;
    let said = routed.sql("INSERT INTO shop.items VALUES (2, 2); SELECT number FROM shop.items")?;
    ensure!(said == ["2"], "{said:?}");
    Ok(())
}

fn reads_go_on_when_the_replica_dies(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let mut routed = Routed::start(&lab, family, "")?;
    routed.pair.replica.kill()?;
    for _ in 0..10 {
        let said = routed.sql("SELECT COUNT(*) FROM pair.writes")?;
        ensure!(said == ["2"], "{said:?}");
    }
    await_until(PATIENCE, "the replica is down", || {
        let status = routed.status()?;
        ensure!(status["servers"][1]["health"] == "down", "{status}");
        Ok(())
    })
}

fn a_wrong_password_is_the_servers_to_refuse(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let routed = Routed::start(&lab, family, "")?;
    for (user, password) in [("app", "wrong"), ("nobody", "app")] {
        let output = routed.try_sql(user, password, "SELECT 1")?;
        let said = text(&output.stderr);
        ensure!(!output.status.success(), "{user} was let in");
        ensure!(said.contains("1045"), "{user}: {said}");
        ensure!(
            said.contains(&format!("Access denied for user '{user}'@")),
            "{said}"
        );
    }
    Ok(())
}

/// Weights change by a reload, and what cannot is refused; sessions go on either way.
fn a_reload_changes_what_can_change(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let routed = Routed::start(&lab, family, "")?;
    let (primary, replica) = (PRIMARY.to_string(), REPLICA.to_string());
    let said = routed.sql(WHERE)?;
    ensure!(said == [&*replica], "{said:?}");
    let file = routed.agent.config_file();
    let text = fs::read_to_string(file)?;
    let reload = |from: &str, to: &str| -> Result<Outcome> {
        ensure!(text.contains(from), "{from}");
        fs::write(file, text.replacen(from, to, 1))?;
        routed.agent.asked(&["reload"])
    };
    std::thread::scope(|scope| {
        let held = scope.spawn(|| routed.sql("SELECT 1; DO SLEEP(2); SELECT 2"));
        let own = format!("127.0.0.1:{REPLICA}\"\n");
        let done = reload(&own, &format!("{own}weight = 0\n"))?;
        ensure!(done.code == Some(0), "{done:?}");
        ensure!(
            done.stdout.contains("mysql.server two: weight: 1 -> 0"),
            "{done:?}"
        );
        await_until(PATIENCE, "the replica gets no reads", || {
            let said = routed.sql(WHERE)?;
            ensure!(said == [&*primary], "{said:?}");
            Ok(())
        })?;
        ensure!(routed.was_reloaded()?, "the reload counts as refused");
        let refused = reload("\"two\"", "\"three\"")?;
        ensure!(refused.code == Some(2), "{refused:?}");
        ensure!(!routed.was_reloaded()?, "the refusal does not count");
        let sentence = "mysql.server is another one, which takes a restart";
        ensure!(refused.stderr.contains(sentence), "{refused:?}");
        let said = routed.sql(WHERE)?;
        ensure!(said == [&*primary], "{said:?}");
        let held = held.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        ensure!(held == ["1", "2"], "{held:?}");
        Ok(())
    })
}

of_both_families!(
    each_statement_goes_where_it_belongs,
    a_session_sees_its_own_writes,
    reads_go_on_when_the_replica_dies,
    a_wrong_password_is_the_servers_to_refuse,
    a_reload_changes_what_can_change
);
