//! Going through a table from beside the data path: copies of flows that are of one piece, and
//! the places of expired flows given back.
//!
//! A place is given back as the data path does it: its tag becomes [`BUSY`] by an atomic
//! compare-and-exchange, so that nobody else fills or frees it, then the flow is made to match
//! nothing, then the place is free. An agent that is killed between these steps leaves a place
//! that nobody can claim any more; whoever sweeps finds it in two rounds, unchanged, and frees it.

use core::{
    hint::black_box,
    sync::atomic::{Ordering, fence},
};

use crate::{
    abi::Ticks,
    address::Address,
    flow::{
        BUCKET_WAYS, ClientLink, FlowKey, NewFlow, Place, Sides,
        table::{BUSY, Bucket, EMPTY},
    },
};

/// How often a flow is read that changes at the same time.
const TRIES: u32 = 4;

/// A copy of a flow, of one piece.
#[derive(Clone, Copy, Debug)]
pub struct FlowView {
    /// Everything that is needed to make it anew.
    pub flow: NewFlow,
    /// Whether it was closed by its sides, see [`FlowEntry::is_closed`].
    pub is_closed: bool,
    /// What its sides said.
    pub sides: Sides,
}

impl FlowView {
    fn of(bucket: &Bucket, way: usize) -> Self {
        let entry = &bucket.ways[way];
        Self {
            flow: NewFlow {
                shift: entry.shift(bucket.shifts[way].load()),
                ..entry.to_new(entry.expires())
            },
            is_closed: entry.is_closed(),
            sides: entry.sides(),
        }
    }

    /// Whether it should be forgotten by then.
    #[must_use]
    pub fn is_expired(&self, now: Ticks) -> bool {
        self.flow.expires < now
    }
}

/// A place that was claimed and not yet filled or freed, and what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    way: usize,
    client: Address,
    client_port: u16,
    link: ClientLink,
    expires: Ticks,
}

/// What [`Bucket::sweep`] found in a place.
#[derive(Clone, Copy, Debug)]
pub enum Swept {
    /// A flow that stays.
    Live(FlowView),
    /// A flow that had expired. Its place is free already.
    Removed(FlowView),
    /// A place that is being filled or freed: a matter of nanoseconds, unless whoever did it died.
    Claimed(Claim),
}

impl Bucket {
    /// Copies of the flows that stand in it, expired ones included. A flow that is being replaced
    /// is left out: it is neither the old one any more nor the new one yet.
    pub fn views(&self) -> impl Iterator<Item = FlowView> {
        (0..BUCKET_WAYS).filter_map(|way| self.view(way))
    }

    /// The same of those that belong to a place.
    pub fn views_at(&self, place: Place) -> impl Iterator<Item = FlowView> {
        (0..BUCKET_WAYS)
            .filter(move |way| self.tags[*way].load() == place.tag())
            .filter_map(|way| self.view(way))
    }

    /// Asks for the memory in which a flow of that place stands or will stand, most likely. Who has
    /// many flows at hand asks for all of them before the first one is looked at: one after the other
    /// they would wait for the memory one by one.
    pub fn ask_for(&self, place: Place) {
        let home = &self.ways[place.way()];
        black_box(self.tags[0].load() | home.expires().0);
    }

    /// Claims every place, as if other CPUs were about to fill all of them.
    #[cfg(any(test, feature = "host"))]
    pub(crate) fn claim_all(&self) {
        for tag in &self.tags {
            tag.store(BUSY);
        }
    }

    /// Frees the places of flows that expired before `deadline`, and tells of everything that
    /// stands there. The deadline has to be some ticks in the past: a CPU that has just found such
    /// a flow may be about to prolong it.
    pub fn sweep(&self, deadline: Ticks, mut each: impl FnMut(Swept)) {
        for (way, tag) in self.tags.iter().enumerate() {
            let found = match tag.load() {
                EMPTY => None,
                BUSY => Some(Swept::Claimed(self.claim(way))),
                tag if self.ways[way].is_expired(deadline) => {
                    self.take(way, tag, deadline).map(Swept::Removed)
                }
                _ => self.view(way).map(Swept::Live),
            };
            if let Some(found) = found {
                each(found);
            }
        }
    }

    /// Frees the place of a flow that is to end, as the data path does with one that it forgets.
    /// Returns whether it stood here.
    pub fn end(&self, key: &FlowKey) -> bool {
        let mut has_ended = false;
        for (tag, entry) in self.tags.iter().zip(&self.ways) {
            let found = tag.load();
            if found & !BUSY == EMPTY || !entry.is_flow(key) || !tag.compare_exchange(found, BUSY) {
                continue;
            }
            // Another flow may have got the place since.
            if !entry.is_flow(key) {
                tag.store(found);
                continue;
            }
            entry.clear();
            fence(Ordering::Release);
            tag.store(EMPTY);
            has_ended = true;
        }
        has_ended
    }

    /// Frees a place that has been claimed for so long, and unchanged, that whoever claimed it
    /// must be dead. Returns whether it still was.
    pub fn give_up(&self, claim: &Claim) -> bool {
        let way = claim.way % BUCKET_WAYS;
        if self.tags[way].load() != BUSY || self.claim(way) != *claim {
            return false;
        }
        self.ways[way].clear();
        fence(Ordering::Release);
        self.tags[way].compare_exchange(BUSY, EMPTY)
    }

    /// A copy of the flow in a place, if there is one. The tag and everything that tells flows
    /// apart are read again afterwards: only if both are what they were, nobody wrote between.
    fn view(&self, way: usize) -> Option<FlowView> {
        let entry = &self.ways[way];
        for _ in 0..TRIES {
            let tag = self.tags[way].load();
            if tag & !BUSY == EMPTY {
                return None;
            }
            fence(Ordering::Acquire);
            let view = FlowView::of(self, way);
            fence(Ordering::Acquire);
            if entry.is_flow(&view.flow.key)
                && entry.backend() == view.flow.backend
                && view.flow.key.protocol != 0
                && self.tags[way].load() == tag
            {
                return Some(view);
            }
        }
        None
    }

    /// Frees a place if its flow has expired.
    fn take(&self, way: usize, tag: u32, deadline: Ticks) -> Option<FlowView> {
        let (cell, entry) = (&self.tags[way], &self.ways[way]);
        if !cell.compare_exchange(tag, BUSY) {
            return None;
        }
        // Since it was looked at, another flow of the same client endpoint, which has the same
        // tag, may have got the place, or a packet may have prolonged the flow.
        if !entry.is_expired(deadline) {
            cell.store(tag);
            return None;
        }
        let view = FlowView::of(self, way);
        entry.clear();
        // Whoever sees the place free must see that it matches nothing, or its own flow would
        // be cleared.
        fence(Ordering::Release);
        cell.store(EMPTY);
        Some(view)
    }

    fn claim(&self, way: usize) -> Claim {
        let entry = &self.ways[way];
        Claim {
            way,
            client: entry.client(),
            client_port: entry.client_port(),
            link: entry.link(),
            expires: entry.expires(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::{
        abi::Settings,
        flow::{Path, Place, Shift, find, insert, locate_at_home},
        host::HostTables,
        tables::{FlowTable, Tables as _},
    };

    const NOW: Ticks = Ticks(1000);
    const TABLE: FlowTable = FlowTable::Established;

    fn flow(client_port: u16, expires: u32) -> NewFlow {
        NewFlow {
            key: FlowKey {
                client: Address::from_v4([198, 51, 100, 7]),
                client_port,
                service: Address::from_v4([203, 0, 113, 10]),
                service_port: 80,
                protocol: 6,
            },
            backend: 5,
            link: ClientLink::default(),
            expires: Ticks(expires),
            path: Path::DIRECT,
            own_mac: 0,
            client_finished: false,
            shift: Shift::NONE,
        }
    }

    fn place(flow: &NewFlow) -> Place {
        Place::of(
            &Settings::default(),
            flow.key.client,
            flow.key.client_port,
            flow.key.protocol,
        )
    }

    /// A table of one bucket with these flows.
    fn tables(flows: &[NewFlow]) -> HostTables {
        let tables = HostTables::new(Settings::default());
        for flow in flows {
            let _ = insert(&tables, TABLE, place(flow), NOW, flow);
        }
        tables
    }

    fn sweep(tables: &HostTables, deadline: u32) -> Vec<Swept> {
        let mut found = Vec::new();
        let bucket = tables.bucket(TABLE, 0).unwrap();
        bucket.sweep(Ticks(deadline), |one| found.push(one));
        found
    }

    fn ports(found: &[Swept]) -> (Vec<u16>, Vec<u16>) {
        let (mut live, mut removed) = (Vec::new(), Vec::new());
        for one in found {
            match one {
                Swept::Live(view) => live.push(view.flow.key.client_port),
                Swept::Removed(view) => removed.push(view.flow.key.client_port),
                Swept::Claimed(_) => {}
            }
        }
        live.sort_unstable();
        removed.sort_unstable();
        (live, removed)
    }

    #[test]
    fn the_expired_go_and_the_others_stay() {
        let flows = [1, 2, 3, 4].map(|port| flow(port, 2000 + u32::from(port)));
        let tables = tables(&flows);
        assert_eq!(
            ports(&sweep(&tables, 2003)),
            ([3, 4].to_vec(), [1, 2].to_vec())
        );
        assert_eq!(ports(&sweep(&tables, 2003)), ([3, 4].to_vec(), Vec::new()));
        for one in &flows {
            let found = find(&tables, TABLE, place(one), |entry| entry.is_flow(&one.key));
            assert_eq!(found.is_some(), one.key.client_port >= 3, "{one:?}");
            // Which does not look at tags.
            let at_home =
                locate_at_home(&tables, TABLE, place(one), |entry| entry.is_flow(&one.key));
            assert!(!at_home.is_found() || one.key.client_port >= 3, "{one:?}");
        }
    }

    #[test]
    fn a_place_given_back_takes_a_new_flow_without_evicting() {
        let flows: Vec<_> = (1..=8).map(|port| flow(port, 2000)).collect();
        let tables = tables(&flows);
        assert_eq!(ports(&sweep(&tables, 2001)).1.len(), 8);
        assert_eq!(tables.flows(TABLE), 0);
        let new = flow(9, 3000);
        let done = insert(&tables, TABLE, place(&new), Ticks(1500), &new);
        assert_eq!(done, crate::flow::Inserted::Free);
    }

    #[test]
    fn a_view_says_what_the_flow_was_made_with_and_whether_it_is_closed() {
        let tables = tables(&[flow(1, 2000)]);
        let bucket = tables.bucket(TABLE, 0).unwrap();
        let views: Vec<_> = bucket.views().collect();
        assert_eq!(views.len(), 1);
        assert_eq!(views[0].flow.backend, 5);
        assert_eq!(views[0].flow.expires, Ticks(2000));
        assert!(!views[0].is_closed);
        assert!(views[0].is_expired(Ticks(2001)) && !views[0].is_expired(Ticks(2000)));
        bucket.flows().next().unwrap().close();
        assert!(bucket.views().next().unwrap().is_closed);
    }

    #[test]
    fn a_flow_that_is_to_end_ends_and_others_stay() {
        let flows = [1, 2].map(|port| flow(port, 2000));
        let tables = tables(&flows);
        let bucket = tables.bucket(TABLE, 0).unwrap();
        assert!(bucket.end(&flows[0].key));
        assert!(!bucket.end(&flows[0].key));
        assert_eq!(ports(&sweep(&tables, 1000)), ([2].to_vec(), Vec::new()));
        let _ = insert(&tables, TABLE, place(&flows[0]), NOW, &flows[0]);
        assert_eq!(tables.flows(TABLE), 2);
    }

    #[test]
    fn a_flow_prolonged_between_the_look_and_the_claim_stays() {
        let one = flow(1, 2000);
        let tables = tables(&[one]);
        let bucket = tables.bucket(TABLE, 0).unwrap();
        let way = (0..BUCKET_WAYS)
            .find(|way| bucket.tags[*way].load() != EMPTY)
            .unwrap();
        let tag = bucket.tags[way].load();
        bucket.ways[way].expire_at(Ticks(5000));
        assert!(bucket.take(way, tag, Ticks(3000)).is_none());
        assert_eq!(bucket.tags[way].load(), tag);
        assert!(find(&tables, TABLE, place(&one), |entry| entry.is_flow(&one.key)).is_some());
    }

    #[test]
    fn a_place_whose_sweeper_died_is_found_and_given_up() {
        let tables = tables(&[flow(1, 2000)]);
        let bucket = tables.bucket(TABLE, 0).unwrap();
        let way = (0..BUCKET_WAYS)
            .find(|way| bucket.tags[*way].load() != EMPTY)
            .unwrap();
        let tag = bucket.tags[way].load();
        assert!(bucket.tags[way].compare_exchange(tag, BUSY));
        let found = sweep(&tables, 3000);
        let [Swept::Claimed(claim)] = found.as_slice() else {
            panic!("{found:?}");
        };
        // Somebody lives: the place was filled anew meanwhile.
        bucket.ways[way].expire_at(Ticks(2500));
        assert!(!bucket.give_up(claim));
        bucket.ways[way].expire_at(Ticks(2000));
        assert!(bucket.give_up(claim));
        assert!(!bucket.give_up(claim));
        assert!(sweep(&tables, 3000).is_empty());
        let new = flow(2, 3000);
        let _ = insert(&tables, TABLE, place(&new), NOW, &new);
        assert_eq!(tables.flows(TABLE), 1);
    }
}
