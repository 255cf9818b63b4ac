//! The same engine in the kernel and on the host must do the same, byte for byte: frames of
//! generated conversations, a third of them broken, while backends go down and come back.
//!
//! `LB_SEED=n` replays one seed. Both sides run by the same clock, so flows expire on both.

mod world;

use std::{env, thread, time::Duration};

use lb_common::{
    abi::{BackendCounters, Counters, Ticks, VERDICT_CAPACITY, features},
    engine::process,
    host::{HostFrame, HostTables, INGRESS, MAC_BALANCER},
    verdict::{Disposition, Event, Verdict},
};
use lb_packets::{Fault, Sent, Traffic, decapsulate, hexdump, quoted, verify};
use lb_tests::{kernel::Kernel, rows::run::action_of};
use nix::time::{ClockId, clock_gettime};

use world::{Kind, ROOMY, change};

/// The frames of one seed.
const FRAMES: usize = 120_000;
/// Frames between two changes of the tables and comparisons of the counters.
const ROUND: usize = 500;
/// Rounds after which the flow tables are emptied: source ports of flows that were displaced or
/// expired are given back by the agent, which is not here.
const LIFE: usize = 10;

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
    kind: Kind,
    kernel: Kernel,
    tables: HostTables,
    verdicts: [u64; VERDICT_CAPACITY],
    /// What the kernel had counted when both sides began.
    before: (Counters, Vec<BackendCounters>),
    /// Where its rings stood then, or at the latest comparison, and how much was told in all.
    told_before: Vec<u64>,
    told: usize,
    restarts: usize,
    seed: u64,
}

impl Both {
    fn new(kind: Kind, tables: HostTables, seed: u64) -> Self {
        let kernel = Kernel::load(&tables).unwrap();
        Self {
            kind,
            before: counted(&kernel, &tables),
            told_before: kernel.told_so_far().unwrap(),
            told: 0,
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
            self.restarts += 1;
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

    /// Forgets all flows and counts from 0.
    fn start_over(&mut self) {
        let (mut fresh, _) = self.kind.build();
        fresh.backends = std::mem::take(&mut self.tables.backends);
        fresh.services = std::mem::take(&mut self.tables.services);
        fresh.checks = std::mem::take(&mut self.tables.checks);
        fresh.interfaces = std::mem::take(&mut self.tables.interfaces);
        fresh.firewall = std::mem::take(&mut self.tables.firewall);
        self.tables = fresh;
        self.kernel.forget_flows(&self.tables).unwrap();
        self.verdicts = [0; VERDICT_CAPACITY];
        self.before = counted(&self.kernel, &self.tables);
        self.told_before = self.kernel.told_so_far().unwrap();
    }

    fn compare_counters(&mut self) {
        let seed = self.seed;
        let found = self.kernel.told_since(&self.told_before).unwrap();
        self.told_before = self.kernel.told_so_far().unwrap();
        let mut expected = self.tables.told.take();
        expected.sort_unstable();
        assert!(found == expected, "seed {seed}: other flows are told of");
        self.told += found.len();
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
                accepted: now.accepted - before.accepted,
                refused: now.refused - before.refused,
                unanswered: now.unanswered - before.unanswered,
            };
            assert_eq!(found, expected, "seed {seed}, backend {id}");
        }
    }
}

fn counted(kernel: &Kernel, tables: &HostTables) -> (Counters, Vec<BackendCounters>) {
    let backends = (0..tables.backends.len() as u32).map(|id| kernel.backend_counters(id).unwrap());
    (kernel.counters().unwrap(), backends.collect())
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
    let demand_sound = |frame: &[u8]| {
        verify(frame).unwrap_or_else(|fault| panic!("{fault}: {}", context()));
    };
    match verdict.disposition() {
        Disposition::Pass => assert_eq!(out, sent.frame, "{}", context()),
        Disposition::Drop => return,
        Disposition::Emit => {}
    }
    let goes_on = matches!(
        verdict,
        Verdict::Steered | Verdict::SteeredReply | Verdict::SteeredError | Verdict::SteeredCheck
    );
    let was_sound = verify(&sent.frame).is_ok();
    // An echo's answer has the question's checksum, corrected.
    if (goes_on || verdict == Verdict::AnsweredEcho) && !was_sound {
        return;
    }
    if verdict.disposition() == Disposition::Emit {
        demand_sound(out);
    }
    if goes_on
        && decapsulate(&sent.frame).is_none()
        && let Some(inner) = decapsulate(out)
    {
        demand_sound(&inner);
    }
    if verdict == Verdict::SteeredError
        && let Some(quote) = quoted(&sent.frame)
        && verify(&quote).is_ok()
    {
        let inner = decapsulate(out);
        let quote = quoted(inner.as_deref().unwrap_or(out));
        let quote = quote.unwrap_or_else(|| panic!("it quotes nothing: {}", context()));
        // Eight bytes of TCP do not reach the checksum; nobody looks at it in a quote.
        match verify(&quote) {
            Ok(_) | Err(Fault::Checksum { of: "TCP", .. }) => {}
            Err(fault) => panic!("quoted: {fault}: {}", context()),
        }
    }
}

fn compare(default_seed: u64, kind: Kind) {
    let seed = env::var("LB_SEED").map_or(default_seed, |text| text.parse().unwrap());
    println!("seed {seed} (set LB_SEED to replay another)");
    let (tables, targets) = kind.build();
    let mut both = Both::new(kind, tables, seed);
    let mut totals = [0; VERDICT_CAPACITY];
    let mut traffic = Traffic::new(seed, targets, MAC_BALANCER);
    let mut rng = fastrand::Rng::with_seed(!seed);
    for number in 0..FRAMES {
        if number % ROUND == 0 {
            both.compare_counters();
            change(&mut both.tables, &mut rng);
            both.kernel.refill(&both.tables).unwrap();
        }
        if number % (ROUND * LIFE) == 0 {
            both.start_over();
        }
        let sent = traffic.send();
        let Some((verdict, out)) = both.run(&sent, number) else {
            continue;
        };
        totals[verdict as usize] += 1;
        judge(&sent, verdict, &out, seed, number);
        if verdict == Verdict::Steered && sent.is_whole {
            traffic.sent(sent.talk, &out);
        } else if verdict == Verdict::AnsweredSynCookie && sent.is_whole {
            traffic.got_cookie(sent.talk, &out);
        } else if verdict == Verdict::SteeredReply && sent.is_whole {
            traffic.got(sent.talk, &out);
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
    println!("  {} flows were told of", both.told);
    assert_eq!(both.told > 0, kind.features & features::SYNC != 0);
    // Traffic that only ever passes would show nothing.
    let impossible = kind.impossible();
    let wrong: Vec<_> = Verdict::ALL
        .into_iter()
        .filter(|verdict| {
            let happened = totals[*verdict as usize] > 0;
            happened == impossible.iter().any(|(one, _)| one == verdict)
        })
        .map(Verdict::label)
        .collect();
    assert!(
        wrong.is_empty(),
        "never happened, or did though it cannot: {wrong:?}"
    );
}

#[test]
fn seed_1_in_roomy_tables() {
    compare(1, ROOMY);
}

#[test]
fn seed_2_in_tables_that_overflow() {
    let kind = Kind {
        flows: 64,
        half_open: 32,
        ..ROOMY
    };
    compare(2, kind);
}

#[test]
fn seed_3_with_flows_that_expire() {
    let kind = Kind {
        flows: 256,
        half_open: 64,
        idle_seconds: 1,
        ..ROOMY
    };
    compare(3, kind);
}

#[test]
fn seed_4_with_nothing_but_nat() {
    let kind = Kind {
        features: features::BOTH_IP_VERSIONS | features::NAT,
        ..ROOMY
    };
    compare(4, kind);
}

#[test]
fn seed_5_with_direct_return_alone() {
    let kind = Kind {
        features: features::BOTH_IP_VERSIONS
            | features::TUNNEL
            | features::HASH
            | features::ONE_PACKET,
        ..ROOMY
    };
    compare(5, kind);
}

#[test]
fn seed_6_where_no_icmp_error_may_be_sent() {
    let kind = Kind {
        errors_per_tick: 0,
        ..ROOMY
    };
    compare(6, kind);
}

#[test]
fn seed_7_where_syns_are_answered_with_cookies() {
    let kind = Kind {
        syn_cookies: 1,
        ..ROOMY
    };
    compare(7, kind);
}
