//! Slot tables: weights become an order.

use std::collections::BTreeMap;

/// The order of a smooth weighted round robin, as nginx has it: in each turn every backend gains
/// its weight, the one with most goes and pays the sum of all weights. Backends of weight 3, 1, 1
/// give 0 1 0 2 0 and not 0 0 0 1 2. Ties go to the first, so equal weights give the given order.
///
/// Returns indices into `weights`; each appears its weight times, divided by the greatest common
/// divisor of all. Weight 0 never appears.
#[must_use]
pub fn smooth_weighted(weights: &[u16]) -> Vec<usize> {
    let divisor = divisor(weights);
    if divisor == 0 {
        return Vec::new();
    }
    let weights: Vec<i64> = weights
        .iter()
        .map(|&weight| i64::from(weight / divisor))
        .collect();
    if weights.iter().all(|&weight| weight <= 1) {
        return (0..weights.len())
            .filter(|&index| weights[index] == 1)
            .collect();
    }
    let total: i64 = weights.iter().sum();
    let mut groups = groups(&weights);
    let mut order = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut best = 0;
        for index in 0..groups.len() {
            groups[index].credit += groups[index].weight;
            if groups[index].goes_before(&groups[best]) {
                best = index;
            }
        }
        order.push(groups[best].take(total));
    }
    order
}

/// How many slots [`smooth_weighted`] gives. No part of the backends takes more than all of them.
#[must_use]
pub fn length(weights: &[u16]) -> usize {
    let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
    total / usize::from(divisor(weights).max(1))
}

fn divisor(weights: &[u16]) -> u16 {
    weights
        .iter()
        .fold(0, |divisor, &weight| gcd(divisor, weight))
}

/// Backends of one weight. Among them a turn goes to the one that had fewest, and of those to the
/// first: they take turns in the given order. So a turn need not look at every backend, but only
/// at the next one of each weight, of which there are few.
struct Group {
    weight: i64,
    members: Vec<usize>,
    /// The member whose turn is next.
    next: usize,
    /// That member's credit.
    credit: i64,
}

/// The backends that have a weight, by it.
fn groups(weights: &[i64]) -> Vec<Group> {
    let mut members: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (index, &weight) in weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0)
    {
        members.entry(weight).or_default().push(index);
    }
    members
        .into_iter()
        .map(|(weight, members)| Group {
            weight,
            members,
            next: 0,
            credit: 0,
        })
        .collect()
}

impl Group {
    fn goes_before(&self, other: &Self) -> bool {
        self.credit > other.credit
            || (self.credit == other.credit && self.members[self.next] < other.members[other.next])
    }

    /// The member whose turn it is, which pays for it.
    fn take(&mut self, price: i64) -> usize {
        let member = self.members[self.next];
        self.next += 1;
        if self.next == self.members.len() {
            // All have paid as often now.
            self.next = 0;
            self.credit -= price;
        }
        member
    }
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_orders() {
        for (weights, order) in [
            (&[][..], &[][..]),
            (&[0, 0], &[]),
            (&[1, 1, 1], &[0, 1, 2]),
            (&[2, 2, 0, 2], &[0, 1, 3]),
            (&[3, 1, 1], &[0, 1, 0, 2, 0]),
            (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
            (&[256, 0], &[0]),
        ] {
            assert_eq!(smooth_weighted(weights), order, "{weights:?}");
        }
    }

    /// As the algorithm is usually told: every backend's credit, in every turn.
    fn told_simply(weights: &[u16]) -> Vec<usize> {
        let divisor = divisor(weights);
        let weights: Vec<i64> = weights
            .iter()
            .map(|&weight| i64::from(weight / divisor.max(1)))
            .collect();
        let total: i64 = weights.iter().sum();
        let mut credit = vec![0; weights.len()];
        let turn = |_| {
            for (credit, weight) in credit.iter_mut().zip(&weights) {
                *credit += weight;
            }
            let mut best = 0;
            for index in 1..credit.len() {
                if credit[index] > credit[best] {
                    best = index;
                }
            }
            credit[best] -= total;
            best
        };
        (0..total).map(turn).collect()
    }

    proptest! {
        #[test]
        fn the_order_is_the_simple_one(
            few in proptest::collection::vec(0u16..=4, 0..60),
            many in proptest::collection::vec(0u16..=256, 0..12),
        ) {
            prop_assert_eq!(smooth_weighted(&few), told_simply(&few));
            prop_assert_eq!(smooth_weighted(&many), told_simply(&many));
        }

        #[test]
        fn every_backend_gets_its_share(weights in proptest::collection::vec(0u16..=40, 0..20)) {
            let order = smooth_weighted(&weights);
            prop_assert_eq!(length(&weights), order.len());
            let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
            for (index, &weight) in weights.iter().enumerate() {
                let count = order.iter().filter(|&&slot| slot == index).count();
                prop_assert_eq!(count * total, usize::from(weight) * order.len());
            }
        }

        #[test]
        fn no_backend_waits_much_longer_than_its_share(
            weights in proptest::collection::vec(1u16..=20, 2..8),
        ) {
            let order = smooth_weighted(&weights);
            let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
            for (index, &weight) in weights.iter().enumerate() {
                let turns: Vec<_> = order.iter().chain(&order).enumerate()
                    .filter(|(_, slot)| **slot == index).map(|(turn, _)| turn).collect();
                let longest = turns.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
                prop_assert!(longest <= 2 * total / usize::from(weight) + 1);
            }
        }
    }
}
