//! What the flow tables promise: no flow is lost before the limit, the one that would expire first
//! goes beyond it, and nothing is ever found that was not put there.

use std::net::{Ipv4Addr, SocketAddr};

use lb_common::{
    abi::{Settings, Ticks, network_port},
    address::Address,
    flow::{
        ClientLink, FlowKey, INTERFACE_LIMIT, Inserted, NewFlow, Path, Place, Shift, find, insert,
    },
    host::{Fixture, HostTables},
    tables::FlowTable,
    tags::Tags,
};
use proptest::prelude::*;

const NOW: Ticks = Ticks(1000);

/// Flow number `n`, of which everything differs from that of any other.
fn flow(n: u32, expires: u32) -> NewFlow {
    let [a, b, c, d] = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
    NewFlow {
        key: FlowKey {
            client: Address::from_v4([100 + (a & 15), b, c, d]),
            client_port: network_port(1024 + (n >> 12) as u16),
            service: Address::from_v4([203, 0, 113, n as u8]),
            service_port: network_port(80),
            protocol: 6,
        },
        backend: n & 0x00ff_ffff,
        link: ClientLink {
            mac: [2, 0, a, b, c, d],
            tags: Tags::one(n as u16, false),
            ingress: n & (INTERFACE_LIMIT - 1),
        },
        expires: Ticks(expires),
        path: Path::DIRECT,
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

fn put(tables: &HostTables, table: FlowTable, flow: &NewFlow) -> Inserted {
    insert(tables, table, place(&tables.settings, flow), NOW, flow)
}

/// The backend of the flow, if it is there.
fn backend_of(tables: &HostTables, table: FlowTable, flow: &NewFlow) -> Option<u32> {
    let place = place(&tables.settings, flow);
    find(tables, table, place, |found| found.is_flow(&flow.key)).map(|found| found.flow.backend())
}

/// How many of `flows` flows are lost when a table made for `limit` is filled with them, by a seed.
fn lost(limit: u32, flows: u32, seed: u64) -> usize {
    let mut tables = Fixture::with_limits(limit, 8).tables;
    tables.settings.hash_seed = seed;
    let mut evicted = 0;
    for n in 0..flows {
        match put(&tables, FlowTable::Established, &flow(n, 2000)) {
            Inserted::Free => {}
            Inserted::Evicted => evicted += 1,
            Inserted::Contended => panic!("nobody else is here"),
        }
    }
    let missing = (0..flows)
        .filter(|n| {
            let flow = flow(*n, 0);
            backend_of(&tables, FlowTable::Established, &flow) != Some(flow.backend)
        })
        .count();
    assert_eq!(missing, evicted, "lost without being counted");
    missing
}

#[test]
fn no_flow_is_lost_up_to_the_limit() {
    // Powers of two are the worst case: their tables are no larger than they must be.
    for (limit, seeds) in [(1024, 40), (65_536, 4), (262_144, 2)] {
        let all = (1..=seeds)
            .map(|seed: u64| lost(limit, limit, seed.wrapping_mul(0x5eed_5eed_0000_0001)));
        let all: usize = all.sum();
        println!("{seeds} tables for {limit} flows, filled to the limit: {all} lost");
        assert_eq!(all, 0, "limit {limit}");
    }
}

#[test]
fn beyond_the_limit_most_flows_stay() {
    // There are twice as many places as the limit says; a table that evicted early shows here.
    for (percent, lost_percent) in [(110, 1), (125, 1), (150, 3), (175, 5), (200, 10)] {
        let flows = 65_536 / 100 * percent;
        let lost = lost(65_536, flows, 0x5eed);
        println!("{percent} % of the limit: {lost} of {flows} lost");
        assert!(lost * 100 < flows as usize * lost_percent, "{percent} %");
    }
}

/// The flows of one client endpoint share both buckets, so there is room for 16.
#[test]
fn the_flow_that_would_expire_first_goes() {
    let tables = Fixture::with_limits(1024, 8).tables;
    let of_one_client = |service: u8, expires: u32| {
        let mut flow = flow(7, expires);
        flow.key.service = Address::from_v4([203, 0, 113, service]);
        flow.backend = u32::from(service);
        flow
    };
    let order = |service: u8| u32::from(service) * 37 % 16;
    for service in 0..16 {
        let flow = of_one_client(service, 2000 + order(service));
        assert_eq!(put(&tables, FlowTable::Established, &flow), Inserted::Free);
    }
    for service in 16..32 {
        let flow = of_one_client(service, 3000);
        assert_eq!(
            put(&tables, FlowTable::Established, &flow),
            Inserted::Evicted
        );
        let left: Vec<u8> = (0..16)
            .filter(|one| {
                let flow = of_one_client(*one, 0);
                backend_of(&tables, FlowTable::Established, &flow).is_some()
            })
            .collect();
        assert_eq!(left.len(), 31 - usize::from(service));
        // Those that are left expire later than those that went.
        let soonest = left.iter().map(|one| order(*one)).min();
        assert!(soonest.is_none_or(|soonest| soonest > u32::from(service) - 16));
    }
}

#[test]
fn expired_flows_give_way_without_being_counted() {
    // Not so in the half-open table, where any place is as good as another.
    let tables = Fixture::with_limits(64, 64).tables;
    let table = FlowTable::Established;
    for n in 0..2000 {
        let old = flow(n, NOW.0 - 1);
        assert_ne!(put(&tables, table, &old), Inserted::Contended);
    }
    for n in 2000..2040 {
        assert_eq!(put(&tables, table, &flow(n, 2000)), Inserted::Free, "{n}");
    }
}

#[test]
fn the_half_open_table_churns_and_keeps_its_size() {
    let tables = Fixture::with_limits(64, 1024).tables;
    let mut evicted = 0;
    for n in 0..100_000 {
        match put(&tables, FlowTable::HalfOpen, &flow(n, 2000)) {
            Inserted::Evicted => evicted += 1,
            Inserted::Free => {}
            Inserted::Contended => panic!("nobody else is here"),
        }
        let newest = flow(n, 0);
        assert_eq!(
            backend_of(&tables, FlowTable::HalfOpen, &newest),
            Some(newest.backend)
        );
    }
    assert_eq!(tables.flows(FlowTable::HalfOpen), 1024);
    assert_eq!(evicted, 100_000 - 1024);
    assert_eq!(tables.flows(FlowTable::Established), 0);
}

#[test]
fn a_flow_is_told_from_all_others() {
    let tables = Fixture::default().tables;
    let known = flow(1, 2000);
    put(&tables, FlowTable::Established, &known);
    let mut strangers = vec![known; 5];
    strangers[0].key.client = Address::from_v4([1, 2, 3, 4]);
    strangers[1].key.client_port ^= 1;
    strangers[2].key.service = Address::from_v4([1, 2, 3, 4]);
    strangers[3].key.service_port ^= 1;
    strangers[4].key.protocol = 17;
    for stranger in &strangers {
        // Even if it had the same place.
        let place = place(&tables.settings, &known);
        let found = find(&tables, FlowTable::Established, place, |flow| {
            flow.is_flow(&stranger.key)
        });
        assert!(found.is_none(), "{stranger:?}");
    }
    assert_eq!(
        backend_of(&tables, FlowTable::HalfOpen, &known),
        None,
        "the tables are two"
    );
}

proptest! {
    /// A flow comes out as it went in, whatever it is made of.
    #[test]
    fn a_flow_survives_its_entry(
        client in any::<SocketAddr>(),
        service in any::<SocketAddr>(),
        protocol in prop_oneof![Just(6u8), Just(17)],
        backend in 1u32..1 << 24,
        mac in any::<[u8; 6]>(),
        tags in (0u16..4096, 0u16..4096, any::<bool>(), 0u8..3),
        ingress in 0..INTERFACE_LIMIT,
        expires in 1000u32..,
        path in prop_oneof![
            Just(Path::DIRECT),
            Just(Path::ONE_SIDED),
            (0u8..254, any::<u16>()).prop_map(|(address, port)| Path::with_source(address, port)),
        ],
    ) {
        let tables = Fixture::default().tables;
        let (outer, inner, is_service, count) = tags;
        let tags = match count {
            0 => Tags::NONE,
            1 => Tags::one(inner, is_service),
            _ => Tags::two(outer, inner, is_service),
        };
        let link = ClientLink { mac, tags, ingress };
        let new = NewFlow {
            key: FlowKey {
                client: client.ip().into(),
                client_port: network_port(client.port()),
                service: service.ip().into(),
                service_port: network_port(service.port()),
                protocol,
            },
            backend,
            link,
            expires: Ticks(expires),
            path,
            own_mac: 0,
            client_finished: false,
            shift: Shift::NONE,
        };
        put(&tables, FlowTable::Established, &new);
        let place = place(&tables.settings, &new);
        let found = find(&tables, FlowTable::Established, place, |flow| flow.is_flow(&new.key));
        let flow = found.expect("it was put there").flow;
        prop_assert!(flow.is_client(new.key.client, new.key.client_port, protocol));
        prop_assert_eq!(flow.client(), new.key.client);
        prop_assert_eq!(flow.service(), new.key.service);
        prop_assert_eq!(flow.client_port(), new.key.client_port);
        prop_assert_eq!(flow.service_port(), new.key.service_port);
        prop_assert_eq!(flow.protocol(), protocol);
        prop_assert_eq!(flow.backend(), backend);
        prop_assert_eq!(flow.link(), link);
        prop_assert_eq!(flow.expires(), Ticks(expires));
        prop_assert!(!flow.is_closed());
        let again = flow.to_new(Ticks(5));
        prop_assert_eq!(again.backend, backend);
        prop_assert_eq!(again.path, path);
        // Moving it to another backend changes nothing else.
        flow.set_backend(backend ^ 1);
        prop_assert!(flow.is_flow(&new.key));
        prop_assert_eq!(flow.backend(), backend ^ 1);
    }

    /// Against a model that remembers everything: what is found is what was put there last, and
    /// what was taken out is gone.
    #[test]
    fn the_table_is_a_map_that_may_forget(
        steps in proptest::collection::vec((0u32..400, any::<bool>()), 1..600),
    ) {
        let tables = Fixture::with_limits(64, 8).tables;
        let mut model = std::collections::HashMap::new();
        for (turn, (n, take)) in steps.into_iter().enumerate() {
            let mut flow = flow(n, 2000 + turn as u32);
            let place = place(&tables.settings, &flow);
            let found = find(&tables, FlowTable::Established, place, |one| one.is_flow(&flow.key));
            if let Some(found) = found {
                prop_assert_eq!(Some(&found.flow.backend()), model.get(&n));
                if take {
                    found.release(&tables);
                    model.remove(&n);
                }
            } else if !take {
                flow.backend = turn as u32;
                prop_assert_ne!(put(&tables, FlowTable::Established, &flow), Inserted::Contended);
                model.insert(n, turn as u32);
                prop_assert_eq!(backend_of(&tables, FlowTable::Established, &flow), Some(turn as u32));
            }
        }
        prop_assert!(tables.flows(FlowTable::Established) <= model.len());
    }
}

#[test]
fn ipv4_and_ipv6_clients_do_not_meet() {
    let tables = Fixture::default().tables;
    let mut six = flow(3, 2000);
    let v4: Ipv4Addr = [198, 51, 100, 1].into();
    six.key.client = Address::from_v6(v4.to_ipv6_compatible().octets());
    put(&tables, FlowTable::Established, &six);
    let mut four = six;
    four.key.client = Address::from_v4(v4.octets());
    assert_eq!(backend_of(&tables, FlowTable::Established, &four), None);
}
