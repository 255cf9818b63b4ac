//! From single results to "up" and "down": `rise` and `fall`, and nothing else.

use super::Health;

/// The health of one backend, as its checks tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    health: Health,
    rise: u32,
    fall: u32,
    /// Results in a row that speak against `health`.
    against: u32,
}

impl Machine {
    /// `health` is what was known before the first check. A backend of which nothing is known is
    /// [`Health::Checking`], and its first result decides at once.
    #[must_use]
    pub const fn new(health: Health, rise: u32, fall: u32) -> Self {
        Self {
            health,
            rise,
            fall,
            against: 0,
        }
    }

    /// What is known now.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Takes the result of a check; says whether the health changed.
    pub const fn result(&mut self, success: bool) -> bool {
        let (other, needed) = match (self.health, success) {
            (Health::Checking, true) => (Health::Up, 1),
            (Health::Checking, false) => (Health::Down, 1),
            (Health::Down, true) => (Health::Up, self.rise),
            (Health::Up, false) => (Health::Down, self.fall),
            (Health::Up, true) | (Health::Down, false) => {
                self.against = 0;
                return false;
            }
        };
        self.against += 1;
        if self.against < needed {
            return false;
        }
        self.against = 0;
        self.health = other;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Results as `+` and `-`, the health after each as `?`, `U` and `D`.
    fn history(start: Health, rise: u32, fall: u32, results: &str) -> String {
        let mut machine = Machine::new(start, rise, fall);
        let letter = |health| match health {
            Health::Checking => '?',
            Health::Up => 'U',
            Health::Down => 'D',
        };
        results
            .chars()
            .map(|result| {
                let before = machine.health();
                let changed = machine.result(result == '+');
                assert_eq!(changed, before != machine.health());
                letter(machine.health())
            })
            .collect()
    }

    #[test]
    fn results_in_a_row_change_the_health() {
        for (start, rise, fall, results, healths) in [
            (Health::Checking, 2, 3, "+", "U"),
            (Health::Checking, 2, 3, "-", "D"),
            (Health::Checking, 2, 3, "+---++", "UUUDDU"),
            (Health::Checking, 2, 3, "+--+--+---", "UUUUUUUUUD"),
            (Health::Down, 2, 3, "+-+-++", "DDDDDU"),
            (Health::Up, 2, 3, "--+---", "UUUUUD"),
            (Health::Up, 1, 1, "-+-+", "DUDU"),
        ] {
            assert_eq!(history(start, rise, fall, results), healths, "{results}");
        }
    }

    proptest! {
        #[test]
        fn a_change_is_preceded_by_exactly_enough_results_in_a_row(
            rise in 1..6_u32,
            fall in 1..6_u32,
            results in proptest::collection::vec(any::<bool>(), 1..200),
        ) {
            let mut machine = Machine::new(Health::Checking, rise, fall);
            machine.result(results[0]);
            let mut last_change = 0;
            for (index, success) in results.iter().enumerate().skip(1) {
                let needed = match machine.health() {
                    Health::Up => fall,
                    Health::Down => rise,
                    Health::Checking => unreachable!("the first result decided"),
                } as usize;
                let was_up = machine.health() == Health::Up;
                let in_a_row = index - last_change >= needed
                    && results[index + 1 - needed..=index].iter().all(|result| *result != was_up);
                prop_assert_eq!(machine.result(*success), in_a_row);
                if in_a_row {
                    last_change = index;
                }
            }
        }
    }
}
