//! The screen as lines of text.

use super::state::{Rate, State, View};
use crate::{
    cli::{
        mysql_digests::duration,
        status_page::span,
        top::picture::{Line, Tone, fitted, short},
    },
    mysql::seen::{Decision, Digest, Session},
    status::MysqlServer,
};

/// The keys, on the last line.
const HELP: &str = "q quit  tab or s sessions, d digests  ↑↓ move  k kill session";

/// The screen of so many columns and rows.
pub(super) fn picture(state: &mut State, columns: usize, rows: usize) -> Vec<Line> {
    let mut lines = vec![totals(state), trouble(state), line(SERVERS, Tone::Strong)];
    let servers = state.status.servers.iter().zip(&state.servers);
    lines.extend(servers.map(|(one, rate)| server(one, *rate)));
    lines.push(line("", Tone::Plain));
    lines.push(line(
        match state.view {
            View::Digests => "   calls/s    mean  longest    load  error  statement",
            View::Sessions => "        id  state              for  server        user, client, why",
        },
        Tone::Strong,
    ));
    // Below are what is said and the keys.
    let room = rows.saturating_sub(lines.len() + 2);
    let least = (state.selected + 1).saturating_sub(room);
    state.first = state.first.min(state.selected).max(least);
    for index in state.first..state.first + room {
        let (text, tone) = match state.view {
            View::Digests => match state.digests.get(index) {
                Some((one, rate)) => (digest(one, *rate), Tone::Plain),
                None if index == 0 && !state.counts_digests => (
                    "statements are not counted: statement_digests = 0".to_owned(),
                    Tone::Faint,
                ),
                None => (String::new(), Tone::Plain),
            },
            View::Sessions => match state.sessions.get(index) {
                Some(one) => (session(one), tone(one)),
                None => (String::new(), Tone::Plain),
            },
        };
        let is_selected = index == state.selected && index < state.rows();
        let tone = if is_selected { Tone::Selected } else { tone };
        lines.push(Line { text, tone });
    }
    lines.push(match (state.asked, &state.said) {
        (Some(session), _) => line(format!("kill session {session}? y to do it"), Tone::Warn),
        (None, Some((sentence, true))) => line(&**sentence, Tone::Bad),
        (None, Some((sentence, false))) => line(&**sentence, Tone::Plain),
        (None, None) => line("", Tone::Plain),
    });
    lines.push(line(HELP, Tone::Faint));
    for line in &mut lines {
        line.text = fitted(&line.text, columns);
    }
    lines.truncate(rows);
    lines
}

fn line(text: impl Into<String>, tone: Tone) -> Line {
    let text = text.into();
    Line { text, tone }
}

fn totals(state: &State) -> Line {
    let statements = state.status.statements;
    let all = statements.primary + statements.replica;
    let share = if all > 0 {
        100.0 * statements.replica as f64 / all as f64
    } else {
        0.0
    };
    line(
        format!(
            "mysql  {} sessions  {} statements/s  mean {}  {share:.0} % of all to replicas",
            state.status.sessions,
            short(state.total.count),
            time(state.total.mean()),
        ),
        Tone::Strong,
    )
}

fn trouble(state: &State) -> Line {
    if let Some(why) = &state.status.no_primary {
        return line(format!("nobody takes writes: {why}"), Tone::Bad);
    }
    let errors = state.status.errors.iter();
    let errors: Vec<String> = errors
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| format!("{kind} {}", short(Some(*count as f64))))
        .collect();
    if errors.is_empty() {
        return line("no errors of the proxy", Tone::Faint);
    }
    line(format!("errors: {}", errors.join("  ")), Tone::Warn)
}

const SERVERS: &str = "server          role     gets      lag  stmt/s    mean  conns  why not";

fn server(one: &MysqlServer, rate: Rate) -> Line {
    let gets = match (one.role.as_str(), one.in_rotation) {
        ("primary", true) => "writes",
        (_, true) => "reads",
        (_, false) => "nothing",
    };
    let why = match (&one.trouble, &one.no_reads) {
        (Some(why), _) => why.as_str(),
        (None, Some(why)) if !one.in_rotation => why.as_str(),
        (None, _) => "",
    };
    let tone = match (&*one.health, one.in_rotation) {
        ("down", _) => Tone::Bad,
        (_, true) => Tone::Good,
        (_, false) => Tone::Warn,
    };
    let lag = one.lag_seconds.map(|lag| format!("{lag:.1} s"));
    line(
        format!(
            "{} {:<8} {gets:<7} {:>6}  {:>6} {:>7}  {:>5}  {why}",
            fitted(&one.name, 15),
            one.role,
            lag.unwrap_or_default(),
            short(rate.count),
            time(rate.mean()),
            one.connections,
        ),
        tone,
    )
}

fn digest(one: &Digest, rate: Rate) -> String {
    format!(
        "{:>10} {:>7} {:>8} {:>7} {:>6}  {}",
        short(rate.count),
        time(rate.mean()),
        duration(one.totals.longest_seconds),
        short(rate.load.map(|load| (load * 10.0).round() / 10.0)),
        one.totals.errors,
        one.text
    )
}

fn session(one: &Session) -> String {
    let last = one.last.as_ref();
    let last = last.map_or_else(String::new, |Decision { target, reason }| {
        format!("{target}/{reason}")
    });
    let pinned = one.pinned.as_ref();
    let pinned = pinned.map_or_else(String::new, |why| format!(" {why}"));
    format!(
        "{:>10}  {:<14} {:>7}  {} {} {} {last}{pinned}",
        one.id,
        one.state.replace('_', " "),
        span(one.state_seconds),
        fitted(one.server.as_deref().unwrap_or("-"), 12),
        one.user,
        one.client,
    )
}

fn tone(one: &Session) -> Tone {
    match &*one.state {
        "running" => Tone::Good,
        "waiting" => Tone::Warn,
        "in_transaction" => Tone::Plain,
        _ => Tone::Faint,
    }
}

fn time(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), duration)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, Instant},
    };

    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::{super::state::Look, *};
    use crate::cli::live::Reaction;
    use crate::mysql::seen::Totals;
    use serde_json::json;

    fn look(step: u64) -> Look {
        let server = |name: &str, role: &str, statements: u64| {
            json!({
                "name": name, "address": "10.0.0.1:3306", "role": role, "health": "up",
                "lag_seconds": 0.5, "read_only": false, "in_rotation": true, "connections": 3,
                "statements": statements, "seconds": 0.001 * statements as f64, "gtid": "",
                "version": null, "trouble": null, "no_reads": null
            })
        };
        let status = json!({
            "servers": [server("db1", "primary", 100 * step), server("db2", "replica", 900 * step)],
            "sessions": 30, "statements": { "primary": 100 * step, "replica": 900 * step },
            "reasons": {}, "no_primary": null, "epoch": 1, "by_target": {},
            "durations": BTreeMap::<String, u64>::new(), "errors": { "login": 0 }
        });
        let digest = |number: u64, text: &str| Digest {
            digest: format!("{number:016x}"),
            text: text.to_owned(),
            totals: Totals {
                count: number * step,
                seconds: 0.002 * (number * step) as f64,
                longest_seconds: 1.5,
                ..Totals::default()
            },
        };
        let session = |id: u32, state: &str| -> Session {
            serde_json::from_value(json!({
                "id": id, "user": "app\u{1b}[2J", "client": "10.0.0.9:1", "schema": "shop",
                "state": state, "state_seconds": f64::from(id), "age_seconds": 99.0,
                "server": "db1", "server_connection": null, "in_transaction": false,
                "pinned": null, "last": { "target": "replica", "reason": "read" }
            }))
            .unwrap()
        };
        let mut sessions: Vec<Session> = (1..30).map(|id| session(id, "idle")).collect();
        sessions.push(session(77, "running"));
        Look {
            status: serde_json::from_value(status).unwrap(),
            digests: crate::mysql::seen::Digests {
                counted: true,
                digests: vec![digest(10, "SELECT rare"), digest(2000, "SELECT often")],
                other: Totals::default(),
            },
            sessions: crate::mysql::seen::Sessions { sessions },
        }
    }

    fn state() -> State {
        let start = Instant::now();
        let mut state = State::new(look(1), start);
        state.look(look(3), start + Duration::from_secs(2));
        state
    }

    fn text(state: &mut State) -> Vec<String> {
        let lines = picture(state, 80, 24);
        lines.into_iter().map(|line| line.text).collect()
    }

    fn press(state: &mut State, code: KeyCode) -> Reaction<u32> {
        state.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn everything_fits_into_80_by_24() {
        let mut state = state();
        let lines = text(&mut state);
        assert_eq!(lines.len(), 24);
        assert!(
            lines[0].starts_with("mysql  30 sessions  1.0k statements/s"),
            "{}",
            lines[0]
        );
        assert!(lines[4].contains(" 900  1.0 ms "), "{}", lines[4]);
        assert!(lines[7].contains(" 2.0k  2.0 ms "), "{}", lines[7]);
        assert!(lines[7].contains("SELECT often"), "{}", lines[7]);
        assert!(lines[8].contains("SELECT rare"), "{}", lines[8]);
        press(&mut state, KeyCode::Tab);
        let lines = text(&mut state);
        assert!(lines[7].contains(" 77  running "), "{}", lines[7]);
        for line in &lines {
            assert_eq!(line.chars().count(), 80, "{line}");
            assert!(!line.contains('\u{1b}'), "{line}");
        }
        for (columns, rows) in [(1, 1), (20, 3), (300, 100)] {
            assert!(picture(&mut state, columns, rows).len() <= rows);
        }
    }

    #[test]
    fn a_session_is_killed_after_a_question() {
        let mut state = state();
        assert_eq!(press(&mut state, KeyCode::Char('k')), Reaction::Nothing);
        assert_eq!(state.asked, None);
        press(&mut state, KeyCode::Char('s'));
        press(&mut state, KeyCode::Char('k'));
        assert!(text(&mut state)[22].starts_with("kill session 77?"));
        press(&mut state, KeyCode::Char('n'));
        press(&mut state, KeyCode::Char('k'));
        assert_eq!(press(&mut state, KeyCode::Char('y')), Reaction::Act(77));
        assert_eq!(press(&mut state, KeyCode::Char('q')), Reaction::Quit);
    }

    #[test]
    fn the_selected_session_is_followed() {
        let mut state = state();
        press(&mut state, KeyCode::Tab);
        press(&mut state, KeyCode::End);
        let id = state.sessions[state.selected].id;
        let mut next = look(4);
        next.sessions
            .sessions
            .retain(|one| one.id == id || one.id > 20);
        state.look(next, Instant::now());
        assert_eq!(state.sessions[state.selected].id, id);
        assert!(
            text(&mut state)
                .iter()
                .any(|line| line.contains(&format!(" {id}  idle")))
        );
    }
}
