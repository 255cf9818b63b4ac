//! Balancers behind a router, without a network: which connections move when one comes or goes, and
//! what becomes of them. Slots and Maglev tables are lb's own.

use lb_common::{maglev, slots};

/// How the router divides connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashing {
    /// The hash modulo the number of balancers.
    Modulo,
    /// Equal parts of the hash's range, as Linux has them.
    Threshold,
    /// Buckets, of which only those of who came or went change hands.
    Resilient,
}

/// What happens to the balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// One more.
    Comes,
    /// One less.
    Goes,
}

/// What became of connections, as shares of all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Their packets come to another balancer.
    pub(crate) moved: f64,
    /// They would get another backend there, by round robin, if they began anew.
    pub(crate) other_by_turns: f64,
    /// The same by Maglev.
    pub(crate) other_by_maglev: f64,
    /// They are reset where balancers tell each other of connections.
    pub(crate) lost_with_sync: f64,
}

/// Buckets of a resilient router.
const BUCKETS: usize = 4096;
const BACKENDS: usize = 10;
/// Seconds that a connection lasts.
const LIFE: f64 = 10.0;
/// Seconds until others know of a connection, at most: two ticks of the agent.
const TOLD: f64 = 0.02;

/// The finalizer of splitmix64.
fn mixed(number: u64) -> u64 {
    let mut state = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// From 0 to 1, of flow `flow` and a use.
fn share(flow: u64, what: u64) -> f64 {
    (mixed(flow ^ what << 40) >> 11) as f64 / (1u64 << 53) as f64
}

/// The router.
pub(crate) struct Router {
    hashing: Hashing,
    members: Vec<usize>,
    buckets: Vec<usize>,
}

impl Router {
    /// Of so many balancers.
    pub(crate) fn new(hashing: Hashing, count: usize) -> Self {
        Self {
            hashing,
            members: (0..count).collect(),
            buckets: (0..BUCKETS).map(|bucket| bucket % count).collect(),
        }
    }

    /// Which balancer gets a connection of that hash.
    pub(crate) fn way(&self, hash: u64) -> usize {
        let count = self.members.len();
        match self.hashing {
            Hashing::Modulo => self.members[(hash % count as u64) as usize],
            Hashing::Threshold => {
                let part = (u128::from(hash) * count as u128) >> 64;
                self.members[part as usize]
            }
            Hashing::Resilient => self.buckets[(hash % BUCKETS as u64) as usize],
        }
    }

    /// One comes at the end, or goes from the middle.
    pub(crate) fn change(&mut self, change: Change) {
        match change {
            Change::Comes => {
                let new = self.members.len();
                self.members.push(new);
                for _ in 0..BUCKETS / self.members.len() {
                    let from = self.holder(|held| usize::MAX - held, new);
                    let bucket = self.buckets.iter().rposition(|own| *own == from);
                    self.buckets[bucket.unwrap_or(0)] = new;
                }
            }
            Change::Goes => {
                let gone = self.members.remove(self.members.len() / 2);
                for bucket in 0..BUCKETS {
                    if self.buckets[bucket] == gone {
                        self.buckets[bucket] = self.holder(|held| held, gone);
                    }
                }
            }
        }
    }

    /// Who but for `not` has the fewest buckets, by what `key` makes of their number.
    fn holder(&self, key: impl Fn(usize) -> usize, not: usize) -> usize {
        let mut held = vec![0; self.members.len() + 2];
        for bucket in &self.buckets {
            held[*bucket] += 1;
        }
        let others = self.members.iter().filter(|own| **own != not);
        others
            .copied()
            .min_by_key(|own| key(held[*own]))
            .unwrap_or(0)
    }
}

/// Lets one of `count` balancers come or go while so many connections are there, of all ages.
pub(crate) fn simulate(count: usize, flows: u64, hashing: Hashing, change: Change) -> Outcome {
    let names: Vec<String> = (0..BACKENDS).map(|n| format!("10.0.0.{n}:80")).collect();
    let members: Vec<maglev::Member<'_>> = names.iter().map(|n| (n.as_bytes(), 1)).collect();
    // Each balancer builds its own.
    let tables: Vec<Vec<usize>> = (0..=count)
        .map(|_| maglev::table(&members, 16_381))
        .collect();
    let turns = slots::smooth_weighted(&[1; BACKENDS]);
    let before = Router::new(hashing, count);
    let mut after = Router::new(hashing, count);
    after.change(change);
    // Where each balancer's cursor stands.
    let mut cursors: Vec<usize> = (0..=count as u64)
        .map(|balancer| (mixed(balancer) % 997) as usize)
        .collect();
    let mut turn = |balancer: usize| {
        cursors[balancer] += 1;
        turns[cursors[balancer] % turns.len()]
    };
    let given: Vec<usize> = (0..flows)
        .map(|flow| turn(before.way(mixed(flow))))
        .collect();
    let (mut moved, mut other_turn, mut other_hash, mut lost) = (0u64, 0u64, 0u64, 0u64);
    for flow in 0..flows {
        let way = after.way(mixed(flow));
        if way == before.way(mixed(flow)) {
            continue;
        }
        moved += 1;
        other_turn += u64::from(turn(way) != given[flow as usize]);
        let slot = (mixed(flow ^ 1 << 50) % 16_381) as usize;
        let former = before.way(mixed(flow));
        other_hash += u64::from(tables[way][slot] != tables[former][slot]);
        lost += u64::from(share(flow, 1) * LIFE < share(flow, 2) * TOLD);
    }
    let of_all = |number: u64| number as f64 / flows as f64;
    Outcome {
        moved: of_all(moved),
        other_by_turns: of_all(other_turn),
        other_by_maglev: of_all(other_hash),
        lost_with_sync: of_all(lost),
    }
}
