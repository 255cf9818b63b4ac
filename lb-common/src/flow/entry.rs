//! One flow: 64 bytes, shared by all CPUs and the agent.

use crate::{
    abi::{Backend, Ticks, backend_flags, features},
    address::Address,
    flow::{CLOSED_SECONDS, ClientLink, Path, Shift},
    headers::tcp_flags,
    shared::{Shared8, Shared16, Shared32, Shared64},
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
    /// MAC (48 bits) and tags of the way back to the client, see [`ClientLink::words`].
    link: Shared64,
    /// Interface (20 bits) and outer VLAN id (12 bits) of that way.
    ingress: Shared32,
    expires: Shared32,
    /// Written only by packets of the client.
    client_state: Shared8,
    /// Written only by packets of the backend.
    backend_state: Shared8,
    own_mac: Shared8,
    /// See [`Path`].
    path: Shared8,
    /// The upper half of the sequence number in the backend's SYN-ACK. With a [`Shift`], the lower
    /// half of that; the upper one stands in the bucket.
    backend_sequence: Shared16,
    /// Full NAT: the source port towards the backend, network order.
    source_port: Shared16,
}

/// Ticks that a backend has for its answer to a SYN: more than half a second.
const ANSWER_TICKS: u32 = 3;

/// Bits of the two state bytes.
mod state {
    use super::Shift;

    pub(super) const FIN: u8 = 1;
    pub(super) const RST: u8 = 2;
    pub(super) const SYN_ACK: u8 = 4;
    /// The client asked again, because nobody answered.
    pub(super) const ASKED_AGAIN: u8 = 8;
    /// The client's: there is a [`Shift`](crate::flow::Shift), and the backend has not answered.
    pub(super) const AWAITING: u8 = Shift::awaiting(0).state();
    /// The client's: there is a [`Shift`](crate::flow::Shift), and the backend has answered.
    pub(super) const SHIFTED: u8 = Shift::by(0).state();
    /// Another balancer told of it, and no packet of its client came here since.
    pub(super) const FOREIGN: u8 = 64;
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

/// What the sides of a flow said, as it stands in its entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// Bits of the client.
    pub client: u8,
    /// Bits of the backend.
    pub backend: u8,
    /// The upper half of the sequence number in the backend's SYN-ACK.
    pub backend_sequence: u16,
    /// Another balancer told of it, and no packet of its client came here since.
    pub is_foreign: bool,
}

impl Sides {
    /// Whether that is the end of a flow, see [`FlowEntry::is_closed`].
    #[must_use]
    pub const fn is_closed(&self, is_one_sided: bool) -> bool {
        (self.client | self.backend) & state::RST != 0
            || (self.client & state::FIN != 0 && (self.backend & state::FIN != 0 || is_one_sided))
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
    /// How its packets travel.
    pub path: Path,
    /// Eight bits of our MAC, by which its packets came.
    pub own_mac: u8,
    /// The client already said that it sends nothing more.
    pub client_finished: bool,
    /// What is known of its sequence numbers.
    pub shift: Shift,
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
        // Also datagrams make it one of ours.
        let client = self.client_state.load();
        self.client_state.update(client & !state::FOREIGN);
    }

    /// What its sides said.
    #[must_use]
    pub fn sides(&self) -> Sides {
        let client = self.client_state.load();
        Sides {
            client: client & !(state::FOREIGN | state::AWAITING | state::SHIFTED),
            backend: self.backend_state.load(),
            backend_sequence: self.backend_sequence.load(),
            is_foreign: client & state::FOREIGN != 0,
        }
    }

    /// Sets what its sides said, as another balancer knows it, and what else tells it from a flow
    /// that packets came of: eight bits of a MAC that no packet here is addressed to, so that the
    /// first one is looked at closely.
    pub fn adopt(&self, sides: Sides, foreign_mac: u8) {
        const KNOWN: u8 = state::FIN | state::RST | state::SYN_ACK | state::ASKED_AGAIN;
        let foreign = if sides.is_foreign { state::FOREIGN } else { 0 };
        let shift = self.client_state.load() & (state::AWAITING | state::SHIFTED);
        self.client_state
            .store(sides.client & KNOWN | foreign | shift);
        self.backend_state.store(sides.backend & KNOWN);
        if shift == 0 {
            self.backend_sequence.store(sides.backend_sequence);
        }
        self.own_mac.store(foreign_mac);
    }

    /// The way back to the client.
    #[inline(always)]
    #[must_use]
    pub fn link(&self) -> ClientLink {
        ClientLink::from_words(self.link.load(), self.ingress.load())
    }

    /// Follows a client whose way changed; writes only then.
    #[inline(always)]
    pub fn follow_link(&self, link: ClientLink) {
        let (link, ingress) = link.words();
        self.link.update(link);
        self.ingress.update(ingress);
    }

    /// How its packets travel.
    #[inline(always)]
    #[must_use]
    pub fn path(&self) -> Path {
        Path::from_words(self.path.load(), self.source_port.load())
    }

    /// Whether its packets reach the backend with that source; the port is in network order.
    #[inline(always)]
    #[must_use]
    pub fn has_source(&self, address: u8, port: u16) -> bool {
        self.source_port.load() == port && self.path.load() == address.wrapping_add(1)
    }

    /// Gives the flow another way, for another backend.
    #[inline(always)]
    pub fn set_path(&self, path: Path) {
        let (path, port) = path.words();
        self.path.store(path);
        self.source_port.store(port);
    }

    #[inline(always)]
    fn is_one_sided(&self) -> bool {
        self.path.load() == Path::ONE_SIDED.words().0
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
            || (client & state::FIN != 0 && (backend & state::FIN != 0 || self.is_one_sided()))
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
            (old & !(state::RST | state::FOREIGN)) | (flags & tcp_flags::FIN)
        };
        cell.update(new);
        // Nothing was ever said on most packets of a flow's life.
        new != 0 && self.is_closed()
    }

    /// Marks a flow that the balancer itself reset.
    #[inline(always)]
    pub fn close(&self) {
        self.client_state
            .store(self.client_state.load() | state::RST);
    }

    /// Notes the backend's SYN-ACK.
    #[inline(always)]
    pub fn note_syn_ack(&self, sequence: u32) {
        self.backend_sequence.store((sequence >> 16) as u16);
        self.backend_state.store(state::SYN_ACK);
    }

    /// Whether the client's handshake was the balancer's, and the backend has not answered.
    #[inline(always)]
    #[must_use]
    pub fn is_awaiting(&self) -> bool {
        self.client_state.load() & state::AWAITING != 0
    }

    /// Whether the backend's sequence numbers are not those that the client sees.
    #[inline(always)]
    #[must_use]
    pub fn is_shifted(&self) -> bool {
        self.client_state.load() & state::SHIFTED != 0
    }

    /// What is known of its sequence numbers, with the upper half that stands in its bucket.
    #[inline(always)]
    #[must_use]
    pub(super) fn shift(&self, upper: u16) -> Shift {
        let value = u32::from(upper) << 16 | u32::from(self.backend_sequence.load());
        let state = self.client_state.load();
        if state & state::AWAITING != 0 {
            Shift::awaiting(value)
        } else if state & state::SHIFTED != 0 {
            Shift::by(value)
        } else {
            Shift::NONE
        }
    }

    /// Whether the backend has neither answered nor refused the client's SYN so far, where its
    /// replies pass here.
    #[inline(always)]
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        self.backend_state.load() & (state::SYN_ACK | state::RST) == 0
    }

    /// Notes that the client's SYN comes again, so many ticks after the one before, and says whether
    /// that speaks against the backend: it does once in a flow's life, where nothing was heard of
    /// the backend though there was time for it. A client waits for a second (RFC 6298), but whoever
    /// forges SYNs may send two at once.
    #[inline(always)]
    #[must_use]
    pub fn note_asked_again(&self, waited: u32) -> bool {
        let client = self.client_state.load();
        let speaks =
            waited >= ANSWER_TICKS && self.is_unheard() && client & state::ASKED_AGAIN == 0;
        if speaks {
            self.client_state.store(client | state::ASKED_AGAIN);
        }
        speaks
    }

    /// Whether a client's acknowledgement proves that it saw the backend's SYN-ACK: the upper
    /// halves of the numbers fit, which a forger guesses once in 32,768 times. The slack allows for
    /// data that a backend sends with a SYN-ACK (RFC 7413).
    #[inline(always)]
    #[must_use]
    pub fn is_proven_by(&self, acknowledgement: u32) -> bool {
        let half = (acknowledgement >> 16) as u16;
        self.is_one_sided()
            || (self.backend_state.load() & state::SYN_ACK != 0
                && half.wrapping_sub(self.backend_sequence.load()) <= 1)
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

    /// A copy of what is needed to make the same flow elsewhere, but for its [`Shift`].
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
            path: self.path(),
            own_mac: self.own_mac.load(),
            client_finished: false,
            shift: Shift::NONE,
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
        let (link, ingress) = flow.link.words();
        self.link.store(link);
        self.ingress.store(ingress);
        self.expires.store(flow.expires.0);
        let finished = if flow.client_finished { state::FIN } else { 0 };
        let shift = if tables.has(features::SYN_COOKIES) {
            flow.shift
        } else {
            Shift::NONE
        };
        self.client_state.store(finished | shift.state());
        self.backend_state.store(0);
        self.own_mac.store(flow.own_mac);
        self.set_path(flow.path);
        self.backend_sequence.store(shift.value() as u16);
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
