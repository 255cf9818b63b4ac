//! One case, ready to run: the steering program with its tables, and the generator in front of it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, ProgramArray},
    programs::{TestRun, TestRunOptions, Xdp},
};
use lb_common::{
    abi::{Forwarding, ServerIdKey, service_flags},
    firewall::{
        Action, Prefix,
        rate::{Kind, MOST, Rate, Sources},
    },
    host::{Fixture, MAC_BACKEND, MAC_BALANCER, MAC_CLIENT},
    lab::Plan,
    verdict::Verdict,
};

use super::{
    Case,
    cases::{ONE_PACKET, PREFIXES, QUIC, SERVER_ID, Wall},
};
use crate::{
    bench::{
        flows::{Endpoints, Handshake},
        template::{frame, plan},
    },
    kernel::{self, Kernel, LAB, Plain, program},
};

const CLIENT: [&str; 2] = ["10.64.0.1:32768", "[fd00:64::1]:32768"];
const VIP: [&str; 2] = ["203.0.113.10:80", "[2001:db8::10]:80"];
const FOREIGN: [&str; 2] = ["203.0.113.99:81", "[2001:db8::99]:81"];
const FIRST_BACKEND: [&str; 2] = ["10.0.0.11:8080", "[fd00::11]:8080"];

/// Where many services begin to count, so that none of them has port 0.
const FIRST_OF_MANY: u16 = 8192;

/// `XDP_TX`
const TX: u32 = 3;

pub(super) struct Rig {
    kernel: Kernel,
    generator: Generator,
    /// What becomes of every packet.
    verdict: Verdict,
}

/// What makes packets, and hands them to the program under test.
pub(super) struct Generator {
    lab: Ebpf,
    plan: Plan,
    frame: Vec<u8>,
}

impl Rig {
    pub(super) fn new(case: &Case) -> Result<Self> {
        Self::of_client(case, CLIENT[usize::from(case.is_v6)])
    }

    /// With another client as flow 0.
    pub(super) fn of_client(case: &Case, client: &str) -> Result<Self> {
        let family = usize::from(case.is_v6);
        let address = |text: &str| text.parse::<SocketAddr>().context("a constant address");
        let mut endpoints = Endpoints {
            client: address(client)?,
            vip: address(VIP[family])?,
            service_mask: case.services - 1,
        };
        if case.services > 1 {
            endpoints.vip.set_port(FIRST_OF_MANY);
        }
        let outer = usize::from(case.is_v6 != case.crosses_families);
        let fixture = fixture(case, &endpoints, address(FIRST_BACKEND[outer])?);
        let mut kernel = Kernel::load(&fixture.tables)?;
        establish(case, &mut kernel, endpoints)?;
        if !case.is_ours {
            endpoints.vip = address(FOREIGN[family])?;
        }
        let inward = (MAC_CLIENT, MAC_BALANCER);
        let frame = frame(inward, endpoints.client, endpoints.vip, case.segment)?;
        let mut plan = plan(&frame, case.flows, endpoints.service_mask);
        plan.grows_behind = u32::from(case.syn_cookies);
        let verdict = if case.wall == Wall::Denies {
            Verdict::DropDenied
        } else if case.syn_cookies {
            // The one flow that may be half open, of nobody else's.
            let somebody = "11.0.0.1:32768".parse()?;
            kernel.run(&self::frame(inward, somebody, endpoints.vip, case.segment)?)?;
            Verdict::AnsweredSynCookie
        } else if case.is_ours {
            Verdict::Steered
        } else {
            Verdict::PassNotOurs
        };
        let generator = Generator::new(&mut kernel, plan, frame)?;
        Ok(Self {
            kernel,
            generator,
            verdict,
        })
    }

    /// Another generator in front of the same program, of flows of another client.
    pub(super) fn another(&mut self, case: &Case, client: &str) -> Result<Generator> {
        let family = usize::from(case.is_v6);
        let endpoints = Endpoints {
            client: client.parse()?,
            vip: VIP[family].parse()?,
            service_mask: 0,
        };
        establish(case, &mut self.kernel, endpoints)?;
        let inward = (MAC_CLIENT, MAC_BALANCER);
        let frame = frame(inward, endpoints.client, endpoints.vip, case.segment)?;
        let plan = plan(&frame, case.flows, 0);
        Generator::new(&mut self.kernel, plan, frame)
    }

    /// The generator alone, for a thread of its own.
    pub(super) fn into_generator(self) -> (Kernel, Generator) {
        (self.kernel, self.generator)
    }

    /// The program under test.
    pub(super) fn steer(&mut self) -> Result<&mut Xdp> {
        self.kernel.steer()
    }

    /// Nanoseconds for each of `repeat` packets, less what the generator takes.
    pub(super) fn net_nanos(&mut self, repeat: u32) -> Result<f64> {
        let base = self.nanos(repeat, false)?;
        Ok(self.nanos(repeat, true)? - base)
    }

    fn nanos(&mut self, repeat: u32, with_target: bool) -> Result<f64> {
        let before = self.kernel.counters()?;
        let nanos = self.generator.nanos(repeat, with_target)?;
        let after = self.kernel.counters()?;
        let counted: u64 = after.verdicts.iter().sum::<u64>() - before.verdicts.iter().sum::<u64>();
        let expected = if with_target { u64::from(repeat) } else { 0 };
        ensure!(
            counted == expected,
            "{counted} packets met the program instead of {expected}"
        );
        let verdict = self.verdict as usize;
        let met = after.verdicts[verdict] - before.verdicts[verdict];
        ensure!(
            met == expected,
            "{met} of {expected} packets were \"{}\"",
            self.verdict.label()
        );
        Ok(nanos)
    }
}

impl Generator {
    fn new(kernel: &mut Kernel, plan: Plan, frame: Vec<u8>) -> Result<Self> {
        let mut lab = EbpfLoader::new().load(LAB)?;
        program(&mut lab, "generate")?.load()?;
        let target = kernel.steer()?.fd()?.try_clone()?;
        let mut targets: ProgramArray<&mut MapData> =
            lab.map_mut("TARGET").context("no map TARGET")?.try_into()?;
        targets.set(0, &target, 0)?;
        Ok(Self { lab, plan, frame })
    }

    /// Nanoseconds for each of `repeat` packets, with or without the program under test.
    pub(super) fn nanos(&mut self, repeat: u32, with_target: bool) -> Result<f64> {
        let plan = Plan {
            calls_target: u32::from(with_target),
            ..self.plan
        };
        let mut plans: Array<&mut MapData, Plain<Plan>> = self
            .lab
            .map_mut("PLAN")
            .context("no map PLAN")?
            .try_into()?;
        plans.set(0, kernel::plain(plan), 0)?;
        let ran = program(&mut self.lab, "generate")?.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            repeat,
            ..TestRunOptions::default()
        })?;
        Ok(ran.duration.as_nanos() as f64)
    }
}

fn establish(case: &Case, kernel: &mut Kernel, endpoints: Endpoints) -> Result<()> {
    if !(case.established && case.is_ours) {
        return Ok(());
    }
    let handshake = Handshake {
        endpoints,
        forwarding: case.forwarding,
        inward: (MAC_CLIENT, MAC_BALANCER),
        outward: (MAC_BACKEND, MAC_BALANCER),
        action: TX,
    };
    if case.segment.is_udp() {
        // A second datagram is as good as a handshake.
        for flow in (0..case.flows).chain(0..case.flows) {
            let (client, vip) = (endpoints.client_of(flow), endpoints.vip_of(flow));
            kernel.run(&frame(handshake.inward, client, vip, case.segment)?)?;
        }
        return Ok(());
    }
    for flow in 0..case.flows {
        handshake.establish(flow, |frame, _| kernel.run(frame))?;
    }
    Ok(())
}

/// The tables of a case. Backends of the same address have the same next hop.
fn fixture(case: &Case, endpoints: &Endpoints, first: SocketAddr) -> Fixture {
    let mut fixture = Fixture::with_limits(case.limit, 65_536);
    fixture.tables.settings.features = case.features();
    for service in 0..case.services {
        let backends: Vec<_> = (0..case.backends)
            .map(|number| SocketAddr::new(next(first.ip(), number), first.port() + service))
            .collect();
        let vip = endpoints.vip_of(u64::from(service));
        fixture.service(vip, case.protocol(), case.forwarding, &backends);
    }
    let server_ids = &mut fixture.tables.server_ids;
    for service in fixture.tables.services.values_mut() {
        service.scheduler = case.scheduler as u8;
        service.affinity = case.affinity;
        service.syn_cookies = u32::from(case.syn_cookies);
        if case.segment == ONE_PACKET {
            service.flags |= service_flags::ONE_PACKET;
        }
        if case.segment == QUIC {
            service.server_id_length = SERVER_ID.len() as u8;
            let mut id = [0; 8];
            id[..SERVER_ID.len()].copy_from_slice(&SERVER_ID);
            let key = ServerIdKey {
                id: [u64::from_ne_bytes(id), 0],
                service: service.id,
                reserved: 0,
            };
            server_ids.insert(key, 1);
        }
    }
    let sources = if case.forwarding == Forwarding::FullNat {
        SOURCES
    } else {
        0
    };
    for number in 0..sources {
        let address = next(first.ip(), 0x0001_0000 + u32::from(number));
        fixture
            .tables
            .add_source(address.into(), |port| port >= 1024);
    }
    for backend in fixture.tables.backends.iter_mut().skip(1) {
        backend.next_hop = (backend.next_hop - 1) % case.backends + 1;
        backend.sources = sources;
        backend.tunnel_source = next(first.ip(), 0x0100_0000).into();
        backend.tunnel_source_mask = 0xffff_0000;
    }
    deny(case, endpoints.client.ip(), &mut fixture);
    fixture
}

/// Denies many, and whom the case says.
fn deny(case: &Case, client: IpAddr, fixture: &mut Fixture) {
    let family = usize::from(case.is_v6);
    let Ok(first) = DENIED[family].parse() else {
        return;
    };
    let whole = if case.is_v6 { 128 } else { 32 };
    // Every 59th address, or /48: they spread over as many /24s as lists do.
    let far = (0..PREFIXES).map(|number| match next(first, number * 59) {
        IpAddr::V4(ip) => Prefix::new(ip.into(), 32),
        IpAddr::V6(ip) => Prefix::new(Ipv6Addr::from(u128::from(ip) << 80).into(), 48),
    });
    let near = match case.wall {
        Wall::Off => return,
        Wall::Limits => return limit(Kind::Connections, fixture),
        Wall::Packets => return limit(Kind::Packets, fixture),
        Wall::Locks => {
            let tables = &mut fixture.tables;
            return tables.firewall.lock_down(&[], &[]);
        }
        Wall::Far | Wall::Lists => None,
        Wall::Near => Some(next(client, 77)),
        Wall::Denies => Some(client),
    };
    let near = near.map(|ip| Prefix::new(ip, whole));
    let all: Vec<_> = far
        .chain(near)
        .map(|prefix| (prefix, Action::Deny))
        .collect();
    let tables = &mut fixture.tables;
    if case.wall == Wall::Lists {
        tables.firewall.set_service(LISTS, &all);
        for service in tables.services.values_mut() {
            service.lists = LISTS;
        }
        return;
    }
    tables.firewall.set(tables.settings.hash_seed, 1, &all);
}

/// The scope of a service's own lists.
const LISTS: u32 = 1;

/// A limit that nobody reaches.
fn limit(kind: Kind, fixture: &mut Fixture) {
    let (rate, sources) = (Rate::new(MOST, MOST), Sources::new(32, 64, false));
    fixture.tables.firewall.set_limit(kind, rate, sources);
}

/// Where those that are denied begin; the second is shifted to its place.
const DENIED: [&str; 2] = ["61.0.0.0", "::2a00:0:0"];

/// Enough for more flows than one address has ports.
const SOURCES: u16 = 3;

fn next(first: IpAddr, number: u32) -> IpAddr {
    match first {
        IpAddr::V4(ip) => (u32::from(ip) + number).to_be_bytes().into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) + u128::from(number)).into(),
    }
}
