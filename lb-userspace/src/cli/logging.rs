//! The agent's log, on stderr.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How much is logged: a level, or levels by module as in `info,lb_userspace::health=debug`.
const VARIABLE: &str = "LB_LOG";

/// Sends the log of this process to stderr.
pub(super) fn start() {
    let wish = std::env::var(VARIABLE).unwrap_or_default();
    let (filter, refused) = match filter(&wish) {
        Some(filter) => (filter, false),
        None => (Targets::new().with_default(tracing::Level::INFO), true),
    };
    let lines = fmt::layer()
        .compact()
        .with_target(false)
        .with_writer(stderr);
    let lines = lines.with_ansi(stderr().is_terminal());
    // The journal has its own clock.
    let layer = if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().boxed()
    } else {
        lines.boxed()
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .init();
    if refused {
        tracing::warn!(
            "{VARIABLE}={wish} is not understood (error, warn, info, debug or trace); logging info"
        );
    }
}

fn filter(wish: &str) -> Option<Targets> {
    if wish.is_empty() {
        return Some(Targets::new().with_default(tracing::Level::INFO));
    }
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
        for wish in [
            "",
            "info",
            "DEBUG",
            "off",
            "warn,lb_userspace::health=trace",
        ] {
            assert!(filter(wish).is_some(), "{wish}");
        }
        for wish in ["loud", "info=loud"] {
            assert!(filter(wish).is_none(), "{wish}");
        }
    }
}
