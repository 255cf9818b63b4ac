//! MariaDB's: a position in each domain.

use std::fmt;

use super::{Family, GtidError};

/// A transaction: the number that its server gave it in a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MariaDbGtid {
    /// The stream of changes that it belongs to.
    pub domain: u32,
    /// The `server_id` of where it was written.
    pub server: u32,
    /// Its number in the domain.
    pub sequence: u64,
}

impl fmt::Display for MariaDbGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            server,
            sequence,
        } = self;
        write!(f, "{domain}-{server}-{sequence}")
    }
}

/// The last transaction of each domain; those before it belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaDbSet {
    /// By domain, each once.
    positions: Vec<MariaDbGtid>,
}

impl MariaDbSet {
    /// No transaction.
    #[must_use]
    pub const fn new() -> Self {
        let positions = Vec::new();
        Self { positions }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The positions, by domain.
    #[must_use]
    pub fn positions(&self) -> &[MariaDbGtid] {
        &self.positions
    }

    /// The position in a domain.
    #[must_use]
    pub fn position(&self, domain: u32) -> Option<MariaDbGtid> {
        self.find(domain).ok().map(|index| self.positions[index])
    }

    fn find(&self, domain: u32) -> Result<usize, usize> {
        match self.positions.as_slice() {
            [only] if only.domain == domain => Ok(0),
            all => all.binary_search_by_key(&domain, |position| position.domain),
        }
    }

    /// Goes on to a transaction, and stays where it is if that is behind.
    pub fn add(&mut self, gtid: MariaDbGtid) {
        match self.find(gtid.domain) {
            Ok(index) => {
                let position = &mut self.positions[index];
                if position.sequence < gtid.sequence {
                    *position = gtid;
                }
            }
            Err(index) => self.positions.insert(index, gtid),
        }
    }

    /// Adds what is written as `0-1-17,1-1-4`. A wrong text changes nothing.
    ///
    /// # Errors
    /// When it is no such list.
    pub fn add_text(&mut self, text: &str) -> Result<(), GtidError> {
        let parts = || parts(text);
        let mut count = 0;
        for part in parts() {
            part?;
            count += 1;
        }
        if count > FEW {
            let mut all: Vec<MariaDbGtid> = parts().flatten().collect();
            all.sort_unstable_by_key(|gtid| (gtid.domain, gtid.sequence));
            let mut positions: Vec<MariaDbGtid> = Vec::new();
            for gtid in all {
                match positions.last_mut() {
                    Some(last) if last.domain == gtid.domain => *last = gtid,
                    Some(_) | None => positions.push(gtid),
                }
            }
            self.union(&Self { positions });
        } else {
            for gtid in parts().flatten() {
                self.add(gtid);
            }
        }
        Ok(())
    }

    /// Whether it has reached all positions of the other.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let reached = |wanted: &MariaDbGtid| {
            let position = self.position(wanted.domain);
            position.is_some_and(|position| position.sequence >= wanted.sequence)
        };
        other.positions.iter().all(reached)
    }

    /// Whether both have something of one domain.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let mut domains = other.positions.iter().map(|position| position.domain);
        domains.any(|domain| self.find(domain).is_ok())
    }

    /// Goes on to all positions of the other.
    pub fn union(&mut self, other: &Self) {
        if other.positions.len() <= FEW {
            for gtid in &other.positions {
                self.add(*gtid);
            }
            return;
        }
        let mut all = std::mem::take(&mut self.positions);
        all.extend_from_slice(&other.positions);
        // Stable: of two that are equally far, the one that was here stays.
        all.sort_by_key(|gtid| (gtid.domain, std::cmp::Reverse(gtid.sequence)));
        all.dedup_by_key(|gtid| gtid.domain);
        self.positions = all;
    }

    /// The positions that the other has not reached.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let is_missing = |position: &&MariaDbGtid| {
            let reached = other.position(position.domain);
            reached.is_none_or(|reached| reached.sequence < position.sequence)
        };
        let positions = self.positions.iter().filter(is_missing).copied();
        Self {
            positions: positions.collect(),
        }
    }

    /// The same with the positions of another in the domains that this one does not know.
    #[must_use]
    pub fn filled_from(mut self, other: &Self) -> Self {
        let is_new = |position: &&MariaDbGtid| self.find(position.domain).is_err();
        let new: Vec<MariaDbGtid> = other.positions.iter().filter(is_new).copied().collect();
        self.union(&Self { positions: new });
        self
    }
}

/// So many are put where they belong one by one.
const FEW: usize = 16;

impl fmt::Display for MariaDbSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, position) in self.positions.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{position}")?;
        }
        Ok(())
    }
}

/// The transactions that a text names.
fn parts(text: &str) -> impl Iterator<Item = Result<MariaDbGtid, GtidError>> {
    let mut next = 0;
    let is_blank = text.trim().is_empty();
    text.split(',').filter(move |_| !is_blank).map(move |part| {
        let at = next;
        next += part.len() + 1;
        gtid(part).ok_or(GtidError {
            family: Family::MariaDb,
            at,
            wanted: "a domain, a server and a number, as in 0-1-17",
        })
    })
}

fn gtid(text: &str) -> Option<MariaDbGtid> {
    let mut numbers = text.trim().split('-');
    let gtid = MariaDbGtid {
        domain: number(numbers.next()?)?,
        server: number(numbers.next()?)?,
        sequence: number(numbers.next()?)?,
    };
    numbers.next().is_none().then_some(gtid)
}

/// Digits only: a sign is none.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}
