//! `lb top`: services and backends on the terminal, live, and keys to change them.

pub(super) mod picture;
mod state;

use std::{path::Path, time::Instant};

use crossterm::event::KeyEvent;

use self::{
    picture::{Line, picture},
    state::State,
};
use super::{
    Failure,
    live::{self, Arguments, Reaction, Show},
};
use crate::{
    admin::client,
    control::{Act, Pattern},
    status::Status,
};

pub(super) fn top(socket: &Path, arguments: &Arguments) -> Result<(), Failure> {
    live::show::<State>(socket, arguments)
}

impl Show for State {
    type Look = Status;
    type Act = (Pattern, Act);

    const NO_TERMINAL: &'static str =
        "lb top needs a terminal; for programs there is lb status --json";

    fn ask(socket: &Path) -> Result<Status, String> {
        client::status(socket).map_err(|error| error.to_string())
    }

    fn act(socket: &Path, (pattern, act): (Pattern, Act)) -> Result<String, String> {
        let changes = client::act(socket, &pattern, act).map_err(|error| error.to_string())?;
        let changed = changes.backends.iter();
        let words: Vec<String> = changed
            .map(|one| {
                let (service, backend) = (&one.service, &one.backend);
                let (weight, state) = (one.weight, one.state.word());
                format!("{service}/{backend}: weight {weight}, {state}")
            })
            .collect();
        let warning = changes.warning.map(|warning| format!(" ({warning})"));
        Ok(words.join("; ") + &warning.unwrap_or_default())
    }

    fn new(first: Status, now: Instant) -> Self {
        Self::new(first, now)
    }

    fn look(&mut self, status: Status, now: Instant) {
        self.look(status, now);
    }

    fn tell(&mut self, sentence: String, is_bad: bool) {
        self.tell(sentence, is_bad);
    }

    fn press(&mut self, key: KeyEvent) -> Reaction<(Pattern, Act)> {
        self.press(key)
    }

    fn picture(&mut self, columns: usize, rows: usize) -> Vec<Line> {
        picture(self, columns, rows)
    }
}
