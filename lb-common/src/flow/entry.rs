//! One flow: 64 bytes, shared by all CPUs and the agent.

use crate::{
    abi::{Backend, Forwarding, Ticks, backend_flags},
    address::Address,
    flow::CLOSED_SECONDS,
    headers::{Mac, tcp_flags},
    shared::{Shared8, Shared32, Shared64},
    tables::Tables,
};

/// A flow. Other CPUs and the agent read every field at any time; no order between fields is
/// relied upon.
///
/// `ports` packs, from the low bits: client port (16), service port (16), protocol (8), backend id
/// (24); ports in network order.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct FlowEntry {
    client: [Shared64; 2],
    service: [Shared64; 2],
    ports: Shared64,
    /// MAC (48 bits) and VLAN tag (16 bits, 0 is untagged) of the way back to the client.
    link: Shared64,
    ingress: Shared32,
    expires: Shared32,
    /// Written only by packets of the client.
    client_state: Shared8,
    /// Written only by packets of the backend.
    backend_state: Shared8,
    own_mac: Shared8,
    one_sided: Shared8,
    backend_sequence: Shared32,
}

/// Bits of the two state bytes.
mod state {
    pub(super) const FIN: u8 = 1;
    pub(super) const RST: u8 = 2;
    pub(super) const SYN_ACK: u8 = 4;
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The backend.
    Backend,
}

/// What a packet from a client says about its flow.
#[derive(Clone, Copy, Debug)]
pub struct FlowKey {
    /// The client's address.
    pub client: Address,
    /// Network order.
    pub client_port: u16,
    /// The service's address.
    pub service: Address,
    /// Network order.
    pub service_port: u16,
    /// Protocol number.
    pub protocol: u8,
}

/// The way back to a client: what its packets came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLink {
    /// Source MAC of its packets.
    pub mac: Mac,
    /// Tag control information of its packets, 0 without a tag.
    pub tci: u16,
    /// Interface its packets came in by.
    pub ingress: u32,
}

impl ClientLink {
    #[inline(always)]
    const fn word(self) -> u64 {
        let [a, b, c, d, e, f] = self.mac;
        let [t0, t1] = self.tci.to_ne_bytes();
        u64::from_ne_bytes([a, b, c, d, e, f, t0, t1])
    }
}

/// Everything an entry is made with.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// Who talks to whom.
    pub key: FlowKey,
    /// Id of the backend.
    pub backend: u32,
    /// The way back.
    pub link: ClientLink,
    /// When it is forgotten.
    pub expires: Ticks,
    /// Replies do not pass here.
    pub one_sided: bool,
    /// Eight bits of our MAC, by which its packets came.
    pub own_mac: u8,
    /// The client already said that it sends nothing more.
    pub client_finished: bool,
}

const CLIENT_MASK: u64 = 0x0000_00ff_0000_ffff;
const KEY_MASK: u64 = 0x0000_00ff_ffff_ffff;
const BACKEND_SHIFT: u32 = 40;

#[inline(always)]
const fn pack(client_port: u16, service_port: u16, protocol: u8) -> u64 {
    (client_port as u64) | ((service_port as u64) << 16) | ((protocol as u64) << 32)
}

#[inline(always)]
fn same(words: &[Shared64; 2], address: Address) -> bool {
    let [high, low] = address.words();
    words[1].load() == low && words[0].load() == high
}

impl FlowEntry {
    /// Whether this is a flow of that client endpoint and protocol.
    #[inline(always)]
    #[must_use]
    pub fn is_client(&self, client: Address, port: u16, protocol: u8) -> bool {
        self.ports.load() & CLIENT_MASK == pack(port, 0, protocol) && same(&self.client, client)
    }

    /// Whether this is the flow of that key.
    #[inline(always)]
    #[must_use]
    pub fn is_flow(&self, key: &FlowKey) -> bool {
        self.ports.load() & KEY_MASK == pack(key.client_port, key.service_port, key.protocol)
            && same(&self.client, key.client)
            && same(&self.service, key.service)
    }

    /// Whether a backend is one of its service. The id of a removed backend may have been given to
    /// another one since the flow saw its last packet.
    #[inline(always)]
    #[must_use]
    pub fn is_of_service_of(&self, backend: &Backend) -> bool {
        backend.flags & backend_flags::USED != 0
            && backend.service_port == self.service_port()
            && same(&self.service, backend.service_address)
    }

    /// Id of its backend.
    #[inline(always)]
    #[must_use]
    pub fn backend(&self) -> u32 {
        (self.ports.load() >> BACKEND_SHIFT) as u32
    }

    /// Moves the flow to another backend.
    #[inline(always)]
    pub fn set_backend(&self, id: u32) {
        let key = self.ports.load() & KEY_MASK;
        self.ports.store(key | (u64::from(id) << BACKEND_SHIFT));
    }

    /// Address of its service.
    #[inline(always)]
    #[must_use]
    pub fn service(&self) -> Address {
        Address::from_words([self.service[0].load(), self.service[1].load()])
    }

    /// Port of its service, network order.
    #[inline(always)]
    #[must_use]
    pub fn service_port(&self) -> u16 {
        (self.ports.load() >> 16) as u16
    }

    /// Address of its client.
    #[must_use]
    pub fn client(&self) -> Address {
        Address::from_words([self.client[0].load(), self.client[1].load()])
    }

    /// Port of its client, network order.
    #[must_use]
    pub fn client_port(&self) -> u16 {
        self.ports.load() as u16
    }

    /// Its protocol number.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        (self.ports.load() >> 32) as u8
    }

    /// Whether its packets were addressed to a MAC with these eight bits so far. That spares an
    /// established flow the look-up of the interface's MAC; 255 of 256 foreign MACs are noticed.
    #[inline(always)]
    #[must_use]
    pub fn was_addressed_to(&self, own_mac: u8) -> bool {
        self.own_mac.load() == own_mac
    }

    /// Notes that its packets are addressed to another MAC of ours now.
    #[inline(always)]
    pub fn note_own_mac(&self, own_mac: u8) {
        self.own_mac.store(own_mac);
    }

    /// The way back to the client.
    #[inline(always)]
    #[must_use]
    pub fn link(&self) -> ClientLink {
        let [a, b, c, d, e, f, t0, t1] = self.link.load().to_ne_bytes();
        ClientLink {
            mac: [a, b, c, d, e, f],
            tci: u16::from_ne_bytes([t0, t1]),
            ingress: self.ingress.load(),
        }
    }

    /// Follows a client whose way changed; writes only then.
    #[inline(always)]
    pub fn follow_link(&self, link: ClientLink) {
        self.link.update(link.word());
        self.ingress.update(link.ingress);
    }

    /// When it is forgotten.
    #[inline(always)]
    #[must_use]
    pub fn expires(&self) -> Ticks {
        Ticks(self.expires.load())
    }

    /// Whether it should be forgotten by now.
    #[inline(always)]
    #[must_use]
    pub fn is_expired(&self, now: Ticks) -> bool {
        self.expires.load() < now.0
    }

    /// Sets when it is forgotten.
    #[inline(always)]
    pub fn expire_at(&self, expires: Ticks) {
        self.expires.update(expires.0);
    }

    /// Whether both sides said goodbye, or one slammed the door. With direct return the client's
    /// word is all there is.
    #[inline(always)]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let client = self.client_state.load();
        let backend = self.backend_state.load();
        (client | backend) & state::RST != 0
            || (client & state::FIN != 0
                && (backend & state::FIN != 0 || self.one_sided.load() != 0))
    }

    /// Notes what a TCP packet's flags say, and returns whether the flow is closed now.
    ///
    /// A RST may be forged, so a further ACK of the same side takes it back.
    #[inline(always)]
    pub fn note_tcp(&self, side: Side, flags: u8) -> bool {
        let cell = match side {
            Side::Client => &self.client_state,
            Side::Backend => &self.backend_state,
        };
        let old = cell.load();
        let new = if flags & tcp_flags::RST != 0 {
            old | state::RST
        } else {
            (old & !state::RST) | (flags & tcp_flags::FIN)
        };
        cell.update(new);
        // Nothing was ever said on most packets of a flow's life.
        new != 0 && self.is_closed()
    }

    /// Marks a flow that the balancer itself reset.
    #[inline(always)]
    pub fn close(&self) {
        self.client_state.store(state::RST);
    }

    /// Notes the backend's SYN-ACK.
    #[inline(always)]
    pub fn note_syn_ack(&self, sequence: u32) {
        self.backend_sequence.store(sequence);
        self.backend_state.store(state::SYN_ACK);
    }

    /// Whether a client's acknowledgement proves that it saw the backend's SYN-ACK. Some slack
    /// past the first byte allows for data that a backend sends with a SYN-ACK (RFC 7413).
    #[inline(always)]
    #[must_use]
    pub fn is_proven_by(&self, acknowledgement: u32) -> bool {
        let first = self.backend_sequence.load().wrapping_add(1);
        self.one_sided.load() != 0
            || (self.backend_state.load() & state::SYN_ACK != 0
                && acknowledgement.wrapping_sub(first) < 1 << 16)
    }

    /// When a flow is forgotten that saw a packet now.
    #[inline(always)]
    #[must_use]
    pub fn next_expiry(now: Ticks, closed: bool, backend: &Backend) -> Ticks {
        const CLOSED: u32 = Ticks::from_seconds(CLOSED_SECONDS).0;
        Ticks(
            now.0
                .wrapping_add(if closed { CLOSED } else { backend.idle_timeout }),
        )
    }

    /// Whether the flow counts as active: alive, and not closed.
    #[must_use]
    pub fn is_active(&self, now: Ticks) -> bool {
        !self.is_expired(now) && !self.is_closed()
    }

    /// A copy of what is needed to make the same flow elsewhere.
    #[inline(always)]
    #[must_use]
    pub fn to_new(&self, expires: Ticks) -> NewFlow {
        NewFlow {
            key: FlowKey {
                client: self.client(),
                client_port: self.client_port(),
                service: self.service(),
                service_port: self.service_port(),
                protocol: self.protocol(),
            },
            backend: self.backend(),
            link: self.link(),
            expires,
            one_sided: self.one_sided.load() != 0,
            own_mac: self.own_mac.load(),
            client_finished: false,
        }
    }

    /// Makes it match nothing: no flow has protocol 0.
    #[inline(always)]
    pub(super) fn clear(&self) {
        self.ports.store(0);
    }

    /// Fills an entry that the caller has claimed. It matches nothing until all of it is written.
    #[inline(always)]
    pub(super) fn fill<T: Tables>(&self, tables: &T, flow: &NewFlow) {
        tables.publish(&self.ports, 0);
        let [client_high, client_low] = flow.key.client.words();
        let [service_high, service_low] = flow.key.service.words();
        self.client[0].store(client_high);
        self.client[1].store(client_low);
        self.service[0].store(service_high);
        self.service[1].store(service_low);
        self.link.store(flow.link.word());
        self.ingress.store(flow.link.ingress);
        self.expires.store(flow.expires.0);
        let client_state = if flow.client_finished { state::FIN } else { 0 };
        self.client_state.store(client_state);
        self.backend_state.store(0);
        self.own_mac.store(flow.own_mac);
        self.one_sided.store(u8::from(flow.one_sided));
        self.backend_sequence.store(0);
        let key = pack(
            flow.key.client_port,
            flow.key.service_port,
            flow.key.protocol,
        );
        tables.publish(
            &self.ports,
            key | (u64::from(flow.backend) << BACKEND_SHIFT),
        );
    }
}

impl NewFlow {
    /// Whether flows of that backend see only the client's packets.
    #[inline(always)]
    #[must_use]
    pub fn is_one_sided(backend: &Backend) -> bool {
        backend.forwarding != Forwarding::Nat as u8
    }
}
