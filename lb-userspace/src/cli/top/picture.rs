//! The screen as lines of text.

use super::state::{Order, State};

/// The keys, on the last line.
const HELP: &str = "q quit  s sort  r turn  ↑↓ move  d drain  y ready  m maint  +- weight  R reset";
/// Lines that are not rows: two above, the heading, what is said, the keys.
const FRAME: usize = 5;
/// Columns of everything but the name.
const FIXED: usize = 52;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Tone {
    Plain,
    Strong,
    Good,
    Warn,
    Bad,
    Faint,
    Selected,
}

/// A line of the screen, no wider than it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Line {
    pub(in crate::cli) text: String,
    pub(in crate::cli) tone: Tone,
}

/// The screen of so many columns and rows.
pub(super) fn picture(state: &mut State, columns: usize, rows: usize) -> Vec<Line> {
    let room = rows.saturating_sub(FRAME);
    // The selected one is seen.
    let least = (state.selected + 1).saturating_sub(room);
    let most = state.rows.len().saturating_sub(room);
    state.first = state
        .first
        .min(state.selected)
        .max(least)
        .min(most.max(least));
    let mut lines = vec![totals(state), drops(state), heading(state, columns)];
    let name_width = columns.saturating_sub(FIXED).clamp(12, 50);
    for index in state.first..state.first + room {
        let Some(row) = state.rows.get(index) else {
            lines.push(line("", Tone::Plain));
            continue;
        };
        let word = row.word();
        let name = fitted(&format!("{}/{}", row.service, row.backend), name_width);
        let text = format!(
            "{name} {word:<8} {:>3} {:>6} {:>6} {:>6} {:>6}  {}",
            row.weight,
            short(Some(row.flows as f64)),
            short(row.connections),
            short(row.packets),
            short(row.bits),
            row.last_check
        );
        let tone = match word {
            _ if index == state.selected => Tone::Selected,
            "down" => Tone::Bad,
            "maint" | "drain" => Tone::Warn,
            "up" => Tone::Good,
            _ => Tone::Faint,
        };
        lines.push(Line { text, tone });
    }
    lines.push(match (&state.asked, &state.said) {
        (Some((pattern, _)), _) => line(
            format!("{pattern} to maint, which ends its live connections? y to do it"),
            Tone::Warn,
        ),
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
    let up = state.rows.iter().filter(|row| row.health == "up").count();
    let flows: u64 = state
        .status
        .services
        .iter()
        .map(|one| one.active_flows)
        .sum();
    let sum = |of: fn(&super::state::Row) -> Option<f64>| {
        state.rows.iter().filter_map(of).reduce(|a, b| a + b)
    };
    line(
        format!(
            "lb {}  {up}/{} backends up  {} flows  {} new/s  {} pkt/s  {} bit/s",
            state.status.version,
            state.rows.len(),
            short(Some(flows as f64)),
            short(sum(|row| row.connections)),
            short(sum(|row| row.packets)),
            short(sum(|row| row.bits))
        ),
        Tone::Strong,
    )
}

/// What was dropped, the most first.
fn drops(state: &State) -> Line {
    let mut dropped: Vec<(&str, u64)> = state
        .status
        .verdicts
        .non_zero()
        .filter(|(label, _)| label.starts_with("drop_"))
        .collect();
    if dropped.is_empty() {
        return line("nothing was dropped", Tone::Faint);
    }
    dropped.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words = dropped
        .iter()
        .map(|(label, count)| format!("{label} {}", short(Some(*count as f64))));
    line(words.collect::<Vec<_>>().join("  "), Tone::Warn)
}

fn heading(state: &State, columns: usize) -> Line {
    let name_width = columns.saturating_sub(FIXED).clamp(12, 50);
    let mark = |order: Order, width: usize, word: &str| {
        let arrow = match (state.order == order, state.is_reversed) {
            (true, false) => "▾",
            (true, true) => "▴",
            (false, _) => "",
        };
        format!("{:>width$}", format!("{word}{arrow}"))
    };
    let name = match state.order {
        Order::Config => mark(Order::Config, 0, "service/backend"),
        Order::State | Order::Flows | Order::Connections | Order::Packets | Order::Bits => {
            "service/backend".to_owned()
        }
    };
    let state_column = mark(Order::State, 0, "state");
    line(
        format!(
            "{} {state_column:<8} {:>3} {} {} {} {}  last check",
            fitted(&name, name_width),
            "wt",
            mark(Order::Flows, 6, Order::Flows.word()),
            mark(Order::Connections, 6, Order::Connections.word()),
            mark(Order::Packets, 6, Order::Packets.word()),
            mark(Order::Bits, 6, Order::Bits.word()),
        ),
        Tone::Strong,
    )
}

/// In that many columns, cut or filled up. Names and what servers say may be odd; the terminal must
/// not obey them.
pub(in crate::cli) fn fitted(text: &str, columns: usize) -> String {
    let clean: Vec<char> = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if clean.len() > columns {
        let kept = clean.iter().take(columns.saturating_sub(1));
        return kept.chain(&['…'][..columns.min(1)]).collect();
    }
    let mut text: String = clean.into_iter().collect();
    let length = text.chars().count();
    text.extend(std::iter::repeat_n(' ', columns - length));
    text
}

/// At most five columns: 1.2k, 999k, 1.0M.
pub(in crate::cli) fn short(number: Option<f64>) -> String {
    let Some(mut number) = number else {
        return "-".to_owned();
    };
    let mut units = ["", "k", "M", "G", "T"].iter().peekable();
    let mut unit = units.next().unwrap_or(&"");
    while number >= 999.5 {
        match units.next() {
            Some(larger) => (number, unit) = (number / 1000.0, larger),
            None => break,
        }
    }
    if number >= 99.5 || number.fract() == 0.0 && unit.is_empty() {
        format!("{number:.0}{unit}")
    } else {
        format!("{number:.1}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::*;
    use crate::{
        cli::live::Reaction,
        control::{self, Act, Change, Pattern},
        status::{self, Status},
    };

    fn status(step: u64) -> Status {
        let mut status = status::tests::example();
        status.verdicts.0.push(("drop_fragment".to_owned(), 1500));
        let first = status.services[0].backends[0].clone();
        status.services[0].backends = (1..=30)
            .map(|n| {
                let mut backend = first.clone();
                backend.name = format!("web{n}");
                backend.packets = n * 1000 * step;
                backend.connections = (40 - n) * step;
                backend.bytes = 0;
                if n == 2 {
                    backend.health = "down".to_owned();
                    backend.in_rotation = false;
                    backend.last_check = "connect refused\x1b[2J".to_owned();
                }
                backend
            })
            .collect();
        status
    }

    fn state() -> State {
        let start = Instant::now();
        let mut state = State::new(status(1), start);
        state.look(status(3), start + Duration::from_secs(2));
        state
    }

    fn text(state: &mut State) -> Vec<String> {
        let lines = picture(state, 80, 24);
        lines.into_iter().map(|line| line.text).collect()
    }

    fn press(state: &mut State, key: char) -> Reaction<(Pattern, Act)> {
        state.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE))
    }

    fn set(weight: Option<u16>, state: Option<control::State>) -> Act {
        Act::Set(Change { weight, state })
    }

    #[test]
    fn everything_fits_into_80_by_24() {
        let lines = text(&mut state());
        assert_eq!(lines.len(), 24);
        assert!(
            lines.iter().all(|line| line.chars().count() == 80),
            "{lines:#?}"
        );
        assert!(
            lines[0].starts_with("lb 0.1.0  29/30 backends up  3 flows  735 new/s  465k pkt/s")
        );
        assert!(lines[1].starts_with("drop_fragment 1.5k"));
        assert!(lines[2].starts_with("service/backend▾"), "{}", lines[2]);
        assert!(lines[3].starts_with("web/web1 "), "{}", lines[3]);
        assert!(
            lines[4].contains(" down ") && !lines[4].contains('\x1b'),
            "{}",
            lines[4]
        );
        assert_eq!(lines[23].trim_end(), HELP);
        for (columns, rows) in [(1, 1), (20, 3), (500, 200)] {
            let lines = picture(&mut state(), columns, rows);
            assert!(lines.len() <= rows);
            assert!(
                lines
                    .iter()
                    .all(|line| line.text.chars().count() == columns)
            );
        }
    }

    #[test]
    fn rows_are_sorted_turned_and_followed() {
        let mut state = state();
        for _ in 0..4 {
            press(&mut state, 's');
        }
        assert_eq!(state.rows[0].backend, "web30");
        assert!(text(&mut state)[2].contains("pkt/s▾"));
        assert!(
            text(&mut state)[21].starts_with("web/web1 "),
            "the selected one is seen"
        );
        press(&mut state, 'r');
        assert!(text(&mut state)[3].starts_with("web/web1 "));
        state.press(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
        let lines = text(&mut state);
        assert!(lines[21].starts_with("web/web30 "), "{lines:#?}");
        assert_eq!(
            press(&mut state, 'd'),
            act("web30", set(None, Some(control::State::Drain)))
        );
        press(&mut state, 's');
        assert_eq!(
            state.rows[state.selected].backend, "web30",
            "it stays selected"
        );
    }

    fn act(backend: &str, act: Act) -> Reaction<(Pattern, Act)> {
        Reaction::Act((format!("web/{backend}").parse().unwrap(), act))
    }

    #[test]
    fn keys_change_the_selected_backend() {
        let mut state = state();
        press(&mut state, 'j');
        assert_eq!(
            press(&mut state, 'y'),
            act("web2", set(None, Some(control::State::Ready)))
        );
        assert_eq!(press(&mut state, '+'), act("web2", set(Some(2), None)));
        assert_eq!(press(&mut state, '-'), act("web2", set(Some(0), None)));
        assert_eq!(press(&mut state, 'R'), act("web2", Act::Reset));
        state.rows[1].weight = 256;
        assert_eq!(press(&mut state, '+'), Reaction::Nothing);
        state.rows[1].backend = "web*".to_owned();
        assert_eq!(press(&mut state, 'd'), Reaction::Nothing);
        assert_eq!(press(&mut state, 'q'), Reaction::Quit);
    }

    #[test]
    fn maintenance_is_asked_for_twice() {
        let mut state = state();
        assert_eq!(press(&mut state, 'm'), Reaction::Nothing);
        assert!(text(&mut state)[22].starts_with("web/web1 to maint, which ends"));
        assert_eq!(press(&mut state, 'n'), Reaction::Nothing);
        press(&mut state, 'm');
        assert_eq!(
            press(&mut state, 'y'),
            act("web1", set(None, Some(control::State::Maint)))
        );
    }

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (12.0, "12"),
            (999.0, "999"),
            (999.6, "1.0k"),
            (12_345.0, "12.3k"),
            (999_600.0, "1.0M"),
            (1e18, "1000000T"),
        ] {
            assert_eq!(short(Some(number)), expected);
        }
        assert_eq!(short(None), "-");
    }
}
