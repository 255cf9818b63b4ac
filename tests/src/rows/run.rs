//! Runs rows: on the host, where the clock can be moved, and in the kernel.

use std::collections::HashMap;

use anyhow::{Result, bail};
use lb_common::{
    abi::{BackendCounters, Settings, Ticks, features::MULTI_BUFFER},
    engine::process,
    host::{FIRST_BUFFER, Fixture, HostFrame, HostTables},
    trace,
    verdict::{Disposition, Event, Verdict},
};
use lb_packets::{difference, hexdump, verify};

use super::{Expect, Out, Row, Step, world::HERE};
use crate::{kernel::Kernel, watched::Watched};

/// `XDP_DROP` and so on.
pub mod action {
    /// The frame is gone.
    pub const DROP: u32 = 1;
    /// The frame goes to the kernel's stack.
    pub const PASS: u32 = 2;
    /// The frame leaves by the interface it came in by.
    pub const TX: u32 = 3;
    /// The frame leaves by another interface.
    pub const REDIRECT: u32 = 4;
}

/// How a frame left.
#[derive(Debug)]
pub struct Left {
    /// The verdict.
    pub verdict: Verdict,
    /// The XDP action.
    pub action: u32,
    /// Interface it left by; `None` where that cannot be known.
    pub egress: Option<u32>,
    /// The frame as it is now.
    pub frame: Vec<u8>,
}

/// The XDP action of an outcome on the host, as `lb-ebpf` chooses it.
#[must_use]
pub fn action_of(verdict: Verdict, egress: u32, ingress: u32) -> u32 {
    match verdict.disposition() {
        Disposition::Pass => action::PASS,
        Disposition::Drop => action::DROP,
        Disposition::Emit if egress == ingress => action::TX,
        Disposition::Emit => action::REDIRECT,
    }
}

/// Where rows run.
trait Side {
    fn send(&mut self, frame: &[u8], ingress: u32, headroom: Option<usize>) -> Result<Left>;
    fn change(&mut self, change: &dyn Fn(&mut HostTables)) -> Result<()>;
    fn wait(&mut self, seconds: u32) -> Result<()>;
    fn event(&self, event: Event) -> Result<u64>;
    fn backend(&self, id: u32) -> Result<BackendCounters>;
    fn tables(&self) -> Option<&HostTables>;
}

impl Side for HostTables {
    fn send(&mut self, frame: &[u8], ingress: u32, headroom: Option<usize>) -> Result<Left> {
        let mut host = match headroom {
            Some(headroom) => HostFrame::with_headroom(frame, ingress, headroom),
            None => HostFrame::new(frame, ingress),
        };
        let outcome = process(&mut host, self);
        let emits = outcome.verdict.disposition() == Disposition::Emit;
        Ok(Left {
            verdict: outcome.verdict,
            action: action_of(outcome.verdict, outcome.egress, ingress),
            egress: emits.then_some(outcome.egress),
            frame: host.bytes().to_vec(),
        })
    }

    fn change(&mut self, change: &dyn Fn(&mut HostTables)) -> Result<()> {
        change(self);
        Ok(())
    }

    fn wait(&mut self, seconds: u32) -> Result<()> {
        let now = self.now.get().0 + Ticks::from_seconds(seconds).0;
        self.now.set(Ticks(now));
        Ok(())
    }

    fn event(&self, event: Event) -> Result<u64> {
        Ok(HostTables::event(self, event))
    }

    fn backend(&self, id: u32) -> Result<BackendCounters> {
        Ok(self.counters.borrow().get(&id).copied().unwrap_or_default())
    }

    fn tables(&self) -> Option<&HostTables> {
        Some(self)
    }
}

/// A loaded program, and a copy of its tables to change.
struct KernelSide<'k> {
    kernel: &'k mut Kernel,
    tables: HostTables,
    events_before: Vec<u64>,
    backends_before: Vec<BackendCounters>,
}

impl<'k> KernelSide<'k> {
    fn new(kernel: &'k mut Kernel, tables: HostTables) -> Result<Self> {
        kernel.refill(&tables)?;
        kernel.forget_flows(&tables)?;
        let events_before = kernel.counters()?.events.to_vec();
        let backends_before = (0..tables.backends.len() as u32)
            .map(|id| kernel.backend_counters(id))
            .collect::<Result<_>>()?;
        Ok(Self {
            kernel,
            tables,
            events_before,
            backends_before,
        })
    }
}

impl Side for KernelSide<'_> {
    fn send(&mut self, frame: &[u8], ingress: u32, headroom: Option<usize>) -> Result<Left> {
        if ingress != HERE || headroom.is_some() {
            bail!("a test run comes in by interface {HERE} only, with the kernel's headroom");
        }
        let before = self.kernel.counters()?.verdicts;
        let ran = self.kernel.run(frame)?;
        let after = self.kernel.counters()?.verdicts;
        let mut counted = Verdict::ALL
            .into_iter()
            .filter(|verdict| after[*verdict as usize] != before[*verdict as usize]);
        let (Some(verdict), None) = (counted.next(), counted.next()) else {
            bail!("not exactly one verdict was counted");
        };
        if after[verdict as usize] != before[verdict as usize] + 1 {
            bail!("{verdict:?} was counted more than once");
        }
        let egress = (ran.action == action::TX).then_some(ingress);
        Ok(Left {
            verdict,
            action: ran.action,
            egress,
            frame: ran.frame,
        })
    }

    fn change(&mut self, change: &dyn Fn(&mut HostTables)) -> Result<()> {
        change(&mut self.tables);
        self.kernel.refill(&self.tables)
    }

    fn wait(&mut self, _: u32) -> Result<()> {
        bail!("the kernel's clock cannot be moved")
    }

    fn event(&self, event: Event) -> Result<u64> {
        let index = event as usize;
        Ok(self.kernel.counters()?.events[index] - self.events_before[index])
    }

    fn backend(&self, id: u32) -> Result<BackendCounters> {
        let now = self.kernel.backend_counters(id)?;
        let before = &self.backends_before[id as usize];
        Ok(BackendCounters {
            packets: now.packets - before.packets,
            bytes: now.bytes - before.bytes,
            connections: now.connections - before.connections,
            reply_packets: now.reply_packets - before.reply_packets,
            reply_bytes: now.reply_bytes - before.reply_bytes,
            accepted: now.accepted - before.accepted,
            refused: now.refused - before.refused,
            unanswered: now.unanswered - before.unanswered,
        })
    }

    fn tables(&self) -> Option<&HostTables> {
        None
    }
}

/// Runs rows on the host's engine, and says what went wrong in which.
#[must_use]
pub fn on_host(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .filter_map(|row| {
            let mut tables = (row.setup)().tables;
            play(row, &mut tables).err()
        })
        .collect()
}

/// Runs rows in the kernel, and says what went wrong in which. Rows that need the host's clock or
/// interfaces are left to [`on_host`].
///
/// # Errors
/// When a program cannot be loaded.
pub fn in_kernel(rows: &[Row]) -> Result<Vec<String>> {
    // Loading takes the verifier a second; rows with the same constants share a program.
    let mut kernels: HashMap<[u32; 5], Kernel> = HashMap::new();
    let mut failures = Vec::new();
    for row in rows.iter().filter(|row| row.needs_host.is_none()) {
        let tables = (row.setup)().tables;
        let kernel = match kernels.entry(constants(&tables.settings)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Kernel::load(&tables)?)
            }
        };
        let mut side = KernelSide::new(kernel, tables)?;
        failures.extend(play(row, &mut side).err());
    }
    Ok(failures)
}

/// What rows came to under a program with some of the features.
#[derive(Debug, Default)]
pub struct Covered {
    /// How many rows it covers.
    pub rows: usize,
    /// What went wrong in which.
    pub failures: Vec<String>,
}

/// Runs, on a program that is loaded, the rows that it covers: those that need no other constants
/// than its own, and in which the host's engine with the same features does what they expect. A
/// program for single buffers is not given larger frames, by nobody.
///
/// # Errors
/// When the kernel's tables cannot be written.
pub fn covered(kernel: &mut Kernel, features: u32, rows: &[Row]) -> Result<Covered> {
    let usual = Fixture::default().tables.settings;
    let mut result = Covered::default();
    for row in rows.iter().filter(|row| row.needs_host.is_none()) {
        let tables = || {
            let mut tables = (row.setup)().tables;
            let is_usual = tables.settings == usual;
            tables.settings.features = features;
            is_usual.then_some(tables)
        };
        let (Some(mut on_host), Some(in_kernel)) = (tables(), tables()) else {
            continue;
        };
        let is_jumbo = row
            .steps
            .iter()
            .any(|step| matches!(step, Step::Send { frame, .. } if frame.len() > FIRST_BUFFER));
        if is_jumbo && features & MULTI_BUFFER == 0 {
            continue;
        }
        if play(row, &mut on_host).is_ok() {
            result.rows += 1;
            let mut side = KernelSide::new(kernel, in_kernel)?;
            result.failures.extend(play(row, &mut side).err());
        }
    }
    Ok(result)
}

/// What a program is loaded with, but for the seed.
fn constants(settings: &Settings) -> [u32; 5] {
    [
        settings.established_mask,
        settings.half_open_mask,
        settings.filter_mask,
        settings.errors_per_tick,
        settings.features,
    ]
}

/// A program with its twin.
struct WatchedSide<'k> {
    watched: &'k mut Watched,
    tables: HostTables,
}

impl Side for WatchedSide<'_> {
    fn send(&mut self, frame: &[u8], ingress: u32, headroom: Option<usize>) -> Result<Left> {
        let (told, trace) = self.watched.dry_run(frame)?;
        let mut side = KernelSide {
            kernel: &mut self.watched.kernel,
            tables: HostTables::new(self.tables.settings),
            events_before: Vec::new(),
            backends_before: Vec::new(),
        };
        let left = side.send(frame, ingress, headroom)?;
        // A dry run knows nothing of limits on answers.
        if left.verdict == Verdict::DropAnswerLimited {
            return Ok(left);
        }
        if trace.verdict != left.verdict as u32 {
            bail!(
                "told to be {:?}, was {:?}",
                Verdict::from_number(trace.verdict as u8),
                left.verdict
            );
        }
        if told.action != left.action {
            bail!("told action {}, was {}", told.action, left.action);
        }
        if told.frame != left.frame {
            bail!("told another frame\n{}", hexdump(&told.frame));
        }
        if trace.length as usize > trace::CAPACITY {
            bail!("{} decisions do not fit", trace.length);
        }
        Ok(left)
    }

    fn change(&mut self, change: &dyn Fn(&mut HostTables)) -> Result<()> {
        change(&mut self.tables);
        self.watched.kernel.refill(&self.tables)
    }

    fn wait(&mut self, _: u32) -> Result<()> {
        bail!("the kernel's clock cannot be moved")
    }

    fn event(&self, _: Event) -> Result<u64> {
        bail!("not looked at")
    }

    fn backend(&self, _: u32) -> Result<BackendCounters> {
        bail!("not looked at")
    }

    fn tables(&self) -> Option<&HostTables> {
        None
    }
}

/// Runs rows in the kernel, and before each frame asks the program's twin what will happen. Says
/// what went wrong in which.
///
/// # Errors
/// When a program cannot be loaded.
pub fn watched(rows: &[Row]) -> Result<Vec<String>> {
    let mut programs: HashMap<[u32; 5], Watched> = HashMap::new();
    let mut failures = Vec::new();
    for row in rows.iter().filter(|row| row.needs_host.is_none()) {
        let tables = (row.setup)().tables;
        let watched = match programs.entry(constants(&tables.settings)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Watched::load(&tables)?)
            }
        };
        watched.kernel.refill(&tables)?;
        watched.kernel.forget_flows(&tables)?;
        let mut side = WatchedSide { watched, tables };
        for (number, step) in row.steps.iter().enumerate() {
            // Sums are the business of the other run.
            if matches!(
                step,
                Step::Event(..) | Step::Backend(..) | Step::Handshakes(..)
            ) {
                continue;
            }
            if let Err(what) = take(step, &mut side) {
                failures.push(format!("{}, step {}: {what}", row.name, number + 1));
                break;
            }
        }
    }
    Ok(failures)
}

fn play(row: &Row, side: &mut impl Side) -> Result<(), String> {
    for (number, step) in row.steps.iter().enumerate() {
        take(step, side).map_err(|what| format!("{}, step {}: {what}", row.name, number + 1))?;
    }
    Ok(())
}

fn send(
    side: &mut impl Side,
    frame: &[u8],
    (ingress, headroom): (u32, Option<usize>),
    expect: &Expect,
) -> Result<(), String> {
    let left = side
        .send(frame, ingress, headroom)
        .map_err(|error| format!("{error:#}"))?;
    judge(frame, ingress, expect, &left).map_err(|what| {
        format!(
            "{what}\n frame in\n{}({:?}, action {})",
            hexdump(frame),
            left.verdict,
            left.action
        )
    })
}

fn take(step: &Step, side: &mut impl Side) -> Result<(), String> {
    let readable = |error: anyhow::Error| format!("{error:#}");
    match step {
        Step::Send {
            frame,
            ingress,
            headroom,
            expect,
        } => send(side, frame, (*ingress, *headroom), expect),
        Step::React(make) => {
            let (frame, expect) = make();
            send(side, &frame, (HERE, None), &expect)
        }
        Step::Change(change) => side.change(change).map_err(readable),
        Step::Wait(seconds) => side.wait(*seconds).map_err(readable),
        Step::Event(event, expected) => {
            let found = side.event(*event).map_err(readable)?;
            equal(event.label(), expected, &found)
        }
        Step::Backend(id, expected) => {
            let found = side.backend(*id).map_err(readable)?;
            let found = [
                found.connections,
                found.packets,
                found.bytes,
                found.reply_packets,
                found.reply_bytes,
            ];
            equal(&format!("counters of backend {id}"), expected, &found)
        }
        Step::Handshakes(id, expected) => {
            let found = side.backend(*id).map_err(readable)?;
            let found = [found.accepted, found.refused, found.unanswered];
            equal(&format!("handshakes of backend {id}"), expected, &found)
        }
        Step::Tables(check) => side.tables().map_or(Ok(()), check),
    }
}

fn judge(frame: &[u8], ingress: u32, expect: &Expect, left: &Left) -> Result<(), String> {
    equal("verdict", &expect.verdict, &left.verdict)?;
    let action = action_of(expect.verdict, expect.egress, ingress);
    equal("action", &action, &left.action)?;
    let emits = expect.verdict.disposition() == Disposition::Emit;
    if let Some(egress) = left.egress.filter(|_| emits) {
        equal("egress", &expect.egress, &egress)?;
    }
    match &expect.out {
        Out::Nothing => return Ok(()),
        Out::Unchanged => return same(frame, &left.frame),
        Out::Damaged(frame) => return same(frame, &left.frame),
        Out::Exactly(frame) => same(frame, &left.frame)?,
        Out::Sound => {}
        Out::Checked(check) => check(&left.frame)?,
    }
    verify(&left.frame)
        .map(drop)
        .map_err(|fault| format!("{fault}\n frame out\n{}", hexdump(&left.frame)))
}

fn same(expected: &[u8], found: &[u8]) -> Result<(), String> {
    difference(expected, found).map_or(Ok(()), Err)
}

fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &T,
    found: &T,
) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}"))
}
