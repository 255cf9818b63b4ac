//! Several CPUs at the same few places. A packet may meet the data of the flow before, but when
//! everybody has come to rest every flow in the tables is of one piece, and order is exact.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use lb_common::{
    abi::{Settings, Ticks, network_port},
    address::Address,
    flow::{
        ClientLink, FlowEntry, FlowKey, INTERFACE_LIMIT, Inserted, NewFlow, Path, Place, Shift,
        find, insert,
    },
    tables::{FlowTable, Tables},
    tags::Tags,
};
use support::SharedTables;

const THREADS: u32 = 4;
const NOW: Ticks = Ticks(1000);

/// Flow number `n`, of which every field tells `n`.
fn flow(n: u32) -> NewFlow {
    let [a, b, c, d] = n.to_be_bytes();
    NewFlow {
        key: FlowKey {
            client: Address::from_v4([10 + a, b, c, d]),
            client_port: network_port(1024 + (n >> 16) as u16),
            service: Address::from_v4([a, b, c, d]),
            service_port: network_port(n as u16),
            protocol: 6,
        },
        backend: n & 0x00ff_ffff,
        link: ClientLink {
            mac: [2, 0, a, b, c, d],
            tags: Tags::one(n as u16, false),
            ingress: n & (INTERFACE_LIMIT - 1),
        },
        expires: Ticks(2000 + n % 64),
        path: if n % 2 == 1 {
            Path::ONE_SIDED
        } else {
            Path::DIRECT
        },
        own_mac: 0,
        client_finished: false,
        shift: Shift::NONE,
    }
}

fn place(settings: &Settings, flow: &NewFlow) -> Place {
    Place::of(
        settings,
        flow.key.client,
        flow.key.client_port,
        flow.key.protocol,
    )
}

/// Whether an entry is of one piece.
fn is_whole(entry: &FlowEntry) -> bool {
    let n = entry.link().ingress;
    let expected = flow(n);
    entry.is_flow(&expected.key)
        && entry.backend() == expected.backend
        && entry.link() == expected.link
        && entry.expires() == expected.expires
}

fn small(established_mask: u32, half_open_mask: u32) -> SharedTables {
    SharedTables::new(Settings {
        hash_seed: 0x5eed,
        established_mask,
        half_open_mask,
        ..Settings::default()
    })
}

/// Every flow that stands in a table, which must be whole, found again, and there but once.
fn check_at_rest(tables: &SharedTables, table: FlowTable) -> usize {
    let mut seen = HashSet::new();
    for entry in tables.buckets(table).iter().flat_map(|one| one.flows()) {
        assert!(is_whole(entry), "{table:?}: torn: {entry:?}");
        let n = entry.link().ingress;
        assert!(seen.insert(n), "{table:?}: twice: {n}");
        let flow = flow(n);
        let place = place(&tables.settings, &flow);
        let found = find(tables, table, place, |one| one.is_flow(&flow.key));
        assert!(found.is_some(), "{table:?}: lost: {n}");
    }
    seen.len()
}

#[test]
fn inserts_and_releases_at_the_same_places_leave_whole_flows() {
    // All of them together fit into an interface's index, which tells flows apart.
    const ROUNDS: u32 = 250_000;
    for table in [FlowTable::Established, FlowTable::HalfOpen] {
        // One or two buckets for everybody.
        let tables = small(1, 0);
        let contended = AtomicU64::new(0);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (tables, contended) = (&tables, &contended);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        // Flows of its own, so that none is put in twice.
                        let flow = flow(thread * ROUNDS + round);
                        let place = place(&tables.settings, &flow);
                        if insert(tables, table, place, NOW, &flow) == Inserted::Contended {
                            contended.fetch_add(1, Ordering::Relaxed);
                        }
                        let found = find(tables, table, place, |one| one.is_flow(&flow.key));
                        if let Some(found) = found
                            && round % 3 > 0
                        {
                            found.release(tables);
                        }
                    }
                });
            }
        });
        let left = check_at_rest(&tables, table);
        println!(
            "{table:?}: {left} flows left, {} of {} inserts contended",
            contended.load(Ordering::Relaxed),
            THREADS * ROUNDS
        );
    }
}

/// Between finding a flow and giving its place back, another CPU may have evicted it and put
/// somebody else's flow there, who must not suffer for it.
#[test]
fn a_place_given_back_late_stays_with_its_new_flow() {
    let tables = small(0, 0);
    let table = FlowTable::HalfOpen;
    let old = flow(1);
    let _ = insert(&tables, table, place(&tables.settings, &old), NOW, &old);
    let found = find(&tables, table, place(&tables.settings, &old), |one| {
        one.is_flow(&old.key)
    });
    let found = found.expect("it was put there");
    let replaces = |n: &u32| {
        let new = flow(*n);
        let _ = insert(&tables, table, place(&tables.settings, &new), NOW, &new);
        found.flow.is_flow(&new.key)
    };
    let newcomer = (2..1000).find(replaces).expect("eight ways are full soon");
    found.release(&tables);
    let new = flow(newcomer);
    let new_place = place(&tables.settings, &new);
    assert!(find(&tables, table, new_place, |one| one.is_flow(&new.key)).is_some());
    check_at_rest(&tables, table);
}

/// What a SYN flood does to a handshake: between finding the half-open flow and giving its place
/// back, somebody else may have taken that place.
#[test]
fn promotions_under_a_flood_leave_whole_flows() {
    const ROUNDS: u32 = 200_000;
    let tables = small(3, 0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let tables = &tables;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let flow = flow(thread * ROUNDS + round);
                    let place = place(&tables.settings, &flow);
                    let _ = insert(tables, FlowTable::HalfOpen, place, NOW, &flow);
                    let found = find(tables, FlowTable::HalfOpen, place, |one| {
                        one.is_flow(&flow.key)
                    });
                    if let Some(found) = found.filter(|_| round % 2 == 0) {
                        let new = found.flow.to_new(flow.expires);
                        // Another CPU may have put another flow there meanwhile.
                        if new.key.client == flow.key.client {
                            let _ = insert(tables, FlowTable::Established, place, NOW, &flow);
                        }
                        found.release(tables);
                    }
                }
            });
        }
    });
    for table in [FlowTable::Established, FlowTable::HalfOpen] {
        println!("{table:?}: {} flows left", check_at_rest(&tables, table));
    }
}

/// Between choosing a free place and claiming it, another CPU may have put a flow there. Whoever
/// comes second has to see that.
#[test]
fn a_place_taken_meanwhile_is_not_taken_again() {
    let table = FlowTable::Established;
    let mut tables = small(1, 0);
    // Both buckets down to their last places, so that the second is looked at before the choice.
    let mut flows: Vec<_> = (0..14).map(flow).collect();
    let (late, faster) = (flow(100), flow(101));
    flows.retain(|one| {
        let _ = insert(&tables, table, place(&tables.settings, one), NOW, one);
        tables
            .buckets(table)
            .iter()
            .all(|one| one.flows().count() <= 7)
    });
    tables.meanwhile(2, move |tables| {
        for n in 0..100 {
            // Until it got the place that the other one chose.
            let one = NewFlow {
                key: FlowKey {
                    service_port: network_port(n),
                    ..faster.key
                },
                ..faster
            };
            let _ = insert(tables, table, place(&tables.settings, &one), NOW, &one);
            if tables
                .buckets(table)
                .iter()
                .all(|one| one.flows().count() == 8)
            {
                break;
            }
        }
    });
    let before: usize = flows_in(&tables, table);
    let done = insert(&tables, table, place(&tables.settings, &late), NOW, &late);
    assert!(tables.was_interrupted(), "the row shows nothing");
    assert!(flows_in(&tables, table) >= before);
    assert_ne!(done, Inserted::Free, "there was no free place any more");
}

fn flows_in(tables: &SharedTables, table: FlowTable) -> usize {
    let buckets = tables.buckets(table).iter();
    buckets.map(|bucket| bucket.flows().count()).sum()
}

/// A flow that is gone was evicted and counted.
#[test]
fn no_flow_is_lost_without_being_counted() {
    const EACH: u32 = 8000;
    let tables = small(8191, 0);
    let evicted = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (tables, evicted) = (&tables, &evicted);
            scope.spawn(move || {
                for n in 0..EACH {
                    let flow = flow(thread * EACH + n);
                    let place = place(&tables.settings, &flow);
                    let put = || insert(tables, FlowTable::Established, place, NOW, &flow);
                    // As a client's retry does.
                    let done =
                        std::iter::repeat_with(put).find(|done| *done != Inserted::Contended);
                    if done == Some(Inserted::Evicted) {
                        evicted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let left = check_at_rest(&tables, FlowTable::Established) as u64;
    let evicted = evicted.into_inner();
    println!("{left} flows left, {evicted} evicted");
    assert_eq!(left + evicted, u64::from(THREADS * EACH));
    // The table is half full.
    assert!(evicted < 10, "{evicted}");
}

#[test]
fn turns_are_taken_once_each() {
    const TURNS: u64 = 100_000;
    let tables = small(0, 0);
    let mut counts: HashMap<u64, u64> = HashMap::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    (0..TURNS)
                        .map(|_| tables.next_cursor(0))
                        .collect::<Vec<u64>>()
                })
            })
            .collect();
        for thread in threads {
            let turns = thread.join().unwrap();
            assert!(turns.is_sorted(), "later turns come later");
            for turn in turns {
                *counts.entry(turn % 3).or_default() += 1;
            }
        }
    });
    let total = TURNS * u64::from(THREADS);
    assert_eq!(counts.values().sum::<u64>(), total);
    assert!(counts.values().all(|count| count.abs_diff(total / 3) <= 1));
}
