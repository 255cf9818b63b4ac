//! What the simulation of balancers behind a router says, as far as docs/cluster.md relies on it.

#[path = "../examples/ecmp_simulation/fleet.rs"]
mod fleet;

use fleet::{Change, Hashing, Router, simulate};

const FLOWS: u64 = 100_000;

#[test]
fn a_resilient_router_moves_the_fewest() {
    for count in [2usize, 3, 8, 64] {
        let n = count as f64;
        for (change, fewest) in [(Change::Comes, 1.0 / (n + 1.0)), (Change::Goes, 1.0 / n)] {
            let outcome = simulate(count, FLOWS, Hashing::Resilient, change);
            let off = (outcome.moved - fewest).abs();
            assert!(off < 0.02, "{count} {change:?}: {outcome:?}");
            let modulo = simulate(count, FLOWS, Hashing::Modulo, change);
            assert!(
                modulo.moved >= outcome.moved - 0.02,
                "{modulo:?} {outcome:?}"
            );
        }
    }
    let many = simulate(64, FLOWS, Hashing::Modulo, Change::Comes);
    assert!(many.moved > 0.95, "{many:?}");
}

#[test]
fn what_is_told_is_hardly_ever_lost_and_maglev_agrees() {
    for hashing in [Hashing::Modulo, Hashing::Threshold, Hashing::Resilient] {
        for change in [Change::Comes, Change::Goes] {
            let outcome = simulate(8, FLOWS, hashing, change);
            assert!(outcome.lost_with_sync < 0.002, "{outcome:?}");
            assert!(outcome.other_by_maglev < f64::EPSILON, "{outcome:?}");
            // Nine of ten backends are another one.
            let part = outcome.other_by_turns / outcome.moved;
            assert!((0.85..0.95).contains(&part), "{part} {outcome:?}");
        }
    }
}

#[test]
fn nobody_gets_packets_who_has_gone() {
    for hashing in [Hashing::Modulo, Hashing::Threshold, Hashing::Resilient] {
        let mut router = Router::new(hashing, 4);
        let shares = |router: &Router| {
            let mut shares = [0usize; 5];
            for hash in 0..10_000u64 {
                shares[router.way(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15))] += 1;
            }
            shares
        };
        router.change(Change::Goes);
        let after = shares(&router);
        assert_eq!(after[2], 0, "{hashing:?} {after:?}");
        let mut router = Router::new(hashing, 4);
        router.change(Change::Comes);
        let after = shares(&router);
        assert!(
            after.iter().all(|share| *share > 1500),
            "{hashing:?} {after:?}"
        );
    }
}
