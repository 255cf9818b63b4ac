//! The order of turns against the algorithm as nginx has it, one backend at a time.

use lb_common::slots::smooth_weighted;
use proptest::prelude::*;

/// Smooth weighted round robin in its plainest form, for one whole round of all weights.
fn plain(weights: &[u16]) -> Vec<usize> {
    let total: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
    let mut credit = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            for (credit, &weight) in credit.iter_mut().zip(weights) {
                *credit += i64::from(weight);
            }
            // Of equals the first.
            let best = (0..weights.len())
                .filter(|&index| weights[index] > 0)
                .max_by_key(|&index| (credit[index], std::cmp::Reverse(index)))
                .expect("the sum of weights is above 0");
            credit[best] -= total;
            best
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_is_that_of_the_plain_algorithm(
        weights in prop_oneof![
            proptest::collection::vec(0u16..=256, 0..12),
            // Many of the same weight.
            proptest::collection::vec(prop_oneof![Just(1u16), Just(2), Just(4), 0u16..6], 0..40),
        ],
    ) {
        let order = smooth_weighted(&weights);
        let plain = plain(&weights);
        // Common divisors are taken out, which leaves a whole number of rounds.
        prop_assert!(order.is_empty() == plain.is_empty());
        for (turn, index) in plain.iter().enumerate() {
            prop_assert_eq!(order[turn % order.len()], *index, "turn {} of {:?}", turn, weights);
        }
    }
}
