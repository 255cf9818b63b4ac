//! Statements that took long are told of in the log, a bounded number of them.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::account::Answered;

/// Lines that may come at once, and how often another one may.
const BURST: u32 = 20;
const EVERY: Duration = Duration::from_millis(200);

/// What its lines are filtered by, in the log. They hold what clients wrote, without its values.
pub const SLOW: &str = "lb_mysql::slow";

/// The log of slow statements.
#[derive(Debug)]
pub(super) struct Slow {
    least: Option<Duration>,
    room: Mutex<Room>,
}

/// A bucket of lines.
#[derive(Debug)]
struct Room {
    lines: u32,
    filled: Instant,
    /// Not told since the last line.
    silent: u64,
}

impl Room {
    /// Whether there may be a line, and how many there were not before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let steps = now.duration_since(self.filled).as_millis() / EVERY.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.lines = self.lines.saturating_add(steps).min(BURST);
        if steps > 0 {
            self.filled = now;
        }
        if self.lines == 0 {
            self.silent += 1;
            return None;
        }
        self.lines -= 1;
        Some(std::mem::take(&mut self.silent))
    }
}

impl Slow {
    pub(super) fn new(least: Option<Duration>) -> Self {
        Self {
            least,
            room: Mutex::new(Room {
                lines: BURST,
                filled: Instant::now(),
                silent: 0,
            }),
        }
    }

    /// Whether that is too long.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        self.least.is_some_and(|least| took >= least)
    }

    /// Tells of one.
    pub(super) fn tell(&self, answered: &Answered<'_>) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = room.take(Instant::now());
        drop(room);
        let Some(silent) = silent else { return };
        let mut line = answered.line();
        if silent > 0 {
            line += &format!(" ({silent} others were not logged)");
        }
        tracing::warn!(target: SLOW, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_what_is_left_out_is_counted() {
        let start = Instant::now();
        let mut room = Room {
            lines: BURST,
            filled: start,
            silent: 0,
        };
        let told = (0..1000).filter(|_| room.take(start).is_some()).count();
        assert_eq!(told, BURST as usize);
        assert_eq!(room.take(start + EVERY), Some(980));
        assert_eq!(room.take(start + EVERY), None);
        let later = start + EVERY * 1000;
        let told = (0..1000).filter(|_| room.take(later).is_some()).count();
        assert_eq!(told, BURST as usize);
    }
}
