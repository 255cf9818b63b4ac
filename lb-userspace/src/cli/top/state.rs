//! What is shown, and what keys do to it.

use std::{collections::HashMap, time::Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{
    cli::live::Reaction,
    control::{self, Act, Change, HIGHEST_WEIGHT, Pattern},
    status::Status,
};

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As in the config.
    Config,
    State,
    Flows,
    Connections,
    Packets,
    Bits,
}

impl Order {
    pub(super) const ALL: [Self; 6] = [
        Self::Config,
        Self::State,
        Self::Flows,
        Self::Connections,
        Self::Packets,
        Self::Bits,
    ];

    /// The word of its column.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::State => "state",
            Self::Flows => "flows",
            Self::Connections => "new/s",
            Self::Packets => "pkt/s",
            Self::Bits => "bit/s",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self);
        Self::ALL[(at.unwrap_or(0) + 1) % Self::ALL.len()]
    }
}

/// A backend on the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) service: String,
    pub(super) backend: String,
    pub(super) state: String,
    pub(super) health: String,
    pub(super) in_rotation: bool,
    pub(super) weight: u16,
    pub(super) flows: u64,
    /// Per second; nothing before the second look.
    pub(super) connections: Option<f64>,
    pub(super) packets: Option<f64>,
    pub(super) bits: Option<f64>,
    pub(super) last_check: String,
}

impl Row {
    /// One word for health, state and rotation.
    pub(super) fn word(&self) -> &'static str {
        match (&*self.state, &*self.health, self.in_rotation) {
            ("maint", ..) => "maint",
            (_, "down", _) => "down",
            ("drain", ..) => "drain",
            (_, "checking", _) => "checking",
            (.., true) => "up",
            (.., false) => "idle",
        }
    }

    fn key(&self) -> (String, String) {
        (self.service.clone(), self.backend.clone())
    }
}

/// Everything on the screen.
#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Status,
    /// In the order of the screen.
    pub(super) rows: Vec<Row>,
    pub(super) order: Order,
    pub(super) is_reversed: bool,
    pub(super) selected: usize,
    /// The first row that is seen; drawing moves it along.
    pub(super) first: usize,
    /// The last thing to say, and whether it is bad.
    pub(super) said: Option<(String, bool)>,
    /// What `y` would do.
    pub(super) asked: Option<(Pattern, Act)>,
    counters: HashMap<(String, String), [u64; 3]>,
    looked: Instant,
}

impl State {
    pub(super) fn new(status: Status, now: Instant) -> Self {
        let mut state = Self {
            rows: Vec::new(),
            order: Order::Config,
            is_reversed: false,
            selected: 0,
            first: 0,
            said: None,
            asked: None,
            counters: HashMap::new(),
            looked: now,
            status: status.clone(),
        };
        state.look(status, now);
        state
    }

    pub(super) fn tell(&mut self, sentence: String, is_bad: bool) {
        self.said = Some((sentence, is_bad));
    }

    /// Takes a new status in.
    pub(super) fn look(&mut self, status: Status, now: Instant) {
        let seconds = now.duration_since(self.looked).as_secs_f64();
        self.looked = now;
        let selected = self.rows.get(self.selected).map(Row::key);
        let mut counters = HashMap::new();
        self.rows.clear();
        for service in &status.services {
            for backend in &service.backends {
                let key = (service.name.clone(), backend.name.clone());
                let counts = [backend.connections, backend.packets, backend.bytes * 8];
                let before = self.counters.get(&key);
                let rate = |index: usize| {
                    // Counts begin anew when the tables do.
                    let gained = counts[index].checked_sub(before?[index])?;
                    (seconds > 0.0).then(|| gained as f64 / seconds)
                };
                self.rows.push(Row {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                    state: backend.state.clone(),
                    health: backend.health.clone(),
                    in_rotation: backend.in_rotation,
                    weight: backend.weight,
                    flows: backend.active_flows,
                    connections: rate(0),
                    packets: rate(1),
                    bits: rate(2),
                    last_check: backend.last_check.clone(),
                });
                counters.insert(key, counts);
            }
        }
        self.counters = counters;
        self.status = status;
        if self.said.as_ref().is_some_and(|(_, is_bad)| *is_bad) {
            self.said = None;
        }
        self.sort(selected);
    }

    /// Sorts, and keeps the same backend selected.
    fn sort(&mut self, selected: Option<(String, String)>) {
        let number = |row: &Row| match self.order {
            Order::Config => 0.0,
            Order::State => {
                let words = ["down", "maint", "drain", "checking", "idle", "up"];
                let rank = words.iter().position(|word| *word == row.word());
                -(rank.unwrap_or(0) as f64)
            }
            Order::Flows => row.flows as f64,
            Order::Connections => row.connections.unwrap_or(-1.0),
            Order::Packets => row.packets.unwrap_or(-1.0),
            Order::Bits => row.bits.unwrap_or(-1.0),
        };
        // The largest first; what is equal stays in the order of the config.
        self.rows.sort_by(|a, b| number(b).total_cmp(&number(a)));
        if self.is_reversed {
            self.rows.reverse();
        }
        let at = selected.and_then(|key| self.rows.iter().position(|row| row.key() == key));
        self.selected = at.unwrap_or(self.selected.min(self.rows.len().saturating_sub(1)));
    }

    fn sort_anew(&mut self) {
        // Rows come in the order of the config only with a status.
        let status = self.status.clone();
        let order: HashMap<(String, String), usize> = status
            .services
            .iter()
            .flat_map(|service| {
                let backends = service.backends.iter();
                backends.map(|backend| (service.name.clone(), backend.name.clone()))
            })
            .zip(0..)
            .collect();
        let selected = self.rows.get(self.selected).map(Row::key);
        self.rows.sort_by_key(|row| order.get(&row.key()).copied());
        self.sort(selected);
    }

    /// Takes a key in.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a key that nobody gave a meaning has none"
    )]
    pub(super) fn press(&mut self, key: KeyEvent) -> Reaction<(Pattern, Act)> {
        if let Some((pattern, act)) = self.asked.take() {
            if key.code == KeyCode::Char('y') {
                return Reaction::Act((pattern, act));
            }
            self.tell("nothing was changed".to_owned(), false);
            return Reaction::Nothing;
        }
        let last = self.rows.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Reaction::Quit;
            }
            KeyCode::Char('q') | KeyCode::Esc => return Reaction::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.selected = (self.selected + 1).min(last),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(10),
            KeyCode::PageDown => self.selected = (self.selected + 10).min(last),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.sort_anew();
            }
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                self.sort_anew();
            }
            KeyCode::Char('y') => return self.change(|_| state(control::State::Ready)),
            KeyCode::Char('d') => return self.change(|_| state(control::State::Drain)),
            KeyCode::Char('m') => {
                // It ends live connections, so it is not a slip of the finger.
                if let Reaction::Act((pattern, act)) = self.change(|_| state(control::State::Maint))
                {
                    self.asked = Some((pattern, act));
                }
            }
            KeyCode::Char('+') => {
                return self.change(|row| weight(row.weight.saturating_add(1)));
            }
            KeyCode::Char('-') => {
                return self.change(|row| weight(row.weight.saturating_sub(1)));
            }
            KeyCode::Char('R') => return self.change(|_| Some(Act::Reset)),
            _ => {}
        }
        Reaction::Nothing
    }

    /// What to do with the selected backend.
    fn change(&mut self, act: impl FnOnce(&Row) -> Option<Act>) -> Reaction<(Pattern, Act)> {
        let Some(row) = self.rows.get(self.selected) else {
            return Reaction::Nothing;
        };
        if row.service.contains('*') || row.backend.contains('*') {
            let sentence = "a name with * in it would mean others as well".to_owned();
            self.tell(sentence, true);
            return Reaction::Nothing;
        }
        let pattern = Pattern {
            service: row.service.clone(),
            backend: row.backend.clone(),
        };
        act(row).map_or(Reaction::Nothing, |act| Reaction::Act((pattern, act)))
    }
}

fn state(state: control::State) -> Option<Act> {
    Some(Act::Set(Change {
        state: Some(state),
        weight: None,
    }))
}

fn weight(weight: u16) -> Option<Act> {
    (weight <= HIGHEST_WEIGHT).then_some(Act::Set(Change {
        state: None,
        weight: Some(weight),
    }))
}
