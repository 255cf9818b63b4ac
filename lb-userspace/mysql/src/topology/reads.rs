//! Which servers may be read from.

use std::time::Duration;

use super::{Channel, Channels, Health, IoThread, NoReads, Reads, facts::Facts, history::History};

/// Where all changes come from, as far as reads are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// This server: the primary, or the last one that was.
    Server(usize),
    /// This server, where all replicas copy from; it is not known to have been a primary.
    End(usize),
    /// That is not clear.
    Unclear,
    /// Not every server has been asked yet.
    Starting,
}

/// Where all replicas that are reached copy from in the end, if it is one.
pub(super) fn common_end(facts: &Facts<'_>) -> Root {
    let mut ends = facts.indices().filter_map(|server| {
        let first = facts.up(server)?.channels().iter();
        first.filter_map(|channel| facts.source(channel)).next()?;
        Some(end(facts, server))
    });
    match ends.next() {
        Some(first) if ends.all(|other| other == first) => Root::End(first),
        Some(_) | None => Root::Unclear,
    }
}

fn end(facts: &Facts<'_>, mut server: usize) -> usize {
    // More steps than servers are a circle; any of it is its end.
    for _ in facts.indices() {
        let channels = facts.last(server).map_or(&[][..], |seen| seen.channels());
        let next = channels.iter().find_map(|channel| facts.source(channel));
        match next {
            Some(source) if source != server => server = source,
            Some(_) | None => break,
        }
    }
    server
}

/// Whether a server may be read from, and how far it is behind.
pub(super) fn reads(
    facts: &Facts<'_>,
    (root, primary): (Root, Option<usize>),
    rivals: &[usize],
    (server, history): (usize, &History),
) -> (Reads, Option<Duration>) {
    let behind = behind(facts, root, rivals, (server, history));
    let lag = match &behind {
        Ok(lag) | Err(NoReads::Lag(lag)) => Some(*lag),
        Err(_) => None,
    };
    let weight = facts.own(server).weight;
    let reads = match behind {
        Err(why) => Reads::No(why),
        Ok(lag) if lag > facts.settings.max_lag => Reads::No(NoReads::Lag(lag)),
        Ok(_) if weight == 0 && primary != Some(server) => Reads::No(NoReads::NoWeight),
        Ok(_) => Reads::Yes { weight },
    };
    (reads, lag)
}

fn behind(
    facts: &Facts<'_>,
    root: Root,
    rivals: &[usize],
    (server, history): (usize, &History),
) -> Result<Duration, NoReads> {
    let seen = match facts.health(server) {
        Health::Checking => return Err(NoReads::Checking),
        Health::Down(trouble) => return Err(NoReads::Down(trouble)),
        Health::Up | Health::Failing(_) => facts.up(server).ok_or(NoReads::Checking)?,
    };
    if seen.offline {
        return Err(NoReads::Offline);
    }
    if let Some(other) = facts.same_as(server) {
        return Err(NoReads::SameAs(facts.name(other)));
    }
    if rivals.contains(&server) {
        return Err(NoReads::Rival);
    }
    let end = match root {
        Root::Server(end) if end == server => return Ok(Duration::ZERO),
        Root::End(end) if end == server => return Err(NoReads::NoReplica),
        Root::Server(end) | Root::End(end) => end,
        Root::Unclear => return Err(NoReads::Unclear),
        Root::Starting => return Err(NoReads::Checking),
    };
    if let Some(primary) = facts.last(end)
        && primary.version.family != seen.version.family
    {
        return Err(NoReads::OtherFamily(seen.version.clone()));
    }
    let told = way(facts, server, end, facts.memory.len())?;
    let proven = match (&facts.memory[server].last, &seen.executed) {
        (Some((at, _)), Some(set)) => {
            // A primary that is gone has no more than when it was seen last.
            let at = match facts.up(end) {
                Some(_) => *at,
                None => history.until().min(*at),
            };
            history.lag(at, set)
        }
        (Some(_) | None, _) => Duration::ZERO,
    };
    Ok(told.max(proven))
}

/// What the servers say of the way from the root to a server, which may be of so many steps.
fn way(facts: &Facts<'_>, server: usize, root: usize, steps: usize) -> Result<Duration, NoReads> {
    let seen = match facts.health(server) {
        Health::Checking => return Err(NoReads::Checking),
        Health::Down(trouble) => return Err(NoReads::Down(trouble)),
        Health::Up | Health::Failing(_) => facts.up(server).ok_or(NoReads::Checking)?,
    };
    let channels = match &seen.channels {
        Channels::Known(channels) => channels,
        Channels::Unknown(why) => return Err(NoReads::Untold(why.clone())),
    };
    let mut first_wrong = None;
    for channel in channels {
        let Some(source) = facts.source(channel) else {
            continue;
        };
        match step(facts, channel, (server, source, root), steps) {
            Ok(lag) => return Ok(lag),
            Err(why) => first_wrong = first_wrong.or(Some(why)),
        }
    }
    Err(match (first_wrong, channels.first()) {
        (Some(why), _) => why,
        (None, Some(channel)) => {
            NoReads::ForeignSource(format!("{}:{}", channel.host, channel.port))
        }
        (None, None) => NoReads::NoReplica,
    })
}

fn step(
    facts: &Facts<'_>,
    channel: &Channel,
    (server, source, root): (usize, usize, usize),
    steps: usize,
) -> Result<Duration, NoReads> {
    if !channel.sql_running {
        return Err(NoReads::ApplierStopped(channel.sql_error.clone()));
    }
    // What is there no more cannot be copied from; the replica has what there was.
    let is_excused = source == root && facts.is_cut_off_by_loss(server, root);
    match channel.io {
        IoThread::Running => {}
        IoThread::Connecting if is_excused => {}
        IoThread::Stopped if is_excused && channel.io_error.is_some() => {}
        IoThread::Connecting => return Err(NoReads::FetcherConnecting(channel.io_error.clone())),
        IoThread::Stopped => return Err(NoReads::FetcherStopped(channel.io_error.clone())),
    }
    let own = channel.lag.unwrap_or_default();
    if source == root {
        return Ok(own);
    }
    let is_end = || {
        let seen = facts.up(source);
        seen.is_some_and(|seen| seen.channels == Channels::Known(Vec::new()))
    };
    if steps == 0 || is_end() {
        return Err(NoReads::OtherPrimary(facts.name(source)));
    }
    let rest = way(facts, source, root, steps - 1);
    let rest = rest.map_err(|why| NoReads::Source(facts.name(source), Box::new(why)))?;
    Ok(own.max(rest))
}
