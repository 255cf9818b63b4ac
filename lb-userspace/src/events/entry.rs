//! A line of the log, with its parts.

use std::fmt::{self, Write as _};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

use super::NOTICE;

/// A longer sentence is cut.
const LONGEST: usize = 2000;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something does not work.
    Error,
    /// Somebody should look.
    Warn,
    /// Good to know.
    Info,
    /// For whoever looks for a fault in the agent.
    Debug,
    /// The same, more of it.
    Trace,
}

impl Level {
    /// The word for it, in capitals.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

/// What was said, when, and about what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// RFC 3339, UTC.
    pub time: String,
    /// How much it matters.
    pub level: Level,
    /// A word for what happened, such as `backend_down`; `notice` for what has none.
    pub kind: String,
    /// The service it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The backend it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// In a sentence.
    pub message: String,
}

impl Entry {
    /// Of a line that is being logged now.
    pub(crate) fn of(event: &tracing::Event<'_>) -> Self {
        let mut time = String::new();
        // Writing to a String cannot fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let mut entry = Self {
            time,
            level: (*event.metadata().level()).into(),
            kind: NOTICE.to_owned(),
            service: None,
            backend: None,
            message: String::new(),
        };
        event.record(&mut entry);
        entry
    }

    fn set(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "kind" => self.kind = value,
            "service" => self.service = Some(value),
            "backend" => self.backend = Some(value),
            _ => {}
        }
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, cut(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // As above.
        let _ = write!(text, "{value:?}");
        self.set(field, cut(text));
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_are_cut_between_characters() {
        let text = cut("ä".repeat(LONGEST));
        assert_eq!(text.chars().count(), LONGEST / 2 + 1);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
