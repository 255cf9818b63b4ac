//! The reconciler on a stand-in for the kernel's tables, which refuses every state in which a
//! packet could meet a half-made thing.

mod tables;

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use lb_common::abi::{Forwarding, NextHop, backend_flags, network_port};
use proptest::prelude::*;

use self::tables::{CAPACITY, FakeTables, backend, held, held_of, reconcile, want, way};
pub(super) use self::tables::{actives, service};
use super::{
    allocate::REST,
    held::Held,
    kernel::apply,
    plan::{Facts, Orders, Way, desired, service_key},
    reconcile::{HOLD_OVER, REPLACE_EVERY, Write},
};
use crate::{
    config::model::{self, Role},
    control::State,
    dataplane::Capacity,
    health::Health,
};

#[test]
fn a_new_service_is_complete_and_then_nothing_is_left_to_do() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    let services = [service(10, actives(&[1, 2, 3]))];
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), now);
    assert_eq!(tables.order(&services[0]), [1, 2, 3]);
    assert_eq!(held.reconcile(&want(&services, &[], &[]), now).writes, []);
}

#[test]
fn a_backend_leaves_and_comes_back_under_its_id() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    let services = [service(10, actives(&[1, 2, 3]))];
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), now);
    reconcile(
        &mut held,
        &mut tables,
        &want(&services, &[(2, Health::Down)], &[]),
        now,
    );
    assert_eq!(tables.order(&services[0]), [1, 3]);
    assert_eq!(down(&tables), [2]);
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), now);
    assert_eq!(tables.order(&services[0]), [1, 2, 3]);
    assert_eq!((down(&tables), tables.backends.len()), (vec![], 3));
    assert_eq!(tables.resets.len(), 3, "counters start once");
}

#[test]
fn checking_is_not_up_and_not_down() {
    let services = [service(10, actives(&[1, 2]))];
    let wanted = want(&services, &[(1, Health::Checking)], &[]);
    assert_eq!(wanted.services[0].slots, [1]);
    assert_eq!(wanted.services[0].backends[0].flags, backend_flags::USED);
}

#[test]
fn backups_serve_only_while_no_active_backend_does() {
    let mut backends = actives(&[1, 2]);
    backends.push(backend(3, 1, Role::Backup));
    let services = [service(10, backends)];
    let slots = |healths: &[(u8, Health)]| want(&services, healths, &[]).services[0].slots.clone();
    assert_eq!(slots(&[]), [0, 1]);
    assert_eq!(slots(&[(1, Health::Down)]), [1]);
    assert_eq!(slots(&[(1, Health::Down), (2, Health::Down)]), [2]);
    assert_eq!(slots(&[1, 2, 3].map(|octet| (octet, Health::Down))), [0; 0]);
}

#[test]
fn weights_interleave_and_zero_gets_nothing() {
    let backends = vec![
        backend(1, 3, Role::Active),
        backend(2, 1, Role::Active),
        backend(3, 0, Role::Active),
    ];
    let services = [service(10, backends)];
    let wanted = want(&services, &[], &[]);
    assert_eq!(wanted.services[0].slots, [0, 0, 1, 0]);
}

#[test]
fn a_backend_gets_the_part_of_its_weight_that_its_agent_asks_for() {
    let services = [service(10, actives(&[1, 2]))];
    let slots = |weight_percent, state| {
        let facts = |weight_percent, state| Facts {
            state,
            health: Health::Up,
            was_in_rotation: true,
            step: super::slow_start::STEPS,
            weight_percent,
        };
        let facts = [vec![facts(weight_percent, state), facts(100, State::Ready)]];
        desired(
            &services,
            &facts,
            &HashMap::new(),
            u32::MAX,
            &mut Orders::default(),
        )
        .services[0]
            .slots
            .clone()
    };
    assert_eq!(slots(100, State::Ready), [0, 1]);
    assert_eq!(slots(50, State::Ready), [1, 0, 1]);
    let part = slots(1, State::Ready);
    let of_first = part.iter().filter(|slot| **slot == 0).count();
    assert_eq!((of_first, part.len()), (1, 11));
    assert_eq!(slots(0, State::Ready), [1]);
    assert_eq!(slots(100, State::Drain), [1]);
    assert_eq!(slots(100, State::Maint), [1]);
}

#[test]
fn what_is_not_known_yet_stays_as_it_was() {
    let services = [service(10, actives(&[1]))];
    let facts = |was_in_rotation| {
        vec![vec![Facts {
            state: State::Ready,
            health: Health::Checking,
            was_in_rotation,
            step: super::slow_start::STEPS,
            weight_percent: 100,
        }]]
    };
    let slots = |was_in| {
        desired(
            &services,
            &facts(was_in),
            &HashMap::new(),
            u32::MAX,
            &mut Orders::default(),
        )
        .services[0]
            .slots
            .len()
    };
    assert_eq!((slots(true), slots(false)), (1, 0));
}

#[test]
fn a_changed_mac_is_a_new_next_hop_and_the_old_one_rests() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    let services = [service(10, actives(&[1, 2]))];
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), now);
    // Back and forth at one instant: each time another index, or packets would follow a hop that
    // is being rewritten.
    for octet in [101, 1, 101] {
        reconcile(
            &mut held,
            &mut tables,
            &want(&services, &[], &[(1, way(octet))]),
            now,
        );
    }
    assert_eq!(tables.next_hops.len(), 5);
    reconcile(
        &mut held,
        &mut tables,
        &want(&services, &[], &[(1, Way::None)]),
        now,
    );
    assert_eq!(tables.order(&services[0]), [2]);
    let later = now + Duration::from_secs(2);
    reconcile(
        &mut held,
        &mut tables,
        &want(&services, &[], &[(1, way(55))]),
        later,
    );
    assert_eq!(tables.next_hops.len(), 5, "rested indexes are used again");
}

#[test]
fn a_removed_backend_lingers_until_its_flows_have_ended() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    reconcile(
        &mut held,
        &mut tables,
        &want(&[service(10, actives(&[1, 2]))], &[], &[]),
        now,
    );
    let services = [service(10, actives(&[1]))];
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), now);
    assert_eq!(tables.order(&services[0]), [1]);
    let used = |tables: &FakeTables| tables.backends.values().filter(|b| b.flags != 0).count();
    assert_eq!(used(&tables), 2);
    assert_eq!(held.expire_lingering(|_| true, now), (vec![], vec![]));
    apply(&mut tables, &held.expire_lingering(|_| false, now).1).unwrap();
    assert_eq!(used(&tables), 1);
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), now);
    // Its id is another's only after a rest.
    let services = [service(10, actives(&[1, 9]))];
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), now);
    assert_eq!(tables.backends.len(), 3);
}

#[test]
fn a_backend_that_returns_while_it_lingers_keeps_its_id() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    let both = [service(10, actives(&[1, 2]))];
    reconcile(&mut held, &mut tables, &want(&both, &[], &[]), now);
    let endpoint = (IpAddr::from([10, 0, 0, 2]).into(), network_port(8080));
    let id = held.backend(&service_key(&both[0]), endpoint).unwrap().0;
    reconcile(
        &mut held,
        &mut tables,
        &want(&[service(10, actives(&[1]))], &[], &[]),
        now,
    );
    reconcile(&mut held, &mut tables, &want(&both, &[], &[]), now);
    assert_eq!(
        held.backend(&service_key(&both[0]), endpoint).unwrap().0,
        id
    );
}

#[test]
fn another_forwarding_is_another_backend() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    let mut services = [service(10, actives(&[1]))];
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), now);
    services[0].forwarding = Forwarding::DsrL2;
    let changes = held.reconcile(&want(&services, &[], &[]), now);
    assert_eq!(held.lingering().count(), 1);
    assert!(
        changes
            .writes
            .iter()
            .any(|write| matches!(write, Write::ResetCounters { .. }))
    );
}

#[test]
fn too_many_backends_are_said_and_the_rest_works() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    let services: Vec<_> = (0..3)
        .map(|octet| service(octet, actives(&(0..100).collect::<Vec<_>>())))
        .collect();
    let changes = held.reconcile(&want(&services, &[], &[]), now);
    assert_eq!(changes.lacks.lasting, Some("backends"));
    apply(&mut tables, &changes.writes).unwrap();
    assert_eq!(tables.order(&services[0]).len(), 100);
    assert_eq!(tables.order(&services[2]).len(), 55);
}

/// Which backends are marked as down, by their last octet.
fn down(tables: &FakeTables) -> Vec<u8> {
    let mut down: Vec<u8> = tables
        .backends
        .values()
        .filter(|backend| backend.flags & backend_flags::DOWN != 0)
        .map(|backend| backend.address.octets()[15])
        .collect();
    down.sort_unstable();
    down
}

#[test]
fn the_first_change_is_written_at_once_and_the_next_one_soon() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    let services = [service(10, actives(&[1, 2, 3]))];
    let mut step = |down: &[(u8, Health)], way: &[(u8, Way)], now| {
        let changes = held.reconcile(&want(&services, down, way), now);
        assert_eq!(changes.lacks.lasting, None);
        apply(&mut tables, &changes.writes).unwrap();
        (
            tables.order(&services[0]),
            self::down(&tables),
            changes.lacks.until,
        )
    };
    step(&[], &[], now);
    let one = [(1, Health::Down)];
    assert_eq!(step(&one, &[], now), (vec![2, 3], vec![1], None));
    // Its slots stay for a while, and so does what new flows need that come by them.
    let (two, lost) = ([(1, Health::Down), (2, Health::Down)], [(3, Way::None)]);
    let later = now + Duration::from_millis(10);
    let due = now + REPLACE_EVERY;
    assert_eq!(step(&two, &lost, later), (vec![2, 3], vec![1], Some(due)));
    assert_eq!(step(&two, &lost, due), (vec![], vec![1, 2], None));
}

#[test]
fn a_wave_of_failures_leaves_room_and_is_not_called_a_shortage() {
    let (mut held, mut tables, start) = (held(), FakeTables::default(), Instant::now());
    let all: Vec<u8> = (0..250).collect();
    let services = [service(10, actives(&all))];
    let mut now = start;
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), now);
    let mut failed = Vec::new();
    for octet in 0..249 {
        now += Duration::from_millis(8);
        failed.push((octet, Health::Down));
        let changes = held.reconcile(&want(&services, &failed, &[]), now);
        assert_eq!(changes.lacks.lasting, None);
        apply(&mut tables, &changes.writes).unwrap();
        let late = now - start - REPLACE_EVERY.min(now - start);
        let written = 250 - tables.order(&services[0]).len();
        assert!(
            written as u128 >= late.as_millis() / 8 / 2,
            "{written} in {late:?}"
        );
    }
    let wanted = want(&services, &failed, &[]);
    while let Some(due) = held.reconcile(&wanted, now).lacks.until {
        now = due;
    }
    assert_eq!(held.reconcile(&wanted, now).writes, []);
}

#[test]
fn slots_that_rest_are_waited_for() {
    let capacity = Capacity {
        slots: 5,
        ..CAPACITY
    };
    let (mut held, mut tables, start) = (held_of(capacity), FakeTables::default(), Instant::now());
    let services = [service(10, actives(&[1, 2, 3]))];
    reconcile(&mut held, &mut tables, &want(&services, &[], &[]), start);
    let other = want(&services, &[(1, Health::Down)], &[]);
    reconcile(&mut held, &mut tables, &other, start);
    let now = start + Duration::from_millis(500);
    let all = want(&services, &[], &[]);
    let changes = held.reconcile(&all, now);
    let rested = start + REST;
    assert_eq!(
        (changes.lacks.lasting, changes.lacks.until),
        (None, Some(rested))
    );
    apply(&mut tables, &changes.writes).unwrap();
    assert_eq!(tables.order(&services[0]), [2, 3]);
    reconcile(&mut held, &mut tables, &all, rested);
    assert_eq!(tables.order(&services[0]), [1, 2, 3]);
    // But five slots are all there are.
    let services = [service(10, actives(&[1, 2, 3, 4, 5, 6]))];
    let changes = held.reconcile(&want(&services, &[], &[]), rested + REST);
    assert_eq!(changes.lacks.lasting, Some("slots"));
}

#[test]
fn a_config_that_does_not_fit_is_refused_in_a_sentence() {
    let refusal = |services: &[model::Service], capacity| {
        let wanted = want(services, &[], &[]);
        let refused = held_of(capacity).check_room(&wanted);
        refused.map_err(|error| error.to_string().split(':').next().unwrap_or("").to_owned())
    };
    // Each service and each address is one entry.
    let services: Vec<_> = (0..33).map(|octet| service(octet, actives(&[1]))).collect();
    assert_eq!(refusal(&services[..32], CAPACITY), Ok(()));
    assert_eq!(
        refusal(&services, CAPACITY).unwrap_err(),
        "the pinned tables have room for 64 services and their addresses and the config needs 66"
    );
    let backends = vec![backend(1, 10, Role::Active), backend(2, 7, Role::Active)];
    let services = [service(10, backends)];
    let small = |slots, backends, next_hops| Capacity {
        slots,
        backends,
        next_hops,
        ..CAPACITY
    };
    assert_eq!(refusal(&services, small(17, 3, 3)), Ok(()));
    for (capacity, what) in [
        (small(16, 3, 3), "slots"),
        (small(17, 2, 3), "1 backends"),
        (small(17, 3, 2), "1 next hops"),
    ] {
        let sentence = refusal(&services, capacity).unwrap_err();
        assert!(sentence.contains(what), "{sentence}");
    }
}

#[test]
fn a_full_table_of_services_takes_as_many_others() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    let services = |octets: std::ops::Range<u8>| -> Vec<_> {
        octets.map(|octet| service(octet, actives(&[1]))).collect()
    };
    for octets in [0..32, 100..132] {
        let wanted = want(&services(octets), &[], &[]);
        held.check_room(&wanted).unwrap();
        reconcile(&mut held, &mut tables, &wanted, now);
        assert_eq!(tables.services.len(), CAPACITY.services as usize);
    }
}

#[test]
fn what_lingers_keeps_its_entry_while_it_has_slots() {
    let (mut held, mut tables, now) = (held(), FakeTables::default(), Instant::now());
    let both = [service(10, actives(&[1, 2, 3]))];
    reconcile(&mut held, &mut tables, &want(&both, &[], &[]), now);
    let down = [(3, Health::Down)];
    reconcile(&mut held, &mut tables, &want(&both, &down, &[]), now);
    let one = want(&[service(10, actives(&[1, 3]))], &down, &[]);
    let changes = held.reconcile(&one, now);
    apply(&mut tables, &changes.writes).unwrap();
    assert_eq!(tables.order(&both[0]), [1, 2]);
    assert_eq!(held.expire_lingering(|_| false, now), (vec![], vec![]));
    reconcile(&mut held, &mut tables, &one, now + REPLACE_EVERY);
    assert_eq!(held.expire_lingering(|_| false, now).0.len(), 1);
}

/// Reconciles once, at that time; the order of service then.
fn step(
    (held, tables): &mut (Held, FakeTables),
    service: &model::Service,
    healths: &[(u8, Health)],
    ways: &[(u8, Way)],
    now: Instant,
) -> Vec<u8> {
    let wanted = want(std::slice::from_ref(service), healths, ways);
    let changes = held.reconcile(&wanted, now);
    apply(tables, &changes.writes).unwrap();
    tables.order(service)
}

#[test]
fn those_that_leave_serve_until_one_that_comes_is_ready() {
    let mut both = (held(), FakeTables::default());
    let now = Instant::now();
    let (old, new) = (service(10, actives(&[1, 2])), service(10, actives(&[3, 4])));
    assert_eq!(step(&mut both, &old, &[], &[], now), [1, 2]);
    let open = [(3, Way::Open), (4, Way::Open)];
    assert_eq!(step(&mut both, &new, &[], &open, now), [1, 2]);
    assert_eq!(both.0.expire_lingering(|_| false, now), (vec![], vec![]));
    let unchecked = [(3, Health::Checking), (4, Health::Checking)];
    assert_eq!(step(&mut both, &new, &unchecked, &[], now), [1, 2]);
    let later = now + REPLACE_EVERY;
    let ways = [(1, Way::None), (4, Way::Open)];
    assert_eq!(step(&mut both, &new, &[], &ways, later), [3]);
    let later = later + REPLACE_EVERY;
    assert_eq!(step(&mut both, &new, &[], &[], later), [3, 4]);
    assert_eq!(both.0.expire_lingering(|_| false, later).0.len(), 2);
}

#[test]
fn those_that_leave_serve_no_longer_than_it_makes_sense() {
    let now = Instant::now();
    let (old, new) = (service(10, actives(&[1, 2])), service(10, actives(&[3])));
    let open = [(3, Way::Open)];
    let begun = || {
        let mut both = (held(), FakeTables::default());
        assert_eq!(step(&mut both, &old, &[], &[], now), [1, 2]);
        assert_eq!(step(&mut both, &new, &[], &open, now), [1, 2]);
        both
    };
    // Nothing comes of the new one.
    for ways in [[(3, Way::None)], [(3, Way::Known(NextHop::default()))]] {
        let down = [(3, Health::Down)];
        assert_eq!(step(&mut begun(), &new, &down, &ways, now), [0; 0]);
    }
    let until = now + HOLD_OVER;
    let mut both = begun();
    let almost = until - Duration::from_millis(1);
    assert_eq!(step(&mut both, &new, &[], &open, almost), [1, 2]);
    assert_eq!(step(&mut both, &new, &[], &open, until), [0; 0]);
    // What the config still names, and is down, is not used again.
    let mut both = (held(), FakeTables::default());
    assert_eq!(step(&mut both, &old, &[], &[], now), [1, 2]);
    let more = service(10, actives(&[1, 3]));
    let down = [(1, Health::Down)];
    assert_eq!(step(&mut both, &more, &down, &open, now), [2]);
}

proptest! {
    #[test]
    fn no_course_of_events_leads_to_a_half_made_state(
        steps in proptest::collection::vec(
            (
                proptest::collection::vec(proptest::collection::vec(0u8..6, 0..6), 0..4),
                proptest::collection::vec((0u8..6, any::<bool>()), 0..4),
                proptest::collection::vec((0u8..6, 0u8..4), 0..4),
                0u64..1500,
                any::<bool>(),
            ),
            1..30,
        ),
    ) {
        let (mut held, mut tables, mut now) = (held(), FakeTables::default(), Instant::now());
        for (configs, healths, ways, pause, expires) in steps {
            now += Duration::from_millis(pause);
            let services: Vec<_> = configs
                .into_iter()
                .zip(10u8..)
                .map(|(mut octets, vip)| {
                    octets.sort_unstable();
                    octets.dedup();
                    service(vip, actives(&octets))
                })
                .collect();
            let healths: Vec<_> = healths
                .into_iter()
                .map(|(octet, up)| (octet, if up { Health::Checking } else { Health::Down }))
                .collect();
            let ways: Vec<_> = ways
                .into_iter()
                .map(|(octet, kind)| match kind {
                    0 => (octet, Way::None),
                    1 => (octet, Way::Open),
                    _ => (octet, way(kind * 50)),
                })
                .collect();
            let wanted = want(&services, &healths, &ways);
            reconcile(&mut held, &mut tables, &wanted, now);
            for (service, wanted) in services.iter().zip(&wanted.services) {
                let expected: Vec<u8> = wanted
                    .slots
                    .iter()
                    .map(|&slot| wanted.backends[slot].address.octets()[15])
                    .collect();
                prop_assert_eq!(tables.order(service), expected);
            }
            prop_assert_eq!(held.reconcile(&wanted, now).writes, []);
            if expires {
                apply(&mut tables, &held.expire_lingering(|id| id % 2 == 0, now).1).unwrap();
            }
        }
    }
}

#[test]
fn a_backend_here_that_does_not_listen_on_the_services_port_is_out_of_rotation() {
    let here = Way::Known(NextHop::default());
    let mut services = [service(1, actives(&[1, 2]))];
    services[0].backends[1].port = services[0].port;
    // Elsewhere each port will do.
    assert_eq!(want(&services, &[], &[]).services[0].slots, [0, 1]);
    let ways = [(1, here), (2, here)];
    assert_eq!(want(&services, &[], &ways).services[0].slots, [1]);
    assert_eq!(
        super::plan::deafness(&services[0]),
        "on this host, where packets arrive with the service's address and port; let it listen on \
         203.0.113.1:80"
    );
}
