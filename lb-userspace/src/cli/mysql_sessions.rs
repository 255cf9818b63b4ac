//! `lb mysql sessions` and `lb mysql kill`

use std::{io::IsTerminal as _, io::stdout, path::Path};

use comfy_table::CellAlignment;
use serde::Serialize;

use super::{
    Failure,
    output::{count, print},
    status_page::{align, plain_table, span, trimmed},
};
use crate::{
    admin::client,
    mysql::seen::{Decision, Session, Sessions},
};

pub(super) fn sessions(socket: &Path, json: bool) -> Result<(), Failure> {
    let sessions = client::mysql_sessions(socket).map_err(Failure::failed)?;
    if json {
        return document(&sessions);
    }
    print(render(&sessions, stdout().is_terminal()).as_bytes())
}

pub(super) fn kill(socket: &Path, id: u32) -> Result<(), Failure> {
    let killed = client::mysql_kill(socket, id).map_err(Failure::failed)?;
    print(format!("session {} killed\n", killed.id).as_bytes())
}

pub(super) fn document(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(Failure::failed)?;
    print(format!("{text}\n").as_bytes())
}

fn render(Sessions { sessions }: &Sessions, on_terminal: bool) -> String {
    if sessions.is_empty() {
        return "no sessions\n".to_owned();
    }
    let mut table = plain_table(on_terminal);
    table.set_header([
        "id", "user", "client", "schema", "state", "for", "server", "pinned", "last",
    ]);
    for session in sessions {
        table.add_row(row(session));
    }
    align(&mut table, &[CellAlignment::Right]);
    let total = count(sessions.len(), "session");
    format!("{}\n\n{total}\n", trimmed(&table))
}

fn row(session: &Session) -> [String; 9] {
    let last = session.last.as_ref();
    [
        session.id.to_string(),
        clean(&session.user),
        session.client.clone(),
        clean(session.schema.as_deref().unwrap_or_default()),
        session.state.replace('_', " "),
        span(session.state_seconds),
        session.server.clone().unwrap_or_default(),
        session.pinned.clone().unwrap_or_default(),
        last.map_or_else(String::new, |Decision { target, reason }| {
            format!("{target}/{reason}")
        }),
    ]
}

/// Clients choose names; the terminal must not obey them.
pub(super) fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_session() {
        let session = Session {
            id: 7,
            user: "app\x1b[2J".to_owned(),
            client: "10.0.0.1:5000".to_owned(),
            schema: Some("shop".to_owned()),
            state: "in_transaction".to_owned(),
            state_seconds: 3.0,
            age_seconds: 10.0,
            server: Some("db1".to_owned()),
            server_connection: None,
            in_transaction: true,
            pinned: Some("pinned_user_lock".to_owned()),
            last: Some(Decision {
                target: "primary".to_owned(),
                reason: "write".to_owned(),
            }),
        };
        let page = render(
            &Sessions {
                sessions: vec![session],
            },
            false,
        );
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines.len(), 4, "{page}");
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        let expected = "7 app\u{fffd}[2J 10.0.0.1:5000 shop in transaction 3.0 s db1 \
                        pinned_user_lock primary/write";
        assert_eq!(words.join(" "), expected);
        assert_eq!(lines[3], "1 session");
        let none = Sessions { sessions: vec![] };
        assert_eq!(render(&none, false), "no sessions\n");
    }
}
