//! What happens to the servers meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use lb_tests::database::{Database, Family, Pair};

/// How long the new primary may take until it has everything.
const PATIENCE: u64 = 60;

pub(super) struct Chaos<'p, 'l> {
    family: Family,
    primary: &'p Database<'l>,
    replica: &'p Database<'l>,
    rng: Rng,
    told: Vec<String>,
    began: Instant,
}

impl<'p, 'l> Chaos<'p, 'l> {
    pub(super) fn new(pair: &'p Pair<'l>, seed: u64) -> Self {
        Self {
            family: pair.primary.family(),
            primary: &pair.primary,
            replica: &pair.replica,
            rng: Rng::with_seed(seed),
            told: Vec::new(),
            began: Instant::now(),
        }
    }

    /// What was done, and when.
    pub(super) fn told(&self) -> &[String] {
        &self.told
    }

    fn tell(&mut self, what: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.told.push(format!("{at:7.2} {what}"));
    }

    /// Goes on until the end; in the middle, the replica becomes the primary.
    pub(super) fn run(&mut self, until: Instant, ended: &AtomicBool) -> Result<()> {
        self.began = Instant::now();
        // Long runs have one each minute.
        let turn = Duration::from_secs(60).min((until - self.began) / 2);
        let mut promotion = self.began + turn;
        while Instant::now() < until && !ended.load(Ordering::Relaxed) {
            if Instant::now() >= promotion {
                self.promote()?;
                promotion += Duration::from_secs(60);
                if promotion > until {
                    promotion = until + turn;
                }
                continue;
            }
            match self.rng.u8(..6) {
                0 => self.apply("STOP", "SQL_THREAD")?,
                1 => self.apply("STOP", "")?,
                2 => self.delay(1)?,
                3 => self.kill(self.primary)?,
                4 => self.kill(self.replica)?,
                _ => self.tell("nothing"),
            }
            thread::sleep(Duration::from_millis(self.rng.u64(300..1500)));
            if self.rng.bool() {
                self.delay(0)?;
                thread::sleep(Duration::from_millis(self.rng.u64(100..1000)));
            }
        }
        Ok(())
    }

    fn apply(&mut self, word: &str, thread: &str) -> Result<()> {
        let replica = self.words().0;
        let sql = format!("{word} {replica} {thread}");
        self.tell(&sql);
        self.replica.run(&sql).map(drop)
    }

    /// The words for replication, and for its settings and delay.
    fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self.family {
            Family::MySql => ("REPLICA", "CHANGE REPLICATION SOURCE", "SOURCE"),
            Family::MariaDb => ("SLAVE", "CHANGE MASTER", "MASTER"),
        }
    }

    fn delay(&mut self, seconds: u32) -> Result<()> {
        let (replica, change, source) = self.words();
        self.tell(&format!("a delay of {seconds} s"));
        self.replica
            .run(&format!(
                "STOP {replica}; {change} TO {source}_DELAY={seconds}; START {replica}"
            ))
            .map(drop)
    }

    /// Kills one of the proxy's connections, which may be gone already.
    fn kill(&mut self, server: &Database<'_>) -> Result<()> {
        let list = "SELECT id FROM information_schema.processlist WHERE user = 'app'";
        let ids: Vec<String> = server.run(list)?.lines().map(str::to_owned).collect();
        if let Some(id) = self.rng.choice(&ids) {
            self.tell(&format!("KILL {id} at {}", server.address()));
            drop(server.run(&format!("KILL {id}")));
        }
        Ok(())
    }

    fn kill_all(&mut self, server: &Database<'_>) -> Result<()> {
        self.tell("all of the proxy's connections are killed");
        let list = "SELECT id FROM information_schema.processlist WHERE user = 'app'";
        for id in server.run(list)?.lines() {
            drop(server.run(&format!("KILL {id}")));
        }
        Ok(())
    }

    /// Makes the replica the primary, as a tool would: nothing that was acknowledged is lost by it.
    fn promote(&mut self) -> Result<()> {
        let (replica, change, source) = self.words();
        self.delay(0)?;
        self.tell("a promotion begins");
        let (old, new) = (self.primary, self.replica);
        let (on, position, wait) = match self.family {
            Family::MySql => (
                "super_read_only",
                "@@global.gtid_executed",
                "WAIT_FOR_EXECUTED_GTID_SET",
            ),
            Family::MariaDb => ("read_only", "@@global.gtid_binlog_pos", "MASTER_GTID_WAIT"),
        };
        // It waits for transactions that wait for it, and a tool ends those.
        let take_no_writes = format!("SET SESSION lock_wait_timeout = 2; SET GLOBAL {on} = 1");
        if old.run(&take_no_writes).is_err() {
            self.kill_all(old)?;
            old.run(&take_no_writes)?;
        }
        let reached = old.run(&format!("SELECT {position}"))?.replace("\\n", "");
        let waited = new.run(&format!("SELECT {wait}('{}', {PATIENCE})", reached.trim()))?;
        ensure!(waited.trim() == "0", "{reached} is not reached: {waited}");
        new.run(&format!(
            "STOP {replica}; RESET {replica} ALL; SET GLOBAL read_only = 0"
        ))?;
        let address = new.address();
        let (head, tail) = match self.family {
            Family::MySql => ("", "SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1"),
            Family::MariaDb => (
                "SET GLOBAL gtid_slave_pos = @@global.gtid_binlog_pos; ",
                "MASTER_USE_GTID=slave_pos",
            ),
        };
        old.run(&format!(
            "{head}{change} TO {source}_HOST='{}', {source}_PORT={}, {source}_USER='copy', \
             {source}_PASSWORD='copy', {source}_CONNECT_RETRY=1, {tail}; START {replica}",
            address.ip(),
            address.port()
        ))?;
        (self.primary, self.replica) = (new, old);
        self.tell("a promotion is done");
        Ok(())
    }

    /// Lets the replica catch up, and gives the primary and it.
    pub(super) fn heal(&mut self) -> Result<(&'p Database<'l>, &'p Database<'l>)> {
        self.delay(0)?;
        let (position, wait) = match self.family {
            Family::MySql => ("@@global.gtid_executed", "WAIT_FOR_EXECUTED_GTID_SET"),
            Family::MariaDb => ("@@global.gtid_binlog_pos", "MASTER_GTID_WAIT"),
        };
        let reached = self
            .primary
            .run(&format!("SELECT {position}"))?
            .replace("\\n", "");
        let sql = format!("SELECT {wait}('{}', {PATIENCE})", reached.trim());
        let waited = self.replica.run(&sql).context("the replica")?;
        ensure!(waited.trim() == "0", "the replica does not catch up");
        Ok((self.primary, self.replica))
    }
}
