//! `least-connections`: a read goes where, for its weight, the fewest statements are under way.
//!
//! What counts is what this proxy has sent there and has not been answered, writes as well. The turn
//! of the round robin decides between equals, so that servers of which none is busy share reads by
//! their weights. Nothing is counted where reads go in turn.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{session::Session, shared::Shared, view::View};

/// A statement under way; dropped, it is over.
#[derive(Debug)]
pub(super) struct UnderWay {
    shared: Arc<Shared>,
    server: usize,
}

impl UnderWay {
    fn new(shared: &Arc<Shared>, server: usize) -> Self {
        shared.servers[server]
            .under_way
            .fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(shared),
            server,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let count: &AtomicUsize = &self.shared.servers[self.server].under_way;
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    /// The session's statement goes to a server.
    pub(super) fn count_under_way(&mut self, view: &View, server: usize) {
        if view.shares.is_empty() {
            self.under_way = None;
        } else if self
            .under_way
            .as_ref()
            .is_none_or(|one| one.server != server)
        {
            self.under_way = Some(UnderWay::new(&self.worker.shared, server));
        }
    }
}

/// The server with the least to do among those that are good, `first` before its equals.
pub(super) fn least(
    shares: &[(usize, u16)],
    (turn, first): (usize, usize),
    busy: impl Fn(usize) -> usize,
    mut is_good: impl FnMut(usize) -> bool,
) -> Option<usize> {
    let count = shares.len();
    let place = shares.iter().position(|(server, _)| *server == first);
    // Forwards and backwards, so that the turns of one that is busy do not all go to its neighbour.
    let is_backwards = turn.checked_div(count)? % 2 == 1;
    let in_turn = (0..count).map(|step| {
        let step = if is_backwards { count - step } else { step };
        shares[(turn % count + step) % count]
    });
    let all = place
        .map(|place| shares[place])
        .into_iter()
        .chain(in_turn.filter(|(server, _)| *server != first));
    let mut best: Option<(usize, u64, u64)> = None;
    for (server, weight) in all {
        let (busy, weight) = (busy(server) as u64, u64::from(weight));
        // As fractions: busy / weight.
        let is_less = best.is_none_or(|(_, least, its)| busy * its < least * weight);
        if is_less && is_good(server) {
            best = Some((server, busy, weight));
        }
    }
    best.map(|(server, ..)| server)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers 3, 5 and 7 with these weights, and so much to do each; turn after turn.
    fn picked(weights: [u16; 3], busy: [usize; 3], good: [bool; 3], turns: usize) -> Vec<usize> {
        let servers = [3, 5, 7];
        let shares: Vec<_> = servers.into_iter().zip(weights).collect();
        let order = View::order(&shares);
        let at = |server: usize| servers.iter().position(|one| *one == server).unwrap();
        let turns = (0..turns).filter_map(|turn| {
            let first = order[turn % order.len()];
            least(
                &shares,
                (turn, first),
                |server| busy[at(server)],
                |server| good[at(server)],
            )
        });
        turns.collect()
    }

    const ALL: [bool; 3] = [true; 3];

    #[test]
    fn equals_take_turns_by_their_weights() {
        assert_eq!(picked([1; 3], [0; 3], ALL, 6), [3, 5, 7, 3, 5, 7]);
        assert_eq!(picked([2, 1, 1], [0; 3], ALL, 4), [3, 5, 7, 3]);
        assert_eq!(picked([2, 1, 1], [4, 2, 2], ALL, 4), [3, 5, 7, 3]);
        // Two that are equal share what the third does not get.
        assert_eq!(picked([1; 3], [9, 0, 0], ALL, 6), [5, 5, 7, 7, 5, 7]);
    }

    #[test]
    fn the_one_with_the_least_to_do_goes_first() {
        assert_eq!(picked([1; 3], [1, 0, 1], ALL, 3), [5, 5, 5]);
        // 3 / 4 is less than 1 / 1.
        assert_eq!(picked([4, 1, 1], [3, 1, 1], ALL, 3), [3, 3, 3]);
        assert_eq!(picked([4, 1, 1], [5, 1, 2], ALL, 3), [5, 5, 5]);
        assert_eq!(
            picked([256, 1, 1], [usize::from(u16::MAX), 256, 300], ALL, 1),
            [3]
        );
    }

    #[test]
    fn one_that_lacks_something_is_left_out() {
        assert_eq!(picked([1; 3], [0, 5, 9], [false, true, true], 3), [5, 5, 5]);
        assert_eq!(picked([1; 3], [0; 3], [false; 3], 3), [0; 0]);
        assert_eq!(least(&[], (7, 0), |_| 0, |_| true), None);
    }
}
