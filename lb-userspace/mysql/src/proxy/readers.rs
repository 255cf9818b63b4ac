//! Which replica gets a read: one that has what the session must see.

use std::sync::atomic::Ordering;

use super::{
    least::least, session::Session, settings::Consistency, shared::Shared, trouble::Trouble,
    untold::Ticket, view::View,
};
use crate::{gtid::GtidSet, route::Decision};

/// Servers beyond so many are asked for each time.
const REMEMBERED: usize = 64;

/// What a session must see, and who is known to have it.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    set: Option<GtidSet>,
    /// A bit for each server that has all of it.
    has: u64,
    /// For which of all writes the bits are.
    writes: u64,
    /// Something was written that no server has told of.
    untold: Option<Ticket>,
}

impl Wanted {
    /// The session has written.
    pub(super) fn add(&mut self, set: &GtidSet) {
        match &mut self.set {
            Some(own) => {
                own.union(set);
                own.fill();
            }
            None => self.set = Some(set.clone()),
        }
        self.has = 0;
    }

    /// The session may have written something that it was not told.
    pub(super) const fn add_untold(&mut self, ticket: Ticket) {
        self.untold = Some(ticket);
    }

    /// Takes in everybody's writes.
    fn follow(&mut self, shared: &Shared) {
        let writes = shared.writes();
        if self.writes != writes {
            self.writes = writes;
            self.set = shared.written();
            self.has = 0;
        }
    }

    /// Whether a server has all of it, as far as that is known.
    fn is_at(&mut self, server: usize, view: &View, shared: &Shared) -> bool {
        let Some(set) = &self.set else { return true };
        let bit = if server < REMEMBERED { 1 << server } else { 0 };
        if self.has & bit != 0 || view.primary == Ok(server) {
            return true;
        }
        let applied = view.servers[server].applied.as_deref();
        let has = applied.is_some_and(|applied| applied.contains(set))
            || shared.followed[server].has(set);
        if has {
            self.has |= bit;
        }
        has
    }
}

impl Session {
    /// A replica for a read, by the scheduler: one that has what the session must see, or soon will. None if
    /// the primary has to answer.
    pub(super) async fn reader(
        &mut self,
        view: &View,
        decision: &Decision,
        tries: usize,
    ) -> Option<usize> {
        let same = decision.same_connection || self.state.holds_replica();
        if let Some(server) = self.replica.filter(|_| same && tries == 1) {
            return Some(server);
        }
        let shared = &self.worker.shared;
        let count = view.readers.len();
        let turn = shared.next_turn();
        let in_turn = *view.readers.get(turn.checked_rem(count)?)?;
        let busy = |server: usize| shared.servers[server].under_way.load(Ordering::Relaxed);
        let best = |is_good: &mut dyn FnMut(usize) -> bool| {
            if view.shares.is_empty() {
                let mut all = (0..count).map(|step| view.readers[(turn + step) % count]);
                all.find(|server| is_good(*server))
            } else {
                least(&view.shares, (turn, in_turn), busy, is_good)
            }
        };
        let first = best(&mut |_| true)?;
        let untold = match shared.consistency() {
            Consistency::Eventual => return Some(first),
            Consistency::Session => self.wanted.untold,
            Consistency::Global => shared.untold.last(),
        };
        let most = shared.consistency_timeout();
        if let Some(ticket) = untold {
            let Some(written) = shared.untold.learn(ticket, most).await else {
                shared.count_trouble(Trouble::Behind);
                return None;
            };
            if let Some(written) = &written {
                self.wanted.add(written);
            }
        }
        self.wanted.untold = None;
        if shared.consistency() == Consistency::Global {
            self.wanted.follow(shared);
        }
        let wanted = &mut self.wanted;
        if let Some(server) = best(&mut |server| wanted.is_at(server, view, shared)) {
            return Some(server);
        }
        let set = self.wanted.set.as_ref()?;
        let followed = &shared.followed[first];
        followed.want(set);
        if followed.is_worth_waiting_for() && followed.reached(set, most).await {
            return Some(first);
        }
        shared.count_trouble(Trouble::Behind);
        None
    }
}
