//! The word that was probably meant.

use super::{
    raw,
    schema::{Key, Rule, Table, Visitor},
};

/// The tables that a key belongs into, in words; empty if there are none. Those that are about the
/// same as the table where it stands go before others.
pub(super) fn homes(key: &str, stands_in: &str) -> String {
    let mut finder = Finder {
        key,
        header: "",
        homes: Vec::new(),
    };
    raw::File::visit(&mut finder);
    let is_near = |home: &&&str| subject(home) == subject(stands_in);
    let near: Vec<&str> = finder.homes.iter().filter(is_near).copied().collect();
    let homes = if near.is_empty() { finder.homes } else { near };
    homes.join(" or ")
}

/// What a table is about: `service` for `[[service.backend]]`.
fn subject(header: &str) -> &str {
    let name = header.trim_matches(['[', ']']);
    name.split('.').next().unwrap_or_default()
}

struct Finder<'k> {
    key: &'k str,
    header: &'static str,
    homes: Vec<&'static str>,
}

impl Finder<'_> {
    fn look<T: Table>(&mut self, name: &'static str) {
        // One at the top is no slip of place.
        if name == self.key && !self.header.is_empty() {
            self.homes.push(T::HEADER);
        }
        let outer = std::mem::replace(&mut self.header, T::HEADER);
        T::visit(self);
        self.header = outer;
    }
}

impl Visitor for Finder<'_> {
    fn key<R: Rule>(&mut self, name: &'static str, _: &Key<R>, _: &'static str) {
        if name == self.key {
            self.homes.push(self.header);
        }
    }

    fn table<T: Table>(&mut self, name: &'static str) {
        self.look::<T>(name);
    }

    fn tables<T: Table>(&mut self, name: &'static str) {
        self.look::<T>(name);
    }
}

/// The allowed word that was probably meant.
pub(super) fn nearest<'k>(key: &str, allowed: &[&'k str]) -> Option<&'k str> {
    // A key of any length must not cost time; none of ours is that long.
    if key.len() > 40 {
        return None;
    }
    let key = key.to_lowercase();
    let longer = allowed
        .iter()
        .find(|word| key.len() > 3 && word.starts_with(&*key));
    if let Some(longer) = longer {
        return Some(longer);
    }
    let (distance, near) = allowed
        .iter()
        .map(|near| (edits(&key, near), *near))
        .min()?;
    (distance <= 1.max(near.len() / 3)).then_some(near)
}

/// Letters to change, add, drop or swap with a neighbour to get from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let width = to.len() + 1;
    let mut rows = vec![0; (from.len() + 1) * width];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            rows[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = from[i - 1] == to[j - 1];
                let swapped =
                    i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
                let mut least = (rows[(i - 1) * width + j] + 1)
                    .min(rows[i * width + j - 1] + 1)
                    .min(rows[(i - 1) * width + j - 1] + usize::from(!same));
                if swapped {
                    least = least.min(rows[(i - 2) * width + j - 2] + 1);
                }
                least
            };
        }
    }
    rows[from.len() * width + to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_letters_and_swaps() {
        for (from, to, count) in [
            ("port", "port", 0),
            ("prot", "port", 1),
            ("adress", "address", 1),
            ("", "abc", 3),
            ("pin-path", "pin_path", 1),
        ] {
            assert_eq!(edits(from, to), count, "{from} {to}");
        }
    }

    #[test]
    fn only_near_keys_are_suggested() {
        let allowed = ["address", "port", "name"];
        assert_eq!(nearest("adress", &allowed), Some("address"));
        assert_eq!(nearest("weight", &allowed), None);
        assert_eq!(nearest(&"a".repeat(10_000), &allowed), None);
    }
}
