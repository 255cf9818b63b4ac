//! The agent sweeps a table while CPUs fill it: living flows stay, expired ones go once, whole.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use lb_common::{
    abi::{Settings, Ticks, network_port},
    address::Address,
    flow::{
        ClientLink, FlowKey, FlowView, INTERFACE_LIMIT, Inserted, NewFlow, Path, Place, Shift,
        Swept, find, insert,
    },
    tables::{FlowTable, Tables as _},
    tags::Tags,
};
use support::SharedTables;

const TABLE: FlowTable = FlowTable::Established;
const NOW: Ticks = Ticks(1000);
const DEADLINE: Ticks = Ticks(992);

/// Flow number `n`, of which every field tells `n`. Every second one has expired.
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
        expires: if n.is_multiple_of(2) {
            Ticks(2000 + n % 64)
        } else {
            Ticks(500 + n % 64)
        },
        path: Path::DIRECT,
        own_mac: 0,
        client_finished: false,
        shift: Shift::NONE,
    }
}

fn tables(established_mask: u32) -> SharedTables {
    SharedTables::new(Settings {
        hash_seed: 0x5eed,
        established_mask,
        ..Settings::default()
    })
}

fn put(tables: &SharedTables, n: u32) -> Inserted {
    let flow = flow(n);
    insert(tables, TABLE, place(tables, &flow), NOW, &flow)
}

fn place(tables: &SharedTables, flow: &NewFlow) -> Place {
    let key = &flow.key;
    Place::of(&tables.settings, key.client, key.client_port, key.protocol)
}

fn is_there(tables: &SharedTables, n: u32) -> bool {
    let flow = flow(n);
    let place = place(tables, &flow);
    find(tables, TABLE, place, |one| one.is_flow(&flow.key)).is_some()
}

/// The number of a flow, which must be of one piece.
fn number(view: &FlowView) -> u32 {
    let n = view.flow.link.ingress;
    let expected = flow(n);
    let FlowView {
        flow: found,
        is_closed,
        ..
    } = view;
    assert!(
        (found.key.client, found.key.client_port)
            == (expected.key.client, expected.key.client_port)
            && (found.key.service, found.key.service_port)
                == (expected.key.service, expected.key.service_port)
            && found.backend == expected.backend
            && found.link == expected.link
            && found.expires == expected.expires
            && !is_closed,
        "torn: {view:?}"
    );
    n
}

#[test]
fn living_flows_survive_every_sweep_and_expired_ones_go_once() {
    const THREADS: u32 = 3;
    const EACH: u32 = 20_000;
    // Room enough: nothing is evicted for want of it.
    let tables = tables((1 << 16) - 1);
    let is_done = AtomicBool::new(false);
    let displaced = AtomicU64::new(0);
    let removed = thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (tables, displaced) = (&tables, &displaced);
                scope.spawn(move || {
                    for n in thread * EACH..(thread + 1) * EACH {
                        let again = std::iter::repeat_with(|| put(tables, n));
                        let done = again.into_iter().find(|one| *one != Inserted::Contended);
                        displaced.fetch_add(
                            u64::from(done == Some(Inserted::Evicted)),
                            Ordering::Relaxed,
                        );
                    }
                })
            })
            .collect();
        let sweeper = scope.spawn(|| {
            let mut removed = Vec::new();
            loop {
                let last = is_done.load(Ordering::Relaxed);
                for bucket in tables.buckets(TABLE) {
                    bucket.sweep(DEADLINE, |found| match found {
                        Swept::Live(view) => assert_eq!(number(&view) % 2, 0, "{view:?}"),
                        Swept::Removed(view) => removed.push(number(&view)),
                        Swept::Claimed(_) => {}
                    });
                }
                if last {
                    return removed;
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        sweeper.join().unwrap()
    });
    assert_eq!(displaced.into_inner(), 0, "the table was too small");
    let mut once = removed.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), removed.len(), "a flow was removed twice");
    assert!(removed.iter().all(|n| !n.is_multiple_of(2)));
    assert_eq!(removed.len() as u32, THREADS * EACH / 2);
    for n in 0..THREADS * EACH {
        assert_eq!(is_there(&tables, n), n.is_multiple_of(2), "{n}");
    }
}

#[test]
fn a_place_that_is_fought_over_yields_whole_flows_or_none() {
    const ROUNDS: u32 = 300_000;
    // One bucket for everybody: what the sweeper reads is being replaced most of the time.
    let tables = tables(0);
    let is_done = AtomicBool::new(false);
    let (seen, removed) = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|thread| {
                let tables = &tables;
                scope.spawn(move || {
                    for n in thread * ROUNDS..(thread + 1) * ROUNDS {
                        let _ = put(tables, n);
                        let key = flow(n).key;
                        let found = find(tables, TABLE, place(tables, &flow(n)), |one| {
                            one.is_flow(&key)
                        });
                        if let Some(found) = found.filter(|_| n.is_multiple_of(3)) {
                            found.release(tables);
                        }
                    }
                })
            })
            .collect();
        let sweeper = scope.spawn(|| {
            let (mut seen, mut removed) = (0u64, 0u64);
            while !is_done.load(Ordering::Relaxed) {
                let bucket = tables.bucket(TABLE, 0).unwrap();
                for view in bucket.views() {
                    let _ = number(&view);
                    seen += 1;
                }
                bucket.sweep(DEADLINE, |found| match found {
                    Swept::Live(view) => seen += u64::from(number(&view).is_multiple_of(2)),
                    Swept::Removed(view) => removed += u64::from(number(&view) % 2 == 1),
                    Swept::Claimed(_) => {}
                });
            }
            (seen, removed)
        });
        for writer in writers {
            writer.join().unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        sweeper.join().unwrap()
    });
    println!("{seen} live flows seen, {removed} removed");
    assert!(seen > 0 && removed > 0, "nothing was fought over");
    // Nobody left a place behind that is claimed for ever.
    let mut left = 0;
    tables.bucket(TABLE, 0).unwrap().sweep(DEADLINE, |found| {
        assert!(!matches!(found, Swept::Claimed(_)));
        left += u32::from(matches!(found, Swept::Live(_)));
    });
    for n in (3 * ROUNDS..).step_by(2).take(8) {
        assert_ne!(put(&tables, n), Inserted::Contended);
    }
    println!("{left} flows left");
}
