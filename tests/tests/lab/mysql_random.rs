//! Sessions that write and read at random through the proxy, while replicas are stopped and
//! delayed, connections are killed, and another server becomes the primary.
//!
//! Each read is checked against what the session has written; at the end, each commit that was
//! acknowledged has to be there, once, and nothing that was rolled back.
//!
//! `LB_MYSQL_RANDOM_SECONDS` says how long, `LB_MYSQL_SEED` of what.

mod chaos;
mod writer;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use lb_lab::Lab;
use lb_tests::database::{Client, Database, Family, Pair};
use lb_tests::scenario::{Agent, Config, Mode, await_until};

use chaos::Chaos;
use writer::{KEYS, Writer};

const PATIENCE: Duration = Duration::from_secs(30);
const SECONDS: u64 = 20;
const WRITERS: u32 = 6;
const PROXY: u16 = 3306;

fn number(name: &str, default: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is {text:?}")),
        Err(_) => Ok(default),
    }
}

fn prepare(pair: &Pair<'_>, family: Family) -> Result<()> {
    let monitor = match family {
        Family::MySql => "REPLICATION CLIENT",
        Family::MariaDb => "SLAVE MONITOR",
    };
    // The application may not write where nobody may.
    pair.primary.run(&format!(
        "CREATE USER watcher@'%' IDENTIFIED BY 'watch'; GRANT {monitor} ON *.* TO watcher@'%'; \
         CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT ALL ON shop.* TO app@'%'; CREATE DATABASE \
         shop; CREATE TABLE shop.t (k INT PRIMARY KEY, v INT NOT NULL); CREATE TABLE shop.log (id \
         INT AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL, KEY (n))"
    ))?;
    let keys = (0..WRITERS * KEYS).map(|key| format!("({key}, 0)"));
    let keys: Vec<String> = keys.collect();
    pair.primary
        .run(&format!("INSERT INTO shop.t VALUES {}", keys.join(", ")))?;
    pair.write(1)?;
    pair.await_copy(1)
}

fn config(lab: &Lab) -> Result<Config> {
    let (watcher, app) = (lab.folder().join("watcher"), lab.folder().join("app"));
    fs::write(&watcher, "watch\n")?;
    fs::write(&app, "app\n")?;
    Ok(
        Config::of_app_host(lab, "proxy", Mode::Generic).tables(&format!(
            "\n[mysql]\nlisten = [\"127.0.0.1:{PROXY}\"]\nconsistency_timeout_seconds = \
         0.2\n[mysql.monitor]\nuser = \"watcher\"\npassword_file = \"{}\"\ninterval_seconds = \
         0.2\n[[mysql.server]]\nname = \"one\"\naddress = \"127.0.0.1:3301\"\n[[mysql.server]]\n\
         name = \"two\"\naddress = \"127.0.0.1:3302\"\n[[mysql.user]]\nname = \
         \"app\"\npassword_file = \"{}\"\n",
            watcher.display(),
            app.display()
        )),
    )
}

fn status(agent: &Agent) -> Result<serde_json::Value> {
    let outcome = agent.asked(&["mysql", "status", "--json"])?;
    Ok(serde_json::from_str(&outcome.stdout)?)
}

/// A column of numbers, and how often each is there.
fn numbers(server: &Database<'_>, sql: &str) -> Result<BTreeMap<u32, u32>> {
    let mut found = BTreeMap::new();
    for line in server.run(sql)?.lines() {
        *found.entry(line.trim().parse()?).or_default() += 1;
    }
    Ok(found)
}

/// What the server has at the end, against what was acknowledged.
fn judge(server: &Database<'_>, writers: &[Writer]) -> Result<()> {
    let mut values = BTreeMap::new();
    for line in server.run("SELECT k, v FROM shop.t")?.lines() {
        let (key, value) = line.split_once('\t').context("two columns")?;
        values.insert(key.parse()?, value.parse()?);
    }
    let log = numbers(server, "SELECT n FROM shop.log")?;
    let wrong: Vec<String> = writers
        .iter()
        .flat_map(|writer| writer.judge(&values, &log))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A client that goes in the middle of a transaction, or with a lock, keeps nobody waiting.
fn what_a_client_leaves_open_ends_with_it() -> Result<()> {
    let proxy = ([127, 0, 0, 1], PROXY).into();
    let mut gone = Client::open(proxy, "app", "app")?;
    gone.rows("SELECT GET_LOCK('mine', 0); BEGIN; UPDATE shop.t SET v = 0 WHERE k = 0")?;
    drop(gone);
    let mut other = Client::open(proxy, "app", "app")?;
    other.rows("SET innodb_lock_wait_timeout = 5; UPDATE shop.t SET v = 0 WHERE k = 0")?;
    let lock = other.row("SELECT GET_LOCK('mine', 5)")?;
    ensure!(lock == [Some("1".to_owned())], "{lock:?}");
    Ok(())
}

fn nothing_is_missed_or_lost(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let span = Duration::from_secs(number("LB_MYSQL_RANDOM_SECONDS", SECONDS)?);
    let seed = number("LB_MYSQL_SEED", 1)?;
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    let place = |port: u16| ("db", ([127, 0, 0, 1], port).into());
    let pair = Pair::start(&lab, family, place(3301), place(3302))?;
    prepare(&pair, family)?;
    let agent = Agent::start_in(&lab, "db", &config(&lab)?)?;
    await_until(PATIENCE, "both servers get statements", || {
        let status = status(&agent)?;
        let servers = status["servers"].as_array().context("no servers")?;
        let all = servers.iter().all(|one| one["in_rotation"] == true);
        ensure!(all && servers.len() == 2, "{status}");
        Ok(())
    })?;
    lab.within("db", what_a_client_leaves_open_ends_with_it)??;
    let ended = AtomicBool::new(false);
    let mut chaos = Chaos::new(&pair, seed);
    let proxy = ([127, 0, 0, 1], PROXY).into();
    let outcome = lab.within("db", || {
        thread::scope(|scope| -> Result<Vec<Writer>> {
            let threads: Vec<_> = (0..WRITERS)
                .map(|number| {
                    let ended = &ended;
                    scope.spawn(move || {
                        let mut writer = Writer::new(number, seed, proxy);
                        let outcome = writer.run(ended);
                        // The others need not go on.
                        ended.fetch_or(outcome.is_err(), Ordering::Relaxed);
                        outcome.map(|()| writer)
                    })
                })
                .collect();
            let chaos = chaos.run(Instant::now() + span, &ended);
            ended.store(true, Ordering::Relaxed);
            let mut writers = Vec::new();
            for thread in threads {
                writers.push(thread.join().map_err(|_| anyhow!("a writer panicked"))??);
            }
            chaos?;
            Ok(writers)
        })
    })?;
    let told = format!("seed {seed}\n{}", chaos.told().join("\n"));
    let writers = outcome.with_context(|| told.clone())?;
    let mut sum = writer::Counts::default();
    writers.iter().for_each(|writer| sum.add(&writer.counts));
    let status = status(&agent)?;
    eprintln!("{family:?}, {told}\n{sum:?}\n{}", status["reasons"]);
    let (primary, replica) = chaos.heal()?;
    judge(primary, &writers).with_context(|| told.clone())?;
    judge(replica, &writers)
        .context("on the replica")
        .with_context(|| told.clone())?;
    ensure!(sum.acknowledged > 100 && sum.reads > 100, "{sum:?}");
    ensure!(status["reasons"]["read"].as_u64() > Some(100), "{status}");
    Ok(())
}

#[test]
fn nothing_of_mysql_is_missed_or_lost() -> Result<()> {
    nothing_is_missed_or_lost(Family::MySql)
}

#[test]
fn nothing_of_mariadb_is_missed_or_lost() -> Result<()> {
    nothing_is_missed_or_lost(Family::MariaDb)
}
