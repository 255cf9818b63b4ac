//! What happened lately: the agent's own log of info and above, as a bounded list that can be read
//! and followed.
//!
//! There is one source. Whoever logs a change also makes the event; the fields `kind`, `service` and
//! `backend` of the log line are the event's, and need not be given.

mod entry;
mod query;
mod record;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

pub use self::{
    entry::{Entry, Level},
    query::Query,
    record::Recorder,
};

/// How many are kept.
const MOST: usize = 1000;
/// Of a kind that nobody named.
pub const NOTICE: &str = "notice";

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// 1, 2, 3, … since the agent started.
    pub sequence: u64,
    /// The rest.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Some events, in the order in which they happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// Another one after every start of the agent, whose events begin at 1 again.
    pub log: u64,
    /// Those after `since` that are still known.
    pub events: Vec<Event>,
    /// To ask for those that follow: the next `since`.
    pub next: u64,
    /// How many events after `since` are not known any more.
    pub lost: u64,
}

/// The events of this process.
pub struct EventLog {
    id: u64,
    kept: Mutex<VecDeque<Event>>,
    newest: watch::Sender<u64>,
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventLog({})", self.id)
    }
}

impl Default for EventLog {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            // Microseconds fit into the numbers of browsers.
            id: u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or_default(),
            kept: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }
}

impl EventLog {
    /// An empty one to share.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds one, and forgets the oldest if there are too many.
    pub fn note(&self, entry: Entry) {
        let mut kept = self.lock();
        let sequence = *self.newest.borrow() + 1;
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back(Event { sequence, entry });
        // Within the lock, so that numbers are in order.
        self.newest.send_replace(sequence);
    }

    /// Those after `since`, `most` at most.
    #[must_use]
    pub fn page(&self, since: u64, most: usize) -> Page {
        let kept = self.lock();
        let newest = *self.newest.borrow();
        // A number that comes from a former agent.
        let since = if since > newest { 0 } else { since };
        let oldest = newest - kept.len() as u64;
        let events: Vec<Event> = kept
            .iter()
            .filter(|event| event.sequence > since)
            .take(most)
            .cloned()
            .collect();
        Page {
            log: self.id,
            next: events.last().map_or(since, |event| event.sequence),
            lost: oldest.saturating_sub(since),
            events,
        }
    }

    /// Waits for one after `since`, so long at most.
    pub async fn wait(&self, since: u64, at_most: Duration) {
        let mut newest = self.newest.subscribe();
        // One from a former agent is not waited for. The sender lives as long as this.
        let is_news = |newest: &u64| *newest != since;
        let _ = timeout(at_most, newest.wait_for(is_news)).await;
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(message: &str) -> Entry {
        Entry {
            time: "2026-01-02T03:04:05.678901Z".to_owned(),
            level: Level::Info,
            kind: NOTICE.to_owned(),
            service: None,
            backend: None,
            message: message.to_owned(),
        }
    }

    #[test]
    fn events_are_read_in_order_and_from_where_one_left_off() {
        let log = EventLog::new();
        assert_eq!((log.page(0, 10).next, log.page(0, 10).lost), (0, 0));
        for message in ["a", "b", "c"] {
            log.note(entry(message));
        }
        let page = log.page(0, 2);
        let messages: Vec<&str> = page.events.iter().map(|e| &*e.entry.message).collect();
        assert_eq!((messages, page.next, page.lost), (vec!["a", "b"], 2, 0));
        assert_eq!(log.page(2, 10).events[0].sequence, 3);
        assert_eq!(log.page(3, 10).next, 3);
        assert_eq!(log.page(99, 10).events.len(), 3, "99 is a former agent's");
    }

    #[test]
    fn there_is_a_bound_and_what_is_lost_is_told() {
        let log = EventLog::new();
        for number in 0..MOST + 5 {
            log.note(entry(&number.to_string()));
        }
        let page = log.page(2, usize::MAX);
        assert_eq!((page.events.len(), page.lost), (MOST, 3));
        assert_eq!(page.events[0].sequence, 6);
        assert_eq!(page.next, MOST as u64 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_an_event_or_with_time() {
        let log = EventLog::new();
        let start = tokio::time::Instant::now();
        log.wait(0, Duration::from_secs(10)).await;
        assert_eq!(start.elapsed().as_secs(), 10);
        let waiting = tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.wait(0, Duration::from_secs(100)).await }
        });
        tokio::task::yield_now().await;
        log.note(entry("a"));
        waiting.await.unwrap();
        log.wait(0, Duration::from_secs(100)).await;
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}
