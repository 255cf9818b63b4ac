//! From the log to the events.

use std::sync::Arc;

use tracing::Subscriber;
use tracing_subscriber::{Layer, layer::Context};

use super::{Entry, EventLog};

/// Makes events of what the agent itself logs at info or above, whatever else is logged where.
#[derive(Debug)]
pub struct Recorder(Arc<EventLog>);

impl Recorder {
    /// Into that log.
    #[must_use]
    pub const fn new(log: Arc<EventLog>) -> Self {
        Self(log)
    }
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let is_ours = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
        if is_ours && *metadata.level() <= tracing::Level::INFO {
            self.0.note(Entry::of(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::events::{Level, NOTICE};

    #[test]
    fn what_is_logged_becomes_an_event_with_its_fields() {
        let log = EventLog::new();
        let subscriber = tracing_subscriber::registry().with(Recorder::new(Arc::clone(&log)));
        tracing::subscriber::with_default(subscriber, || {
            let (service, reason) = ("web", "refused");
            tracing::warn!(
                kind = "backend_down",
                service,
                backend = "web1",
                "web/web1 is down: {reason}"
            );
            tracing::info!("ready");
            tracing::debug!("of no interest");
            tracing::info!(target: "other", "nor this");
        });
        let page = log.page(0, 10);
        let [down, ready] = &page.events[..] else {
            panic!("{page:?}");
        };
        assert_eq!((down.sequence, down.entry.level), (1, Level::Warn));
        assert_eq!(down.entry.kind, "backend_down");
        assert_eq!(down.entry.service.as_deref(), Some("web"));
        assert_eq!(down.entry.backend.as_deref(), Some("web1"));
        assert_eq!(down.entry.message, "web/web1 is down: refused");
        assert_eq!(
            (&*ready.entry.kind, &*ready.entry.message),
            (NOTICE, "ready")
        );
        let time = &ready.entry.time;
        assert!(time.len() > 20 && time.ends_with('Z'), "{time}");
    }
}
