//! MySQL's: numbers of transactions, of each server and tag by themselves.

mod intervals;
mod text;

use std::fmt;

pub use self::intervals::Interval;
use self::intervals::Intervals;
use super::{GtidError, Tag, Uuid};

/// A transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MySqlGtid {
    /// Where it was written.
    pub uuid: Uuid,
    /// What that server set it apart by.
    pub tag: Tag,
    /// Its number among those, from 1.
    pub number: u64,
}

impl fmt::Display for MySqlGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.uuid)?;
        if !self.tag.is_none() {
            write!(f, "{}:", self.tag)?;
        }
        write!(f, "{}", self.number)
    }
}

/// A set of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MySqlSet {
    /// By what they are called, each once, none empty.
    sources: Vec<Source>,
}

/// Transactions that differ by their number only.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    uuid: Uuid,
    tag: Tag,
    intervals: Intervals,
}

impl Source {
    const fn key(&self) -> (Uuid, Tag) {
        (self.uuid, self.tag)
    }
}

/// So many are put where they belong one by one.
const FEW: usize = 16;

impl MySqlSet {
    /// No transaction.
    #[must_use]
    pub const fn new() -> Self {
        let sources = Vec::new();
        Self { sources }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    fn find(&self, key: (Uuid, Tag)) -> Result<usize, usize> {
        match self.sources.as_slice() {
            [only] if only.key() == key => Ok(0),
            all => all.binary_search_by(|source| source.key().cmp(&key)),
        }
    }

    fn of(&self, key: (Uuid, Tag)) -> Option<&Intervals> {
        let index = self.find(key).ok()?;
        Some(&self.sources[index].intervals)
    }

    /// Adds a transaction. The one that follows the last of its server takes no memory.
    pub fn add(&mut self, gtid: MySqlGtid) {
        let one = Interval {
            first: gtid.number,
            last: gtid.number,
        };
        self.add_interval(gtid.uuid, gtid.tag, one);
    }

    /// Adds transactions of one server whose numbers follow each other.
    pub fn add_interval(&mut self, uuid: Uuid, tag: Tag, interval: Interval) {
        match self.find((uuid, tag)) {
            Ok(index) => self.sources[index].intervals.add(interval),
            Err(index) => {
                let intervals = Intervals::one(interval);
                let source = Source {
                    uuid,
                    tag,
                    intervals,
                };
                self.sources.insert(index, source);
            }
        }
    }

    /// Adds what is written as `3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:8:mine:1`, several by
    /// commas. A wrong text changes nothing.
    ///
    /// # Errors
    /// When it is no such list.
    pub fn add_text(&mut self, text: &str) -> Result<(), GtidError> {
        let mut count = 0;
        for piece in text::Pieces::of(text) {
            piece?;
            count += 1;
        }
        let pieces = text::Pieces::of(text).flatten();
        if count <= FEW {
            for (uuid, tag, interval) in pieces {
                self.add_interval(uuid, tag, interval);
            }
            return Ok(());
        }
        let mut all: Vec<(Uuid, Tag, Interval)> = pieces.collect();
        all.sort_unstable();
        let mut sources: Vec<Source> = Vec::new();
        for (uuid, tag, interval) in all {
            match sources.last_mut() {
                Some(last) if last.key() == (uuid, tag) => last.intervals.add(interval),
                Some(_) | None => sources.push(Source {
                    uuid,
                    tag,
                    intervals: Intervals::one(interval),
                }),
            }
        }
        self.union(&Self { sources });
        Ok(())
    }

    /// Whether a transaction is in it.
    #[must_use]
    pub fn has(&self, gtid: MySqlGtid) -> bool {
        let own = self.of((gtid.uuid, gtid.tag));
        own.is_some_and(|own| own.has(gtid.number))
    }

    /// Whether all of the other is in it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.sources.iter().all(|source| {
            let own = self.of(source.key());
            own.is_some_and(|own| own.contains(&source.intervals))
        })
    }

    /// Whether something is in both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        other.sources.iter().any(|source| {
            let own = self.of(source.key());
            own.is_some_and(|own| own.meets(&source.intervals))
        })
    }

    /// Adds all of the other.
    pub fn union(&mut self, other: &Self) {
        let mut new = Vec::new();
        for source in &other.sources {
            match self.find(source.key()) {
                Ok(index) => self.sources[index].intervals.union(&source.intervals),
                Err(_) => new.push(source.clone()),
            }
        }
        if !new.is_empty() {
            self.sources.extend(new);
            self.sources.sort_by_key(Source::key);
        }
    }

    /// What is in it and not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut sources = Vec::new();
        for source in &self.sources {
            let intervals = match other.of(source.key()) {
                Some(other) => source.intervals.without(other),
                None => source.intervals.clone(),
            };
            if !intervals.is_empty() {
                sources.push(Source {
                    intervals,
                    ..*source
                });
            }
        }
        Self { sources }
    }

    /// Adds what is missing between the first and the last of each server.
    pub fn fill(&mut self) {
        for source in &mut self.sources {
            source.intervals.fill();
        }
    }

    /// What a server has written, under any tag.
    #[must_use]
    pub fn written_by(&self, uuid: Uuid) -> Self {
        let own = self.sources.iter().filter(|source| source.uuid == uuid);
        Self {
            sources: own.cloned().collect(),
        }
    }

    /// How many transactions there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counts = self.sources.iter().map(|source| source.intervals.count());
        counts.fold(0, u64::saturating_add)
    }
}

impl fmt::Display for MySqlSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for source in &self.sources {
            if before != Some(source.uuid) {
                let comma = if before.is_some() { "," } else { "" };
                write!(f, "{comma}{}", source.uuid)?;
                before = Some(source.uuid);
            }
            if !source.tag.is_none() {
                write!(f, ":{}", source.tag)?;
            }
            source.intervals.fmt(f)?;
        }
        Ok(())
    }
}
