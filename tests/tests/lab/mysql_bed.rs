//! A pair of real servers behind `lb run` with `[mysql]`, and an account that may do everything.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lb_lab::Lab;
use lb_mysql::wire::Capabilities;
use lb_tests::database::{Family, Pair};
use lb_tests::scenario::{Agent, Config, Mode, await_until};

use crate::mysql_client::Client;

const PATIENCE: Duration = Duration::from_secs(40);
pub(super) const PRIMARY: u16 = 3301;
pub(super) const REPLICA: u16 = 3302;
pub(super) const PROXY: u16 = 3306;

/// Servers, the proxy, and the account `app`.
pub(super) struct Bed<'l> {
    pub(super) pair: Pair<'l>,
    agent: Agent,
}

/// A lab of one host.
pub(super) fn one_host() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    Ok(lab)
}

impl<'l> Bed<'l> {
    pub(super) fn start(lab: &'l Lab, family: Family) -> Result<Self> {
        Self::start_with(lab, family, "", |_| Ok(()))
    }

    /// With more keys of the proxy, and servers that are as they should be before it sees them.
    pub(super) fn start_with(
        lab: &'l Lab,
        family: Family,
        more: &str,
        prepare: impl FnOnce(&Pair<'l>) -> Result<()>,
    ) -> Result<Self> {
        let place = |port: u16| ("db", ([127, 0, 0, 1], port).into());
        let pair = Pair::start(lab, family, place(PRIMARY), place(REPLICA))?;
        let monitor = match family {
            Family::MySql => "REPLICATION CLIENT",
            Family::MariaDb => "SLAVE MONITOR",
        };
        pair.primary.run(&format!(
            "CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT ALL ON *.* TO app@'%'; CREATE USER \
             other@'%' IDENTIFIED BY 'secret'; GRANT SELECT ON *.* TO other@'%'; CREATE USER \
             watcher@'%' IDENTIFIED BY 'watch'; GRANT {monitor} ON *.* TO watcher@'%'; SET GLOBAL \
             local_infile = ON; SET GLOBAL max_allowed_packet = 67108864; SET \
             GLOBAL log_bin_trust_function_creators = ON"
        ))?;
        pair.replica.run(
            "SET GLOBAL max_allowed_packet = 67108864; SET GLOBAL \
                  log_bin_trust_function_creators = ON",
        )?;
        pair.write(1)?;
        pair.await_copy(1)?;
        prepare(&pair)?;
        let watcher = lab.folder().join("watcher");
        fs::write(&watcher, "watch\n")?;
        let mut users = String::new();
        for (user, password) in [("app", "app"), ("other", "secret"), ("weak", "weak")] {
            let file = lab.folder().join(user);
            fs::write(&file, format!("{password}\n"))?;
            // Clients of MySQL are learned; those of MariaDB may know no plugin that could be.
            if family == Family::MariaDb {
                users += &format!(
                    "[[mysql.user]]\nname = \"{user}\"\npassword_file = \"{}\"\n",
                    file.display()
                );
            }
        }
        let config = Config::of_app_host(lab, "proxy", Mode::Generic).tables(&format!(
            "\n[mysql]\nlisten = [\"127.0.0.1:{PROXY}\"]\n{more}\n[mysql.monitor]\nuser = \
             \"watcher\"\npassword_file = \"{}\"\ninterval_seconds = 0.2\n[[mysql.server]]\nname = \
             \"one\"\naddress = \"127.0.0.1:{PRIMARY}\"\n[[mysql.server]]\nname = \"two\"\naddress \
             = \"127.0.0.1:{REPLICA}\"\n{users}",
            watcher.display(),
        ));
        let agent = Agent::start_in(lab, "db", &config)?;
        let bed = Self { pair, agent };
        await_until(PATIENCE, "both servers get statements", || {
            bed.expect_in_rotation()
        })?;
        // The first password that is learned waits for the proxy's RSA key, which a build without
        // optimization takes long to make.
        await_until(PATIENCE, "a client is let in", || {
            lab.within("db", || log_in(PROXY, None, Capabilities::NONE).map(drop))?
        })?;
        Ok(bed)
    }

    /// That both servers get statements.
    pub(super) fn expect_in_rotation(&self) -> Result<()> {
        let outcome = self.agent.asked(&["mysql", "status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&outcome.stdout)?;
        let servers = status["servers"].as_array().context("no servers")?;
        let all = servers.iter().all(|one| one["in_rotation"] == true);
        ensure!(all, "{status}");
        Ok(())
    }
}

/// A session of `app`, of a namespace that the caller is in.
pub(super) fn log_in(port: u16, database: Option<&str>, more: Capabilities) -> Result<Client> {
    Client::connect(port, ("app", "app"), database, more)?.map_err(|refused| anyhow!(refused))
}
