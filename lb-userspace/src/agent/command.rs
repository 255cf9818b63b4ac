//! What the agent is told to do while it runs, by clients of the admin socket and by signals, and
//! how they hear what became of it.

use tokio::sync::{mpsc, oneshot};

use crate::{
    config::{Loaded, model::firewall::Firewall},
    control::{Act, Changes, Fault, Pattern, Refusal, ReloadWish, Reloaded},
    firewall::{self, Wish},
};

/// Commands that may wait.
const WAITING: usize = 64;

/// Something to do.
pub(super) enum Command {
    /// Change backends at run time.
    Act {
        pattern: Pattern,
        act: Act,
        who: String,
        reply: Reply<Changes>,
    },
    /// Change the firewall; with the config's, where that is to be applied.
    Firewall {
        wish: Box<Wish>,
        applied: Option<Firewall>,
        who: String,
        reply: Reply<firewall::Changed>,
    },
    /// Go on with another config.
    Reload {
        loaded: Box<Loaded>,
        wish: ReloadWish,
        who: String,
        reply: Reply<Reloaded>,
    },
}

/// Where the answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Tells the agent what to do.
#[derive(Clone)]
pub(super) struct Commander(mpsc::Sender<Command>);

/// Both ends of a channel for commands.
pub(super) fn channel() -> (Commander, mpsc::Receiver<Command>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Commander(sender), receiver)
}

impl Commander {
    /// Changes backends, and waits until it is done. Not to be called where waiting is forbidden.
    pub(super) fn act(&self, pattern: Pattern, act: Act, who: String) -> Result<Changes, Refusal> {
        self.ask(|reply| Command::Act {
            pattern,
            act,
            who,
            reply,
        })
    }

    /// As [`Commander::act`], for the firewall.
    pub(super) fn change_firewall(
        &self,
        wish: Wish,
        applied: Option<Firewall>,
        who: String,
    ) -> Result<firewall::Changed, Refusal> {
        self.ask(|reply| Command::Firewall {
            wish: Box::new(wish),
            applied,
            who,
            reply,
        })
    }

    /// As [`Commander::act`], for another config.
    pub(super) fn reload(
        &self,
        loaded: Loaded,
        wish: ReloadWish,
        who: String,
    ) -> Result<Reloaded, Refusal> {
        self.ask(|reply| Command::Reload {
            loaded: Box::new(loaded),
            wish,
            who,
            reply,
        })
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Refusal::new(Fault::Failed, "the agent is stopping");
        self.0
            .blocking_send(command(reply))
            .map_err(|_| stopping())?;
        answer.blocking_recv().map_err(|_| stopping())?
    }
}
