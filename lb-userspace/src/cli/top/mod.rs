//! `lb top`: services and backends on the terminal, live, and keys to change them.

pub(super) mod picture;
pub(super) mod screen;
mod state;

use std::{
    io::{IsTerminal as _, stdin, stdout},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    picture::picture,
    screen::Screen,
    state::{Reaction, State},
};
use super::Failure;
use crate::{
    admin::client,
    control::{Act, Pattern},
    status::Status,
};

/// How long a key, a signal or an answer may go unseen.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// How it is shown.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Seconds from one look to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
}

impl Arguments {
    pub(super) const fn interval(&self) -> Duration {
        Duration::from_secs(self.interval)
    }
}

/// What the agent said, or why it said nothing.
#[derive(Debug)]
enum News {
    Status(Box<Status>),
    Done(String),
    Failed(String),
}

pub(super) fn top(socket: &Path, arguments: &Arguments) -> Result<(), Failure> {
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Err(Failure::Wrong(anyhow::anyhow!(
            "lb top needs a terminal; for programs there is lb status --json"
        )));
    }
    // The first look is before the terminal is changed, so that what is wrong stays on it.
    let first = client::status(socket).map_err(Failure::failed)?;
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

fn show(
    screen: &mut Screen,
    first: Status,
    asker: &Asker,
    news: &Receiver<News>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let mut state = State::new(first, Instant::now());
    let mut is_new = true;
    while !stopped.load(Ordering::Relaxed) {
        while let Ok(said) = news.try_recv() {
            match said {
                News::Status(status) => state.look(*status, Instant::now()),
                News::Done(sentence) => state.tell(sentence, false),
                News::Failed(sentence) => state.tell(sentence, true),
            }
            is_new = true;
        }
        if is_new {
            screen.draw(|columns, rows| picture(&mut state, columns, rows))?;
            is_new = false;
        }
        if !event::poll(TICK)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match state.press(key) {
                Reaction::Nothing => {}
                Reaction::Quit => return Ok(()),
                Reaction::Act(pattern, act) => asker.act(pattern, act),
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
                let said = match client::status(&socket) {
                    Ok(status) => News::Status(Box::new(status)),
                    Err(error) => News::Failed(error.to_string()),
                };
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
    }

    fn act(&self, pattern: Pattern, act: Act) {
        let (socket, sender) = (self.socket.clone(), self.sender.clone());
        thread::spawn(move || {
            let said = match client::act(&socket, &pattern, act) {
                Ok(changes) => {
                    let changed = changes.backends.iter();
                    let words: Vec<String> = changed
                        .map(|one| {
                            let (service, backend) = (&one.service, &one.backend);
                            let (weight, state) = (one.weight, one.state.word());
                            format!("{service}/{backend}: weight {weight}, {state}")
                        })
                        .collect();
                    let warning = changes.warning.map(|warning| format!(" ({warning})"));
                    News::Done(words.join("; ") + &warning.unwrap_or_default())
                }
                Err(error) => News::Failed(error.to_string()),
            };
            // Nobody listens when the command has ended.
            let _ = sender.send(said);
            if let Ok(status) = client::status(&socket) {
                let _ = sender.send(News::Status(Box::new(status)));
            }
        });
    }
}

/// Set when the process is told to stop, which must not leave the terminal as it is.
pub(super) fn stop_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stopped);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut terminate, mut hangup, mut interrupt) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        set.store(true, Ordering::Relaxed);
    });
    Ok(stopped)
}
