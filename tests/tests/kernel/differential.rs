//! The same engine in the kernel and on the host must do the same, byte for byte: frames of
//! generated conversations, a third of them broken, while backends go down and come back.
//!
//! `LB_SEED=n` replays one seed. Both sides run by the same clock, so flows expire on both.

use std::{env, net::SocketAddr, thread, time::Duration};

use lb_common::{
    abi::{
        BackendCounters, Counters, Forwarding, OnBackendDown, OnNoBackend, Protocol, Ticks,
        VERDICT_CAPACITY, backend_flags,
    },
    engine::process,
    flow::{FlowEntry, Place, find},
    host::{Fixture, HostFrame, HostTables, INGRESS, MAC_BALANCER},
    tables::{FlowTable, Tables},
    verdict::{Disposition, Event, Verdict},
};
use lb_packets::{Sent, Target, Traffic, hexdump, verify};
use lb_tests::{
    kernel::Kernel,
    rows::{run::action_of, world::Family},
};
use nix::time::{ClockId, clock_gettime};

/// The frames of one seed.
const FRAMES: usize = 50_000;
/// Frames between two changes of the tables and comparisons of the counters.
const ROUND: usize = 500;

/// Twelve services of every kind that there is, in small tables, so that flows are evicted too.
fn world(flows: u32, half_open: u32, idle_seconds: u32) -> (Fixture, Vec<Target>) {
    let mut fixture = Fixture::with_limits(flows, half_open);
    let mut targets = Vec::new();
    for family in [Family::V4, Family::V6] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            // The first two share their backends.
            for (service, forwarding, first) in [
                (10, Forwarding::Nat, 11),
                (11, Forwarding::Nat, 11),
                (12, Forwarding::DsrL2, 21),
            ] {
                let address = family.service(service, 80);
                let backends: Vec<SocketAddr> = (first..first + 3)
                    .map(|host| family.backend(host, 80))
                    .collect();
                fixture.service(address, protocol, forwarding, &backends);
                targets.push(Target {
                    address,
                    is_tcp: protocol == Protocol::Tcp,
                    is_answered: forwarding == Forwarding::Nat,
                });
            }
        }
    }
    for (id, backend) in fixture.tables.backends.iter_mut().enumerate().skip(1) {
        backend.idle_timeout = Ticks::from_seconds(idle_seconds).0;
        backend.on_backend_down = match id % 3 {
            0 => OnBackendDown::Reschedule,
            1 => OnBackendDown::Reset,
            _ => OnBackendDown::Hold,
        } as u8;
    }
    // Some backends are behind another interface, with a small MTU.
    for hop in fixture.tables.next_hops.iter_mut().skip(1).step_by(5) {
        (hop.ifindex, hop.mtu) = (7, 600);
    }
    (fixture, targets)
}

/// What an agent might do meanwhile.
fn change(tables: &mut HostTables, rng: &mut fastrand::Rng) {
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

/// The kernel's coarse clock, which the program reads too.
fn nanos() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// The tick that it is now and will be for a while.
fn steady_tick() -> Ticks {
    const MARGIN: u64 = 24_000_000;
    const TICK: u64 = 1 << Ticks::SHIFT;
    loop {
        let now = nanos();
        if TICK - now % TICK > MARGIN {
            return Ticks::from_nanos(now);
        }
        thread::sleep(Duration::from_millis(4));
    }
}

struct Both {
    kernel: Kernel,
    tables: HostTables,
    verdicts: [u64; VERDICT_CAPACITY],
    /// What the kernel had counted when both sides began.
    before: (Counters, Vec<BackendCounters>),
    restarts: usize,
    seed: u64,
}

impl Both {
    fn new(tables: HostTables, seed: u64) -> Self {
        let kernel = Kernel::load(&tables).unwrap();
        Self {
            before: counted(&kernel, &tables),
            kernel,
            tables,
            verdicts: [0; VERDICT_CAPACITY],
            restarts: 0,
            seed,
        }
    }

    /// Runs a frame on both sides and returns the verdict and the frame that came out; nothing if
    /// the clock moved on meanwhile, which makes both begin anew.
    fn run(&mut self, sent: &Sent, number: usize) -> Option<(Verdict, Vec<u8>)> {
        let tick = steady_tick();
        let ran = self.kernel.run(&sent.frame).unwrap();
        if Ticks::from_nanos(nanos()) != tick {
            self.start_over();
            return None;
        }
        self.tables.now.set(tick);
        let mut host = HostFrame::new(&sent.frame, INGRESS);
        let outcome = process(&mut host, &self.tables);
        let action = action_of(outcome.verdict, outcome.egress, INGRESS);
        self.verdicts[outcome.verdict as usize] += 1;
        if ran.action != action || ran.frame != host.bytes() {
            panic!(
                "host and kernel differ: seed {}, frame {number}, {:?}\n in\n{} host: action \
                 {action}\n{} kernel: action {}\n{}",
                self.seed,
                outcome.verdict,
                hexdump(&sent.frame),
                hexdump(host.bytes()),
                ran.action,
                hexdump(&ran.frame)
            );
        }
        Some((outcome.verdict, ran.frame))
    }

    /// Empties the flow tables and counts from 0.
    fn start_over(&mut self) {
        self.restarts += 1;
        self.kernel.forget_flows(&self.tables).unwrap();
        let tables = &self.tables;
        for table in [FlowTable::Established, FlowTable::HalfOpen] {
            while let Some(flow) = first_flow(tables, table) {
                let place = Place::of(
                    &tables.settings,
                    flow.client(),
                    flow.client_port(),
                    flow.protocol(),
                );
                let found = find(tables, table, place, |one| std::ptr::eq(one, flow));
                found.unwrap().release(tables);
            }
        }
        tables.cursors.borrow_mut().clear();
        tables.counters.borrow_mut().clear();
        tables.events.borrow_mut().clear();
        self.verdicts = [0; VERDICT_CAPACITY];
        self.before = counted(&self.kernel, &self.tables);
    }

    fn compare_counters(&self) {
        let seed = self.seed;
        let (counters, backends) = counted(&self.kernel, &self.tables);
        let (before, backends_before) = &self.before;
        for verdict in Verdict::ALL {
            let index = verdict as usize;
            let found = counters.verdicts[index] - before.verdicts[index];
            assert_eq!(found, self.verdicts[index], "seed {seed}, {verdict:?}");
        }
        for event in Event::ALL {
            let index = event as usize;
            let found = counters.events[index] - before.events[index];
            assert_eq!(found, self.tables.event(event), "seed {seed}, {event:?}");
        }
        let host = self.tables.counters.borrow();
        for (id, (now, before)) in backends.iter().zip(backends_before).enumerate() {
            let expected = host.get(&(id as u32)).copied().unwrap_or_default();
            let found = BackendCounters {
                packets: now.packets - before.packets,
                bytes: now.bytes - before.bytes,
                connections: now.connections - before.connections,
                reply_packets: now.reply_packets - before.reply_packets,
                reply_bytes: now.reply_bytes - before.reply_bytes,
            };
            assert_eq!(found, expected, "seed {seed}, backend {id}");
        }
    }
}

fn counted(kernel: &Kernel, tables: &HostTables) -> (Counters, Vec<BackendCounters>) {
    let backends = (0..tables.backends.len() as u32).map(|id| kernel.backend_counters(id).unwrap());
    (kernel.counters().unwrap(), backends.collect())
}

fn first_flow(tables: &HostTables, table: FlowTable) -> Option<&FlowEntry> {
    let mask = match table {
        FlowTable::Established => tables.settings.established_mask,
        FlowTable::HalfOpen => tables.settings.half_open_mask,
    };
    (0..=mask).find_map(|index| tables.bucket(table, index)?.flows().next())
}

/// Whatever leaves whole or as an answer is sound, whatever passes is as it came.
fn judge(sent: &Sent, verdict: Verdict, out: &[u8], seed: u64, number: usize) {
    let context = || {
        format!(
            "seed {seed}, frame {number}, {verdict:?}\n in\n{} out\n{}",
            hexdump(&sent.frame),
            hexdump(out)
        )
    };
    match verdict.disposition() {
        Disposition::Pass => assert_eq!(out, sent.frame, "{}", context()),
        Disposition::Drop => {}
        Disposition::Emit => {
            let is_answer = !matches!(verdict, Verdict::Steered | Verdict::SteeredReply);
            if is_answer || verify(&sent.frame).is_ok() {
                verify(out).unwrap_or_else(|fault| panic!("{fault}: {}", context()));
            }
        }
    }
}

fn compare(default_seed: u64, flows: u32, half_open: u32, idle_seconds: u32) {
    let seed = env::var("LB_SEED").map_or(default_seed, |text| text.parse().unwrap());
    println!("seed {seed} (set LB_SEED to replay another)");
    let (fixture, targets) = world(flows, half_open, idle_seconds);
    let mut both = Both::new(fixture.tables, seed);
    let mut totals = [0; VERDICT_CAPACITY];
    let mut traffic = Traffic::new(seed, targets, MAC_BALANCER);
    let mut rng = fastrand::Rng::with_seed(!seed);
    for number in 0..FRAMES {
        if number % ROUND == 0 {
            both.compare_counters();
            change(&mut both.tables, &mut rng);
            both.kernel.refill(&both.tables).unwrap();
        }
        let sent = traffic.send();
        let Some((verdict, out)) = both.run(&sent, number) else {
            continue;
        };
        totals[verdict as usize] += 1;
        judge(&sent, verdict, &out, seed, number);
        if verdict == Verdict::Steered && sent.is_whole {
            traffic.learn(sent.talk, &out);
        }
    }
    both.compare_counters();
    let table: Vec<String> = Verdict::ALL
        .into_iter()
        .map(|verdict| format!("{} {}", totals[verdict as usize], verdict.label()))
        .chain(Event::ALL.map(|event| format!("{} {}", both.tables.event(event), event.label())))
        .collect();
    println!(
        "{FRAMES} frames, {} restarts as the clock moved within a frame\n  {}",
        both.restarts,
        table.join("\n  ")
    );
    assert!(both.restarts * 500 < FRAMES, "the machine is too busy");
    // Traffic that only ever passes would show nothing.
    for verdict in Verdict::ALL {
        let cannot_happen = matches!(
            verdict,
            Verdict::DropTableContended
                | Verdict::DropNoRoom
                | Verdict::DropUnknownBackend
                | Verdict::DropAnswerLimited
                | Verdict::SteeredLocal
                | Verdict::DropReflected
                | Verdict::SteeredError
                | Verdict::AnsweredEcho
                | Verdict::AnsweredResetNoSourcePort
                | Verdict::AnsweredUnreachableNoSourcePort
                | Verdict::PassProtocol
                | Verdict::PassMpls
                | Verdict::PassPppoe
                | Verdict::PassArp
                | Verdict::PassNotIp
                | Verdict::DropFragmentMismatch
                | Verdict::DropErrorNoFlow
                | Verdict::DropTooBig
                | Verdict::DropNoSourcePort
        );
        assert!(
            cannot_happen || totals[verdict as usize] > 0,
            "{} never happened",
            verdict.label()
        );
    }
}

#[test]
fn seed_1_in_roomy_tables() {
    compare(1, 4096, 1024, 900);
}

#[test]
fn seed_2_in_tables_that_overflow() {
    compare(2, 64, 32, 900);
}

#[test]
fn seed_3_with_flows_that_expire() {
    compare(3, 256, 64, 1);
}
