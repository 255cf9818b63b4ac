//! `lb mysql top`: servers, statements and sessions on the terminal, live, and a key to kill.

mod picture;
mod state;

use std::{path::Path, time::Instant};

use crossterm::event::KeyEvent;

use self::state::{Look, State};
use super::{
    Failure,
    live::{self, Arguments, Reaction, Show},
    top::picture::Line,
};
use crate::{admin::client, mysql::seen::NO_PROXY};

pub(super) fn top(socket: &Path, arguments: &Arguments) -> Result<(), Failure> {
    live::show::<State>(socket, arguments)
}

impl Show for State {
    type Look = Look;
    /// The session to kill.
    type Act = u32;

    const NO_TERMINAL: &'static str = "lb mysql top needs a terminal; for programs there are lb \
                                       mysql status, digests and sessions with --json";

    fn ask(socket: &Path) -> Result<Look, String> {
        let status = client::status(socket).map_err(|error| error.to_string())?;
        let digests = client::mysql_digests(socket).map_err(|error| error.to_string())?;
        let sessions = client::mysql_sessions(socket).map_err(|error| error.to_string())?;
        Ok(Look {
            status: status.mysql.ok_or(NO_PROXY)?,
            digests,
            sessions,
        })
    }

    fn act(socket: &Path, session: u32) -> Result<String, String> {
        let killed = client::mysql_kill(socket, session).map_err(|error| error.to_string())?;
        Ok(format!("session {} killed", killed.id))
    }

    fn new(first: Look, now: Instant) -> Self {
        Self::new(first, now)
    }

    fn look(&mut self, look: Look, now: Instant) {
        self.look(look, now);
    }

    fn tell(&mut self, sentence: String, is_bad: bool) {
        self.tell(sentence, is_bad);
    }

    fn press(&mut self, key: KeyEvent) -> Reaction<u32> {
        self.press(key)
    }

    fn picture(&mut self, columns: usize, rows: usize) -> Vec<Line> {
        picture::picture(self, columns, rows)
    }
}
