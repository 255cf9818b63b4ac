//! A capture: while it lives, the capturing twin of the program is attached.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lb_common::{
    capture::{Filter, Record},
    verdict::Verdict,
};
use nix::time::{ClockId, clock_gettime};

use super::{core::Core, explainer, flow_lister::some_of, names::Names};
use crate::{
    admin::Pieces,
    capture::{CapturedPacket, Query, Totals, Writer, verdicts},
    dataplane::{Capturer, Dataplane},
};

/// How long to wait for packets at a time.
const WAIT: Duration = Duration::from_millis(100);
/// How often the totals are written, so that both sides see that the other one is there.
const TOTALS_EVERY: Duration = Duration::from_secs(1);
/// Packets in a piece at most.
const PIECE: usize = 512;

/// A capture that runs.
pub(super) struct Capturing {
    core: Arc<Mutex<Core>>,
    capturer: Capturer,
    /// Position in the file, by interface index.
    interfaces: HashMap<u32, u32>,
    writer: Writer,
    /// As they were when the totals were written last.
    names: Names,
    /// What to add to the kernel's time to get the time since 1970.
    epoch: Duration,
    totals: Totals,
    told: Instant,
    most: u64,
    end: Option<Instant>,
}

impl Capturing {
    /// Loads the capturing twin, which takes the verifier a moment, and attaches it.
    ///
    /// # Errors
    /// With a sentence.
    pub(super) fn begin(core: Arc<Mutex<Core>>, query: &Query) -> Result<Self, String> {
        let verdicts = verdicts(&query.verdicts)?;
        let (twin, service) = {
            let core = lock(&core);
            if core.is_capturing {
                return Err("somebody captures already; there is one capture at a time".to_owned());
            }
            let service = match &query.service {
                None => 0,
                Some(name) => service_id(&core, name)? + 1,
            };
            let dataplane = core.dataplane.as_ref().ok_or("the agent is stopping")?;
            (dataplane.twin(), service)
        };
        let filter = Filter {
            verdicts,
            service,
            sample: query.sample,
            snap: query.snap,
            reserved: 0,
        };
        let mut capturer = Capturer::load(&twin, filter).map_err(|error| error.to_string())?;
        let epoch = epoch().map_err(|error| format!("the time is not known: {error}"))?;
        let (interfaces, writer, names) = {
            let mut core = lock(&core);
            if core.is_capturing {
                return Err("somebody captures already; there is one capture at a time".to_owned());
            }
            let Core {
                dataplane: Some(dataplane),
                is_capturing,
                ..
            } = &mut *core
            else {
                return Err("the agent is stopping".to_owned());
            };
            let attached: Vec<(String, u32)> = dataplane
                .attached()
                .iter()
                .map(|(name, attached)| (name.clone(), attached.ifindex))
                .collect();
            let names = attached.iter().map(|(name, _)| name.as_str());
            let writer = Writer::new(names, query.snap).map_err(|error| error.to_string())?;
            if let Err(error) = dataplane.swap_in(&mut capturer) {
                swap_back(dataplane);
                return Err(error.to_string());
            }
            *is_capturing = true;
            let interfaces = attached.into_iter().map(|(_, ifindex)| ifindex).zip(0..);
            (interfaces.collect(), writer, Names::of(&core))
        };
        tracing::info!("a capture begins");
        Ok(Self {
            core,
            capturer,
            interfaces,
            writer,
            names,
            epoch,
            totals: Totals::default(),
            told: Instant::now(),
            most: if query.count == 0 {
                u64::MAX
            } else {
                query.count
            },
            end: match query.seconds {
                0 => None,
                seconds => Some(Instant::now() + Duration::from_secs(seconds.into())),
            },
        })
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        let Self {
            core,
            capturer,
            interfaces,
            writer,
            names,
            epoch,
            totals,
            most,
            ..
        } = self;
        let mut result = Ok(());
        for _ in 0..PIECE {
            if totals.captured >= *most || result.is_err() {
                break;
            }
            let taken = capturer.next(|record, bytes| {
                // One that came by an interface that was attached since.
                let Some(interface) = interfaces.get(&record.ingress) else {
                    return Ok(0);
                };
                writer.packet(&CapturedPacket {
                    interface: *interface,
                    time: *epoch + Duration::from_nanos(record.time),
                    length: record.length,
                    bytes,
                    comments: comments(core, names, record),
                })?;
                Ok(1)
            });
            match taken {
                Some(Ok(written)) => totals.captured += written,
                Some(Err(error)) => result = Err(error),
                None => break,
            }
        }
        result
    }

    fn write_totals(&mut self) -> io::Result<()> {
        self.told = Instant::now();
        if let Ok(counts) = self.capturer.counts() {
            self.totals.seen = counts.seen;
            self.totals.lost = counts.lost;
        }
        let now = clock_gettime(ClockId::CLOCK_REALTIME).map_err(io::Error::from)?;
        self.writer.totals(now.into(), self.totals)
    }

    fn is_over(&self) -> bool {
        self.totals.captured >= self.most || self.end.is_some_and(|end| Instant::now() >= end)
    }
}

impl Pieces for Capturing {
    fn next(&mut self, piece: &mut Vec<u8>) -> bool {
        let wait = match self.end {
            Some(end) => WAIT.min(end.saturating_duration_since(Instant::now())),
            None => WAIT,
        };
        if self.told.elapsed() >= TOTALS_EVERY {
            self.names = Names::of(&lock(&self.core));
        }
        let mut result = self.capturer.wait(wait).and_then(|()| self.write_waiting());
        let is_over = self.is_over() || lock(&self.core).dataplane.is_none();
        if is_over || self.told.elapsed() >= TOTALS_EVERY {
            result = result.and_then(|()| self.write_totals());
        }
        piece.extend(self.writer.take());
        if let Err(error) = &result {
            tracing::warn!("the capture ends: {error}");
        }
        result.is_ok() && !is_over
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        let mut core = lock(&self.core);
        core.is_capturing = false;
        if let Some(dataplane) = &mut core.dataplane {
            swap_back(dataplane);
        }
        tracing::info!(
            "the capture is over: {} packets, {} lost",
            self.totals.captured,
            self.totals.lost
        );
    }
}

fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The capturing program steers as well, so nothing is lost where this fails.
fn swap_back(dataplane: &mut Dataplane) {
    if let Err(error) = dataplane.swap_back() {
        tracing::warn!("{error}; the capturing program stays, which steers and is slower");
    }
}

fn service_id(core: &Core, name: &str) -> Result<u32, String> {
    let named = core.model.services.iter().zip(&core.services);
    let mut named = named.filter(|(service, _)| service.name == name);
    let found = named
        .next()
        .and_then(|(_, state)| core.service_id(&state.key));
    found.ok_or_else(|| {
        let names = core.model.services.iter().map(|service| &*service.name);
        format!(
            "there is no service {name} (there are: {})",
            some_of(&names.collect::<Vec<_>>())
        )
    })
}

/// The verdict, and the decisions, a line each.
fn comments(core: &Mutex<Core>, names: &mut Names, record: &Record) -> Vec<String> {
    let verdict = Verdict::from_number(record.trace.verdict as u8);
    let mut lines = vec![verdict.label().to_owned()];
    let find_hop = |index| lock(core).next_hop(index);
    lines.extend(explainer::decisions(names, find_hop, &record.trace));
    if record.trace.egress != 0 {
        lines.push(format!("out by {}", names.interface(record.trace.egress)));
    }
    lines
}

/// When the kernel's clock was 0, since 1970.
fn epoch() -> nix::Result<Duration> {
    let real: Duration = clock_gettime(ClockId::CLOCK_REALTIME)?.into();
    let monotonic: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)?.into();
    Ok(real.saturating_sub(monotonic))
}
