//! The flow table at both ends: flows that are to be told, and flows that peers told of.

use lb_common::{
    abi::{Settings, Ticks},
    flow::{
        Bucket, CLOSED_SECONDS, FlowEntry, FlowView, Inserted, NewFlow, Path, Place, Sides, find,
        locate,
    },
    host::FlowMemory,
    ports,
    tables::FlowTable,
};

use super::{
    directory::{Directory, Sender},
    tally::Fate,
    wire::Record,
};
use crate::dataplane::Words;

/// Ticks by which two balancers may differ in when a flow was seen last, for the same packet.
const SLACK: u32 = 2;

/// The tables while a thread works on them.
pub(super) struct Tables<'t> {
    pub(super) settings: Settings,
    pub(super) established: &'t [Bucket],
    /// Bitmap and owners of source ports, with full NAT.
    pub(super) ports: Option<(Words, Words)>,
}

impl<'t> Tables<'t> {
    fn memory(&self, now: Ticks) -> FlowMemory<'t> {
        FlowMemory {
            settings: self.settings,
            now,
            established: self.established,
            half_open: &[],
            before_publishing: || {},
        }
    }

    /// Asks for the memory of flows that will be looked at next.
    pub(super) fn ask_for(&self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            let [first, _] = place.buckets(&self.settings);
            if let Some(bucket) = self.established.get(first as usize) {
                bucket.ask_for(place);
            }
        }
    }

    /// Where a flow belongs that a peer tells of.
    pub(super) fn place_of(&self, record: &Record) -> Place {
        Place::of(
            &self.settings,
            record.client,
            record.client_port,
            record.protocol,
        )
    }

    /// The flows at a place that the data path told of by its mark.
    pub(super) fn told(&self, mark: u64, mut each: impl FnMut(&FlowView)) {
        let place = Place::from_hash(mark);
        let [first, second] = place.buckets(&self.settings);
        for index in [Some(first), (second != first).then_some(second)]
            .into_iter()
            .flatten()
        {
            if let Some(bucket) = self.established.get(index as usize) {
                bucket.views_at(place).for_each(|view| each(&view));
            }
        }
    }

    /// Takes in what a peer tells of a flow. Whoever saw the flow last is right.
    pub(super) fn adopt(
        &self,
        directory: &Directory,
        record: &Record,
        sender: &Sender<'_>,
        now: Ticks,
    ) -> Fate {
        self.try_adopt(directory, record, sender, now)
            .unwrap_or_else(|fate| fate)
    }

    fn try_adopt(
        &self,
        directory: &Directory,
        record: &Record,
        sender: &Sender<'_>,
        now: Ticks,
    ) -> Result<Fate, Fate> {
        let (flow, backend, sides) = directory.flow(record, sender, now)?;
        let is_one_sided = flow.path == Path::ONE_SIDED;
        let is_closed = sides.is_closed(is_one_sided);
        let closed_left = Ticks::from_seconds(CLOSED_SECONDS).0;
        // Of a flow with that end, when it was seen.
        let seen = |expires: Ticks, is_closed: bool| {
            let span = if is_closed {
                closed_left
            } else {
                backend.idle_timeout
            };
            expires.0.wrapping_sub(span)
        };
        let key = &flow.key;
        let place = Place::of(&self.settings, key.client, key.client_port, key.protocol);
        let memory = self.memory(now);
        let is_it = |entry: &FlowEntry| entry.is_flow(key);
        let spot = locate(&memory, FlowTable::Established, place, is_it);
        // Also one that has expired: the data path would find it before another.
        if spot.is_found()
            && let Some(known) = spot.get(&memory, FlowTable::Established, place)
        {
            let entry = known.flow;
            let told = seen(flow.expires, is_closed);
            let here = seen(entry.expires(), entry.is_closed());
            let is_newer = told.wrapping_sub(here) as i32;
            let least = if entry.sides().is_foreign {
                -(SLACK as i32)
            } else if is_closed {
                // An end is told once, may follow soon after the packets that were seen here, and has
                // been rounded on its way.
                -1
            } else {
                SLACK as i32
            };
            if is_newer < least {
                return Ok(Fate::Older);
            }
            if spot.shift(&memory, FlowTable::Established) != flow.shift {
                // Another connection of the same ends.
                known.release(&memory);
                return self.insert(&flow, sides, place, &memory);
            }
            if entry.backend() != flow.backend || entry.path() != flow.path {
                self.take_port(&flow, place)?;
                entry.set_backend(flow.backend);
                entry.set_path(flow.path);
            }
            entry.adopt(sides, flow.own_mac);
            if flow.link.ingress != 0 {
                entry.follow_link(flow.link);
            }
            entry.expire_at(flow.expires);
            return Ok(if is_closed {
                Fate::Ended
            } else {
                Fate::Refreshed
            });
        }
        if is_closed {
            return Ok(Fate::Ended);
        }
        self.insert(&flow, sides, place, &memory)
    }

    fn insert(
        &self,
        flow: &NewFlow,
        sides: Sides,
        place: Place,
        memory: &FlowMemory<'_>,
    ) -> Result<Fate, Fate> {
        self.take_port(flow, place)?;
        if memory.insert(FlowTable::Established, flow) == Inserted::Contended {
            self.give_back(flow, place);
            return Err(Fate::Contended);
        }
        let is_it = |entry: &FlowEntry| entry.is_flow(&flow.key);
        if let Some(made) = find(memory, FlowTable::Established, place, is_it) {
            made.flow.adopt(sides, flow.own_mac);
        }
        Ok(Fate::Inserted)
    }

    /// Takes the source port that a flow has, which may be its own already.
    fn take_port(&self, flow: &NewFlow, place: Place) -> Result<(), Fate> {
        if !flow.path.has_source() {
            return Ok(());
        }
        let (owner, word, bit) = self.port(flow).ok_or(Fate::UnknownSource)?;
        let (words, owners) = self.ports.as_ref().ok_or(Fate::UnknownSource)?;
        let owner = owners.all().get(owner).ok_or(Fate::UnknownSource)?;
        let mark = ports::mark(place);
        if owner.load() == mark {
            return Ok(());
        }
        let word = words.all().get(word).ok_or(Fate::UnknownSource)?;
        if word.fetch_or(bit) & bit != 0 {
            return Err(Fate::PortTaken);
        }
        owner.store(mark);
        Ok(())
    }

    fn give_back(&self, flow: &NewFlow, place: Place) {
        if flow.path.has_source()
            && let Some((owner, word, bit)) = self.port(flow)
            && let Some((words, owners)) = &self.ports
            && let (Some(owner), Some(word)) = (owners.all().get(owner), words.all().get(word))
            && owner.compare_exchange(ports::mark(place), 0)
        {
            word.fetch_and(!bit);
        }
    }

    /// Where the owner of a flow's port stands, its word, and its bit there.
    fn port(&self, flow: &NewFlow) -> Option<(usize, usize, u64)> {
        self.ports.as_ref()?;
        let (source, protocol) = (u32::from(flow.path.address()), flow.key.protocol);
        let port = u16::from_be(flow.path.port());
        Some((
            ports::owner_index(source, protocol, port) as usize,
            ports::word_index(source, protocol, port) as usize,
            1 << (port % 64),
        ))
    }
}

#[cfg(test)]
mod tests;
