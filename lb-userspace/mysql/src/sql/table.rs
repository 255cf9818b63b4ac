//! Look-up of words in tables that the compiler lays out: open addressing, no allocation, letters
//! of either case.

/// Longer words are in no table.
const LONGEST: usize = 40;

/// The hash of a word, whatever its case.
const fn hash(word: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < word.len() {
        // Good enough for letters, digits and `_`, and what collides is compared anyway.
        hash = (hash ^ (word[at] | 0x20) as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize
}

/// Places of words in a list, by hash; 0 is a free place.
pub(super) struct Places<const SIZE: usize>([u16; SIZE]);

impl<const SIZE: usize> Places<SIZE> {
    /// Lays out a list of words in lower case. `SIZE` is a power of two, at least twice the words.
    pub(super) const fn new(words: &[&str]) -> Self {
        assert!(SIZE.is_power_of_two() && words.len() * 2 <= SIZE);
        let mut places = [0; SIZE];
        let mut index = 0;
        while index < words.len() {
            let mut place = hash(words[index].as_bytes()) % SIZE;
            while places[place] != 0 {
                place = (place + 1) % SIZE;
            }
            places[place] = index as u16 + 1;
            index += 1;
        }
        Self(places)
    }

    /// The index of a word in the list.
    pub(super) fn find(&self, words: &[&str], word: &[u8]) -> Option<usize> {
        if word.len() > LONGEST {
            return None;
        }
        let mut place = hash(word) % SIZE;
        while let Some(index) = usize::from(self.0[place]).checked_sub(1) {
            if words[index].as_bytes().eq_ignore_ascii_case(word) {
                return Some(index);
            }
            place = (place + 1) % SIZE;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there() {
        const WORDS: [&str; 3] = ["select", "from", "x_1"];
        const PLACES: Places<8> = Places::new(&WORDS);
        assert_eq!(PLACES.find(&WORDS, b"SELECT"), Some(0));
        assert_eq!(PLACES.find(&WORDS, b"X_1"), Some(2));
        assert_eq!(PLACES.find(&WORDS, b"x\x7f1"), None);
        assert_eq!(PLACES.find(&WORDS, b""), None);
        assert_eq!(PLACES.find(&WORDS, &[b'a'; 1000]), None);
    }
}
