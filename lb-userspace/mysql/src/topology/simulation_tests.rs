//! A cluster that is written to, crashes and is repaired by somebody's tool, and what the machine
//! makes of what it sees of it.
//!
//! The tool is as careless as tools are: it does not fence a primary that is gone, which may return
//! with `read_only` off. What it does otherwise is right. Then, after every server was asked once
//! more, writes go where the tool wants them, or nowhere.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{
    testing::{seen, settings, uuid},
    *,
};
use crate::gtid::{Interval, MySqlGtid, MySqlSet, Tag};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Copy, Debug)]
enum Action {
    /// The application writes.
    Write,
    /// A replica fetches and applies all.
    Replicate(usize),
    Crash(usize),
    /// It returns, with what its file says of `read_only` or with what it had.
    Restart(usize, bool),
    /// The tool promotes a replica: a planned change where the primary is up.
    Promote(usize),
    /// The tool makes a server that is no replica one.
    Join(usize),
    /// One server is asked.
    Ask(usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let server = 0..3_usize;
    let action = prop_oneof![
        4 => Just(Action::Write),
        3 => server.clone().prop_map(Action::Replicate),
        2 => server.clone().prop_map(Action::Crash),
        3 => (server.clone(), any::<bool>()).prop_map(|(server, own)| Action::Restart(server, own)),
        3 => server.clone().prop_map(Action::Promote),
        3 => server.clone().prop_map(Action::Join),
        3 => server.prop_map(Action::Ask),
    ];
    prop::collection::vec(action, 1..60)
}

#[derive(Clone, Debug)]
struct Server {
    is_up: bool,
    read_only: bool,
    source: Option<usize>,
    /// Of each server that wrote, how many of its transactions.
    has: BTreeMap<usize, u64>,
}

impl Server {
    fn copy(&mut self, source: &Self) {
        for (writer, count) in &source.has {
            let own = self.has.entry(*writer).or_default();
            *own = (*own).max(*count);
        }
    }
}

struct Cluster {
    servers: [Server; 3],
    /// Where the tool wants writes.
    primary: usize,
    topology: Topology,
    now: Duration,
}

impl Cluster {
    fn new() -> Self {
        let server = |source: Option<usize>| Server {
            is_up: true,
            read_only: source.is_some(),
            source,
            has: [(0, 1)].into(),
        };
        Self {
            servers: [server(None), server(Some(0)), server(Some(0))],
            primary: 0,
            topology: Topology::new(settings("a b c"), None),
            now: Duration::ZERO,
        }
    }

    fn ask(&mut self, index: usize) {
        self.now += Duration::from_millis(100);
        let server = &self.servers[index];
        let sight = if server.is_up {
            let mode = if server.read_only { "ro" } else { "rw" };
            let source = server.source.map_or(String::new(), |source| {
                let state = if self.servers[source].is_up { "" } else { "!" };
                format!(" <{}{state}", NAMES[source])
            });
            let mut sight = seen(NAMES[index], &format!("{mode}{source}"), false);
            if let Ok(sight) = &mut sight {
                sight.executed = Some(crate::gtid::GtidSet::MySql(set(&server.has)));
            }
            sight
        } else {
            Err(Trouble::Refused)
        };
        self.topology.observe(self.now, index, sight);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Write => {
                if let Some(primary) = self.topology.view().primary() {
                    let server = &mut self.servers[primary];
                    if server.is_up && !server.read_only {
                        *server.has.entry(primary).or_default() += 1;
                    }
                }
            }
            Action::Replicate(index) => {
                if let Some(source) = self.servers[index].source {
                    let from = self.servers[source].clone();
                    if from.is_up && self.servers[index].is_up {
                        self.servers[index].copy(&from);
                    }
                }
            }
            Action::Crash(index) => self.servers[index].is_up = false,
            Action::Restart(index, takes_writes) => {
                let server = &mut self.servers[index];
                if !server.is_up {
                    server.is_up = true;
                    // A replica's file says what it should; a primary's that it takes writes.
                    let was_primary = server.source.is_none();
                    server.read_only = !(was_primary && (takes_writes || index == self.primary));
                }
            }
            Action::Promote(index) => self.promote(index),
            Action::Join(index) => {
                let primary = self.servers[self.primary].clone();
                if index != self.primary && self.servers[index].is_up && primary.is_up {
                    let server = &mut self.servers[index];
                    // What it has beside is thrown away with its data.
                    if server.source != Some(self.primary) {
                        server.has.clone_from(&primary.has);
                    }
                    server.source = Some(self.primary);
                    server.read_only = true;
                }
            }
            Action::Ask(index) => self.ask(index),
        }
    }

    fn promote(&mut self, index: usize) {
        let former = self.primary;
        if index == former || self.servers[index].source != Some(former) {
            return;
        }
        if !self.servers[index].is_up {
            return;
        }
        if self.servers[former].is_up {
            self.servers[former].read_only = true;
            let from = self.servers[former].clone();
            self.servers[index].copy(&from);
            self.servers[former].source = Some(index);
        }
        self.servers[index].source = None;
        self.servers[index].read_only = false;
        self.primary = index;
        for other in 0..3 {
            let is_replica = other != index && self.servers[other].source == Some(former);
            if is_replica && self.servers[other].is_up {
                self.servers[other].source = Some(index);
            }
        }
    }
}

fn set(has: &BTreeMap<usize, u64>) -> MySqlSet {
    let mut set = MySqlSet::new();
    for (writer, last) in has.iter().filter(|(_, count)| **count > 0) {
        let first = MySqlGtid {
            uuid: uuid(NAMES[*writer].as_bytes()[0]),
            tag: Tag::NONE,
            number: 1,
        };
        let all = Interval {
            first: 1,
            last: *last,
        };
        set.add_interval(first.uuid, first.tag, all);
    }
    set
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn writes_go_where_the_tool_wants_them_or_nowhere(
        actions in actions(),
        order in Just([0, 1, 2]).prop_shuffle(),
    ) {
        let mut cluster = Cluster::new();
        let ask_all = |cluster: &mut Cluster| order.iter().for_each(|index| cluster.ask(*index));
        ask_all(&mut cluster);
        for action in actions {
            cluster.act(action);
            // The next interval.
            ask_all(&mut cluster);
            let wanted = cluster.primary;
            let server = &cluster.servers[wanted];
            let is_there = server.is_up && !server.read_only;
            let view = cluster.topology.view();
            let expected = is_there.then_some(wanted);
            prop_assert_eq!(view.primary(), expected, "{:?}\n{:?}\n{:?}", action, cluster.servers, view);
        }
    }
}
