//! A session that writes and reads, and remembers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use lb_tests::database::{Answer, Client};

/// Rows of each writer.
pub(super) const KEYS: u32 = 8;

/// What is known of a row. Values only grow.
#[derive(Debug, Default)]
struct Row {
    /// The last that was acknowledged to this session.
    floor: u32,
    /// The last that was acknowledged at all.
    acknowledged: u32,
    /// All that may have been committed.
    possible: BTreeSet<u32>,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) acknowledged: u64,
    pub(super) reads: u64,
    refused: u64,
    lost: u64,
    rolled_back: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.refused += other.refused;
        self.lost += other.lost;
        self.rolled_back += other.rolled_back;
    }
}

/// What became of a statement.
enum Done {
    Fine(Vec<Answer>),
    Refused,
    Lost,
}

pub(super) struct Writer {
    number: u32,
    rng: Rng,
    proxy: SocketAddr,
    client: Option<Client>,
    rows: BTreeMap<u32, Row>,
    next: u32,
    /// Entries of the log, and whether they were acknowledged.
    log: BTreeMap<u32, bool>,
    pub(super) counts: Counts,
}

impl Writer {
    pub(super) fn new(number: u32, seed: u64, proxy: SocketAddr) -> Self {
        let keys = number * KEYS..(number + 1) * KEYS;
        Self {
            number,
            rng: Rng::with_seed(seed * 1000 + u64::from(number)),
            proxy,
            client: None,
            rows: keys.map(|key| (key, Row::default())).collect(),
            // Everybody's are others.
            next: number * 10_000_000,
            log: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Goes on until the end.
    pub(super) fn run(&mut self, ended: &AtomicBool) -> Result<()> {
        while !ended.load(Ordering::Relaxed) {
            self.step()
                .with_context(|| format!("writer {}", self.number))?;
        }
        self.client = None;
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        if self.client.is_none() {
            match Client::open(self.proxy, "app", "app") {
                Ok(client) => self.client = Some(client),
                Err(_) => {
                    thread::sleep(Duration::from_millis(20));
                    return Ok(());
                }
            }
            // A new session owes nothing to another one.
            self.rows.values_mut().for_each(|row| row.floor = 0);
            self.ask("SET @mine = 0")?;
        }
        match self.rng.u8(..20) {
            0..=4 => self.write(),
            5..=6 => self.append(),
            7..=14 => self.read(),
            15 => self.read_all(),
            16..=18 => self.transaction(),
            _ if self.rng.u8(..10) == 0 => {
                // As an application that crashes.
                self.client = None;
                Ok(())
            }
            _ => self.variable(),
        }
    }

    fn ask(&mut self, sql: &str) -> Result<Done> {
        let Some(client) = &mut self.client else {
            return Ok(Done::Lost);
        };
        match client.query(sql) {
            Ok(Ok(answers)) => Ok(Done::Fine(answers)),
            Ok(Err(refused)) => {
                self.counts.refused += 1;
                // These nobody has asked for.
                let is_ours = matches!(refused.code, 1062 | 1064 | 1146 | 1054 | 1049);
                ensure!(!is_ours, "{sql}: {refused:?}");
                Ok(Done::Refused)
            }
            Err(_) => {
                self.counts.lost += 1;
                self.client = None;
                Ok(Done::Lost)
            }
        }
    }

    fn value(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn key(&mut self) -> u32 {
        self.number * KEYS + self.rng.u32(..KEYS)
    }

    fn row(&mut self, key: u32) -> &mut Row {
        self.rows.entry(key).or_default()
    }

    fn acknowledge(&mut self, key: u32, value: u32) {
        let is_here = self.client.is_some();
        let row = self.row(key);
        row.acknowledged = value;
        if is_here {
            row.floor = value;
        }
        self.counts.acknowledged += 1;
    }

    fn write(&mut self) -> Result<()> {
        let (key, value) = (self.key(), self.value());
        self.row(key).possible.insert(value);
        // Of what was sent before and lost, nothing may come late.
        let sql = format!("UPDATE shop.t SET v = {value} WHERE k = {key} AND v < {value}");
        if let Done::Fine(answers) = self.ask(&sql)? {
            let affected = answers.first().map(|answer| answer.affected);
            ensure!(affected == Some(1), "{sql}: {affected:?} rows");
            self.acknowledge(key, value);
        }
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        let value = self.value();
        let sql = format!("INSERT INTO shop.log (n) VALUES ({value})");
        let is_fine = matches!(self.ask(&sql)?, Done::Fine(_));
        self.counts.acknowledged += u64::from(is_fine);
        self.log.insert(value, is_fine);
        // It reads its own line.
        let sql = format!("SELECT COUNT(*) FROM shop.log WHERE n = {value}");
        if is_fine && let Done::Fine(answers) = self.ask(&sql)? {
            let found = single(&answers)?;
            ensure!(found == 1, "{sql} gives {found}");
        }
        Ok(())
    }

    fn check(&mut self, key: u32, value: u32) -> Result<()> {
        self.counts.reads += 1;
        let row = self.row(key);
        ensure!(
            value >= row.floor,
            "row {key} is {value}, and the session has written {}",
            row.floor
        );
        ensure!(
            value == 0 || row.possible.contains(&value),
            "row {key} is {value}, which was rolled back or never written"
        );
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let key = self.key();
        let words = [
            "SELECT v FROM shop.t WHERE k =",
            "/* x */ select max(v) from shop.t where k =",
        ];
        let words = words[self.rng.usize(..words.len())];
        if let Done::Fine(answers) = self.ask(&format!("{words} {key}"))? {
            self.check(key, single(&answers)?)?;
        }
        Ok(())
    }

    fn read_all(&mut self) -> Result<()> {
        let first = self.number * KEYS;
        let last = first + KEYS - 1;
        let sql = format!("SELECT k, v FROM shop.t WHERE k BETWEEN {first} AND {last}");
        if let Done::Fine(answers) = self.ask(&sql)? {
            let rows = answers.into_iter().next().and_then(|answer| answer.rows);
            let rows = rows.context("no rows")?;
            ensure!(rows.len() == KEYS as usize, "{} rows", rows.len());
            for row in rows {
                let [Some(key), Some(value)] = &row[..] else {
                    bail!("{row:?}");
                };
                self.check(key.parse()?, value.parse()?)?;
            }
        }
        Ok(())
    }

    fn transaction(&mut self) -> Result<()> {
        if !matches!(self.ask("BEGIN")?, Done::Fine(_)) {
            return Ok(());
        }
        let mut written = Vec::new();
        for _ in 0..self.rng.u8(1..4) {
            let (key, value) = (self.key(), self.value());
            let sql = format!("UPDATE shop.t SET v = {value} WHERE k = {key} AND v < {value}");
            if !matches!(self.ask(&sql)?, Done::Fine(_)) {
                return self.give_up();
            }
            written.retain(|(other, _)| *other != key);
            written.push((key, value));
            let Done::Fine(answers) = self.ask(&format!("SELECT v FROM shop.t WHERE k = {key}"))?
            else {
                return self.give_up();
            };
            let seen = single(&answers)?;
            ensure!(
                seen == value,
                "row {key} is {seen} in a transaction, and not {value}"
            );
        }
        match self.rng.u8(..4) {
            0 => self.give_up(),
            1 if self.rng.u8(..4) == 0 => {
                self.client = None;
                Ok(())
            }
            _ => {
                for (key, value) in &written {
                    self.row(*key).possible.insert(*value);
                }
                if matches!(self.ask("COMMIT")?, Done::Fine(_)) {
                    for (key, value) in written {
                        self.acknowledge(key, value);
                    }
                } else if self.client.is_some() {
                    self.give_up()?;
                }
                Ok(())
            }
        }
    }

    /// Rolls back; what cannot be rolled back any more goes with its session.
    fn give_up(&mut self) -> Result<()> {
        self.counts.rolled_back += 1;
        if !matches!(self.ask("ROLLBACK")?, Done::Fine(_)) {
            self.client = None;
        }
        Ok(())
    }

    fn variable(&mut self) -> Result<()> {
        let value = self.value();
        if !matches!(self.ask(&format!("SET @mine = {value}"))?, Done::Fine(_)) {
            return Ok(());
        }
        if let Done::Fine(answers) = self.ask("SELECT @mine")? {
            let seen = single(&answers)?;
            ensure!(seen == value, "@mine is {seen} and not {value}");
        }
        Ok(())
    }

    /// What is wrong with what is there at the end.
    pub(super) fn judge(
        &self,
        values: &BTreeMap<u32, u32>,
        log: &BTreeMap<u32, u32>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for (key, row) in &self.rows {
            let value = values.get(key).copied().unwrap_or_default();
            if value < row.acknowledged {
                wrong.push(format!(
                    "row {key} is {value}: {} is lost",
                    row.acknowledged
                ));
            } else if value > 0 && !row.possible.contains(&value) {
                wrong.push(format!("row {key} is {value}, which was rolled back"));
            }
        }
        for (number, is_acknowledged) in &self.log {
            let times = log.get(number).copied().unwrap_or_default();
            if times > 1 || (times == 0 && *is_acknowledged) {
                wrong.push(format!("{number} stands in the log {times} times"));
            }
        }
        wrong
    }
}

fn single(answers: &[Answer]) -> Result<u32> {
    let rows = answers.first().and_then(|answer| answer.rows.as_ref());
    let value = rows.and_then(|rows| rows.first()?.first()?.as_deref());
    Ok(value.context("no value")?.parse()?)
}
