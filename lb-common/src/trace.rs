//! How the engine came to a verdict: what `lb why` and `lb capture` tell.
//!
//! Only a program with [`features::DRY_RUN`](crate::abi::features::DRY_RUN) or
//! [`features::CAPTURE`](crate::abi::features::CAPTURE) notes its decisions; in the others the
//! verifier takes the notes out.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the map, a `PERCPU_ARRAY` of one [`Trace`].
pub const MAP: &str = "TRACE";
/// Decisions that a trace holds; a packet has fewer.
pub const CAPACITY: usize = 16;

macro_rules! decisions {
    ($($variant:ident $explanation:literal)*) => {
        /// A decision on a packet's way. Each comes with a number, whose meaning is said here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Decision { $(#[doc = $explanation] $variant,)* }

        impl Decision {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];
        }
    };
}

decisions! {
    NoEndpoint "Neither the destination is a service's nor the source a backend's: 0."
    Established "It is of a proven flow: the backend's id."
    HalfOpen "It is of a half-open flow: the backend's id."
    NoFlow "It is of no flow: 0."
    FlowOver "That flow is over, and the packet begins another one, if it may: 0."
    BackendDown "The flow's backend is down: its `OnBackendDown`."
    Moved "The flow gets another backend: its id."
    Service "It is for a service: the service's id."
    NoService "It is for no service after all: 0."
    Turn "The service's turn: the slot, counted from its first."
    HashedSlot "The slot that a hash of the client names: the slot, counted from its first."
    FewestFlows "The backend with the fewest flows for its weight: its live flows."
    Kept "The client's address keeps its backend: the backend's id."
    ServerId "The QUIC connection id names a backend: its id."
    Chosen "The backend of a new flow: its id."
    CookieSent "A SYN cookie is due: half-open flows of the service from which on it is."
    CookieFits "It fits a SYN cookie: the segment size in it."
    CookieUnfit "SYN cookies were sent of late, but it fits none: 0."
    Early "It is of a flow that began by a SYN cookie, and the backend has not answered: the backend's id."
    TakenUp "It may be of a connection that began by another balancer, and goes by its hash: 0."
    Stateless "No flow is kept: 0."
    SourcePort "Full NAT took a source: the address's index in the upper 16 bits, the port (host order) in the lower."
    NextHop "The way there: index of the next hop."
    TooLong "The packet is longer than what fits: the bytes that fit."
    Clamped "The announced segment size may not be larger: the limit."
    Reply "A reply to the client of a flow: the backend's id."
    NoReply "From a backend's endpoint, but of no flow: 0."
    Fragment "A fragment of a packet whose ports are known: the ports, as they stand in memory."
    NoFirstFragment "A later fragment, and the first was not seen: 0."
    ErrorToBackend "An ICMP error about what a backend sent: the backend's id."
    ErrorToClient "An ICMP error about what was sent to a backend: the backend's id."
    Denied "The firewall denies its source: the length of the prefix."
    Allowed "The firewall allows its source in so many words: the length of the prefix."
    ServiceDenied "The service's lists keep its source out: the length of the prefix, or `Entry::NO_PREFIX` where none allows it."
    ServiceAllowed "A prefix of the service's lists allows its source: its length."
    RateExceeded "Its source has begun as many connections as it may: 0."
    PacketsExceeded "Its source has sent as many packets as it may: 0."
    FlowsExceeded "Its source has as many flows as it may: 0."
    Offender "Its source has exceeded a limit and is denied for a while: which limit in the upper 8 bits, the ticks that are left in the lower."
    Exempt "Its source is over a limit, but one that nothing is asked of: the length of the prefix."
    LockedDown "It is for this host, which is locked down: the IP protocol in the upper 16 bits, the port it is for (host order) in the lower, or an ICMP type; 0 where it is no IP."
    Trusted "It is for this host, which is locked down, and its source is trusted: the length of the prefix."
    DryRun "The firewall would drop it, but for its own dry run: 0."
}

/// A decision and its number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Note {
    /// A [`Decision`].
    pub decision: u32,
    /// What it is about.
    pub value: u32,
}

impl Note {
    /// The decision; `None` if it is not one of this version's.
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        Decision::ALL.get(self.decision as usize).copied()
    }
}

/// What a program run left behind.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Trace {
    /// Runs that this CPU traced since the program was loaded.
    pub runs: u32,
    /// Decisions noted; more than [`CAPACITY`] are counted and not held.
    pub length: u32,
    /// The decisions.
    pub notes: [Note; CAPACITY],
    /// The verdict, a number of [`crate::verdict::Verdict`].
    pub verdict: u32,
    /// The interface to leave by, where the verdict's disposition is to emit; else 0.
    pub egress: u32,
    /// Id of the service that it is about, plus 1; 0 while that is not known.
    pub service: u32,
    /// Always 0.
    pub reserved: u32,
}

impl Trace {
    /// The decisions, each once.
    pub fn decisions(&self) -> impl Iterator<Item = (Decision, u32)> {
        let held = &self.notes[..(self.length as usize).min(CAPACITY)];
        held.iter()
            .enumerate()
            .filter(move |(index, note)| !held[..*index].contains(note))
            .filter_map(|(_, note)| Some((note.decision()?, note.value)))
    }
}
