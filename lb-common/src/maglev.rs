//! Maglev tables: slots for schedulers that go by a hash (Eisenbud et al., "Maglev: a fast and
//! reliable software network load balancer", NSDI 2016, section 3.4), with weights.
//!
//! Each backend has an order of preference over all slots, which follows from its name alone.
//! Backends take turns, each as often as its weight says, and take the first slot of their order
//! that is still free. When a backend leaves, its slots go to the others and only few other slots
//! change hands; and whoever builds the table from the same backends gets the same table.
//!
//! The order of preference of a backend named `n`, in a table of `m` slots (a prime): slot
//! `(offset + i * skip) mod m` for `i` = 0, 1, …, where `offset = h(n, 1) mod m` and
//! `skip = h(n, 2) mod (m - 1) + 1`; `h(n, s)` is FNV-1a of 64 bits over the bytes of `n` from the
//! basis `0xcbf29ce484222325 ^ s`, put through the finalizer of MurmurHash3.

use std::{vec, vec::Vec};

/// A backend: its name, the same on every balancer, and its weight.
pub type Member<'n> = (&'n [u8], u16);

/// The indexes of backends in the order of slots. Empty when no backend has a weight.
///
/// `slots` is a prime number.
#[must_use]
pub fn table(members: &[Member<'_>], slots: u32) -> Vec<usize> {
    let heaviest = members.iter().map(|(_, weight)| *weight).max().unwrap_or(0);
    if heaviest == 0 || slots < 2 {
        return Vec::new();
    }
    let mut orders: Vec<Order> = members
        .iter()
        .enumerate()
        .filter(|(_, (_, weight))| *weight > 0)
        .map(|(index, (name, weight))| Order::new(index, name, *weight, slots))
        .collect();
    const FREE: usize = usize::MAX;
    let mut table = vec![FREE; slots as usize];
    let mut left = slots;
    while left > 0 {
        for order in &mut orders {
            // Each collects its weight, and pays the heaviest one's for a slot.
            order.credit += u32::from(order.weight);
            if order.credit < u32::from(heaviest) {
                continue;
            }
            order.credit -= u32::from(heaviest);
            while table[order.next as usize] != FREE {
                order.advance(slots);
            }
            table[order.next as usize] = order.member;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    table
}

/// A backend's order of preference.
struct Order {
    member: usize,
    weight: u16,
    credit: u32,
    next: u32,
    skip: u32,
}

impl Order {
    fn new(member: usize, name: &[u8], weight: u16, slots: u32) -> Self {
        Self {
            member,
            weight,
            credit: 0,
            next: (hash(name, 1) % u64::from(slots)) as u32,
            skip: (hash(name, 2) % u64::from(slots - 1)) as u32 + 1,
        }
    }

    fn advance(&mut self, slots: u32) {
        self.next = ((u64::from(self.next) + u64::from(self.skip)) % u64::from(slots)) as u32;
    }
}

fn hash(name: &[u8], seed: u64) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut state = name.iter().fold(BASIS ^ seed, |state, &byte| {
        (state ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    state ^= state >> 33;
    state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^= state >> 33;
    state = state.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ (state >> 33)
}

#[cfg(test)]
mod tests {
    use std::{format, string::String};

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count)
            .map(|n| format!("10.0.{}.{}:80", n / 256, n % 256))
            .collect()
    }

    fn members<'n>(names: &'n [String], weights: &[u16]) -> Vec<Member<'n>> {
        names
            .iter()
            .zip(weights.iter().cycle())
            .map(|(name, weight)| (name.as_bytes(), *weight))
            .collect()
    }

    fn shares(table: &[usize], count: usize) -> Vec<usize> {
        let mut shares = vec![0; count];
        for member in table {
            shares[*member] += 1;
        }
        shares
    }

    /// Made by `tests/golden/maglev.py`, which shares no code with this.
    #[test]
    fn tables_are_those_of_an_independent_implementation() {
        let golden = include_str!("../../tests/golden/maglev.txt");
        let mut seen = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let mut fields = line.split(' ');
            let mut list = || -> Vec<u32> {
                let field = fields.next().unwrap();
                field.split(',').map(|n| n.parse().unwrap()).collect()
            };
            let slots = list()[0];
            let weights: Vec<u16> = list().iter().map(|n| *n as u16).collect();
            let expected: Vec<usize> = list().iter().map(|n| *n as usize).collect();
            let names = names(weights.len());
            assert_eq!(
                table(&members(&names, &weights), slots),
                expected,
                "{weights:?}"
            );
            seen += 1;
        }
        assert!(seen >= 5);
    }

    #[test]
    fn without_weights_there_is_nothing() {
        let names = names(2);
        assert!(table(&members(&names, &[0]), 251).is_empty());
        assert!(table(&[], 251).is_empty());
    }

    #[test]
    fn shares_follow_weights() {
        let names = names(4);
        let table = table(&members(&names, &[1, 2, 0, 5]), 16_381);
        let shares = shares(&table, 4);
        assert_eq!(shares.iter().sum::<usize>(), 16_381);
        assert_eq!(shares[2], 0);
        for (share, weight) in shares.iter().zip([1, 2, 0, 5]) {
            let fair = 16_381.0 * f64::from(weight) / 8.0;
            assert!((*share as f64 - fair).abs() <= 2.0, "{shares:?}");
        }
    }

    /// The paper finds about as many slots that change needlessly as those that have to.
    #[test]
    fn few_slots_change_hands_when_a_backend_leaves() {
        let names = names(100);
        let before = table(&members(&names, &[1]), 65_537);
        let mut weights = vec![1; 100];
        weights[37] = 0;
        let after = table(&members(&names, &weights), 65_537);
        let had_to = before.iter().filter(|member| **member == 37).count();
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let needless = (moved - had_to) as f64 / 65_537.0;
        std::println!(
            "{had_to} slots had to change, {:.2} % changed needlessly",
            needless * 100.0
        );
        assert!(needless < 0.02, "{needless}");
    }
}
