//! Who the primary is.

use std::time::Duration;

use super::{
    Doubt, Health, Identity, IoThread, NoPrimary, WantedRole,
    facts::{Facts, Rivalry},
};
use crate::gtid::GtidSet;

/// The primary that was settled on last.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) server: usize,
    /// Nothing where a former agent told of it and it has not been seen yet.
    pub(super) identity: Option<Identity>,
    /// What it was last seen to have.
    pub(super) executed: Option<GtidSet>,
    /// When it was last seen to take writes.
    pub(super) wrote: Duration,
}

/// Who it is, or why nobody; and servers that take writes beside it.
pub(super) type Decision = (Result<usize, NoPrimary>, Vec<usize>);

/// Decides.
pub(super) fn decide(facts: &Facts<'_>, known: Option<&Known>) -> Decision {
    let alone = |primary| (primary, Vec::new());
    if facts.memory.len() == 1 {
        return alone(only(facts));
    }
    if let Some(configured) = facts
        .indices()
        .find(|server| facts.own(*server).role == WantedRole::Primary)
    {
        let rivals = candidates(facts);
        let rivals = rivals.into_iter().filter(|rival| *rival != configured);
        return (as_told(facts, configured), rivals.collect());
    }
    let mut takers = candidates(facts);
    if let Some(known) = known
        && takers.contains(&known.server)
        && is_still(facts, known)
    {
        takers.retain(|server| *server != known.server);
        return (Ok(known.server), takers);
    }
    // Also a former agent's word holds until all have been asked.
    if facts
        .indices()
        .any(|server| facts.health(server) == Health::Checking)
    {
        return alone(Err(NoPrimary::Starting));
    }
    if known.is_none()
        && let Some(mixed) = two_families(facts)
    {
        return alone(Err(mixed));
    }
    match takers.as_slice() {
        [] => alone(Err(nobody(facts, known))),
        [only] => alone(match doubt(facts, known, *only) {
            None => Ok(*only),
            Some(doubt) => Err(NoPrimary::Doubtful(facts.name(*only), doubt)),
        }),
        several => {
            // A former primary that returns does not spoil what is clear without it.
            let mut clear = several
                .iter()
                .filter(|server| known.is_some() && doubt(facts, known, **server).is_none());
            if let (Some(&only), None) = (clear.next(), clear.next()) {
                takers.retain(|server| *server != only);
                return (Ok(only), takers);
            }
            let names = several.iter().map(|server| facts.name(*server));
            (Err(NoPrimary::Unclear(names.collect())), takers)
        }
    }
}

/// A list of one server: whatever it is, the application would talk to it.
fn only(facts: &Facts<'_>) -> Result<usize, NoPrimary> {
    match facts.health(0) {
        Health::Checking => Err(NoPrimary::Starting),
        Health::Down(trouble) => Err(NoPrimary::Lost(facts.name(0), trouble)),
        Health::Up | Health::Failing(_) => Ok(0),
    }
}

/// The one that the config names.
fn as_told(facts: &Facts<'_>, server: usize) -> Result<usize, NoPrimary> {
    match facts.health(server) {
        Health::Checking => Err(NoPrimary::Starting),
        Health::Down(trouble) => Err(NoPrimary::Lost(facts.name(server), trouble)),
        Health::Up | Health::Failing(_) if facts.takes_writes(server) => Ok(server),
        Health::Up | Health::Failing(_) => Err(not_writing(facts, server)),
    }
}

fn not_writing(facts: &Facts<'_>, server: usize) -> NoPrimary {
    let name = facts.name(server);
    match facts.up(server) {
        Some(seen) if seen.offline => NoPrimary::Offline(name),
        Some(_) | None => NoPrimary::ReadOnly(name),
    }
}

/// Servers that take writes and are no replicas.
pub(super) fn candidates(facts: &Facts<'_>) -> Vec<usize> {
    let takers: Vec<usize> = facts
        .indices()
        .filter(|server| facts.may_be_primary(*server) && facts.takes_writes(*server))
        .collect();
    let is_replica = |server: usize| {
        facts.live_sources(server).any(|source| {
            // Two that copy from each other: it is the one of them that takes writes.
            let is_mutual = facts.follows(source, server);
            !is_mutual && takers.contains(&source)
        })
    };
    let free = takers.iter().copied().filter(|server| !is_replica(*server));
    free.collect()
}

/// Whether the known primary is the server that it was.
pub(super) fn is_still(facts: &Facts<'_>, known: &Known) -> bool {
    match (known.identity, facts.identity(known.server)) {
        (Some(known), Some(now)) => known.is(&now),
        (Some(_) | None, _) => true,
    }
}

fn two_families(facts: &Facts<'_>) -> Option<NoPrimary> {
    let mut seen = facts.indices().filter_map(|server| {
        let version = facts.up(server)?.version.clone();
        Some((facts.name(server), version))
    });
    let one = seen.next()?;
    let other = seen.find(|(_, version)| version.family != one.1.family)?;
    Some(NoPrimary::TwoFamilies { one, other })
}

fn nobody(facts: &Facts<'_>, known: Option<&Known>) -> NoPrimary {
    let Some(known) = known else {
        return NoPrimary::NobodyTakesWrites;
    };
    let server = known.server;
    match facts.health(server) {
        Health::Checking => NoPrimary::Starting,
        Health::Down(trouble) => NoPrimary::Lost(facts.name(server), trouble),
        Health::Up | Health::Failing(_) if facts.takes_writes(server) => {
            NoPrimary::Demoted(facts.name(server))
        }
        Health::Up | Health::Failing(_) => not_writing(facts, server),
    }
}

/// What speaks against the only server that takes writes.
fn doubt(facts: &Facts<'_>, known: Option<&Known>, server: usize) -> Option<Doubt> {
    let seen = facts.up(server)?;
    let memory = &facts.memory[server];
    // Somebody turned it since the primary took writes last: that is a promotion.
    let was_turned = known.is_some_and(|known| {
        let turned = memory.turned;
        turned.is_some_and(|turned| turned > known.wrote)
    });
    // It would copy on as soon as its source is back. One that is reached and takes no writes, or
    // copies from this one, is no reason.
    if let Some(source) = facts
        .live_sources(server)
        .find(|source| facts.up(*source).is_none() && !was_turned)
    {
        return Some(Doubt::StillReplica(facts.name(source)));
    }
    let Some(known) = known else {
        let stopped = seen.channels().iter().filter_map(|one| facts.source(one));
        let gone = stopped
            .into_iter()
            .find(|source| facts.up(*source).is_none());
        return gone.map(|source| Doubt::StillReplica(facts.name(source)));
    };
    let primary = facts.name(known.server);
    let known_has = known.executed.as_ref().filter(|set| !set.is_empty());
    let (has_all, is_related) = match (&seen.executed, known_has) {
        (Some(own), Some(known)) => (has_surely(own, known), own.meets(known)),
        (_, None) | (None, Some(_)) => (false, true),
    };
    if !is_related {
        return Some(Doubt::Stranger(primary));
    }
    let mut channels = seen.channels().iter();
    let left = channels.find(|channel| facts.source(channel) == Some(known.server));
    if let Some(channel) = left.filter(|_| known.server != server && !was_turned) {
        if memory.is_careless {
            return Some(Doubt::Careless(primary));
        }
        let is_broken = channel.io_error.is_some() || channel.sql_error.is_some();
        if is_broken && channel.io == IoThread::Stopped && !has_all {
            return Some(Doubt::Broken(primary));
        }
    }
    if let Some(had) = &memory.deposed {
        // What the next primary wrote can only be there if it was copied from it.
        let has_joined = has_all
            && had
                .as_ref()
                .zip(known_has)
                .is_some_and(|(had, known)| !had.contains(known));
        if !has_joined {
            return Some(Doubt::Deposed(primary));
        }
    }
    let is_gone = facts.up(known.server).is_none();
    let is_followed = || {
        let mut others = facts.indices().filter(|other| *other != server);
        others.any(|other| facts.up(other).is_some() && facts.follows(other, server))
    };
    // Also if it has all that the primary was seen to have: that may have written since.
    if memory.rivalry == Rivalry::Certain && is_gone && !is_followed() {
        return Some(Doubt::Rival(primary));
    }
    None
}

/// Whether a server has all that the primary had. Of two MariaDB servers that both wrote, positions
/// do not tell; only the same position does.
fn has_surely(own: &GtidSet, known: &GtidSet) -> bool {
    match (own, known) {
        (GtidSet::MariaDb(own), GtidSet::MariaDb(known)) => known
            .positions()
            .iter()
            .all(|position| own.position(position.domain) == Some(*position)),
        (GtidSet::MySql(_) | GtidSet::MariaDb(_), _) => own.contains(known),
    }
}
