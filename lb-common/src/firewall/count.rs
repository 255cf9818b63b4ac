//! How many flows a source has.
//!
//! The program counts packets that may begin a flow, and neither what becomes of them nor where flows
//! end: the agent counts what stands in the tables, once a second, and corrects the counts by the
//! difference. So a count never grows for ever, and a flow that has ended counts for a second more.
//! Where nobody has counted for a while, because there is no agent, the limit does not hold.
//!
//! A count is a word of a [`Line`], as buckets are; in a line that is full the smallest makes room.

use super::rate::{LINES, Line, Place, WAYS};
use crate::abi::Ticks;

/// Index of the most flows that a source may have among the firewall's words; 0 is no limit.
pub const FLOW_LIMIT: u32 = 5;

/// Index of the tick in which flows were last counted.
pub const COUNTED: u32 = 6;

/// Counts that are older do not hold.
pub const STALE: u32 = Ticks::from_seconds(3).0;

/// The words of counts among those of all lines.
pub const COUNTS: core::ops::Range<usize> = 2 * LINES as usize * WAYS..3 * LINES as usize * WAYS;

const COUNT: u64 = u32::MAX as u64;

impl Place {
    /// Counts one more flow of a source: which word of its line changes, from what to what. Nothing
    /// if it has so many.
    #[inline(always)]
    #[must_use]
    pub fn count_more(
        self,
        line: &Line,
        most: u32,
        forget: &impl Fn(u64) -> u64,
    ) -> Option<(usize, u64, u64)> {
        let found = self.find(line, forget);
        let way = if found & WAYS == 0 {
            least(line, forget)
        } else {
            found % WAYS
        };
        let old = line.0[way].load();
        let count = if self.owns(old) { old & COUNT } else { 0 };
        if count >= u64::from(most) {
            return None;
        }
        Some((way, old, self.word(count + 1)))
    }

    /// The word of a source with that many flows.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, count: u64) -> u64 {
        self.mark() | count
    }
}

/// The way with the smallest count.
#[inline(always)]
fn least(line: &Line, forget: &impl Fn(u64) -> u64) -> usize {
    let mut best = u64::MAX >> 1;
    for (way, word) in line.0.iter().enumerate() {
        let own = (word.load() & COUNT) << 3 | way as u64;
        let is_less = forget(own.wrapping_sub(best) >> 63);
        best ^= (best ^ own) & is_less.wrapping_neg();
    }
    forget(best) as usize % WAYS
}

/// Corrects counts, for whoever has counted.
#[cfg(any(test, feature = "host"))]
pub mod correct {
    use std::collections::HashMap;

    use super::{COUNT, COUNTS, Place, WAYS};
    use crate::shared::Shared64;

    /// Corrects the counts in the words of all lines, from those `before` the flows were counted.
    /// Sources without a word that have at least `notable` flows get one.
    pub fn correct(
        words: &[Shared64],
        before: &[u64],
        mut counted: HashMap<Place, u32>,
        notable: u32,
    ) {
        let Some(counts) = words.get(COUNTS) else {
            return;
        };
        for (index, (cell, before)) in counts.iter().zip(before).enumerate() {
            let word = cell.load();
            if word == 0 {
                continue;
            }
            let place = Place::of_word((COUNTS.start + index) / WAYS, word);
            let found = counted.remove(&place).unwrap_or(0);
            let known = if place.owns(*before) {
                before & COUNT
            } else {
                0
            };
            let right = (word & COUNT) + u64::from(found);
            let right = right.saturating_sub(known).min(COUNT);
            let new = if right == 0 { 0 } else { place.word(right) };
            if new != word {
                // If the program was faster, the next time corrects it.
                cell.compare_exchange(word, new);
            }
        }
        for (place, found) in counted {
            let first = place.line as usize * WAYS;
            let Some(line) = words.get(first..first + WAYS) else {
                continue;
            };
            let least = line.iter().min_by_key(|cell| cell.load() & COUNT);
            if let Some(cell) = least.filter(|_| found >= notable) {
                let word = cell.load();
                if word & COUNT < u64::from(found) {
                    cell.compare_exchange(word, place.word(found.into()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        address::Address,
        firewall::rate::{ALL_LINES, Kind},
        shared::Shared64,
    };

    fn place(number: u32) -> Place {
        Place::of(7, Kind::Flows, Address::from_v4(number.to_be_bytes()))
    }

    fn same(number: u64) -> u64 {
        number
    }

    #[test]
    fn who_has_many_flows_stays_counted_among_many_who_have_one() {
        let (line, heavy) = (Line::default(), place(1));
        let more = |place: Place| {
            let Some((way, old, new)) = place.count_more(&line, 5, &same) else {
                return false;
            };
            line.0[way].compare_exchange(old, new)
        };
        assert_eq!((0..9).filter(|_| more(heavy)).count(), 5);
        for number in 100..5000 {
            assert!(more(place(number)) || place(number) == heavy, "{number}");
        }
        assert!(!more(heavy));
    }

    #[test]
    fn counts_become_what_was_counted_and_keep_what_began_meanwhile() {
        let words: Vec<Shared64> = (0..ALL_LINES as usize * WAYS)
            .map(|_| Shared64::default())
            .collect();
        let cell = |place: Place, way: usize| &words[place.line as usize * WAYS + way];
        let set = |place: Place, count| cell(place, 3).store(place.word(count));
        let count = |place: Place| cell(place, 3).load();
        let [ended, begins, right] = [place(1), place(2), place(3)];
        set(ended, 4);
        set(begins, 2);
        set(right, 9);
        let before: Vec<u64> = words[COUNTS].iter().map(Shared64::load).collect();
        set(begins, 3);
        let counted = HashMap::from([(begins, 2), (right, 7), (place(4), 50), (place(5), 3)]);
        correct::correct(&words, &before, counted, 10);
        assert_eq!(count(ended), 0);
        assert_eq!(count(begins), begins.word(3));
        assert_eq!(count(right), right.word(7));
        assert_eq!(cell(place(4), 0).load(), place(4).word(50));
        assert_eq!(cell(place(5), 0).load(), 0);
    }
}
