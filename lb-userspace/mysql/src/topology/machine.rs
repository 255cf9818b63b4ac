//! The machine: remembers, judges, tells what is new.

use std::time::Duration;

use super::{
    Event, Identity, IoThread, Name, NoPrimary, Observation, Primary, Remembered, Role, ServerView,
    Settings, Trouble, View,
    decide::{Known, candidates, decide, is_still},
    event,
    facts::{Facts, Memory, Rivalry},
    history::History,
    reads::{self, Root},
};

/// Who is the primary and who may be read from, from what is seen of each server.
#[derive(Clone, Debug)]
pub struct Topology {
    settings: Settings,
    memory: Vec<Memory>,
    known: Option<Known>,
    former: Option<Name>,
    epoch: u64,
    history: History,
    view: View,
}

impl Topology {
    /// Nothing has been seen yet.
    #[must_use]
    pub fn new(settings: Settings, remembered: Option<&Remembered>) -> Self {
        let memory = vec![Memory::default(); settings.servers.len()];
        let known = remembered.and_then(|remembered| {
            let mut servers = settings.servers.iter();
            let server = servers.position(|server| *server.name == *remembered.name)?;
            Some(Known {
                server,
                identity: identity_of(&remembered.identity),
                executed: None,
                wrote: Duration::ZERO,
            })
        });
        let epoch = remembered.map_or(0, |remembered| remembered.epoch);
        let mut topology = Self {
            view: View {
                epoch,
                primary: Primary::Nobody(NoPrimary::Starting),
                former: None,
                rivals: Vec::new(),
                servers: Vec::new(),
                ask_again: false,
            },
            history: History::new(settings.max_lag),
            settings,
            memory,
            known,
            former: None,
            epoch,
        };
        topology.view = topology.look(Duration::ZERO, Err(NoPrimary::Starting), Vec::new());
        topology
    }

    /// Goes by another lag and other weights, in the servers' order, from the next judgement on.
    pub fn tune(&mut self, max_lag: Duration, weights: impl Iterator<Item = u16>) {
        self.settings.max_lag = max_lag;
        self.history.follow(max_lag);
        for (server, weight) in self.settings.servers.iter_mut().zip(weights) {
            server.weight = weight;
        }
    }

    /// How all is judged now.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// What the next agent should know, when there is something.
    #[must_use]
    pub fn remembered(&self) -> Option<Remembered> {
        let known = self.known.as_ref()?;
        let identity = known.identity?;
        Some(Remembered {
            name: self.settings.servers[known.server].name.to_string(),
            identity: match identity.uuid {
                Some(uuid) => uuid.to_string(),
                None => identity.server_id.to_string(),
            },
            epoch: self.epoch,
        })
    }

    /// A server was asked, and answered or did not. Tells what is new.
    ///
    /// A place that is not in the list changes nothing.
    pub fn observe(
        &mut self,
        now: Duration,
        server: usize,
        seen: Result<Observation, Trouble>,
    ) -> Vec<Event> {
        let Some(memory) = self.memory.get_mut(server) else {
            return Vec::new();
        };
        match seen {
            Ok(seen) => self.remember(now, server, seen),
            Err(trouble) => {
                let count = memory.failing.as_ref().map_or(0, |(count, _)| *count);
                memory.failing = Some((count.saturating_add(1), trouble));
            }
        }
        self.judge(now)
    }

    /// Time has passed without an answer from anybody.
    pub fn tick(&mut self, now: Duration) -> Vec<Event> {
        self.judge(now)
    }

    fn facts(&self, now: Duration) -> Facts<'_> {
        Facts {
            settings: &self.settings,
            memory: &self.memory,
            now,
        }
    }

    fn remember(&mut self, now: Duration, server: usize, seen: Observation) {
        let before = self.memory[server].last.as_ref().map(|(_, seen)| seen);
        let is_same = before.is_none_or(|before| before.identity.is(&seen.identity));
        // One that was away may only have read another word in its file.
        let was_turned = is_same
            && self.memory[server].failing.is_none()
            && before.is_some_and(|before| before.read_only);
        let (read_only, known) = (seen.read_only, self.known.as_ref());
        let memory = &mut self.memory[server];
        if !is_same {
            *memory = Memory::default();
        }
        let mut channels = seen.channels().iter();
        if channels.any(|channel| channel.io == IoThread::Running) {
            memory.cut_off = None;
        } else {
            memory.cut_off = memory.cut_off.or(Some(now));
        }
        memory.last = Some((now, seen));
        memory.failing = None;
        memory.turned = memory.turned.filter(|_| !read_only);
        if was_turned && !read_only {
            // Somebody wants it to take writes, whatever it did before.
            memory.turned = Some(now);
            memory.deposed = None;
            memory.is_careless = false;
            memory.rivalry = Rivalry::None;
        }
        let facts = self.facts(now);
        let live: Vec<usize> = facts.live_sources(server).collect();
        let is_replica = live.iter().any(|source| !facts.follows(*source, server));
        let is_candidate = candidates(&facts).contains(&server);
        let is_known = known.is_some_and(|known| known.server == server);
        let known_writes = known.is_some_and(|known| facts.takes_writes(known.server));
        let joined = known.is_some_and(|known| facts.follows(server, known.server));
        let memory = &mut self.memory[server];
        memory.is_careless |= is_replica && !read_only;
        if joined {
            memory.deposed = None;
            memory.rivalry = Rivalry::None;
        } else if !is_known && is_candidate && known_writes && memory.rivalry == Rivalry::None {
            memory.rivalry = Rivalry::Since(now);
        }
        if is_known && is_candidate {
            for other in &mut self.memory {
                if matches!(other.rivalry, Rivalry::Since(since) if since < now) {
                    other.rivalry = Rivalry::Certain;
                }
            }
        }
    }

    fn judge(&mut self, now: Duration) -> Vec<Event> {
        let (primary, rivals) = decide(&self.facts(now), self.known.as_ref());
        let mut lost = None;
        if let Ok(server) = primary {
            lost = self.settle(now, server);
        }
        let view = self.look(now, primary, rivals);
        let events = event::between(&self.view, &view, lost.as_ref());
        self.view = view;
        events
    }

    /// Takes a server for the primary; tells what the new one lacks of what the former had.
    fn settle(&mut self, now: Duration, server: usize) -> Option<(Name, crate::gtid::GtidSet)> {
        let (at, seen) = self.memory[server].last.as_ref()?;
        let (at, identity, executed) = (*at, seen.identity, seen.executed.clone());
        let before = self.known.take();
        let is_same = before.as_ref().is_some_and(|known| {
            let known_as = known.identity;
            known.server == server && known_as.is_none_or(|known| known.is(&identity))
        });
        let mut lost = None;
        if !is_same {
            self.epoch += 1;
            self.history.clear();
            if let Some(before) = &before {
                self.former = Some(self.settings.servers[before.server].name.clone());
                let joined = self.facts(now).follows(before.server, server);
                if before.server != server {
                    self.memory[before.server].deposed =
                        (!joined).then_some(before.executed.clone());
                }
                lost = before
                    .executed
                    .as_ref()
                    .zip(executed.as_ref())
                    .and_then(|(had, has)| {
                        let lost = had.without(has);
                        let name = self.settings.servers[before.server].name.clone();
                        (!lost.is_empty()).then_some((name, lost))
                    });
            }
            let memory = &mut self.memory[server];
            memory.deposed = None;
            memory.rivalry = Rivalry::None;
        }
        // Only a new answer tells what it has; an old one is in the history already.
        if let Some(set) = &executed
            && (!is_same || at > self.history.until() || self.history.newest().is_none())
        {
            self.history.add(at, set);
        }
        let wrote = self.facts(now).takes_writes(server);
        let before = before.filter(|_| is_same);
        self.known = Some(Known {
            server,
            identity: Some(identity),
            wrote: match before {
                Some(before) if !wrote => before.wrote,
                Some(_) | None => at,
            },
            executed,
        });
        lost
    }

    fn look(&self, now: Duration, primary: Result<usize, NoPrimary>, rivals: Vec<usize>) -> View {
        let facts = self.facts(now);
        let root = match (&primary, &self.known) {
            (Ok(server), _) => Root::Server(*server),
            (Err(NoPrimary::Starting), _) => Root::Starting,
            (Err(_), Some(known)) if is_still(&facts, known) => Root::Server(known.server),
            (Err(_), Some(_)) | (Err(NoPrimary::TwoFamilies { .. }), None) => Root::Unclear,
            (Err(_), None) => reads::common_end(&facts),
        };
        let is_primary = primary.as_ref().ok().copied();
        let servers = facts.indices().map(|server| {
            let (reads, lag) =
                reads::reads(&facts, (root, is_primary), &rivals, (server, &self.history));
            let last = facts.last(server);
            let channels = last.map_or(&[][..], |seen| seen.channels());
            let mut of_list = channels.iter();
            let followed = of_list.find(|channel| facts.source(channel).is_some());
            let is_replica = !channels.is_empty() && !rivals.contains(&server);
            ServerView {
                name: facts.name(server),
                role: match is_primary {
                    Some(primary) if primary == server => Role::Primary,
                    Some(_) | None if is_replica => Role::Replica,
                    Some(_) | None => Role::Unknown,
                },
                health: facts.health(server),
                reads,
                lag,
                read_only: last.map(|seen| seen.read_only),
                refuses_all: last.is_some_and(|seen| seen.super_read_only),
                logs: last.map(|seen| seen.logs),
                version: last.map(|seen| seen.version.clone()),
                identity: facts.identity(server),
                executed: last.and_then(|seen| seen.executed.clone()),
                own: is_primary.and_then(|primary| facts.only_at(server, primary)),
                source: followed.and_then(|channel| facts.source(channel)),
                channel: followed.or(channels.first()).cloned(),
            }
        });
        let servers: Vec<ServerView> = servers.collect();
        let is_unsure = self
            .memory
            .iter()
            .any(|memory| matches!(memory.rivalry, Rivalry::Since(_)) || memory.is_uncertain());
        View {
            epoch: self.epoch,
            ask_again: is_unsure || (primary.is_err() && self.known.is_some()),
            primary: match primary {
                Ok(server) => Primary::Server(server),
                Err(why) => Primary::Nobody(why),
            },
            former: self.former.clone(),
            rivals,
            servers,
        }
    }
}

fn identity_of(text: &str) -> Option<Identity> {
    let uuid = crate::gtid::Uuid::parse(text.as_bytes());
    match (uuid, text.parse()) {
        (Some(_), _) => Some(Identity { uuid, server_id: 0 }),
        (None, Ok(server_id)) => Some(Identity { uuid, server_id }),
        (None, Err(_)) => None,
    }
}
