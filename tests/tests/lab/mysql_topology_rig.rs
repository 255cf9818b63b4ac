//! A primary, replicas and proxies in front of them, for scenarios of topology and failure.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_lab::Lab;
use lb_tests::database::{Database, Family};
use lb_tests::scenario::{Agent, Config, Mode, Outcome, await_until};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Of the first server; the others follow.
const FIRST: u16 = 3301;
/// Of the first proxy; the others follow.
const PROXY: u16 = 3316;
/// In the order of the config.
pub(crate) const NAMES: [&str; 3] = ["one", "two", "three"];

/// Servers, the first of which is the primary, and proxies.
pub(crate) struct Rig<'l> {
    lab: &'l Lab,
    family: Family,
    pub(crate) servers: Vec<Database<'l>>,
    pub(crate) agents: Vec<Agent>,
}

/// A lab of one host.
pub(crate) fn one_host() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    Ok(lab)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl<'l> Rig<'l> {
    /// So many servers and one proxy, with further keys of `[mysql]` and of `[mysql.failover]`.
    pub(crate) fn start(
        lab: &'l Lab,
        family: Family,
        count: u8,
        (keys, failover): (&str, &str),
    ) -> Result<Self> {
        let read_only = match family {
            Family::MySql => "--super-read-only=ON",
            Family::MariaDb => "--read-only=ON",
        };
        let start = |number: u8| {
            let options: &[&str] = if number == 1 { &[] } else { &[read_only] };
            let place = ("db", ([127, 0, 0, 1], port(number)).into());
            Database::start(lab, family, number, place, options)
        };
        let servers = (1..=count).map(start).collect::<Result<Vec<_>>>()?;
        let (watch, change) = match family {
            Family::MySql => (
                "REPLICATION CLIENT",
                "SYSTEM_VARIABLES_ADMIN, REPLICATION_SLAVE_ADMIN, CONNECTION_ADMIN, RELOAD",
            ),
            Family::MariaDb => (
                "SLAVE MONITOR",
                "READ_ONLY ADMIN, REPLICATION SLAVE ADMIN, CONNECTION ADMIN, RELOAD",
            ),
        };
        // What was confirmed survives a kill.
        for server in &servers {
            server.run("SET GLOBAL innodb_flush_log_at_trx_commit = 2")?;
        }
        // The application may not write to a server that is read-only.
        servers[0].run(&format!(
            "CREATE USER copy@'%' IDENTIFIED BY 'copy'; GRANT REPLICATION SLAVE ON *.* TO \
             copy@'%'; CREATE USER watcher@'%' IDENTIFIED BY 'watch'; GRANT {watch} ON *.* TO \
             watcher@'%'; GRANT {change} ON *.* TO watcher@'%'; CREATE DATABASE shop; CREATE USER \
             app@'%' IDENTIFIED BY 'app'; GRANT ALL ON shop.* TO app@'%'; CREATE TABLE shop.items \
             (number INT PRIMARY KEY, server INT)"
        ))?;
        for replica in &servers[1..] {
            replica.run(&family.follow("127.0.0.1", port(1)))?;
        }
        for (file, word) in [("watcher", "watch"), ("app", "app"), ("copy", "copy")] {
            fs::write(lab.folder().join(file), format!("{word}\n"))?;
        }
        let mut rig = Self {
            lab,
            family,
            servers,
            agents: Vec::new(),
        };
        rig.add_proxy((keys, failover))?;
        Ok(rig)
    }

    /// Another proxy in front of the same servers, which has found them all.
    pub(crate) fn add_proxy(&mut self, (keys, failover): (&str, &str)) -> Result<()> {
        let number = self.agents.len();
        let file = |name: &str| self.lab.folder().join(name).display().to_string();
        let servers = (0..self.servers.len()).map(|index| {
            format!(
                "[[mysql.server]]\nname = \"{}\"\naddress = \"127.0.0.1:{}\"\n",
                NAMES[index],
                FIRST + index as u16
            )
        });
        let servers: String = servers.collect();
        let name = format!("proxy{number}");
        let config = Config::of_app_host(self.lab, &name, Mode::Generic).tables(&format!(
            "\n[mysql]\nlisten = [\"127.0.0.1:{}\"]\n{keys}\n[mysql.monitor]\nuser = \
             \"watcher\"\npassword_file = \"{}\"\ninterval_seconds = \
             0.3\n[mysql.failover]\nreplication_user = \"copy\"\nreplication_password_file = \
             \"{}\"\n{failover}\n{servers}[[mysql.user]]\nname = \"app\"\npassword_file = \"{}\"\n",
            PROXY + number as u16,
            file("watcher"),
            file("copy"),
            file("app"),
        ));
        self.agents.push(Agent::start_in(self.lab, "db", &config)?);
        await_until(PATIENCE, "all servers get statements", || {
            let status = self.status(number)?;
            let servers = status["servers"].as_array().context("no servers")?;
            ensure!(
                servers.iter().all(|one| one["in_rotation"] == true),
                "{status}"
            );
            Ok(())
        })
    }

    /// What `lb mysql status --json` of a proxy says.
    pub(crate) fn status(&self, proxy: usize) -> Result<serde_json::Value> {
        let outcome = self.lb(proxy, &["status", "--json"])?;
        Ok(serde_json::from_str(&outcome.stdout)?)
    }

    /// `lb mysql …` at a proxy.
    pub(crate) fn lb(&self, proxy: usize, words: &[&str]) -> Result<Outcome> {
        let words = [&["mysql"], words].concat();
        self.agents[proxy].asked(&words)
    }

    /// The primary as a proxy sees it.
    pub(crate) fn primary(&self, proxy: usize) -> Result<String> {
        let status = self.status(proxy)?;
        let servers = status["servers"].as_array().context("no servers")?;
        let primary = servers.iter().find(|one| one["role"] == "primary");
        let primary = primary.with_context(|| status.to_string())?;
        Ok(primary["name"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) fn await_primary(&self, proxy: usize, name: &str) -> Result<()> {
        await_until(PATIENCE, "the primary", || {
            let found = self.primary(proxy)?;
            ensure!(found == name, "{found}");
            Ok(())
        })
    }

    /// A client of a proxy's that runs these statements in one session.
    pub(crate) fn client(&self, proxy: usize, sql: &str) -> Result<Command> {
        let mut command = self.any_client(proxy)?;
        command.args(["-e", sql]);
        Ok(command)
    }

    /// A client of a proxy's, with further arguments to come.
    pub(crate) fn any_client(&self, proxy: usize) -> Result<Command> {
        // Of MariaDB: that of MySQL has questions of its own, which wait for a primary.
        let family = Family::MariaDb;
        let mut command = self.lab.command("db", family.client())?;
        command.args(family.first_options()).args([
            "-h127.0.0.1",
            &format!("-P{}", PROXY + proxy as u16),
            "-uapp",
            "-papp",
            "-BN",
            "--comments",
        ]);
        Ok(command)
    }

    pub(crate) fn try_sql(&self, proxy: usize, sql: &str) -> Result<Output> {
        Ok(self.client(proxy, sql)?.output()?)
    }

    /// Rows without heads; an error when there is one.
    pub(crate) fn sql(&self, proxy: usize, sql: &str) -> Result<Vec<String>> {
        let output = self.try_sql(proxy, sql)?;
        ensure!(output.status.success(), "{sql}: {}", text(&output.stderr));
        Ok(text(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// Writes a number through a proxy; the number of the server that took it.
    pub(crate) fn write(&self, proxy: usize, number: u32) -> Result<u8> {
        let said = self.sql(
            proxy,
            &format!(
                "INSERT INTO shop.items VALUES ({number}, @@server_id); BEGIN; SELECT server FROM \
                 shop.items WHERE number = {number}; COMMIT"
            ),
        )?;
        match said.as_slice() {
            [server] => Ok(server.parse()?),
            _ => bail!("{said:?}"),
        }
    }

    /// Numbers that a server has.
    pub(crate) fn numbers(&self, server: usize) -> Result<Vec<u32>> {
        let rows = self.servers[server].run("SELECT number FROM shop.items ORDER BY number")?;
        Ok(rows.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    pub(crate) fn await_number(&self, server: usize, number: u32) -> Result<()> {
        await_until(PATIENCE, "the number is there", || {
            ensure!(self.numbers(server)?.contains(&number), "{number}");
            Ok(())
        })
    }

    /// What another tool does: `two` becomes the primary, `one` its replica.
    pub(crate) fn promote_by_hand(&self, from: usize, to: usize) -> Result<()> {
        let (fence, forget, unfence) = match self.family {
            Family::MySql => (
                "SET GLOBAL super_read_only = ON",
                "STOP REPLICA; RESET REPLICA ALL",
                "SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF",
            ),
            Family::MariaDb => (
                "SET GLOBAL read_only = ON",
                "STOP SLAVE; RESET SLAVE ALL",
                "SET GLOBAL read_only = OFF",
            ),
        };
        self.servers[from].run(fence)?;
        let executed = match self.family {
            Family::MySql => self.servers[from].run("SELECT @@GLOBAL.gtid_executed")?,
            Family::MariaDb => self.servers[from].run("SELECT @@GLOBAL.gtid_binlog_pos")?,
        };
        let executed = executed.trim().replace("\\n", "");
        let wait = match self.family {
            Family::MySql => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 10)"),
            Family::MariaDb => format!("SELECT MASTER_GTID_WAIT('{executed}', 10)"),
        };
        self.servers[to].run(&wait)?;
        self.servers[to].run(forget)?;
        self.servers[to].run(unfence)?;
        let follow = self.family.follow("127.0.0.1", port(to as u8 + 1));
        let follow = match self.family {
            Family::MySql => follow,
            Family::MariaDb => format!("SET GLOBAL gtid_slave_pos = '{executed}'; {follow}"),
        };
        self.servers[from].run(&follow).map(drop)
    }
}

/// Of a server by its number.
const fn port(number: u8) -> u16 {
    FIRST - 1 + number as u16
}

/// How long something took.
pub(crate) fn timed<T>(what: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let began = Instant::now();
    Ok((what()?, began.elapsed()))
}
