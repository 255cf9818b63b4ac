//! Counting tests.

use std::fmt;
use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl Tally {
    pub(super) fn passed(passed: u64) -> Self {
        Self {
            passed,
            ..Self::default()
        }
    }

    pub(super) fn failed(failed: u64) -> Self {
        Self {
            failed,
            ..Self::default()
        }
    }

    pub(super) fn skipped(skipped: u64) -> Self {
        Self {
            skipped,
            ..Self::default()
        }
    }

    /// Reads the last line of a run of nextest, such as `Summary [ 0.5s] 12 tests run: 10 passed
    /// (1 slow), 1 failed, 1 timed out, 3 skipped`. What it calls skipped is left out, because
    /// that is also what a filter leaves out.
    pub(super) fn of_nextest(line: &str) -> Option<Self> {
        let (_, line) = line.split_once("Summary [")?;
        let (_, counts) = line.split_once(" run: ")?;
        let mut tally = Self::default();
        for part in without_parentheses(counts).split(',') {
            let (count, what) = part.trim().split_once(' ')?;
            let count: u64 = count.parse().ok()?;
            match what.trim() {
                "passed" => tally.passed += count,
                "skipped" => {}
                // Failed, timed out, exec failed, and what else may come.
                _ => tally.failed += count,
            }
        }
        Some(tally)
    }

    /// Reads a line of `cargo test`, such as `test result: ok. 6 passed; 0 failed; 1 ignored; …`.
    pub(super) fn of_cargo_test(line: &str) -> Option<Self> {
        let (_, line) = line.split_once("test result: ")?;
        let (_, counts) = line.split_once(". ")?;
        let mut tally = Self::default();
        for part in counts.split(';') {
            let Some((count, what)) = part.trim().split_once(' ') else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => tally.passed += count,
                "failed" => tally.failed += count,
                "ignored" => tally.skipped += count,
                _ => {}
            }
        }
        Some(tally)
    }
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    let mut outside = String::new();
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => outside.push(character),
            _ => {}
        }
    }
    outside
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(
            formatter,
            "{passed} passed, {failed} failed, {skipped} skipped"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Option<Tally> {
        Some(Tally {
            passed,
            failed,
            skipped,
        })
    }

    #[test]
    fn nextests_summary_is_read() {
        let line = "     Summary [   0.530s] 12 tests run: 12 passed, 0 skipped";
        assert_eq!(Tally::of_nextest(line), tally(12, 0, 0));
        let line = "Summary [ 20.1s] 7/12 tests run: 4 passed (1 slow, 1 flaky), 2 failed, \
                    1 timed out, 5 skipped";
        assert_eq!(Tally::of_nextest(line), tally(4, 3, 0));
        let line = "     Summary [   0.005s] 1 test run: 1 passed, 3 skipped";
        assert_eq!(Tally::of_nextest(line), tally(1, 0, 0));
        assert_eq!(Tally::of_nextest("PASS [ 0.1s] run: x"), None);
    }

    #[test]
    fn cargo_tests_summary_is_read() {
        let line = "test result: ok. 6 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; \
                    finished in 0.00s";
        assert_eq!(Tally::of_cargo_test(line), tally(6, 0, 1));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured";
        assert_eq!(Tally::of_cargo_test(line), tally(1, 2, 0));
        assert_eq!(Tally::of_cargo_test("test a ... ok"), None);
    }
}
