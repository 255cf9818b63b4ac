//! How often each kind of statement came, where it went and how long it took: for a bounded number
//! of kinds.

use std::{collections::HashMap, time::Duration};

use super::{number, text};
use crate::{route::Reason, sql::Dialect};

/// Kinds that are looked at to find one that may go.
const LOOKS: usize = 8;

/// What there is to tell of a statement that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Whether it went to a replica.
    pub is_replica: bool,
    /// Why.
    pub reason: Reason,
    /// From the command to the end of the answer.
    pub took: Duration,
    /// Whether the answer was an error.
    pub failed: bool,
}

/// What became of statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To the primary, and to replicas.
    pub targets: [u64; 2],
    /// A bit for each reason for it.
    reasons: [u128; 2],
    /// Answers that were errors.
    pub errors: u64,
    /// How long they took together.
    pub total: Duration,
    /// How long the longest took.
    pub longest: Duration,
}

const _: () = assert!(Reason::ALL.len() <= 128);

impl Counts {
    fn note(&mut self, seen: &Seen) {
        let at = usize::from(seen.is_replica);
        self.targets[at] += 1;
        self.reasons[at] |= 1 << seen.reason as u32;
        self.errors += u64::from(seen.failed);
        self.total += seen.took;
        self.longest = self.longest.max(seen.took);
    }

    /// With those of others.
    pub fn add(&mut self, other: &Self) {
        for at in 0..2 {
            self.targets[at] += other.targets[at];
            self.reasons[at] |= other.reasons[at];
        }
        self.errors += other.errors;
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.targets[0] + self.targets[1]
    }

    /// Why they went to the primary, or to replicas.
    pub fn reasons(&self, is_replica: bool) -> impl Iterator<Item = Reason> {
        let bits = self.reasons[usize::from(is_replica)];
        let all = Reason::ALL.into_iter();
        all.filter(move |reason| bits & (1 << *reason as u32) != 0)
    }
}

/// A kind of statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its number.
    pub number: u64,
    /// Its text.
    pub text: Box<[u8]>,
    /// What became of them.
    pub counts: Counts,
}

/// The kinds that there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Those that are told apart.
    pub kinds: Vec<Kind>,
    /// All the rest.
    pub other: Counts,
}

impl Report {
    /// With those of another.
    pub fn merge(&mut self, other: Self) {
        let mut places: HashMap<u64, usize> = self
            .kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| (kind.number, at))
            .collect();
        for kind in other.kinds {
            match places.get(&kind.number) {
                Some(at) => self.kinds[*at].counts.add(&kind.counts),
                None => {
                    places.insert(kind.number, self.kinds.len());
                    self.kinds.push(kind);
                }
            }
        }
        self.other.add(&other.other);
    }
}

#[derive(Clone, Debug)]
struct Entry {
    number: u64,
    text: Vec<u8>,
    counts: Counts,
    /// How often it came, the longer ago the less that says.
    warmth: u32,
}

/// The kinds of statements that one thread sees.
#[derive(Clone, Debug)]
pub struct Digests {
    most: usize,
    entries: Vec<Entry>,
    places: HashMap<u64, usize>,
    /// Where the next search for one that may go begins.
    hand: usize,
    other: Counts,
}

impl Digests {
    /// A table of so many at most, one at least.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            entries: Vec::new(),
            places: HashMap::with_capacity(most),
            hand: 0,
            other: Counts::default(),
        }
    }

    /// A statement was answered.
    pub fn note(&mut self, sql: &[u8], dialect: Dialect, seen: &Seen) {
        let number = number(sql, dialect);
        let at = match self.places.get(&number) {
            Some(at) => *at,
            None => self.place(number, sql, dialect),
        };
        let entry = &mut self.entries[at];
        entry.counts.note(seen);
        entry.warmth = entry.warmth.saturating_add(1);
    }

    /// A place for one that has not been seen.
    fn place(&mut self, number: u64, sql: &[u8], dialect: Dialect) -> usize {
        let at = if self.entries.len() < self.most {
            self.entries.push(Entry {
                number,
                text: Vec::new(),
                counts: Counts::default(),
                warmth: 0,
            });
            self.entries.len() - 1
        } else {
            let at = self.coldest();
            let entry = &mut self.entries[at];
            self.other.add(&entry.counts);
            self.places.remove(&entry.number);
            entry.number = number;
            entry.counts = Counts::default();
            entry.warmth = 0;
            entry.text.clear();
            at
        };
        text(sql, dialect, &mut self.entries[at].text);
        self.places.insert(number, at);
        at
    }

    /// Of a few, the one that came least; the others have to come again to stay.
    fn coldest(&mut self) -> usize {
        let mut coldest = self.hand;
        for _ in 0..LOOKS.min(self.most) {
            self.hand = (self.hand + 1) % self.most;
            let warmth = self.entries[self.hand].warmth;
            if warmth < self.entries[coldest].warmth {
                coldest = self.hand;
            }
            self.entries[self.hand].warmth = warmth / 2;
        }
        coldest
    }

    /// What there is to tell.
    #[must_use]
    pub fn report(&self) -> Report {
        let kinds = self.entries.iter().map(|entry| Kind {
            number: entry.number,
            text: entry.text.as_slice().into(),
            counts: entry.counts.clone(),
        });
        Report {
            kinds: kinds.collect(),
            other: self.other.clone(),
        }
    }
}
