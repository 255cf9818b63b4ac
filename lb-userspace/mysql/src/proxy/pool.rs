//! Connections to servers that nobody uses at the moment, of one worker.
//!
//! A session that comes back finds the connection it had, with its state, unless somebody else
//! needed it. Who needs one takes, in this order, its own; one whose session is gone, or has only
//! logged in; one that has not been used for a while; a new one. So busy sessions do not take
//! connections from each other, and thousands of idle ones share a few.

use std::time::{Duration, Instant};

use super::connection::{Connection, Key};

/// A connection that was used more recently is its session's still.
const WARM: Duration = Duration::from_millis(200);
/// How long one may lie idle.
const LONGEST: Duration = Duration::from_secs(60);
/// Idle connections that are looked at to find one that fits.
const LOOKS: usize = 64;

/// Idle connections, by server.
#[derive(Debug, Default)]
pub(super) struct Pool {
    servers: Vec<Places>,
}

#[derive(Debug, Default)]
struct Places {
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Where the next search begins.
    hand: usize,
}

impl Pool {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            servers: (0..servers).map(|_| Places::default()).collect(),
        }
    }

    /// Puts a connection away. Where it is, for its session.
    pub(super) fn put(&mut self, mut connection: Connection) -> usize {
        connection.room.turn = None;
        let places = &mut self.servers[connection.server];
        match places.free.pop() {
            Some(place) => {
                places.places[place] = Some(connection);
                place
            }
            None => {
                places.places.push(Some(connection));
                places.places.len() - 1
            }
        }
    }

    /// The session's own, from where it was put.
    pub(super) fn own(&mut self, server: usize, place: usize, session: u64) -> Option<Connection> {
        let places = &mut self.servers[server];
        let is_own =
            matches!(places.places.get(place), Some(Some(found)) if found.owner == session);
        is_own.then(|| places.take(place)).flatten()
    }

    /// One that somebody else had, for the same key.
    pub(super) fn other(
        &mut self,
        server: usize,
        key: &Key,
        now: Instant,
        takes_warm: bool,
    ) -> Option<Connection> {
        let places = &mut self.servers[server];
        let count = places.places.len();
        for _ in 0..count.min(LOOKS) {
            places.hand = (places.hand + 1) % count;
            let Some(found) = &places.places[places.hand] else {
                continue;
            };
            let is_free = takes_warm || is_free(found, now);
            if is_free && *found.key == *key {
                return places.take(places.hand);
            }
        }
        None
    }

    /// Any idle connection of the same capabilities, whoever it was of.
    pub(super) fn any(
        &mut self,
        server: usize,
        key: &Key,
        now: Instant,
        takes_warm: bool,
    ) -> Option<Connection> {
        let places = &mut self.servers[server];
        let count = places.places.len();
        for _ in 0..count.min(LOOKS) {
            places.hand = (places.hand + 1) % count;
            let Some(found) = &places.places[places.hand] else {
                continue;
            };
            let is_free = takes_warm || is_free(found, now);
            let fits = found.key.capabilities == key.capabilities && found.key.is_tls == key.is_tls;
            if is_free && fits {
                return places.take(places.hand);
            }
        }
        None
    }

    /// The one that has been idle for longest, of those nobody has a claim to first.
    pub(super) fn idlest(&mut self, server: usize, now: Instant) -> Option<Connection> {
        let places = &mut self.servers[server];
        let idle = |place: &usize| {
            let found = places.places[*place].as_ref();
            found.map(|found| (found.owner == 0, now.duration_since(found.used)))
        };
        let place = (0..places.places.len()).max_by_key(idle)?;
        places.take(place)
    }

    /// The sessions of these connections are gone, and anybody may have them.
    pub(super) fn disown(&mut self, server: usize, place: usize, session: u64) {
        if let Some(Some(found)) = self.servers[server].places.get_mut(place)
            && found.owner == session
        {
            found.owner = 0;
        }
    }

    /// Closes what has been idle for long, is dead, or is not wanted.
    pub(super) fn sweep(&mut self, now: Instant, mut is_wanted: impl FnMut(&Connection) -> bool) {
        for places in &mut self.servers {
            for place in 0..places.places.len() {
                let Some(found) = &mut places.places[place] else {
                    continue;
                };
                let stays = now.duration_since(found.used) < LONGEST
                    && is_wanted(found)
                    && found.is_alive();
                if !stays && let Some(connection) = places.take(place) {
                    connection.quit();
                }
            }
        }
    }
}

/// Whether nobody loses by it when somebody else takes a connection: its session is gone, has not
/// used it for a while, or has done nothing on it but log in.
fn is_free(found: &Connection, now: Instant) -> bool {
    found.owner == 0 || !found.state.is_used || now.duration_since(found.used) >= WARM
}

impl Places {
    fn take(&mut self, place: usize) -> Option<Connection> {
        let connection = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(connection)
    }
}
