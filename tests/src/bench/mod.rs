//! `cargo xtask bench`: ratios, both sides in the same run.
//!
//! Each benchmark takes its peers in turn, round after round, so that what else the machine does
//! hits all of them alike, and gives medians over the rounds.

pub mod agent;
pub mod checks;
pub mod compare;
pub mod conditions;
pub mod flood;
pub mod flows;
pub mod http;
pub mod memory;
pub mod mysql;
pub mod packet;
pub mod pps;
pub mod report;
pub mod sync;
pub mod template;

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Rounds, or the benchmark's own number of them.
    pub rounds: Option<usize>,
    /// Whether to be content with a rough picture.
    pub is_quick: bool,
}

impl Effort {
    /// The number of rounds for a benchmark that would take so many.
    #[must_use]
    pub fn rounds(self, usual: usize) -> usize {
        let rounds = match (self.rounds, self.is_quick) {
            (Some(rounds), _) => rounds,
            (None, true) => usual.min(3),
            (None, false) => usual,
        };
        rounds.max(1)
    }

    /// A quarter where a rough picture is enough.
    #[must_use]
    pub fn packets(self, usual: u32) -> u32 {
        if self.is_quick { usual / 4 } else { usual }
    }
}
