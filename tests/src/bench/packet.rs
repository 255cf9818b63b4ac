//! Nanoseconds per packet by `BPF_PROG_TEST_RUN`.
//!
//! The kernel does not reset the frame between repetitions, so each one begins with the generator,
//! which writes a fresh frame and goes on with the program under test by a tail call. What the
//! generator costs alone is measured in the same round and taken off.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, ProgramArray},
    programs::{TestRun, TestRunOptions},
};
use lb_common::{
    abi::{Forwarding, Protocol, STEER_PROGRAM},
    host::{Fixture, MAC_BACKEND, MAC_BALANCER, MAC_CLIENT},
    lab::{Plan, flow_offsets},
};
use serde_json::{Value, json};

use crate::{
    bench::template::{Segment, plan, tcp_frame},
    kernel::{self, Kernel, LAB, Plain, program},
};

/// A case to measure.
struct Case {
    name: &'static str,
    segment: Segment,
    forwarding: Forwarding,
    is_v6: bool,
    /// Flows of which packets are sent in turn.
    flows: u64,
    /// Whether the flows are established first.
    established: bool,
    /// Whether packets are for the service at all.
    is_ours: bool,
    /// The bar of the project, in nanoseconds.
    bar: Option<f64>,
}

const fn established(name: &'static str, flows: u64, bar: f64) -> Case {
    Case {
        name,
        segment: Segment::Ack(5001),
        forwarding: Forwarding::Nat,
        is_v6: false,
        flows,
        established: true,
        is_ours: true,
        bar: Some(bar),
    }
}

const CASES: [Case; 9] = [
    established("nat established, 1 flow", 1, 40.0),
    established("nat established, 65,536 flows", 65_536, 90.0),
    Case {
        is_v6: true,
        ..established("nat established IPv6, 1 flow", 1, 40.0)
    },
    Case {
        is_v6: true,
        ..established("nat established IPv6, 65,536 flows", 65_536, 90.0)
    },
    Case {
        forwarding: Forwarding::DsrL2,
        ..established("dsr-l2 established, 65,536 flows", 65_536, 90.0)
    },
    Case {
        segment: Segment::Syn,
        established: false,
        ..established("SYN, 65,536 flows sent again", 65_536, 230.0)
    },
    Case {
        segment: Segment::Syn,
        established: false,
        ..established("SYN, every one a new flow", 1 << 40, 230.0)
    },
    Case {
        is_ours: false,
        ..established("not ours (pass)", 1, 20.0)
    },
    Case {
        is_ours: false,
        is_v6: true,
        ..established("not ours IPv6 (pass)", 1, 20.0)
    },
];

const CLIENT: [&str; 2] = ["10.64.0.1:32768", "[fd00:64::1]:32768"];
const VIP: [&str; 2] = ["203.0.113.10:80", "[2001:db8::10]:80"];
const FOREIGN: [&str; 2] = ["203.0.113.99:81", "[2001:db8::99]:81"];
const BACKENDS: [[&str; 3]; 2] = [
    ["10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080"],
    ["[fd00::11]:8080", "[fd00::12]:8080", "[fd00::13]:8080"],
];

/// Measures every case and returns rows of name, median, spread and bar.
pub fn run(repeat: u32, rounds: usize) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for case in &CASES {
        let mut rig = Rig::new(case)?;
        let mut nets = Vec::new();
        for _ in 0..rounds {
            let base = rig.nanos(repeat, false)?;
            nets.push(rig.nanos(repeat, true)? - base);
        }
        nets.sort_by(f64::total_cmp);
        rows.push(json!({
            "case": case.name,
            "net_ns": nets[nets.len() / 2],
            "min": nets[0],
            "max": nets[nets.len() - 1],
            "bar_ns": case.bar,
        }));
    }
    Ok(rows)
}

struct Rig {
    kernel: Kernel,
    lab: Ebpf,
    plan: Plan,
    frame: Vec<u8>,
}

impl Rig {
    fn new(case: &Case) -> Result<Self> {
        let family = usize::from(case.is_v6);
        let address = |text: &str| text.parse::<SocketAddr>().context("a constant address");
        let mut fixture = Fixture::with_limits(262_144, 65_536);
        let backends = BACKENDS[family].map(address);
        let backends = backends.into_iter().collect::<Result<Vec<_>>>()?;
        let vip = address(VIP[family])?;
        fixture.service(vip, Protocol::Tcp, case.forwarding, &backends);
        let mut kernel = Kernel::load(&fixture.tables)?;
        let client = address(CLIENT[family])?;
        if case.established && case.is_ours {
            for flow in 0..case.flows {
                establish(&mut kernel, case, source_of(client, flow), vip, &backends)?;
            }
        }
        let to = if case.is_ours {
            vip
        } else {
            address(FOREIGN[family])?
        };
        let frame = tcp_frame((MAC_CLIENT, MAC_BALANCER), client, to, case.segment)?;
        let plan = plan(&frame, case.flows, case.is_v6, true);
        let mut lab = EbpfLoader::new().load(LAB)?;
        program(&mut lab, "generate")?.load()?;
        let target = kernel.program(STEER_PROGRAM)?.fd()?.try_clone()?;
        let mut targets: ProgramArray<&mut MapData> =
            lab.map_mut("TARGET").context("no map TARGET")?.try_into()?;
        targets.set(0, &target, 0)?;
        Ok(Self {
            kernel,
            lab,
            plan,
            frame,
        })
    }

    /// Nanoseconds for each of `repeat` packets, with or without the program under test.
    fn nanos(&mut self, repeat: u32, with_target: bool) -> Result<f64> {
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
        let before = self.kernel.counters()?;
        let ran = program(&mut self.lab, "generate")?.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            repeat,
            ..TestRunOptions::default()
        })?;
        let after = self.kernel.counters()?;
        let counted: u64 = after.verdicts.iter().sum::<u64>() - before.verdicts.iter().sum::<u64>();
        let expected = if with_target { u64::from(repeat) } else { 0 };
        ensure!(
            counted == expected,
            "{counted} packets met the program instead of {expected}"
        );
        Ok(ran.duration.as_nanos() as f64)
    }
}

/// The source that the generator gives a flow.
fn source_of(client: SocketAddr, flow: u64) -> SocketAddr {
    let (port, offset) = flow_offsets(flow);
    let ip = match client.ip() {
        std::net::IpAddr::V4(ip) => (u32::from(ip) ^ offset).to_be_bytes().into(),
        std::net::IpAddr::V6(ip) => {
            std::net::Ipv6Addr::from(u128::from(ip) ^ u128::from(offset)).into()
        }
    };
    SocketAddr::new(ip, client.port() ^ port)
}

fn establish(
    kernel: &mut Kernel,
    case: &Case,
    client: SocketAddr,
    vip: SocketAddr,
    backends: &[SocketAddr],
) -> Result<()> {
    let inward = (MAC_CLIENT, MAC_BALANCER);
    let opened = kernel.run(&tcp_frame(inward, client, vip, Segment::Syn)?)?;
    if case.forwarding == Forwarding::Nat {
        // The MAC tells which backend the SYN went to.
        let chosen = usize::from(opened.frame[4]) - 1;
        let outward = (MAC_BACKEND, MAC_BALANCER);
        kernel.run(&tcp_frame(
            outward,
            backends[chosen],
            client,
            Segment::SynAck,
        )?)?;
    }
    let ran = kernel.run(&tcp_frame(inward, client, vip, Segment::Ack(5001))?)?;
    ensure!(ran.action == 3, "a flow of {client} was not steered");
    Ok(())
}
