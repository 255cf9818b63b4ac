//! What workers need to know of the servers: a snapshot that is replaced as a whole.

use std::{collections::HashMap, sync::Arc};

use lb_common::slots::smooth_weighted;

use crate::{
    gtid::{Family, GtidSet},
    sql::Dialect,
    wire::Capabilities,
};

/// What a worker goes by.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Rises with each change of the primary.
    pub(super) epoch: u64,
    /// Who takes writes, or why nobody.
    pub(super) primary: Result<usize, Arc<str>>,
    /// The order in which servers get reads.
    pub(super) readers: Vec<usize>,
    /// Those servers and their weights, each once, where it matters what they have to do; else
    /// nothing.
    pub(super) shares: Vec<(usize, u16)>,
    /// By the servers' order in the config.
    pub(super) servers: Vec<Seen>,
    /// What clients are greeted with, as soon as a server was reached.
    pub(super) greeting: Option<Arc<Face>>,
}

/// What is known of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Whether it can be asked at all.
    pub(super) is_up: bool,
    /// Whether it refuses the writes of everybody, whatever he may do.
    pub(super) refuses_all: bool,
    /// What it has applied, as far as that is known.
    pub(super) applied: Option<Arc<GtidSet>>,
}

/// What a server looks like, for clients.
#[derive(Clone, Debug)]
pub(super) struct Face {
    pub(super) version: Box<[u8]>,
    pub(super) capabilities: Capabilities,
    pub(super) collation: u8,
    pub(super) family: Family,
    /// How statements are read at the beginning of a session, in UTF-8.
    pub(super) dialect: Dialect,
    /// Character sets and names of collations, by their numbers.
    pub(super) collations: Arc<HashMap<u16, (String, String)>>,
    /// The statement that has it tell what changes in a session.
    pub(super) track: Arc<str>,
}

impl View {
    /// Whether workers would do the same by it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_same_face = match (&self.greeting, &other.greeting) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let (servers, others) = (self.servers.iter(), other.servers.iter());
        is_same_face
            && (self.epoch, &self.primary, &self.readers, &self.shares)
                == (other.epoch, &other.primary, &other.readers, &other.shares)
            && servers.zip(others).all(|(one, other)| {
                one.is_up == other.is_up
                    && one.refuses_all == other.refuses_all
                    && one.applied == other.applied
            })
    }

    /// Before anything is known.
    pub(super) fn unknown(servers: usize) -> Self {
        Self {
            epoch: 0,
            primary: Err("no server has been reached yet".into()),
            readers: Vec::new(),
            shares: Vec::new(),
            servers: vec![Seen::default(); servers],
            greeting: None,
        }
    }

    /// The order in which servers with these weights take turns.
    pub(super) fn order(weighted: &[(usize, u16)]) -> Vec<usize> {
        let weights: Vec<u16> = weighted.iter().map(|(_, weight)| *weight).collect();
        let order = smooth_weighted(&weights);
        order.into_iter().map(|index| weighted[index].0).collect()
    }
}
