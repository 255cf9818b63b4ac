//! The same engine in the kernel and on the host must do the same, byte for byte: frames of
//! generated conversations, a third of them broken, while backends go down and come back.
//!
//! `LB_SEED=n` replays one seed. Both sides run by the same clock, so flows expire on both.

use std::{env, net::SocketAddr, thread, time::Duration};

use lb_common::{
    abi::{
        BackendCounters, EVENT_CAPACITY, Forwarding, OnBackendDown, OnNoBackend, Protocol, Ticks,
        VERDICT_CAPACITY, backend_flags,
    },
    engine::process,
    host::{Fixture, HostFrame, HostTables, INGRESS, MAC_BALANCER},
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
    seed: u64,
}

impl Both {
    /// Runs a frame on both sides and returns the verdict and the frame that came out.
    fn run(&mut self, sent: &Sent, number: usize) -> (Verdict, Vec<u8>) {
        let tick = steady_tick();
        self.tables.now.set(tick);
        let mut host = HostFrame::new(&sent.frame, INGRESS);
        let outcome = process(&mut host, &self.tables);
        let action = action_of(outcome.verdict, outcome.egress, INGRESS);
        let ran = self.kernel.run(&sent.frame).unwrap();
        assert_eq!(Ticks::from_nanos(nanos()), tick, "a frame took too long");
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
        (outcome.verdict, ran.frame)
    }

    fn compare_counters(&self) {
        let counters = self.kernel.counters().unwrap();
        assert_eq!(counters.verdicts, self.verdicts, "seed {}", self.seed);
        let mut events = [0; EVENT_CAPACITY];
        for event in Event::ALL {
            events[event as usize] = self.tables.event(event);
        }
        assert_eq!(counters.events, events, "seed {}", self.seed);
        let host = self.tables.counters.borrow();
        for id in 0..self.tables.backends.len() as u32 {
            let expected: BackendCounters = host.get(&id).copied().unwrap_or_default();
            let found = self.kernel.backend_counters(id).unwrap();
            assert_eq!(found, expected, "seed {}, backend {id}", self.seed);
        }
    }
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
    let mut both = Both {
        kernel: Kernel::load(&fixture.tables).unwrap(),
        tables: fixture.tables,
        verdicts: [0; VERDICT_CAPACITY],
        seed,
    };
    let mut traffic = Traffic::new(seed, targets, MAC_BALANCER);
    let mut rng = fastrand::Rng::with_seed(!seed);
    for number in 0..FRAMES {
        if number % ROUND == 0 {
            both.compare_counters();
            change(&mut both.tables, &mut rng);
            both.kernel.refill(&both.tables).unwrap();
        }
        let sent = traffic.send();
        let (verdict, out) = both.run(&sent, number);
        judge(&sent, verdict, &out, seed, number);
        if verdict == Verdict::Steered && sent.is_whole {
            traffic.learn(sent.talk, &out);
        }
    }
    both.compare_counters();
    let table: Vec<String> = Verdict::ALL
        .into_iter()
        .map(|verdict| format!("{} {}", both.verdicts[verdict as usize], verdict.label()))
        .chain(Event::ALL.map(|event| format!("{} {}", both.tables.event(event), event.label())))
        .collect();
    println!("{FRAMES} frames\n  {}", table.join("\n  "));
    // Traffic that only ever passes would show nothing.
    for verdict in Verdict::ALL {
        let cannot_happen = matches!(
            verdict,
            Verdict::DropTableContended
                | Verdict::DropNoRoom
                | Verdict::DropUnknownBackend
                | Verdict::DropAnswerLimited
        );
        assert!(
            cannot_happen || both.verdicts[verdict as usize] > 0,
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
