//! Keeps the conversation with other balancers right.

use lb_common::address::Address;

use super::{core::Core, forwarding};
use crate::cluster::{Directory, Error, Prepared};

impl Core {
    /// Begins to talk to other balancers.
    pub(super) fn join_cluster(&mut self, prepared: Prepared) -> Result<(), Error> {
        let Some(dataplane) = &self.dataplane else {
            return Ok(());
        };
        // What steered before knows its connections, and goes on.
        let waits = !dataplane.taken_over;
        self.cluster = Some(prepared.start(&dataplane.tables, self.directory(), waits)?);
        Ok(())
    }

    /// Goes on with the tables of a program that is new.
    pub(super) fn move_cluster(&mut self) {
        let (Some(cluster), Some(dataplane)) = (self.cluster.take(), &self.dataplane) else {
            return;
        };
        match cluster.move_to(&dataplane.tables) {
            Ok(cluster) => self.cluster = Some(cluster),
            Err(error) => {
                tracing::error!("{error}; other balancers are not told of connections any more");
            }
        }
        self.tell_cluster();
    }

    /// Says what flows of other balancers mean here.
    pub(super) fn tell_cluster(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.set_directory(self.directory());
        }
    }

    /// Whether other balancers are waited for, before clients are to come here.
    pub(super) fn is_catching_up(&self) -> bool {
        self.cluster
            .as_ref()
            .is_some_and(|cluster| !cluster.is_caught_up())
    }

    fn directory(&self) -> Directory {
        let served = self.held.services.values().flat_map(|service| {
            let backends = service.backends.values();
            backends.map(|(id, backend)| (*id, *backend))
        });
        let lingering = self.held.lingering().map(|(id, backend)| (id, *backend));
        let sources = forwarding::source_addresses(&self.model.services);
        Directory::new(
            // Of two for the same endpoint, the one that is served stays.
            lingering.chain(served),
            sources.into_iter().map(Address::from).collect(),
            self.model.agent.interfaces.clone(),
        )
    }
}
