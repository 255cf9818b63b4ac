//! `lb events`

use std::{
    io::{IsTerminal as _, stdout},
    path::Path,
    thread,
    time::Duration,
};

use super::{
    Failure,
    output::{complain, print},
};
use crate::{
    admin::client,
    events::{Event, Level, Page, Query},
};

/// How long one question may wait for an event.
const WAIT: Duration = Duration::from_secs(20);
/// How often an agent that has gone is looked for.
const RETRY: Duration = Duration::from_secs(1);

/// What is wanted.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Go on with what happens from now on, until Ctrl-C; a restart of the agent is waited for
    #[arg(long)]
    follow: bool,
    /// Only events after this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    since: u64,
    /// As one JSON document; with --follow, one object on each line
    #[arg(long)]
    json: bool,
}

pub(super) fn events(socket: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments {
        follow,
        since,
        json,
    } = *arguments;
    let mut query = Query {
        since,
        ..Query::default()
    };
    let page = client::events(socket, &query).map_err(Failure::failed)?;
    if json && !follow {
        let mut text = serde_json::to_string_pretty(&page).map_err(Failure::failed)?;
        text.push('\n');
        return print(text.as_bytes());
    }
    let write = Lines {
        json,
        is_terminal: stdout().is_terminal(),
    };
    write.page(&page)?;
    if !follow {
        return Ok(());
    }
    query.wait = WAIT;
    let (mut log, mut is_gone) = (page.log, false);
    query.since = page.next;
    loop {
        let page = match client::events(socket, &query) {
            Ok(page) => page,
            Err(error) => {
                if !is_gone {
                    complain(&format!("lb: {error}; waiting for it"));
                }
                is_gone = true;
                thread::sleep(RETRY);
                continue;
            }
        };
        is_gone = false;
        if page.log == log {
            write.page(&page)?;
            query.since = page.next;
        } else {
            // It has started anew, and so have its numbers.
            (log, query.since) = (page.log, 0);
        }
    }
}

/// How events are written.
struct Lines {
    json: bool,
    is_terminal: bool,
}

impl Lines {
    fn page(&self, page: &Page) -> Result<(), Failure> {
        let mut text = String::new();
        if page.lost > 0 && !self.json {
            text.push_str(&format!("({} older events are lost)\n", page.lost));
        }
        for event in &page.events {
            self.event(event, &mut text)?;
        }
        if text.is_empty() {
            return Ok(());
        }
        print(text.as_bytes())
    }

    fn event(&self, event: &Event, text: &mut String) -> Result<(), Failure> {
        if self.json {
            text.push_str(&serde_json::to_string(event).map_err(Failure::failed)?);
        } else {
            let entry = &event.entry;
            let level = format!("{:>5}", entry.level.word());
            let level = match entry.level {
                Level::Error if self.is_terminal => format!("\x1b[31m{level}\x1b[0m"),
                Level::Warn if self.is_terminal => format!("\x1b[33m{level}\x1b[0m"),
                Level::Error | Level::Warn | Level::Info | Level::Debug | Level::Trace => level,
            };
            // Names are the config's, and may be odd; a terminal must not obey them.
            let message: String = entry
                .message
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            text.push_str(&format!("{} {level} {message}", entry.time));
        }
        text.push('\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Entry;

    #[test]
    fn a_line_has_time_level_and_sentence() {
        let event = Event {
            sequence: 3,
            entry: Entry {
                time: "2026-01-02T03:04:05.678901Z".to_owned(),
                level: Level::Warn,
                kind: "backend_down".to_owned(),
                service: Some("web".to_owned()),
                backend: Some("web1".to_owned()),
                message: "backend web/web1 is down: \x1b[2J".to_owned(),
            },
        };
        let line = |json| {
            let mut text = String::new();
            let is_terminal = false;
            Lines { json, is_terminal }
                .event(&event, &mut text)
                .unwrap();
            text
        };
        assert_eq!(
            line(false),
            "2026-01-02T03:04:05.678901Z  WARN backend web/web1 is down: \u{fffd}[2J\n"
        );
        assert_eq!(
            line(true),
            "{\"sequence\":3,\"time\":\"2026-01-02T03:04:05.678901Z\",\"level\":\"warn\",\
             \"kind\":\"backend_down\",\"service\":\"web\",\"backend\":\"web1\",\
             \"message\":\"backend web/web1 is down: \\u001b[2J\"}\n"
        );
    }
}
