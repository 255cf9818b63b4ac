//! What balancers say to each other: bytes to values and back, and nothing else. Hostile bytes give
//! an error.
//!
//! Every datagram begins with a mark, a version and a kind. A *hello* is in clear text, with a
//! message authentication code; the rest is sealed (see [`super::session`]), and what is inside is
//! either the state of the sender or a batch of flows. Flows name services and backends by address
//! and port, because ids differ from balancer to balancer, and times as what is left of them.

use lb_common::address::Address;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::network_endian::{U16, U32, U64},
};

/// Of this module, and of what the values mean.
pub const VERSION: u8 = 2;
/// What a datagram is at most: it fits into one packet nearly everywhere.
pub const LONGEST: usize = 1400;
/// Bytes of a random number that is used once.
pub const NONCE: usize = 32;
/// Bytes of a message authentication code.
pub const MAC: usize = 32;
/// Bytes that sealing adds.
pub const TAG: usize = 16;
/// Bytes in front of what is sealed.
pub const SEALED_HEAD: usize = size_of::<SealedHead>();
/// Bytes that can be sealed.
pub const ROOM: usize = LONGEST - SEALED_HEAD - TAG;

const MARK: [u8; 4] = *b"LBfs";
const HELLO: u8 = 1;
const SEALED: u8 = 2;

/// What every datagram begins with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    mark: [u8; 4],
    version: u8,
    kind: u8,
    reserved: [u8; 2],
}

impl Head {
    const fn new(kind: u8) -> Self {
        Self {
            mark: MARK,
            version: VERSION,
            kind,
            reserved: [0; 2],
        }
    }
}

/// The beginning of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's number.
    pub own: [u8; NONCE],
    /// The receiver's, as far as the sender knows it, else zeros.
    pub yours: [u8; NONCE],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HelloBytes {
    head: Head,
    own: [u8; NONCE],
    yours: [u8; NONCE],
    mac: [u8; MAC],
}

/// Bytes of a hello that its code is made of.
const HELLO_SIGNED: usize = size_of::<HelloBytes>() - MAC;

impl Hello {
    /// As it is sent; the function makes the code.
    pub fn bytes(&self, sign: impl FnOnce(&[u8]) -> [u8; MAC]) -> Vec<u8> {
        let mut bytes = HelloBytes {
            head: Head::new(HELLO),
            own: self.own,
            yours: self.yours,
            mac: [0; MAC],
        };
        bytes.mac = sign(&bytes.as_bytes()[..HELLO_SIGNED]);
        bytes.as_bytes().to_vec()
    }
}

/// What stands in front of what is sealed, and is authenticated with it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SealedHead {
    head: [u8; size_of::<Head>()],
    session: U64,
    number: U64,
}

impl SealedHead {
    /// Of the message of that number in that session.
    #[must_use]
    pub fn new(session: u64, number: u64) -> Self {
        let mut head = [0; size_of::<Head>()];
        head.copy_from_slice(Head::new(SEALED).as_bytes());
        Self {
            head,
            session: session.into(),
            number: number.into(),
        }
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.session.get()
    }

    /// The message's number in it.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number.get()
    }
}

/// A datagram, of which nothing is proven yet.
#[derive(Debug)]
pub enum Datagram<'b> {
    /// A hello: what is signed, and the code.
    Hello(Hello, &'b [u8], &'b [u8; MAC]),
    /// What is sealed.
    Sealed(SealedHead),
}

/// Why a datagram or what was in it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Too short, too long, or of something else.
    Malformed,
    /// Of another version.
    Version(u8),
}

/// What a datagram is.
///
/// # Errors
/// When it is none.
pub fn datagram(bytes: &[u8]) -> Result<Datagram<'_>, Unreadable> {
    let (head, _) = Head::ref_from_prefix(bytes).map_err(|_| Unreadable::Malformed)?;
    if head.mark != MARK {
        return Err(Unreadable::Malformed);
    }
    if head.version != VERSION {
        return Err(Unreadable::Version(head.version));
    }
    match head.kind {
        HELLO => {
            let hello = HelloBytes::ref_from_bytes(bytes).map_err(|_| Unreadable::Malformed)?;
            let value = Hello {
                own: hello.own,
                yours: hello.yours,
            };
            Ok(Datagram::Hello(value, &bytes[..HELLO_SIGNED], &hello.mac))
        }
        SEALED if bytes.len() >= SEALED_HEAD + TAG && bytes.len() <= LONGEST => {
            let (head, _) =
                SealedHead::read_from_prefix(bytes).map_err(|_| Unreadable::Malformed)?;
            Ok(Datagram::Sealed(head))
        }
        _ => Err(Unreadable::Malformed),
    }
}

/// Both ends of a flow, and how it stands. Ports as they stand in tables: in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who connects.
    pub client: Address,
    /// From where.
    pub client_port: u16,
    /// To which service.
    pub service: Address,
    /// And port.
    pub service_port: u16,
    /// Number of the protocol.
    pub protocol: u8,
    /// The backend.
    pub backend: Address,
    /// And port.
    pub backend_port: u16,
    /// Full NAT: address and port by which the backend sees it.
    pub source: Option<(Address, u16)>,
    /// Milliseconds until it is forgotten.
    pub lifetime: u32,
    /// What the sides said, see [`lb_common::flow::Sides`].
    pub client_state: u8,
    /// The same of the backend.
    pub backend_state: u8,
    /// The upper half of the sequence number in the backend's SYN-ACK.
    pub backend_sequence: u16,
    /// What is added to the backend's sequence numbers, see [`lb_common::flow::Shift::by`].
    pub sequence_delta: Option<u32>,
    /// MAC that the client's packets come from.
    pub mac: [u8; 6],
    /// Tags of its packets, see [`lb_common::tags::Tags::words`].
    pub tags: (u16, u16),
    /// Which of the sender's interfaces they come in by.
    pub interface: u8,
}

/// No interface that the receiver could know.
pub const NO_INTERFACE: u8 = u8::MAX;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Ends<A> {
    client: A,
    service: A,
    backend: A,
    source: A,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Rest {
    // As they stand in memory, which is network order already.
    client_port: [u8; 2],
    service_port: [u8; 2],
    backend_port: [u8; 2],
    source_port: [u8; 2],
    lifetime: U32,
    sequence_delta: U32,
    backend_sequence: U16,
    inner_tag: U16,
    outer_tag: U16,
    mac: [u8; 6],
    protocol: u8,
    flags: u8,
    client_state: u8,
    backend_state: u8,
    interface: u8,
    reserved: u8,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Entry<A> {
    ends: Ends<A>,
    rest: Rest,
}

/// Bit of `Rest::flags`: there is a source.
const HAS_SOURCE: u8 = 1;
/// The same: sequence numbers are shifted.
const HAS_DELTA: u8 = 2;

type Narrow = Entry<[u8; 4]>;
type Wide = Entry<[u8; 16]>;

/// Kinds of what is sealed.
const STATE: u8 = 1;
const NARROW_FLOWS: u8 = 2;
const WIDE_FLOWS: u8 = 3;

/// Bytes in front of the flows of a batch: the kind, and how many.
const BATCH_HEAD: usize = 2;
/// IPv4 flows of a batch.
pub const MOST_NARROW: usize = (ROOM - BATCH_HEAD) / size_of::<Narrow>();
/// Flows of a batch with IPv6 in it.
pub const MOST_WIDE: usize = (ROOM - BATCH_HEAD) / size_of::<Wide>();

impl Record {
    /// Whether it fits into the shorter form.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        let ends = [self.client, self.service, self.backend];
        ends.iter().all(|end| end.is_v4()) && self.source.is_none_or(|(address, _)| address.is_v4())
    }

    fn entry<A>(&self, octets: fn(Address) -> A, none: A) -> Entry<A> {
        Entry {
            ends: Ends {
                client: octets(self.client),
                service: octets(self.service),
                backend: octets(self.backend),
                source: self.source.map_or(none, |(address, _)| octets(address)),
            },
            rest: Rest {
                client_port: self.client_port.to_ne_bytes(),
                service_port: self.service_port.to_ne_bytes(),
                backend_port: self.backend_port.to_ne_bytes(),
                source_port: self.source.map_or(0, |(_, port)| port).to_ne_bytes(),
                lifetime: self.lifetime.into(),
                sequence_delta: self.sequence_delta.unwrap_or(0).into(),
                backend_sequence: self.backend_sequence.into(),
                inner_tag: self.tags.0.into(),
                outer_tag: self.tags.1.into(),
                mac: self.mac,
                protocol: self.protocol,
                flags: (u8::from(self.source.is_some()) * HAS_SOURCE)
                    | (u8::from(self.sequence_delta.is_some()) * HAS_DELTA),
                client_state: self.client_state,
                backend_state: self.backend_state,
                interface: self.interface,
                reserved: 0,
            },
        }
    }

    fn of<A: Copy>(entry: &Entry<A>, address: impl Fn(A) -> Address) -> Self {
        let Entry { ends, rest } = entry;
        let has_source = rest.flags & HAS_SOURCE != 0;
        Self {
            client: address(ends.client),
            client_port: u16::from_ne_bytes(rest.client_port),
            service: address(ends.service),
            service_port: u16::from_ne_bytes(rest.service_port),
            protocol: rest.protocol,
            backend: address(ends.backend),
            backend_port: u16::from_ne_bytes(rest.backend_port),
            source: has_source
                .then(|| (address(ends.source), u16::from_ne_bytes(rest.source_port))),
            lifetime: rest.lifetime.get(),
            client_state: rest.client_state,
            backend_state: rest.backend_state,
            backend_sequence: rest.backend_sequence.get(),
            sequence_delta: (rest.flags & HAS_DELTA != 0).then(|| rest.sequence_delta.get()),
            mac: rest.mac,
            tags: (rest.inner_tag.get(), rest.outer_tag.get()),
            interface: rest.interface,
        }
    }
}

/// Flows on their way into a message; all of one form.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    most: usize,
}

impl Batch {
    /// An empty one, for narrow records or for all.
    #[must_use]
    pub fn new(is_narrow: bool) -> Self {
        let (kind, most) = if is_narrow {
            (NARROW_FLOWS, MOST_NARROW)
        } else {
            (WIDE_FLOWS, MOST_WIDE)
        };
        let mut bytes = Vec::with_capacity(ROOM);
        bytes.extend([kind, 0]);
        Self { bytes, most }
    }

    /// Adds a flow, which has to be of the form, and says whether the batch is full now.
    pub fn push(&mut self, record: &Record) -> bool {
        if self.bytes[0] == NARROW_FLOWS {
            let entry: Narrow = record.entry(Address::v4_octets, [0; 4]);
            self.bytes.extend_from_slice(entry.as_bytes());
        } else {
            let entry: Wide = record.entry(Address::octets, [0; 16]);
            self.bytes.extend_from_slice(entry.as_bytes());
        }
        self.bytes[1] += 1;
        self.len() >= self.most
    }

    /// Flows in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes[1].into()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be sealed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.bytes.truncate(BATCH_HEAD);
        self.bytes[1] = 0;
    }
}

/// Longest name of an interface, and most interfaces of a state.
pub const NAME: usize = 16;
/// Most interfaces that a state names.
pub const MOST_INTERFACES: usize = 16;
/// Most addresses that a state names.
pub const MOST_ADDRESSES: usize = 48;

/// How a balancer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Names of the interfaces that records mean by their number.
    pub interfaces: Vec<String>,
    /// Addresses of services that this host has on an interface, as the active one of two has.
    pub held: Vec<Address>,
    /// Whether the receiver was told of every connection since the session began.
    pub has_told: bool,
}

/// Bit of a state's flags: [`State::has_told`].
const HAS_TOLD: u8 = 1;

impl State {
    /// What is to be sealed. Of more interfaces and addresses than there is room for, the first.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let interfaces = &self.interfaces[..self.interfaces.len().min(MOST_INTERFACES)];
        let held = &self.held[..self.held.len().min(MOST_ADDRESSES)];
        let flags = u8::from(self.has_told) * HAS_TOLD;
        let mut bytes = vec![STATE, interfaces.len() as u8, held.len() as u8, flags];
        for name in interfaces {
            let mut field = [0; NAME];
            let name = name.as_bytes();
            let length = name.len().min(NAME);
            field[..length].copy_from_slice(&name[..length]);
            bytes.extend(field);
        }
        for address in held {
            bytes.extend(address.octets());
        }
        bytes
    }
}

/// What was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// How the sender stands.
    State(State),
    /// Flows.
    Flows(Vec<Record>),
}

/// What was sealed, of a message that is proven to be a peer's.
///
/// # Errors
/// When it is nothing that this version says.
pub fn message(bytes: &[u8]) -> Result<Message, Unreadable> {
    match *bytes {
        [STATE, interfaces, addresses, flags, ref rest @ ..] => {
            let state = state(rest, interfaces.into(), addresses.into())?;
            Ok(Message::State(State {
                has_told: flags & HAS_TOLD != 0,
                ..state
            }))
        }
        [NARROW_FLOWS, count, ref rest @ ..] => {
            let entries = <[Narrow]>::ref_from_bytes(rest).map_err(|_| Unreadable::Malformed)?;
            flows(entries, count, Address::from_v4)
        }
        [WIDE_FLOWS, count, ref rest @ ..] => {
            let entries = <[Wide]>::ref_from_bytes(rest).map_err(|_| Unreadable::Malformed)?;
            flows(entries, count, Address::from_v6)
        }
        _ => Err(Unreadable::Malformed),
    }
}

fn flows<A: Copy>(
    entries: &[Entry<A>],
    count: u8,
    address: fn(A) -> Address,
) -> Result<Message, Unreadable> {
    if entries.len() != usize::from(count) {
        return Err(Unreadable::Malformed);
    }
    let records = entries.iter().map(|entry| Record::of(entry, address));
    Ok(Message::Flows(records.collect()))
}

fn state(bytes: &[u8], interfaces: usize, addresses: usize) -> Result<State, Unreadable> {
    if interfaces > MOST_INTERFACES
        || addresses > MOST_ADDRESSES
        || bytes.len() != interfaces * NAME + addresses * 16
    {
        return Err(Unreadable::Malformed);
    }
    let (names, held) = bytes.split_at(interfaces * NAME);
    let (names, _) = names.as_chunks::<NAME>();
    let (held, _) = held.as_chunks::<16>();
    let name = |field: &[u8; NAME]| {
        let length = field.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        String::from_utf8_lossy(&field[..length]).into_owned()
    };
    Ok(State {
        interfaces: names.iter().map(name).collect(),
        held: held
            .iter()
            .map(|octets| Address::from_v6(*octets))
            .collect(),
        has_told: false,
    })
}

#[cfg(test)]
mod tests;
