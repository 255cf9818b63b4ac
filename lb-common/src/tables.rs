//! The seam to the tables.

use crate::{
    abi::{
        Affinity, AffinityKey, Backend, Check, EndpointKey, Fragment, FragmentKey, Handshake,
        Interface, NextHop, ServerIdKey, Service, Settings, Ticks,
    },
    address::Address,
    firewall,
    flow::Bucket,
    shared::{Shared32, Shared64},
    trace::Decision,
    verdict::Event,
};

/// Which flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowTable {
    /// Proven flows.
    Established,
    /// Flows of which only the beginning was seen.
    HalfOpen,
}

/// Everything the engine looks up or counts.
///
/// The agent may change values while the engine reads them; the ABI says which changes and how.
/// Tables of features that an implementation does not have are empty.
pub trait Tables {
    /// The load-time constants.
    fn settings(&self) -> Settings;

    /// Whether any of these [`crate::abi::features`] is in use.
    #[inline(always)]
    fn has(&self, features: u32) -> bool {
        self.settings().features & features != 0
    }

    /// The time.
    fn now(&self) -> Ticks;

    /// A word of the endpoint filter.
    fn filter_word(&self, index: u32) -> u64;

    /// The service of an endpoint.
    fn service(&self, key: &EndpointKey) -> Option<Service>;

    /// Takes the next number from a service's cursor: one atomic fetch-and-add, so that no two
    /// CPUs get the same.
    fn next_cursor(&self, service: u32) -> u64;

    /// TCP flows of a service in the half-open table, see
    /// [`Cursor::half_open`](crate::abi::Cursor::half_open).
    fn half_open_flows(&self, _: u32) -> Option<&Shared64> {
        None
    }

    /// When a SYN cookie was last sent for a service.
    fn cookie_sent(&self, _: u32) -> Ticks {
        Ticks(0)
    }

    /// Notes that a SYN cookie is sent for a service.
    fn note_cookie_sent(&self, _: u32, _: Ticks) {}

    /// The backend id in a slot.
    fn slot(&self, index: u32) -> Option<u32>;

    /// A backend by id.
    fn backend(&self, id: u32) -> Option<&Backend>;

    /// A next hop by index.
    fn next_hop(&self, index: u32) -> Option<&NextHop>;

    /// What replies need to know of an interface.
    ///
    /// What is said may be as old as the tick that it is asked in.
    fn interface(&self, ifindex: u32, now: Ticks) -> Option<&Interface>;

    /// The same as it is now.
    #[inline(always)]
    fn interface_anew(&self, ifindex: u32, now: Ticks) -> Option<&Interface> {
        self.interface(ifindex, now)
    }

    /// A bucket of a flow table.
    fn bucket(&self, table: FlowTable, index: u32) -> Option<&Bucket>;

    /// Replaces `current` by `new`, if it is still there, in one atomic step.
    fn compare_exchange(&self, cell: &Shared32, current: u32, new: u32) -> bool;

    /// Writes `value` such that everything written before is visible to whoever reads it, and
    /// nothing written after is visible before.
    fn publish(&self, cell: &Shared64, value: u64);

    /// Replaces `current` by `new`, if it is still there, in one atomic step.
    fn compare_exchange_word(&self, cell: &Shared64, current: u64, new: u64) -> bool;

    /// Sets bits in one atomic step, and returns what was there before.
    fn fetch_or(&self, cell: &Shared64, bits: u64) -> u64;

    /// Keeps only these bits in one atomic step, and returns what was there before.
    fn fetch_and(&self, cell: &Shared64, bits: u64) -> u64;

    /// Adds in one atomic step, wrapping.
    fn add(&self, cell: &Shared64, change: u64);

    /// Live flows of a backend, for least connections.
    fn load(&self, _: u32) -> Option<&Shared64> {
        None
    }

    /// A source address of full NAT.
    fn source(&self, _: u32) -> Option<Address> {
        None
    }

    /// Which source address of full NAT an address is.
    fn source_index(&self, _: &Address) -> Option<u32> {
        None
    }

    /// A word of the bitmap of source ports in use, see [`crate::ports`].
    fn port_word(&self, _: u32) -> Option<&Shared64> {
        None
    }

    /// Whose a source port is, see [`crate::ports`].
    fn port_owner(&self, _: u32) -> Option<&Shared64> {
        None
    }

    /// The backend that a client keeps; all zero, and so expired, if there is none.
    fn affinity(&self, _: &AffinityKey) -> Affinity {
        Affinity::default()
    }

    /// Sets the backend that a client keeps.
    fn set_affinity(&self, _: &AffinityKey, _: &Affinity) {}

    /// The ports of a packet in fragments; all zero, and so expired, if it is not known.
    fn fragment(&self, _: &FragmentKey) -> Fragment {
        Fragment::default()
    }

    /// Sets the ports of a packet in fragments.
    fn set_fragment(&self, _: &FragmentKey, _: &Fragment) {}

    /// The backend that a QUIC connection id names.
    fn server_id(&self, _: &ServerIdKey) -> Option<u32> {
        None
    }

    /// The health check that asks from a port, in host order, see
    /// [`CHECKS`](crate::abi::maps::CHECKS).
    fn check(&self, _: u16) -> Option<&Check> {
        None
    }

    /// A word of the firewall, see [`crate::firewall`].
    fn firewall_word(&self, _: u32) -> u64 {
        0
    }

    /// Replaces a bucket of a line, if `change` says which, what is there and what will be; see
    /// [`crate::firewall::rate`]. If another CPU was faster, its change stays. False if it says
    /// nothing.
    fn change_bucket(
        &self,
        _: u32,
        _: impl FnOnce(&firewall::rate::Line) -> Option<(usize, u64, u64)>,
    ) -> bool
    where
        Self: Sized,
    {
        true
    }

    /// Counts a packet that a service's lists kept out.
    fn count_denied(&self, _: u32) {}

    /// A [source that is denied](firewall::offender::Offender), or 0.
    fn offender(&self, _: &Address) -> u64 {
        0
    }

    /// Notes that a source is denied.
    fn set_offender(&self, _: &Address, _: u64) {}

    /// The firewall's longest match.
    fn firewall_entry(&self, _: &firewall::Key) -> firewall::Entry {
        firewall::Entry::default()
    }

    /// Tells the agent of a flow that other balancers should know, by its
    /// [mark](crate::ports::mark).
    fn tell(&self, _: u64) {}

    /// Notes how a verdict comes about, where somebody wants to know.
    #[inline(always)]
    fn note(&self, _: Decision, _: u32) {}

    /// Whether this CPU may send one more ICMP error: see
    /// [`Settings::errors_per_tick`].
    fn may_send_error(&self, now: Ticks) -> bool;

    /// Counts a packet of that many bytes to a backend.
    fn count_packet(&self, backend: u32, bytes: u64);

    /// Counts a reply of that many bytes of a backend.
    fn count_reply(&self, backend: u32, bytes: u64);

    /// Counts a new flow of a backend.
    fn count_connection(&self, backend: u32);

    /// Counts what became of a handshake with a backend.
    fn count_handshake(&self, _: u32, _: Handshake) {}

    /// Counts an event.
    fn count_event(&self, event: Event);
}
