//! Which numbers of messages were seen: a window over the newest, so that messages may overtake each
//! other a little and none counts twice (RFC 6479).

/// Words of the window.
const WORDS: u64 = 32;
/// Numbers behind the newest that are still taken.
const SPAN: u64 = (WORDS - 1) * 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    newest: u64,
    seen: [u64; WORDS as usize],
}

impl Window {
    /// Whether a number is new; to be asked before the message is looked at.
    pub(super) fn is_new(&self, number: u64) -> bool {
        if number > self.newest {
            return true;
        }
        self.newest - number < SPAN && self.seen[Self::word(number)] >> (number % 64) & 1 == 0
    }

    /// Notes a number, of a message that is proven to be the peer's.
    pub(super) fn note(&mut self, number: u64) {
        if number > self.newest {
            let (from, to) = (self.newest / 64, number / 64);
            for word in 0..(to - from).min(WORDS) {
                self.seen[((to - word) % WORDS) as usize] = 0;
            }
            self.newest = number;
        }
        self.seen[Self::word(number)] |= 1 << (number % 64);
    }

    const fn word(number: u64) -> usize {
        (number / 64 % WORDS) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_is_new_and_numbers_far_behind_are_not() {
        let mut window = Window::default();
        assert!(window.is_new(1));
        window.note(1);
        assert!(!window.is_new(1));
        window.note(1 + SPAN + 10);
        assert!(!window.is_new(2));
        assert!(window.is_new(100));
        window.note(u64::MAX);
        assert!(!window.is_new(u64::MAX) && window.is_new(u64::MAX - 1));
    }

    proptest! {
        #[test]
        fn no_number_is_taken_twice(numbers in proptest::collection::vec(1u64..6000, 1..3000)) {
            let (mut window, mut taken) = (Window::default(), HashSet::new());
            let mut newest = 0;
            for number in numbers {
                let is_new = window.is_new(number);
                prop_assert!(!(is_new && taken.contains(&number)));
                if newest < number + SPAN {
                    prop_assert_eq!(is_new, !taken.contains(&number));
                }
                if is_new {
                    window.note(number);
                    taken.insert(number);
                    newest = newest.max(number);
                }
            }
        }
    }
}
