//! Who is the primary, and which servers may be read from.
//!
//! A pure state machine: what was seen of each server goes into [`Topology::observe`], with the
//! time, and a [`View`] and [`Event`]s come out.
//!
//! The rules, each for a way to lose data:
//! - A server is the primary if it takes writes (`read_only` is off) and copies from no other one
//!   of the list. Of several, the one that is known stays. With none known there is no primary.
//! - The known one is replaced when it is gone, read-only or a replica *and* exactly one other
//!   takes writes that there is no [`Doubt`] about. Its return does not bring it back.
//! - A replica is read from if everything between it and the primary copies and applies, no further
//!   behind than allowed. When the primary is gone, replicas are as good as they were.
//!
//! ```
//! # use std::time::Duration;
//! use lb_mysql::topology::{ServerSettings, Settings, Topology, Trouble, WantedRole};
//!
//! let server = |name: &str, host: &str| ServerSettings {
//!     name: name.into(),
//!     host: host.to_owned(),
//!     port: 3306,
//!     weight: 1,
//!     role: WantedRole::Auto,
//!     tls: false,
//! };
//! let settings = Settings {
//!     servers: vec![server("db1", "10.0.0.11"), server("db2", "10.0.0.12")],
//!     max_lag: Duration::from_secs(10),
//!     fall: 2,
//!     stale_after: Duration::from_secs(10),
//! };
//! let mut topology = Topology::new(settings, None);
//! // Each interval, of each server: what `monitor::observation` made of its answers, or why not.
//! for event in topology.observe(Duration::from_secs(1), 0, Err(Trouble::Refused)) {
//!     println!("{:?}: {event}", event.level());
//! }
//! assert_eq!(topology.view().primary(), None);
//! assert_eq!(topology.view().readable().count(), 0);
//! ```

mod decide;
mod event;
mod facts;
mod history;
mod machine;
mod observation;
pub mod plan;
mod reads;
mod settings;
mod view;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod rows_doubts;
#[cfg(test)]
mod rows_primary;
#[cfg(test)]
mod rows_reads;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod testing;

pub use self::{
    event::{Event, Level},
    machine::Topology,
    observation::{
        Channel, Channels, Identity, IoThread, Observation, ReplicationError, Trouble, Version,
    },
    settings::{Remembered, ServerSettings, Settings, WantedRole},
    view::{Doubt, Health, Name, NoPrimary, NoReads, Primary, Reads, Role, ServerView, View},
};
