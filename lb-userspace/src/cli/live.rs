//! A screen that is live: drawn anew when there is news or a key was pressed, until somebody quits
//! or ends the command.

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

use crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, live_screen::Screen, top::picture::Line};

/// How long a key, a signal or an answer may go unseen.
const TICK: Duration = Duration::from_millis(50);

/// How it is shown.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Seconds from one look to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
}

/// What becomes of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reaction<A> {
    Nothing,
    Quit,
    Act(A),
}

/// What is shown, and what keys do.
pub(super) trait Show: Sized {
    /// Everything that is shown, as of some moment.
    type Look: Send + 'static;
    /// What the agent can be told.
    type Act: Send + 'static;

    /// Why somebody without a terminal wants something else.
    const NO_TERMINAL: &'static str;

    /// Asks the agent.
    fn ask(socket: &Path) -> Result<Self::Look, String>;
    /// Tells the agent; what to say when that is done.
    fn act(socket: &Path, act: Self::Act) -> Result<String, String>;

    fn new(first: Self::Look, now: Instant) -> Self;
    fn look(&mut self, look: Self::Look, now: Instant);
    fn tell(&mut self, sentence: String, is_bad: bool);
    fn press(&mut self, key: KeyEvent) -> Reaction<Self::Act>;
    /// The screen of so many columns and rows.
    fn picture(&mut self, columns: usize, rows: usize) -> Vec<Line>;
}

/// What the agent said, or why it said nothing.
#[derive(Debug)]
enum News<L> {
    Look(Box<L>),
    Done(String),
    Failed(String),
}

/// Shows it until that ends.
pub(super) fn show<S: Show>(socket: &Path, arguments: &Arguments) -> Result<(), Failure> {
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Err(Failure::Wrong(anyhow::anyhow!(S::NO_TERMINAL)));
    }
    // The first look is before the terminal is changed, so that what is wrong stays on it.
    let first = S::ask(socket).map_err(|sentence| Failure::failed(anyhow::anyhow!(sentence)))?;
    let stopped = stop_signals().map_err(Failure::failed)?;
    let mut screen = Screen::enter().map_err(Failure::failed)?;
    let (sender, news) = channel();
    let asker = Asker::<S> {
        socket: socket.to_owned(),
        sender,
    };
    asker.look_every(Duration::from_secs(arguments.interval));
    let shown = follow(&mut screen, first, &asker, &news, &stopped);
    // Before what went wrong is told.
    drop(screen);
    shown.map_err(|error| {
        Failure::Failed(anyhow::Error::new(error).context("cannot use the terminal"))
    })
}

fn follow<S: Show>(
    screen: &mut Screen,
    first: S::Look,
    asker: &Asker<S>,
    news: &Receiver<News<S::Look>>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let mut state = S::new(first, Instant::now());
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
            screen.draw(|columns, rows| state.picture(columns, rows))?;
            is_new = false;
        }
        if !event::poll(TICK)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match state.press(key) {
                Reaction::Nothing => {}
                Reaction::Quit => return Ok(()),
                Reaction::Act(act) => asker.act(act),
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
struct Asker<S: Show> {
    socket: PathBuf,
    sender: Sender<News<S::Look>>,
}

impl<S: Show> Asker<S> {
    /// Ends when nobody listens any more.
    fn look_every(&self, interval: Duration) {
        let (socket, sender) = (self.socket.clone(), self.sender.clone());
        thread::spawn(move || {
            loop {
                thread::sleep(interval);
                let said = match S::ask(&socket) {
                    Ok(look) => News::Look(Box::new(look)),
                    Err(sentence) => News::Failed(sentence),
                };
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
    }

    fn act(&self, act: S::Act) {
        let (socket, sender) = (self.socket.clone(), self.sender.clone());
        thread::spawn(move || {
            let said = S::act(&socket, act).map_or_else(News::Failed, News::Done);
            // Nobody listens when the command has ended.
            let _ = sender.send(said);
            if let Ok(look) = S::ask(&socket) {
                let _ = sender.send(News::Look(Box::new(look)));
            }
        });
    }
}

/// Set when the process is told to stop, which must not leave the terminal as it is.
fn stop_signals() -> std::io::Result<Arc<AtomicBool>> {
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
