use lb_common::{
    abi::{Backend, Forwarding, Protocol, backend_flags, network_port},
    address::Address,
    flow::{ClientLink, FlowKey, Shift},
};
use proptest::prelude::*;

use super::{super::interfaces::Interfaces, *};
use crate::dataplane::{FlowTables, Window};

const NOW: Ticks = Ticks(100_000);
const IDLE: u32 = 3353;
const SENDER: Sender<'_> = Sender {
    interfaces: &[7],
    foreign_mac: 9,
};

fn v4(last: u8) -> Address {
    Address::from_v4([10, 0, 0, last])
}

fn backend(last: u8, forwarding: Forwarding) -> Backend {
    Backend {
        address: v4(last),
        port: network_port(8080),
        protocol: Protocol::Tcp as u8,
        forwarding: forwarding as u8,
        flags: backend_flags::USED,
        idle_timeout: IDLE,
        service_address: v4(100),
        service_port: network_port(80),
        ..Backend::default()
    }
}

/// Backends `.11` and `.12` by these ids.
fn directory(ids: [u32; 2], forwarding: Forwarding) -> Directory {
    let backends = ids.into_iter().zip([11, 12]);
    Directory::new(
        backends.map(|(id, last)| (id, backend(last, forwarding))),
        vec![v4(2)],
        vec!["eth0".to_owned()],
    )
}

struct Balancer {
    flows: FlowTables,
    ports: (Words, Words),
    seed: u64,
    directory: Directory,
}

impl Balancer {
    fn new(seed: u64, ids: [u32; 2], forwarding: Forwarding) -> Self {
        Self {
            flows: FlowTables::detached(16, 16).unwrap(),
            ports: (
                Words::detached(ports::words(1)).unwrap(),
                Words::detached(ports::owners(1)).unwrap(),
            ),
            seed,
            directory: directory(ids, forwarding),
        }
    }

    fn work<T>(&self, act: impl FnOnce(&Tables<'_>) -> T) -> T {
        let window: Window<'_> = self.flows.window(FlowTable::Established, 0..16).unwrap();
        act(&Tables {
            settings: Settings {
                hash_seed: self.seed,
                established_mask: 15,
                ..Settings::default()
            },
            established: &window,
            ports: Some(self.ports.clone()),
        })
    }

    fn adopt(&self, record: &Record, now: Ticks) -> Fate {
        self.work(|tables| tables.adopt(&self.directory, record, &SENDER, now))
    }

    fn views(&self) -> Vec<FlowView> {
        let buckets = self.flows.own(FlowTable::Established).iter();
        buckets.flat_map(Bucket::views).collect()
    }

    fn only(&self) -> FlowView {
        let views = self.views();
        assert_eq!(views.len(), 1);
        views[0]
    }

    /// A flow of this balancer's own clients.
    fn begin(&self, client_port: u16, backend: u32, path: Path, expires: Ticks) {
        let flow = NewFlow {
            key: key(client_port),
            backend,
            link: ClientLink::default(),
            expires,
            path,
            own_mac: 3,
            client_finished: false,
            shift: Shift::NONE,
        };
        self.work(|tables| {
            let _ = tables.memory(NOW).insert(FlowTable::Established, &flow);
        });
    }

    fn record(&self, view: &FlowView, now: Ticks) -> Record {
        self.directory
            .record(view, &Interfaces::default(), now)
            .unwrap()
    }
}

fn key(client_port: u16) -> FlowKey {
    FlowKey {
        client: Address::from_v4([198, 51, 100, 7]),
        client_port: network_port(client_port),
        service: v4(100),
        service_port: network_port(80),
        protocol: Protocol::Tcp as u8,
    }
}

fn later(now: Ticks, by: u32) -> Ticks {
    Ticks(now.0 + by)
}

#[test]
fn a_flow_goes_on_at_a_balancer_whose_ids_and_seed_are_others() {
    let one = Balancer::new(1, [5, 6], Forwarding::Nat);
    let two = Balancer::new(2, [8, 3], Forwarding::Nat);
    one.begin(40_000, 6, Path::DIRECT, later(NOW, IDLE));
    let record = one.record(&one.only(), NOW);
    assert_eq!(two.adopt(&record, NOW), Fate::Inserted);
    let view = two.only();
    assert_eq!(view.flow.backend, 3);
    assert_eq!(view.flow.key.client_port, network_port(40_000));
    assert_eq!(view.flow.expires, later(NOW, IDLE));
    assert_eq!(view.flow.path, Path::DIRECT);
    assert!(view.sides.is_foreign && !view.is_closed);
    assert_eq!(view.flow.own_mac, 9);
    // What the data path would tell of it finds it.
    let place = Place::of(
        &Settings {
            hash_seed: 2,
            ..Settings::default()
        },
        view.flow.key.client,
        view.flow.key.client_port,
        6,
    );
    let mut told = 0;
    two.work(|tables| tables.told(ports::mark(place), |_| told += 1));
    assert_eq!(told, 1);
}

#[test]
fn whoever_saw_the_flow_last_is_right() {
    let one = Balancer::new(1, [5, 6], Forwarding::Nat);
    let two = Balancer::new(2, [5, 6], Forwarding::Nat);
    one.begin(40_000, 6, Path::DIRECT, later(NOW, IDLE));
    let record = one.record(&one.only(), NOW);
    assert_eq!(two.adopt(&record, NOW), Fate::Inserted);
    // Again, and a little older: it is refreshed. Much older: it is not.
    assert_eq!(two.adopt(&record, NOW), Fate::Refreshed);
    assert_eq!(two.adopt(&record, later(NOW, 40)), Fate::Refreshed);
    let old = Record {
        lifetime: record.lifetime / 2,
        ..record
    };
    assert_eq!(two.adopt(&old, later(NOW, 40)), Fate::Older);
    // It is the second one's now: only what is newer counts.
    two.work(|tables| {
        let memory = tables.memory(NOW);
        let place = Place::of(
            &tables.settings,
            key(40_000).client,
            key(40_000).client_port,
            6,
        );
        let found = find(&memory, FlowTable::Established, place, |entry| {
            entry.is_flow(&key(40_000))
        });
        let entry = found.unwrap().flow;
        entry.note_own_mac(3);
        entry.expire_at(later(NOW, IDLE + 100));
    });
    assert!(!two.only().sides.is_foreign);
    assert_eq!(two.adopt(&record, later(NOW, 100)), Fate::Older);
    let closed = Record {
        client_state: 2,
        lifetime: 10_000,
        ..record
    };
    assert_eq!(two.adopt(&closed, later(NOW, 50)), Fate::Older);
    assert!(!two.only().is_closed);
    // In the very tick of the last packet here.
    assert_eq!(two.adopt(&closed, later(NOW, 100)), Fate::Ended);
    let view = two.only();
    assert!(view.is_closed && view.sides.is_foreign);
}

#[test]
fn shifted_sequence_numbers_go_along() {
    let one = Balancer::new(1, [5, 6], Forwarding::Nat);
    let two = Balancer::new(2, [5, 6], Forwarding::Nat);
    one.begin(40_000, 6, Path::DIRECT, later(NOW, IDLE));
    let record = Record {
        sequence_delta: Some(0xdead_beef),
        backend_state: 4,
        ..one.record(&one.only(), NOW)
    };
    assert_eq!(two.adopt(&record, NOW), Fate::Inserted);
    assert_eq!(two.only().flow.shift, Shift::by(0xdead_beef));
    assert_eq!(
        two.record(&two.only(), NOW),
        Record {
            interface: 255,
            // The lower half of what is added.
            backend_sequence: 0xbeef,
            ..record
        }
    );
    // Again, and by another flow of the same client, which has none.
    assert_eq!(two.adopt(&record, NOW), Fate::Refreshed);
    assert_eq!(two.only().flow.shift, Shift::by(0xdead_beef));
    let plain = Record {
        sequence_delta: None,
        ..record
    };
    assert_eq!(two.adopt(&plain, NOW), Fate::Inserted);
    assert_eq!(two.only().flow.shift, Shift::NONE);
}

#[test]
fn a_closed_flow_is_not_made_and_an_ended_one_may_begin_again() {
    let one = Balancer::new(1, [5, 6], Forwarding::Nat);
    let two = Balancer::new(2, [5, 6], Forwarding::Nat);
    one.begin(40_000, 6, Path::DIRECT, later(NOW, IDLE));
    let record = one.record(&one.only(), NOW);
    let closed = Record {
        client_state: 1,
        backend_state: 1,
        lifetime: 10_000,
        ..record
    };
    assert_eq!(two.adopt(&closed, NOW), Fate::Ended);
    assert!(two.views().is_empty());
    assert_eq!(two.adopt(&record, NOW), Fate::Inserted);
    assert_eq!(two.adopt(&closed, NOW), Fate::Ended);
    assert!(two.only().is_closed);
    let again = Record {
        backend: v4(11),
        ..record
    };
    assert_eq!(two.adopt(&again, later(NOW, 10)), Fate::Refreshed);
    let view = two.only();
    assert!(!view.is_closed);
    assert_eq!(view.flow.backend, 5);
}

#[test]
fn what_is_not_known_here_is_refused_by_its_reason() {
    let one = Balancer::new(1, [5, 6], Forwarding::Nat);
    let two = Balancer::new(2, [5, 6], Forwarding::FullNat);
    one.begin(40_000, 6, Path::DIRECT, later(NOW, IDLE));
    let record = one.record(&one.only(), NOW);
    assert_eq!(two.adopt(&record, NOW), Fate::OtherForwarding);
    for (wrong, expected) in [
        (
            Record {
                service: v4(9),
                ..record
            },
            Fate::UnknownService,
        ),
        (
            Record {
                protocol: 17,
                ..record
            },
            Fate::UnknownService,
        ),
        (
            Record {
                backend: v4(9),
                ..record
            },
            Fate::UnknownBackend,
        ),
        (
            Record {
                lifetime: 0,
                ..record
            },
            Fate::Expired,
        ),
    ] {
        assert_eq!(one.adopt(&wrong, NOW), expected);
    }
    let full_nat = Record {
        source: Some((v4(9), 5)),
        ..record
    };
    assert_eq!(two.adopt(&full_nat, NOW), Fate::UnknownSource);
    assert_eq!(one.adopt(&full_nat, NOW), Fate::OtherForwarding);
    assert!(two.views().is_empty());
}

#[test]
fn a_source_port_is_taken_along_and_never_for_two() {
    let two = Balancer::new(2, [5, 6], Forwarding::FullNat);
    let one = Balancer::new(1, [5, 6], Forwarding::FullNat);
    let path = Path::with_source(0, network_port(50_000));
    one.begin(40_000, 6, path, later(NOW, IDLE));
    let record = one.record(&one.only(), NOW);
    assert_eq!(record.source, Some((v4(2), network_port(50_000))));
    assert_eq!(two.adopt(&record, NOW), Fate::Inserted);
    assert_eq!(two.adopt(&record, NOW), Fate::Refreshed);
    let word = ports::word_index(0, 6, 50_000) as usize;
    let is_taken = || two.ports.0.all()[word].load() >> (50_000 % 64) & 1 == 1;
    assert!(is_taken());
    assert_eq!(two.only().flow.path, path);
    let other = Record {
        client_port: network_port(40_001),
        ..record
    };
    assert_eq!(two.adopt(&other, NOW), Fate::PortTaken);
    assert_eq!(two.views().len(), 1);
}

#[test]
fn a_lifetime_is_never_longer_than_the_service_allows() {
    let two = Balancer::new(2, [5, 6], Forwarding::Nat);
    let one = Balancer::new(1, [5, 6], Forwarding::Nat);
    one.begin(40_000, 6, Path::DIRECT, later(NOW, IDLE));
    let record = Record {
        lifetime: u32::MAX,
        ..one.record(&one.only(), NOW)
    };
    assert_eq!(two.adopt(&record, NOW), Fate::Inserted);
    assert_eq!(two.only().flow.expires, later(NOW, IDLE));
}

#[test]
fn the_way_back_is_that_of_an_interface_of_the_same_name() {
    let two = Balancer::new(2, [5, 6], Forwarding::Nat);
    let one = Balancer::new(1, [5, 6], Forwarding::Nat);
    one.begin(40_000, 6, Path::DIRECT, later(NOW, IDLE));
    let record = Record {
        mac: [2; 6],
        ..one.record(&one.only(), NOW)
    };
    let by = |interface, client_port| Record {
        interface,
        client_port,
        ..record
    };
    assert_eq!(two.adopt(&by(0, 1), NOW), Fate::Inserted);
    assert_eq!(two.only().flow.link.ingress, 7);
    assert_eq!(two.only().flow.link.mac, [2; 6]);
    assert_eq!(two.adopt(&by(1, 2), NOW), Fate::Inserted);
    let views = two.views();
    let other = views.iter().find(|view| view.flow.key.client_port == 2);
    assert_eq!(other.unwrap().flow.link, ClientLink::default());
}

proptest! {
    /// Two that both get packets of the same flows, and whatever they tell each other: nothing
    /// panics, no flow is there twice, and each port has one owner.
    #[test]
    fn a_split_brain_corrupts_nothing(
        steps in proptest::collection::vec((0u8..2, 0u16..6, 0u16..3, 0u32..2000, 0u8..8, any::<u8>()), 1..200)
    ) {
        let balancers = [
            Balancer::new(1, [5, 6], Forwarding::FullNat),
            Balancer::new(2, [6, 5], Forwarding::FullNat),
        ];
        for (number, (to, client, port, lifetime, client_state, own)) in (0u32..).zip(steps) {
            let to = &balancers[usize::from(to)];
            let record = Record {
                client: key(0).client,
                client_port: network_port(1000 + client),
                service: v4(100),
                service_port: network_port(80),
                protocol: 6,
                backend: v4(11 + (client % 2) as u8),
                backend_port: network_port(8080),
                source: Some((v4(2), network_port(50_000 + port))),
                lifetime: lifetime * 400,
                client_state,
                backend_state: client_state >> 1,
                backend_sequence: 0,
                sequence_delta: None,
                mac: [2; 6],
                tags: (0, 0),
                interface: own,
            };
            let now = later(NOW, number);
            to.adopt(&record, now);
            let views = to.views();
            let mut keys: Vec<u16> = views.iter().map(|view| view.flow.key.client_port).collect();
            keys.sort_unstable();
            keys.dedup();
            prop_assert_eq!(keys.len(), views.len());
            for view in views {
                let flow = &view.flow;
                let settings = Settings { hash_seed: to.seed, ..Settings::default() };
                let place = Place::of(&settings, flow.key.client, flow.key.client_port, 6);
                let port = u16::from_be(flow.path.port());
                let owner = to.ports.1.all()[ports::owner_index(0, 6, port) as usize].load();
                prop_assert_eq!(owner, ports::mark(place));
            }
        }
    }
}
