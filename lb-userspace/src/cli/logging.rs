//! The agent's log, on stderr, and the events that are made of it.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    sync::Arc,
};

use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{self, format::debug_fn},
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::{
    config::model::{Log, LogFormat},
    events::{Entry, EventLog, Recorder},
};

/// How much is logged, instead of what the config says: a level, or levels by module as in
/// `info,lb_userspace::health=debug`.
const VARIABLE: &str = "LB_LOG";

/// Sends the log of this process to stderr, and what it says to the events.
pub(super) fn start(log: Log) -> Arc<EventLog> {
    let wish = std::env::var(VARIABLE).unwrap_or_default();
    let default = Targets::new().with_default(tracing::Level::from(log.level));
    let (filter, is_refused) = match filter(&wish) {
        _ if wish.is_empty() => (default, false),
        Some(filter) => (filter, false),
        None => (default, true),
    };
    let lines = match log.format {
        LogFormat::Text => text(),
        LogFormat::Json => Box::new(JsonLines),
    };
    let events = EventLog::new();
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(Recorder::new(Arc::clone(&events)))
        .init();
    if is_refused {
        tracing::warn!(
            "{VARIABLE}={wish} is not understood (error, warn, info, debug or trace); logging {}",
            tracing::Level::from(log.level).as_str().to_lowercase()
        );
    }
    events
}

/// For people: the sentences, which name what the other fields do.
fn text<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer()
        .fmt_fields(debug_fn(|writer, field, value| {
            if field.name() == "message" {
                write!(writer, "{value:?}")
            } else {
                Ok(())
            }
        }))
        .compact()
        .with_target(false)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal());
    // The journal has its own clock.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().boxed()
    } else {
        lines.boxed()
    }
}

/// For programs: an object on each line, as in `GET /events.json`.
struct JsonLines;

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if let Ok(mut line) = serde_json::to_vec(&Entry::of(event)) {
            line.push(b'\n');
            // When stderr is gone there is nobody to tell.
            let _ = stderr().lock().write_all(&line);
        }
    }
}

fn filter(wish: &str) -> Option<Targets> {
    let filter: Targets = wish.parse().ok()?;
    // A word that is no level is taken for a module by the parser.
    let one_word = wish.chars().all(|c| c.is_ascii_alphanumeric());
    (!one_word || filter.default_level().is_some()).then_some(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_are_understood_and_words_are_not() {
        for wish in ["info", "DEBUG", "off", "warn,lb_userspace::health=trace"] {
            assert!(filter(wish).is_some(), "{wish}");
        }
        for wish in ["loud", "info=loud"] {
            assert!(filter(wish).is_none(), "{wish}");
        }
    }
}
