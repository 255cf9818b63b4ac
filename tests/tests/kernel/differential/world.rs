//! What the two sides know: services of every kind that there is, and what an agent changes.

use std::net::SocketAddr;

use lb_common::{
    abi::{
        Check, Forwarding, Interface, OnBackendDown, OnNoBackend, Protocol, Scheduler, ServerIdKey,
        Service, Ticks, backend_flags, features, service_flags,
    },
    firewall::{
        Action, Prefix,
        rate::{self, Rate, Sources},
    },
    host::{Fixture, HostTables, INGRESS},
    verdict::Verdict,
};
use lb_packets::{GUE_PORT, Target};
use lb_tests::rows::world::{ELSEWHERE, Family};

/// What makes a world differ from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Only services that these features allow.
    pub(super) features: u32,
    /// Established flows.
    pub(super) flows: u32,
    /// Half-open flows.
    pub(super) half_open: u32,
    /// After which flows expire.
    pub(super) idle_seconds: u32,
    /// ICMP errors that may be sent in a tick.
    pub(super) errors_per_tick: u32,
    /// Half-open flows from which on there are SYN cookies.
    pub(super) syn_cookies: u32,
}

/// Everything, in tables that suffice.
pub(super) const ROOMY: Kind = Kind {
    features: features::ALL,
    flows: 4096,
    half_open: 1024,
    idle_seconds: 900,
    errors_per_tick: u32::MAX,
    syn_cookies: 0,
};

/// A service among those of a family and protocol.
struct Plan {
    host: u8,
    feature: u32,
    forwarding: Forwarding,
    /// Of the backends; else that of the service.
    family: Option<Family>,
    first_backend: u8,
}

const fn plan(host: u8, feature: u32, forwarding: Forwarding, first_backend: u8) -> Plan {
    Plan {
        host,
        feature,
        forwarding,
        family: None,
        first_backend,
    }
}

const fn tunnel(host: u8, forwarding: Forwarding, family: Family) -> Plan {
    Plan {
        family: Some(family),
        ..plan(host, features::TUNNEL, forwarding, 41)
    }
}

const PLANS: [Plan; 8] = [
    // The first two share their backends.
    plan(10, features::NAT, Forwarding::Nat, 11),
    plan(11, features::NAT, Forwarding::Nat, 11),
    plan(12, u32::MAX, Forwarding::DsrL2, 21),
    plan(13, features::FULL_NAT, Forwarding::FullNat, 31),
    tunnel(14, Forwarding::DsrIpip, Family::V4),
    tunnel(15, Forwarding::DsrIpip, Family::V6),
    tunnel(16, Forwarding::DsrGue, Family::V4),
    tunnel(17, Forwarding::DsrGue, Family::V6),
];

/// Bytes of a server id in a QUIC connection id.
const SERVER_ID_LENGTH: u8 = 2;

/// QUIC packets by what they begin with: short headers with a known server id, one that is not
/// known and one that is not to be routed by; and long headers of a handshake and of a beginning.
const QUIC: &[&[u8]] = &[
    &[0x40, 0x02, 1, 0],
    &[0x40, 0x02, 2, 0],
    &[0x40, 0x02, 9, 9],
    &[0x40, 0xe2, 1, 0],
    &[0xe0, 0, 0, 0, 1, 8, 0x02, 2, 0],
    &[0xe0, 0, 0, 0, 1, 2, 0x02, 2, 0],
    &[0xc0, 0, 0, 0, 1, 8, 0x02, 1, 0],
];

impl Kind {
    fn has(&self, features: u32) -> bool {
        self.features & features != 0
    }

    /// The tables, and the services as clients see them.
    pub(super) fn build(&self) -> (HostTables, Vec<Target>) {
        let mut fixture = Fixture::with_limits(self.flows, self.half_open);
        fixture.tables.settings.features = self.features;
        fixture.tables.settings.errors_per_tick = self.errors_per_tick;
        // Few ports, and none in most words of the bitmap, so that they run out now and then.
        for family in [Family::V4, Family::V6] {
            let address = family.backend(2, 1).ip().into();
            fixture
                .tables
                .add_source(address, |port| port % 64 == 0 && port / 64 % 32 == 0);
        }
        let mut targets = Vec::new();
        for family in [Family::V4, Family::V6] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let plans = PLANS.iter().filter(|plan| self.has(plan.feature));
                targets.extend(plans.map(|plan| self.add(&mut fixture, family, protocol, plan)));
            }
        }
        let mut tables = fixture.tables;
        // Some ways lead out of another interface with a small MTU, one into a service network, one
        // nowhere but to this host.
        for (index, hop) in tables.next_hops.iter_mut().enumerate().skip(1) {
            match index % 15 {
                1 | 6 | 11 => (hop.ifindex, hop.mtu) = (ELSEWHERE, 600),
                4 => (hop.vlan, hop.outer_vlan) = (7, 8),
                9 => hop.vlan = 9,
                12 => hop.ifindex = 0,
                _ => {}
            }
        }
        (tables, targets)
    }

    fn add(
        &self,
        fixture: &mut Fixture,
        family: Family,
        protocol: Protocol,
        plan: &Plan,
    ) -> Target {
        let is_tcp = protocol == Protocol::Tcp;
        // Tunnels in tunnels: datagrams that a backend might take for the balancer's own.
        let port = match plan.forwarding {
            Forwarding::DsrGue if !is_tcp => GUE_PORT,
            Forwarding::Nat
            | Forwarding::FullNat
            | Forwarding::DsrL2
            | Forwarding::DsrIpip
            | Forwarding::DsrGue => 80,
        };
        let address = family.service(plan.host, port);
        let hosts = plan.first_backend..plan.first_backend + 3;
        let backends: Vec<SocketAddr> = hosts
            .map(|host| plan.family.unwrap_or(family).backend(host, port))
            .collect();
        let ids = fixture.service(address, protocol, plan.forwarding, &backends);
        for &id in &ids {
            let backend = &mut fixture.tables.backends[id as usize];
            backend.idle_timeout = Ticks::from_seconds(self.idle_seconds).0;
            backend.on_backend_down = match id % 3 {
                0 => OnBackendDown::Reschedule,
                1 => OnBackendDown::Reset,
                _ => OnBackendDown::Hold,
            } as u8;
            backend.weight = 1 + (id % 4) as u16;
            backend.mss = [0, 1200, 1340][id as usize % 3];
            backend.first_source = u16::from(family == Family::V6);
            backend.sources = 1;
            let tunnel_source: std::net::IpAddr = match backends[0] {
                SocketAddr::V4(_) => [172, 16, 0, 0].into(),
                SocketAddr::V6(_) => [0x100, 0, 0, 0, 0, 0, 0, 0].into(),
            };
            backend.tunnel_source = tunnel_source.into();
            backend.tunnel_source_mask = 0xffff_u32.to_be();
        }
        let mut has_server_ids = false;
        let service_id = fixture.tables.backends[ids[0] as usize].service;
        for service in fixture.tables.services.values_mut() {
            if service.id == service_id {
                has_server_ids = self.give_features(service, is_tcp, plan.forwarding);
            }
        }
        if has_server_ids {
            for (name, id) in (1u8..).zip(&ids[..2]) {
                let bytes = [name, 0, 0, 0, 0, 0, 0, 0];
                let key = ServerIdKey {
                    service: service_id,
                    id: [u64::from_ne_bytes(bytes), 0],
                    reserved: 0,
                };
                fixture.tables.server_ids.insert(key, *id);
            }
        }
        Target {
            address,
            is_tcp,
            is_answered: Forwarding::sees_replies(plan.forwarding as u8),
            starts: if has_server_ids { QUIC } else { &[] },
        }
    }

    /// Every service has other features; returns whether it looks at server ids.
    fn give_features(&self, service: &mut Service, is_tcp: bool, forwarding: Forwarding) -> bool {
        let number = service.id;
        service.scheduler = match number % 5 {
            1 if self.has(features::HASH) => Scheduler::SourceHash,
            2 if self.has(features::HASH) => Scheduler::Maglev,
            3 if self.has(features::LEAST_CONNECTIONS) => Scheduler::LeastConnections,
            _ => Scheduler::RoundRobin,
        } as u8;
        if number.is_multiple_of(3) {
            service.affinity = Ticks::from_seconds(1).0;
        }
        if is_tcp {
            // The config refuses them elsewhere.
            if Forwarding::sees_replies(forwarding as u8) {
                service.syn_cookies = self.syn_cookies;
            } else if matches!(number % 5, 1 | 2) && self.has(features::TAKE_UP) {
                service.flags |= service_flags::TAKES_UP;
            }
            return false;
        }
        // The config refuses it where replies are translated.
        if number % 4 < 2 && !Forwarding::sees_replies(forwarding as u8) {
            service.flags |= service_flags::ONE_PACKET;
        }
        if number.is_multiple_of(2) {
            service.server_id_length = SERVER_ID_LENGTH;
        }
        service.server_id_length != 0
    }

    /// Verdicts that its traffic cannot bring about, and why.
    pub(super) fn impossible(&self) -> Vec<(Verdict, &'static str)> {
        let mut impossible = vec![
            (
                Verdict::DropTableContended,
                "only one CPU works on a table here; a row shows it",
            ),
            (
                Verdict::DropNoRoom,
                "a test run has 256 bytes of headroom; a row shows it",
            ),
        ];
        let mut without = |features: u32, verdicts: &[Verdict], why: &'static str| {
            if !self.has(features) {
                impossible.extend(verdicts.iter().map(|verdict| (*verdict, why)));
            }
        };
        without(
            features::NAT | features::FULL_NAT,
            &[Verdict::SteeredReply],
            "replies do not pass here",
        );
        without(
            features::CHECKS,
            &[Verdict::SteeredCheck, Verdict::DropNoCheck],
            "there are no checks",
        );
        without(
            features::FIREWALL,
            &[Verdict::DropDenied],
            "there is no firewall",
        );
        without(
            features::SERVICE_LISTS,
            &[Verdict::DropServiceDenied],
            "no service has lists",
        );
        without(
            features::RATE_LIMIT,
            &[Verdict::DropRateNewConnections],
            "nobody is limited",
        );
        without(
            features::PACKET_LIMIT,
            &[Verdict::DropRatePackets],
            "packets are not limited",
        );
        without(
            features::FLOW_LIMIT,
            &[Verdict::DropRateFlows],
            "flows are not limited",
        );
        without(
            features::OFFENDERS,
            &[Verdict::DropOffender],
            "nobody is denied for a while",
        );
        without(
            features::LOCK_DOWN,
            &[Verdict::DropLockedDown],
            "the host is not locked down",
        );
        without(
            features::NAT,
            &[Verdict::DropTupleInUse],
            "only `nat` has clients' own endpoints towards backends",
        );
        without(
            features::FULL_NAT,
            &[
                Verdict::DropNoSourcePort,
                Verdict::AnsweredResetNoSourcePort,
                Verdict::AnsweredUnreachableNoSourcePort,
            ],
            "only `full-nat` has source ports",
        );
        if self.syn_cookies == 0 {
            let cookies = [
                Verdict::AnsweredSynCookie,
                Verdict::AnsweredForClient,
                Verdict::DropEarly,
            ];
            impossible.extend(cookies.map(|verdict| (verdict, "there are no SYN cookies")));
        }
        if self.errors_per_tick == 0 {
            let errors = [
                Verdict::AnsweredTooBig,
                Verdict::AnsweredUnreachableNoBackend,
                Verdict::AnsweredUnreachableNoSourcePort,
            ];
            impossible.extend(errors.map(|verdict| (verdict, "no error may be sent")));
        } else {
            impossible.push((Verdict::DropAnswerLimited, "there is no limit"));
        }
        impossible
    }
}

/// Ports that clients have, see [`lb_packets::Traffic`].
const CLIENT_PORTS: std::ops::Range<u16> = 40_000..40_008;

/// Sometimes what comes in is what checks sent, and mostly it is not.
fn change_checks(tables: &mut HostTables, rng: &mut fastrand::Rng) {
    let of_checks = if rng.u8(..6) == 0 { INGRESS } else { ELSEWHERE };
    let entrance = Check {
        interface: of_checks,
        ..Check::default()
    };
    tables.checks.insert(0, entrance);
    for port in CLIENT_PORTS {
        let host = rng.u8(1..60);
        let source: std::net::IpAddr = if rng.bool() {
            [198, 51, 100, host].into()
        } else {
            [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, u16::from(host)].into()
        };
        let check = Check {
            source: source.into(),
            backend: rng.u32(..tables.backends.len() as u32),
            interface: of_checks,
        };
        tables.checks.insert(port, check);
    }
    // Clients that are known may as well be checks of the backend that they have.
    let known: Vec<_> = tables.views().map(|view| view.flow).collect();
    for flow in known {
        let port = u16::from_be(flow.key.client_port);
        if CLIENT_PORTS.contains(&port) && rng.bool() {
            let check = Check {
                source: flow.key.client,
                backend: flow.backend,
                interface: of_checks,
            };
            tables.checks.insert(port, check);
        }
    }
    let description = Interface {
        mac: [2, 0x6c, 0x62, 0, 0, 1],
        reserved: [0; 2],
        mtu: 600,
    };
    tables.interfaces.insert(ELSEWHERE, description);
}

/// Sometimes some clients are denied, and of those some are allowed.
fn change_firewall(tables: &mut HostTables, rng: &mut fastrand::Rng) {
    let seed = tables.settings.hash_seed;
    // Most rounds without, or hardly anything would get beyond it.
    let count = if rng.u8(..5) == 0 { rng.usize(1..6) } else { 0 };
    let prefixes: Vec<_> = (0..count)
        .map(|_| {
            let host = rng.u8(..);
            let (address, length): (std::net::IpAddr, u8) = if rng.bool() {
                ([198, 51, 100, host].into(), rng.u8(22..=32))
            } else {
                let v6 = [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, u16::from(host)];
                (v6.into(), rng.u8(18..=128).max(rng.u8(18..=128)))
            };
            let action = if rng.u8(..3) == 0 {
                Action::Allow
            } else {
                Action::Deny
            };
            (Prefix::new(address, length), action)
        })
        .collect();
    // Of two that are the same, collections and the trie keep another one.
    let mut once: Vec<(Prefix, Action)> = Vec::new();
    for (prefix, action) in prefixes {
        if once.iter().all(|(known, _)| *known != prefix) {
            once.push((prefix, action));
        }
    }
    tables.firewall.set(seed, rng.u8(..), &once);
    if rng.bool() {
        let ports = [
            (Protocol::Tcp, rng.u16(..100)),
            (Protocol::Tcp, 443),
            (Protocol::Udp, rng.u16(..)),
        ];
        let trusted = Prefix::new([198, 51, 100, rng.u8(..)].into(), rng.u8(24..=32));
        tables.firewall.lock_down(&ports, &[trusted]);
    }
    if tables.settings.features & features::SERVICE_LISTS != 0 {
        change_service_lists(tables, rng);
    }
    tables.firewall.set_dry_run(rng.u8(..4) == 0);
    let sources = Sources::new(rng.u8(8..=32), rng.u8(16..=64), rng.u8(..4) == 0);
    for (kind, most) in [(rate::Kind::Connections, 20), (rate::Kind::Packets, 200)] {
        let rate = if rng.u8(..8) == 0 {
            Rate::new(rng.u32(1..1000), rng.u32(1..most))
        } else {
            Rate::default()
        };
        tables.firewall.set_limit(kind, rate, sources);
    }
    let most = if rng.u8(..8) == 0 { rng.u32(1..9) } else { 0 };
    tables.firewall.set_flow_limit(most, sources);
    // So short that something gets beyond it later.
    let span = if rng.bool() { rng.u32(1..4) } else { 0 };
    tables.firewall.set_deny_span(Ticks(span));
}

/// Some services keep some clients out.
fn change_service_lists(tables: &mut HostTables, rng: &mut fastrand::Rng) {
    const SCOPE: u32 = 3;
    let host = rng.u8(..);
    let v6 = [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, u16::from(host)];
    let prefixes = [
        (
            Prefix::new([198, 51, 100, host].into(), rng.u8(24..=32)),
            Action::Allow,
        ),
        (Prefix::new(v6.into(), rng.u8(112..=128)), Action::Deny),
    ];
    tables.firewall.set_service(SCOPE, &prefixes);
    if rng.u8(..4) == 0 {
        tables.firewall.allow_only(SCOPE);
    }
    for service in tables.services.values_mut() {
        service.lists = if rng.u8(..4) == 0 { SCOPE } else { 0 };
    }
}

/// What an agent might do meanwhile.
pub(super) fn change(tables: &mut HostTables, rng: &mut fastrand::Rng) {
    if tables.settings.features & (features::FIREWALL | features::LIMITS | features::LOCK_DOWN) != 0
    {
        change_firewall(tables, rng);
    }
    if tables.settings.features & features::CHECKS != 0 {
        change_checks(tables, rng);
    }
    for id in 1..tables.backends.len() {
        let backend = &mut tables.backends[id];
        backend.flags = match rng.u8(..12) {
            0 => backend_flags::USED | backend_flags::DOWN,
            1 => 0,
            _ => backend_flags::USED,
        };
        backend.next_hop = if rng.u8(..20) == 0 { 0 } else { id as u32 };
    }
    for service in tables.services.values_mut() {
        service.slots_len = if rng.u8(..12) == 0 { 0 } else { rng.u32(1..4) };
        service.on_no_backend = match rng.u8(..3) {
            0 => OnNoBackend::Reset,
            1 => OnNoBackend::Unreachable,
            _ => OnNoBackend::Drop,
        } as u8;
    }
}
