//! What is shown, and what keys do to it.

use std::{collections::HashMap, time::Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{
    cli::live::Reaction,
    mysql::seen::{Digest, Digests, Session, Sessions},
    status::Mysql,
};

/// What the agent said at one time.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) status: Mysql,
    pub(super) digests: Digests,
    pub(super) sessions: Sessions,
}

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Digests,
    Sessions,
}

/// Counts since the look before, per second; nothing before the second look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    /// Statements.
    pub(super) count: Option<f64>,
    /// Seconds that they took: how many of them were under way at a time.
    pub(super) load: Option<f64>,
}

impl Rate {
    /// Seconds that one took.
    pub(super) fn mean(self) -> Option<f64> {
        let count = self.count.filter(|count| *count > 0.0)?;
        Some(self.load? / count)
    }
}

/// Everything on the screen.
#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Mysql,
    /// By the order of the config.
    pub(super) servers: Vec<Rate>,
    pub(super) total: Rate,
    /// What took most of the time comes first.
    pub(super) digests: Vec<(Digest, Rate)>,
    pub(super) counts_digests: bool,
    /// What does something comes first, and of that what has done it for longest.
    pub(super) sessions: Vec<Session>,
    pub(super) view: View,
    pub(super) selected: usize,
    /// The first row that is seen; drawing moves it along.
    pub(super) first: usize,
    /// The last thing to say, and whether it is bad.
    pub(super) said: Option<(String, bool)>,
    /// The session that `y` would kill.
    pub(super) asked: Option<u32>,
    counters: HashMap<String, (u64, f64)>,
    looked: Instant,
}

impl State {
    pub(super) fn new(look: Look, now: Instant) -> Self {
        let mut state = Self {
            status: look.status.clone(),
            servers: Vec::new(),
            total: Rate::default(),
            digests: Vec::new(),
            counts_digests: true,
            sessions: Vec::new(),
            view: View::Digests,
            selected: 0,
            first: 0,
            said: None,
            asked: None,
            counters: HashMap::new(),
            looked: now,
        };
        state.look(look, now);
        state
    }

    pub(super) fn tell(&mut self, sentence: String, is_bad: bool) {
        self.said = Some((sentence, is_bad));
    }

    /// Takes a new look in.
    pub(super) fn look(&mut self, look: Look, now: Instant) {
        let Look {
            status,
            digests,
            sessions,
        } = look;
        let passed = now.duration_since(self.looked).as_secs_f64();
        self.looked = now;
        let is_first = self.counters.is_empty();
        let mut counters = HashMap::new();
        let mut rate = |key: String, count: u64, seconds: f64| {
            // What is new has begun at nothing.
            let none = (!is_first).then_some((0, 0.0));
            let before = self.counters.get(&key).copied().or(none);
            counters.insert(key, (count, seconds));
            let gained = before.and_then(|(was, took)| {
                let gained = count.checked_sub(was)? as f64;
                (passed > 0.0).then(|| (gained / passed, (seconds - took).max(0.0) / passed))
            });
            Rate {
                count: gained.map(|(count, _)| count),
                load: gained.map(|(_, load)| load),
            }
        };
        let servers = status.servers.iter();
        self.servers = servers
            .map(|one| rate(format!("s {}", one.name), one.statements, one.seconds))
            .collect();
        let count = status.statements.primary + status.statements.replica;
        let seconds = status.durations.values().map(|one| one.seconds).sum();
        self.total = rate("t".to_owned(), count, seconds);
        let selected = self.selected_session();
        self.counts_digests = digests.counted;
        let kinds = digests.digests.into_iter();
        self.digests = kinds
            .map(|one| {
                let totals = &one.totals;
                let rate = rate(format!("d {}", one.digest), totals.count, totals.seconds);
                (one, rate)
            })
            .collect();
        self.counters = counters;
        let load = |(one, rate): &(Digest, Rate)| (rate.load.unwrap_or(0.0), one.totals.seconds);
        self.digests.sort_by(|a, b| {
            let ((load_a, all_a), (load_b, all_b)) = (load(a), load(b));
            load_b.total_cmp(&load_a).then(all_b.total_cmp(&all_a))
        });
        self.sessions = sessions.sessions;
        let rank = |one: &Session| match &*one.state {
            "running" | "waiting" => 0,
            "in_transaction" => 1,
            _ => 2,
        };
        self.sessions.sort_by(|a, b| {
            let longer = b.state_seconds.total_cmp(&a.state_seconds);
            rank(a).cmp(&rank(b)).then(longer)
        });
        let at = selected.and_then(|id| self.sessions.iter().position(|one| one.id == id));
        let last = self.rows().saturating_sub(1);
        self.selected = at.unwrap_or(self.selected).min(last);
        self.status = status;
        if self.said.as_ref().is_some_and(|(_, is_bad)| *is_bad) {
            self.said = None;
        }
    }

    /// How many rows there are to move on.
    pub(super) fn rows(&self) -> usize {
        match self.view {
            View::Digests => self.digests.len(),
            View::Sessions => self.sessions.len(),
        }
    }

    fn selected_session(&self) -> Option<u32> {
        match self.view {
            View::Digests => None,
            View::Sessions => self.sessions.get(self.selected).map(|one| one.id),
        }
    }

    /// Takes a key in.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a key that nobody gave a meaning has none"
    )]
    pub(super) fn press(&mut self, key: KeyEvent) -> Reaction<u32> {
        if let Some(session) = self.asked.take() {
            if key.code == KeyCode::Char('y') {
                return Reaction::Act(session);
            }
            self.tell("nothing was killed".to_owned(), false);
            return Reaction::Nothing;
        }
        let last = self.rows().saturating_sub(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Reaction::Quit;
            }
            KeyCode::Char('q') | KeyCode::Esc => return Reaction::Quit,
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down => self.selected = (self.selected + 1).min(last),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(10),
            KeyCode::PageDown => self.selected = (self.selected + 10).min(last),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::Tab | KeyCode::Char('s' | 'd') => {
                self.view = match (key.code, self.view) {
                    (KeyCode::Char('d'), _) | (KeyCode::Tab, View::Sessions) => View::Digests,
                    _ => View::Sessions,
                };
                (self.selected, self.first) = (0, 0);
            }
            KeyCode::Char('k') => match self.selected_session() {
                Some(session) => self.asked = Some(session),
                None => self.tell("s shows the sessions; k kills one".to_owned(), false),
            },
            _ => {}
        }
        Reaction::Nothing
    }
}
