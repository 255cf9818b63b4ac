//! What is new, as sentences for the log.

use std::{fmt, mem::discriminant};

use super::{
    Health, Name, NoPrimary, NoReads, Primary, Reads, Trouble, Version, View, view::listed,
};
use crate::gtid::GtidSet;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warn,
    /// Writes do not go on, or transactions are lost.
    Error,
}

/// Something that changed; each is told once.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// There is a primary, the first one since the start.
    Found(Name, Option<Version>),
    /// Another is the primary.
    Changed {
        /// Until now.
        from: Name,
        /// From now on.
        to: Name,
        /// The new epoch.
        epoch: u64,
    },
    /// The former primary had transactions that the new one lacks.
    TransactionsLost {
        /// The former one.
        from: Name,
        /// The new one.
        to: Name,
        /// What it had.
        lost: GtidSet,
    },
    /// Nobody takes writes any more.
    Gone(NoPrimary),
    /// The same as before does again.
    Back(Name),
    /// Another address has the same name, or another server the address.
    OtherServer(Name),
    /// Others take writes beside the primary.
    Rivals {
        /// The one that is kept, if there is one.
        kept: Option<Name>,
        /// The others.
        rivals: Vec<Name>,
    },
    /// They do no more.
    RivalsGone,
    /// A replica that is not read-only.
    WritableReplica(Name),
    /// A server has transactions that the primary does not have.
    Differs(Name, GtidSet),
    /// A server is not reached any more.
    Down(Name, Trouble),
    /// It is again.
    Up(Name),
    /// A server may be read from.
    ReadsBegin(Name),
    /// It may not.
    ReadsEnd(Name, NoReads),
}

impl Event {
    /// How much it matters.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Found(..) | Self::Back(_) | Self::Up(_) | Self::ReadsBegin(_) => Level::Info,
            Self::RivalsGone => Level::Info,
            Self::Gone(NoPrimary::Starting) => Level::Info,
            Self::Changed { .. } | Self::OtherServer(_) | Self::WritableReplica(_) => Level::Warn,
            Self::Differs(..) => Level::Warn,
            Self::Down(..) | Self::ReadsEnd(..) => Level::Warn,
            Self::TransactionsLost { .. } | Self::Gone(_) | Self::Rivals { .. } => Level::Error,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(name, Some(version)) => write!(f, "the primary is {name} ({version})"),
            Self::Found(name, None) => write!(f, "the primary is {name}"),
            Self::Changed { from, to, epoch } if from == to => write!(
                f,
                "the primary {to} is another server than it was: writes go there (epoch {epoch})"
            ),
            Self::Changed { from, to, epoch } => write!(
                f,
                "the primary is {to} now, no longer {from}: writes go there (epoch {epoch})"
            ),
            Self::TransactionsLost { from, to, lost } => write!(
                f,
                "{from} had transactions that {to}, the new primary, does not have: {lost}"
            ),
            Self::Gone(why) => write!(f, "there is no primary, writes wait: {why}"),
            Self::Back(name) => write!(f, "the primary {name} takes writes again"),
            Self::OtherServer(name) => {
                write!(
                    f,
                    "another server answers at the address of {name} than before"
                )
            }
            Self::Rivals { kept, rivals } => {
                let rivals = listed(rivals);
                match kept {
                    Some(kept) => write!(
                        f,
                        "more than one server takes writes: {kept}, which is the primary, and \
                         {rivals}; writes go to {kept} only (set read_only on the one that is wrong)"
                    ),
                    None => write!(
                        f,
                        "more than one server takes writes: {rivals}; none gets any until that is \
                         clear"
                    ),
                }
            }
            Self::RivalsGone => f.write_str("one server at most takes writes again"),
            Self::WritableReplica(name) => write!(
                f,
                "{name} is a replica and takes writes all the same: set read_only on it, or a write \
                 by mistake makes it differ from the primary"
            ),
            Self::Differs(name, own) => write!(
                f,
                "{name} has transactions that the primary does not have: {own}; what it answers may \
                 differ (somebody wrote to it, or it was the primary and they were lost)"
            ),
            Self::Down(name, trouble) => write!(f, "{name} is down: {trouble}"),
            Self::Up(name) => write!(f, "{name} is up"),
            Self::ReadsBegin(name) => write!(f, "{name} gets reads"),
            Self::ReadsEnd(name, why) => write!(f, "{name} gets no reads: {why}"),
        }
    }
}

/// What changed from one view to the next; and what the former primary had that the new one lacks.
pub(super) fn between(before: &View, after: &View, lost: Option<&(Name, GtidSet)>) -> Vec<Event> {
    let mut events = Vec::new();
    for (one, other) in before.servers.iter().zip(&after.servers) {
        let name = || other.name.clone();
        match (&one.health, &other.health) {
            (Health::Down(_), Health::Down(_)) => {}
            (_, Health::Down(trouble)) => events.push(Event::Down(name(), trouble.clone())),
            (Health::Down(_), Health::Up) => events.push(Event::Up(name())),
            (Health::Checking | Health::Up | Health::Failing(_) | Health::Down(_), _) => {}
        }
        if let (Some(was), Some(is)) = (one.identity, other.identity)
            && !was.is(&is)
        {
            events.push(Event::OtherServer(name()));
        }
    }
    primaries(before, after, lost, &mut events);
    rivals(before, after, &mut events);
    for (index, (one, other)) in before.servers.iter().zip(&after.servers).enumerate() {
        let is_careless = |view: &View| {
            let server = &view.servers[index];
            let is_replica = server.source.is_some() && view.primary() != Some(index);
            is_replica && server.read_only == Some(false) && !view.rivals.contains(&index)
        };
        if is_careless(after) && !is_careless(before) {
            events.push(Event::WritableReplica(other.name.clone()));
        }
        if let (None, Some(own)) = (&one.own, &other.own)
            && !after.rivals.contains(&index)
        {
            events.push(Event::Differs(other.name.clone(), own.clone()));
        }
        reads(&one.reads, other, &mut events);
    }
    events
}

fn primaries(before: &View, after: &View, lost: Option<&(Name, GtidSet)>, events: &mut Vec<Event>) {
    let name = |index: usize| after.servers[index].name.clone();
    match (&before.primary, &after.primary) {
        (Primary::Server(_), Primary::Nobody(why)) => events.push(Event::Gone(why.clone())),
        (Primary::Nobody(old), Primary::Nobody(new)) if discriminant(old) != discriminant(new) => {
            events.push(Event::Gone(new.clone()));
        }
        (Primary::Nobody(_), Primary::Nobody(_)) => {}
        (_, Primary::Server(new)) if before.epoch == after.epoch => {
            if before.primary != after.primary {
                events.push(Event::Back(name(*new)));
            }
        }
        (_, Primary::Server(new)) => {
            let version = after.servers[*new].version.clone();
            events.push(match after.former.clone() {
                Some(from) => Event::Changed {
                    from,
                    to: name(*new),
                    epoch: after.epoch,
                },
                None => Event::Found(name(*new), version),
            });
            if let Some((from, lost)) = lost {
                events.push(Event::TransactionsLost {
                    from: from.clone(),
                    to: name(*new),
                    lost: lost.clone(),
                });
            }
        }
    }
}

fn rivals(before: &View, after: &View, events: &mut Vec<Event>) {
    if after.rivals == before.rivals {
        return;
    }
    if after.rivals.is_empty() {
        events.push(Event::RivalsGone);
        return;
    }
    let name = |index: usize| after.servers[index].name.clone();
    events.push(Event::Rivals {
        kept: after.primary().map(name),
        rivals: after.rivals.iter().copied().map(name).collect(),
    });
}

fn reads(before: &Reads, after: &super::ServerView, events: &mut Vec<Event>) {
    let name = after.name.clone();
    match (before, &after.reads) {
        (Reads::Yes { .. }, Reads::Yes { .. }) => {}
        (Reads::No(_), Reads::Yes { .. }) => events.push(Event::ReadsBegin(name)),
        // That it is down has been said.
        (_, Reads::No(NoReads::Down(_) | NoReads::Checking)) => {}
        (Reads::No(old), Reads::No(new)) if discriminant(old) == discriminant(new) => {}
        (_, Reads::No(why)) => events.push(Event::ReadsEnd(name, why.clone())),
    }
}
