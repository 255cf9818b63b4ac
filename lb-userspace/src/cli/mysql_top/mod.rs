//! `lb mysql top`: servers, statements and sessions on the terminal, live, and a key to kill.

mod picture;
mod state;

use std::{
    io::{IsTerminal as _, stdin, stdout},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crossterm::event::{self, Event, KeyEventKind};

use self::state::{Look, Reaction, State};
use super::{
    Failure,
    top::{Arguments, TICK, screen::Screen, stop_signals},
};
use crate::{admin::client, mysql::seen::NO_PROXY};

/// What the agent said, or why it said nothing.
#[derive(Debug)]
enum News {
    Look(Box<Look>),
    Done(String),
    Failed(String),
}

pub(super) fn top(socket: &Path, arguments: &Arguments) -> Result<(), Failure> {
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Err(Failure::Wrong(anyhow::anyhow!(
            "lb mysql top needs a terminal; for programs there are lb mysql status, digests and \
             sessions with --json"
        )));
    }
    // The first look is before the terminal is changed, so that what is wrong stays on it.
    let first = look(socket).map_err(|sentence| Failure::failed(anyhow::anyhow!(sentence)))?;
    let stopped = stop_signals().map_err(Failure::failed)?;
    let mut screen = Screen::enter().map_err(Failure::failed)?;
    let (sender, news) = channel();
    let asker = Asker {
        socket: socket.to_owned(),
        sender,
    };
    asker.look_every(arguments.interval());
    let shown = show(&mut screen, first, &asker, &news, &stopped);
    // Before what went wrong is told.
    drop(screen);
    shown.map_err(|error| {
        Failure::Failed(anyhow::Error::new(error).context("cannot use the terminal"))
    })
}

/// Everything that is shown, as of now.
fn look(socket: &Path) -> Result<Look, String> {
    let status = client::status(socket).map_err(|error| error.to_string())?;
    let digests = client::mysql_digests(socket).map_err(|error| error.to_string())?;
    let sessions = client::mysql_sessions(socket).map_err(|error| error.to_string())?;
    Ok(Look {
        status: status.mysql.ok_or(NO_PROXY)?,
        digests,
        sessions,
    })
}

fn show(
    screen: &mut Screen,
    first: Look,
    asker: &Asker,
    news: &Receiver<News>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let mut state = State::new(first, Instant::now());
    let mut is_new = true;
    while !stopped.load(Ordering::Relaxed) {
        while let Ok(said) = news.try_recv() {
            match said {
                News::Look(look) => state.look(*look, Instant::now()),
                News::Done(sentence) => state.tell(sentence, false),
                News::Failed(sentence) => state.tell(sentence, true),
            }
            is_new = true;
        }
        if is_new {
            screen.draw(|columns, rows| picture::picture(&mut state, columns, rows))?;
            is_new = false;
        }
        if !event::poll(TICK)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match state.press(key) {
                Reaction::Nothing => {}
                Reaction::Quit => return Ok(()),
                Reaction::Kill(session) => asker.kill(session),
            },
            Event::Key(_)
            | Event::Resize(..)
            | Event::FocusGained
            | Event::FocusLost
            | Event::Mouse(_) => {}
        }
        is_new = true;
    }
    Ok(())
}

/// Talks to the agent on other threads: the screen waits for nobody.
struct Asker {
    socket: PathBuf,
    sender: Sender<News>,
}

impl Asker {
    /// Ends when nobody listens any more.
    fn look_every(&self, interval: Duration) {
        let (socket, sender) = (self.socket.clone(), self.sender.clone());
        thread::spawn(move || {
            loop {
                thread::sleep(interval);
                let said = match look(&socket) {
                    Ok(look) => News::Look(Box::new(look)),
                    Err(sentence) => News::Failed(sentence),
                };
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
    }

    fn kill(&self, session: u32) {
        let (socket, sender) = (self.socket.clone(), self.sender.clone());
        thread::spawn(move || {
            let said = match client::mysql_kill(&socket, session) {
                Ok(killed) => News::Done(format!("session {} killed", killed.id)),
                Err(error) => News::Failed(error.to_string()),
            };
            // Nobody listens when the command has ended.
            let _ = sender.send(said);
        });
    }
}
