//! What is counted, by reasons that have a label each.

use std::{net::SocketAddr, time::Instant};

/// Things that are counted by label.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name { $(#[doc = $label] $variant,)* }

        impl $name {
            pub(super) const LABELS: &[&str] = &[$($label),*];
        }
    };
}

labels! {
    /// Why a datagram was not taken.
    Refused {
        UnknownSender "unknown_sender",
        Malformed "malformed",
        Version "version",
        Forged "forged",
        Replayed "replayed",
        UnknownSession "unknown_session",
        Throttled "throttled",
    }
}

labels! {
    /// What became of a flow that a peer told of.
    Fate {
        Inserted "inserted",
        Refreshed "refreshed",
        Older "older",
        Ended "ended",
        Expired "expired",
        UnknownService "unknown_service",
        UnknownBackend "unknown_backend",
        OtherForwarding "other_forwarding",
        UnknownSource "unknown_source",
        PortTaken "port_taken",
        Contended "contended",
    }
}

impl Fate {
    /// The word for it.
    pub(super) fn label(self) -> &'static str {
        Self::LABELS.get(self as usize).copied().unwrap_or("?")
    }

    /// Whether the configs of the two balancers differ.
    pub(super) const fn is_mismatch(self) -> bool {
        matches!(
            self,
            Self::UnknownService
                | Self::UnknownBackend
                | Self::OtherForwarding
                | Self::UnknownSource
        )
    }
}

/// A number for each label.
#[derive(Clone, Debug)]
pub(super) struct Counts(Vec<u64>);

impl Counts {
    fn new(labels: &[&str]) -> Self {
        Self(vec![0; labels.len()])
    }

    fn add(&mut self, index: usize) {
        if let Some(count) = self.0.get_mut(index) {
            *count += 1;
        }
    }

    /// The number of one of them.
    pub(super) fn of(&self, fate: Fate) -> u64 {
        self.0.get(fate as usize).copied().unwrap_or(0)
    }

    pub(super) fn labelled(&self, labels: &[&str]) -> crate::status::Counts {
        let pairs = labels.iter().zip(&self.0);
        crate::status::Counts(pairs.map(|(label, n)| ((*label).to_owned(), *n)).collect())
    }
}

/// What is known of a peer.
#[derive(Clone, Debug)]
pub(super) struct PeerTally {
    pub(super) address: SocketAddr,
    pub(super) is_up: bool,
    /// Whether it has told of everything since the session began.
    pub(super) has_told: bool,
    pub(super) heard: Option<Instant>,
    pub(super) sessions: u64,
    pub(super) flows_sent: u64,
    pub(super) flows_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) peers: Vec<PeerTally>,
    pub(super) refused: Counts,
    pub(super) fates: Counts,
    /// Flows that the data path told of and that were overwritten before they were read.
    pub(super) overwritten: u64,
    /// Datagrams that the kernel did not take.
    pub(super) unsent: u64,
    /// Addresses that this host and a peer have at once.
    pub(super) shared: Vec<std::net::IpAddr>,
    /// Whether this one has waited long enough for what the others tell.
    pub(super) is_caught_up: bool,
}

impl Tally {
    pub(super) fn new(peers: &[SocketAddr]) -> Self {
        let peer = |address: &SocketAddr| PeerTally {
            address: *address,
            is_up: false,
            has_told: false,
            heard: None,
            sessions: 0,
            flows_sent: 0,
            flows_received: 0,
            bytes_sent: 0,
            bytes_received: 0,
        };
        Self {
            peers: peers.iter().map(peer).collect(),
            refused: Counts::new(Refused::LABELS),
            fates: Counts::new(Fate::LABELS),
            overwritten: 0,
            unsent: 0,
            shared: Vec::new(),
            is_caught_up: false,
        }
    }

    pub(super) fn refuse(&mut self, why: Refused) {
        self.refused.add(why as usize);
    }

    pub(super) fn note(&mut self, fate: Fate) {
        self.fates.add(fate as usize);
    }
}
