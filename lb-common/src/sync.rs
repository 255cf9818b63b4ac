//! How the data path tells the agent of flows that other balancers should know.
//!
//! The map `SYNC` holds a few rings of words, so that CPUs seldom meet in one. A word is the mark of
//! a flow's place (see [`crate::ports::mark`]), which says in which two buckets the flow stands; the
//! agent reads the flow there. A ring has a cursor, taken by one atomic step, and no other end: what
//! the agent does not read in time is overwritten, which it sees by the cursor, and is told of again
//! with the refresh that every flow gets. So nothing waits, nothing is refused, and no helper is
//! called.

use crate::shared::Shared64;

/// Rings; a power of two. A CPU uses the one of its number.
pub const LANES: u32 = 16;
/// Words of a ring, a power of two: 20 ms of 400,000 flows a second.
pub const LANE: u32 = 8192;
/// Words between two cursors, so that each has a cache line.
const APART: u32 = 8;
/// Words in front of the first ring.
const HEAD: u32 = LANES * APART;
/// Words of the map.
pub const WORDS: u32 = HEAD + LANES * LANE;

/// Where the cursor of a CPU's ring stands.
#[inline(always)]
#[must_use]
pub const fn cursor(cpu: u32) -> u32 {
    cpu % LANES * APART
}

/// Where the `number`th word of a CPU's ring stands.
#[inline(always)]
#[must_use]
pub const fn slot(cpu: u32, number: u64) -> u32 {
    HEAD + cpu % LANES * LANE + number as u32 % LANE
}

/// The agent's end of the rings.
#[derive(Debug)]
pub struct Reader {
    /// Words read of each ring.
    read: [u64; LANES as usize],
}

impl Reader {
    /// Of rings in which nothing is of interest so far.
    #[must_use]
    pub fn new(words: &[Shared64]) -> Self {
        let mut read = [0; LANES as usize];
        for (lane, read) in (0..).zip(&mut read) {
            *read = words.get(cursor(lane) as usize).map_or(0, Shared64::load);
        }
        Self { read }
    }

    /// Hands out what was told since, and says how many words were overwritten before they could be
    /// read. A word that is not there yet, because its CPU has only taken the number, is read next
    /// time.
    pub fn drain(&mut self, words: &[Shared64], mut each: impl FnMut(u64)) -> u64 {
        let mut lost = 0;
        for (lane, read) in (0..).zip(&mut self.read) {
            let Some(end) = words.get(cursor(lane) as usize).map(Shared64::load) else {
                return lost;
            };
            // A cursor that went backwards is that of other tables.
            let behind = end.wrapping_sub(*read);
            if behind > u64::from(LANE) {
                let skipped = behind - u64::from(LANE);
                lost += skipped;
                *read = read.wrapping_add(skipped);
            }
            while *read != end {
                let Some(cell) = words.get(slot(lane, *read) as usize) else {
                    return lost;
                };
                let word = cell.load();
                if word == 0 {
                    break;
                }
                // The next lap finds it empty again.
                cell.store(0);
                each(word);
                *read = read.wrapping_add(1);
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn words() -> Vec<Shared64> {
        (0..WORDS).map(|_| Shared64::default()).collect()
    }

    fn tell(words: &[Shared64], cpu: u32, word: u64) {
        let number = words[cursor(cpu) as usize].fetch_add(1);
        words[slot(cpu, number) as usize].store(word);
    }

    fn drain(reader: &mut Reader, words: &[Shared64]) -> (Vec<u64>, u64) {
        let mut all = Vec::new();
        let lost = reader.drain(words, |word| all.push(word));
        (all, lost)
    }

    #[test]
    fn what_cpus_tell_is_read_once() {
        let words = words();
        tell(&words, 3, 7);
        let mut reader = Reader::new(&words);
        for (cpu, word) in [(0, 1), (5, 2), (0, 3), (16, 4)] {
            tell(&words, cpu, word);
        }
        assert_eq!(drain(&mut reader, &words), (vec![1, 3, 4, 2], 0));
        assert_eq!(drain(&mut reader, &words), (vec![], 0));
    }

    #[test]
    fn a_word_that_is_not_there_yet_is_waited_for() {
        let words = words();
        let mut reader = Reader::new(&words);
        let number = words[cursor(1) as usize].fetch_add(1);
        tell(&words, 1, 2);
        assert_eq!(drain(&mut reader, &words), (vec![], 0));
        words[slot(1, number) as usize].store(1);
        assert_eq!(drain(&mut reader, &words), (vec![1, 2], 0));
    }

    #[test]
    fn what_was_overwritten_is_counted_and_the_rest_is_read() {
        let words = words();
        let mut reader = Reader::new(&words);
        let all = u64::from(LANE) + 10;
        for word in 1..=all {
            tell(&words, 2, word);
        }
        let (read, lost) = drain(&mut reader, &words);
        assert_eq!(lost, 10);
        assert_eq!(read, (11..=all).collect::<Vec<_>>());
    }

    #[test]
    fn every_word_has_a_place_of_its_own() {
        assert!(cursor(LANES - 1) < HEAD);
        assert_eq!(slot(LANES - 1, u64::from(LANE) - 1), WORDS - 1);
        assert_eq!(slot(0, u64::from(LANE)), HEAD);
    }
}
