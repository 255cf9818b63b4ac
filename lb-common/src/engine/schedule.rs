//! A packet without a flow, and the ends of flows.

use crate::{
    abi::{
        Affinity, AffinityKey, EndpointKey, Forwarding, OnNoBackend, Service, Ticks, backend_flags,
        features, service_flags,
    },
    engine::{
        Next, Outcome, cookie,
        packet::Packet,
        pick,
        step::Step,
        to_client,
        to_service::{TcpInfo, half_open_expiry},
        wall,
    },
    flow::{FlowEntry, Found, Inserted, NewFlow, Path, Place, Shift, Side, insert},
    frame::Frame,
    headers::tcp_flags,
    ports,
    tables::{FlowTable, Tables},
    trace::Decision,
    verdict::{Event, Verdict},
};

/// No backend: ids have 24 bits.
const NONE: u32 = u32::MAX;

/// Begins a flow, or refuses to.
#[inline(always)]
pub(super) fn begin<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    tcp: TcpInfo,
    now: Ticks,
    place: Place,
) -> Step {
    let key = service_key(packet);
    let Some(service) = tables.service(&key) else {
        tables.note(Decision::NoService, 0);
        return Verdict::PassNotOurs.into();
    };
    tables.note(Decision::Service, service.id);
    if !super::is_addressed_to_us(frame, tables, now) {
        return Verdict::PassOtherHost.into();
    }
    if packet.ip.source.is_martian() {
        return Verdict::DropMartian.into();
    }
    if super::has_services(tables, packet.ip.source) {
        return Verdict::DropReflected.into();
    }
    if tables.has(features::SERVICE_LISTS) {
        let is_kept_out = wall::keeps_out(tables, &service, packet.ip.source);
        // Forgotten, or everything that follows is verified twice.
        if frame.forget(usize::from(is_kept_out)) != 0 {
            return Verdict::DropServiceDenied.into();
        }
    }
    let is_known = tables.has(features::TAKE_UP) && tcp.is_taken_up();
    if packet.is_tcp() && !tcp.is_opening() && !is_known {
        if tables.has(features::SYN_COOKIES)
            && !packet.is_later_fragment
            && tcp.flags() & (tcp_flags::SYN | tcp_flags::RST | tcp_flags::ACK) == tcp_flags::ACK
            && cookie::may_be_answered(tables, &service, now)
        {
            return Outcome::then(Next::Cookie).into();
        }
        if takes_up(tables, &service, packet, tcp) {
            return Outcome::then(Next::TakeUp).into();
        }
        return refuse_stray(packet, tcp).into();
    }
    if packet.ip.hop_limit <= 1 {
        return Verdict::DropTtlExceeded.into();
    }
    let asks_anew = tables.has(features::SYN_COOKIES) && packet.is_tcp() && tcp.is_first();
    if asks_anew && cookie::is_wanted(tables, &service) {
        tables.note(Decision::CookieSent, service.syn_cookies);
        tables.note_cookie_sent(service.id, now);
        return Outcome::answer(Verdict::AnsweredSynCookie).into();
    }
    // What was just asked is to be forgotten, or everything that follows is verified twice.
    let tcp = tcp.forgotten(frame);
    let mut is_stateless =
        tables.has(features::ONE_PACKET) && service.flags & service_flags::ONE_PACKET != 0;
    if tables.has(features::TAKE_UP) {
        is_stateless |= tcp.needs_no_flow();
    }
    let id = choose(frame, tables, packet, &service, now).unwrap_or(NONE);
    let id = frame.forget(id as usize) as u32;
    if id == NONE {
        return refuse_no_backend(packet, &service).into();
    }
    tables.note(Decision::Chosen, id);
    let Some(backend) = tables.backend(id) else {
        return Verdict::DropUnknownBackend.into();
    };
    if backend.flags & backend_flags::USED == 0 {
        return Verdict::DropUnknownBackend.into();
    }
    if backend.next_hop == 0 {
        return Verdict::DropNoNextHop.into();
    }
    if is_stateless {
        tables.note(Decision::Stateless, 0);
        count_begun(tables, id, tcp);
        return Step::forward(id, Path::ONE_SIDED);
    }
    // Two services may share a backend's endpoint. A client that uses one port for both would get
    // replies that cannot be told apart.
    if tables.has(features::NAT)
        && backend.forwarding == Forwarding::Nat as u8
        && to_client::is_taken(frame, tables, place, packet, backend, now)
    {
        return Verdict::DropTupleInUse.into();
    }
    let mut path = Path::without_source(backend);
    let is_local = tables
        .next_hop(backend.next_hop)
        .is_some_and(|hop| hop.ifindex == 0);
    if is_local {
        // Its replies do not pass here, and so prove nothing.
        path = Path::ONE_SIDED;
    } else if tables.has(features::FULL_NAT) && backend.forwarding == Forwarding::FullNat as u8 {
        match ports::take(tables, backend, packet.ip.protocol, place) {
            Some(taken) => {
                // At whichever attempt.
                path = taken.merged(frame);
                let source = u32::from(path.address()) << 16;
                tables.note(
                    Decision::SourcePort,
                    source | u32::from(u16::from_be(path.port())),
                );
            }
            None => return refuse_no_source_port(packet, &service).into(),
        }
    }
    let flow = NewFlow {
        key: packet.key(),
        backend: id,
        link: packet.client_link(frame.ingress()),
        expires: half_open_expiry(now, backend),
        path,
        own_mac: packet.own_mac(),
        client_finished: false,
        shift: if tables.has(features::SYN_COOKIES) {
            tcp.shift()
        } else {
            Shift::NONE
        },
    };
    match insert(tables, FlowTable::HalfOpen, place, now, &flow) {
        Inserted::Contended => {
            give_back(tables, path, packet.ip.protocol, place);
            return Verdict::DropTableContended.into();
        }
        Inserted::Evicted => tables.count_event(Event::HalfOpenEvicted),
        Inserted::Free => {}
    }
    if tables.has(features::SYN_COOKIES) && packet.is_tcp() {
        cookie::count_half_open(tables, service.id, 1);
    }
    count_begun(tables, id, tcp);
    change_load(tables, id, 1);
    Step::forward(id, path)
}

/// Whether a packet of no flow may be of a connection that began by another balancer, and goes to the
/// backend that its hash names, as it would have gone there. It begins a half-open flow, no more than
/// a SYN does, and the next one proves it.
#[inline(always)]
fn takes_up<T: Tables>(tables: &T, service: &Service, packet: &Packet, tcp: TcpInfo) -> bool {
    tables.has(features::TAKE_UP)
        && !packet.is_later_fragment
        && service.flags & service_flags::TAKES_UP != 0
        && tcp.flags() & tcp_flags::SYN == 0
}

/// Counts a connection of a backend, where it begins here.
#[inline(always)]
fn count_begun<T: Tables>(tables: &T, backend: u32, tcp: TcpInfo) {
    if tables.has(features::TAKE_UP) && tcp.is_taken_up() {
        tables.note(Decision::TakenUp, 0);
        tables.count_event(Event::ConnectionTakenUp);
    } else {
        tables.count_connection(backend);
    }
}

/// The backend of a new flow: the one that the client keeps, or the scheduler's.
#[inline(always)]
fn choose<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    service: &Service,
    now: Ticks,
) -> Option<u32> {
    let keeps = tables.has(features::AFFINITY) && service.affinity != 0;
    let mut id = NONE;
    if tables.has(features::SERVER_ID)
        && service.server_id_length != 0
        && let Some(named) = super::server_id::find(frame, tables, packet, service)
        && is_usable(tables, named, service)
    {
        tables.note(Decision::ServerId, named);
        id = named;
    }
    let key = AffinityKey {
        address: packet.ip.source,
        service: service.id,
        reserved: 0,
    };
    // Written again only when a good part of its time is over: it costs as much as a flow.
    let mut writes = false;
    let expires = now.0.wrapping_add(service.affinity);
    // A client may put any backend's name into its packets; only what was scheduled is kept.
    if keeps && id == NONE {
        let kept = tables.affinity(&key);
        if now.0 <= kept.expires && is_usable(tables, kept.backend, service) {
            tables.note(Decision::Kept, kept.backend);
            id = kept.backend;
        }
        writes = kept.backend != id || expires.wrapping_sub(kept.expires) > service.affinity >> 4;
    }
    let id = match frame.forget(id as usize) as u32 {
        NONE => pick::next(frame, tables, service, packet)?,
        id => id,
    };
    if writes {
        let value = Affinity {
            backend: id,
            expires,
        };
        tables.set_affinity(&key, &value);
    }
    Some(id)
}

/// Whether a backend that was chosen earlier may get another flow. Its number may have been given to
/// a backend of another service since.
#[inline(always)]
fn is_usable<T: Tables>(tables: &T, id: u32, service: &Service) -> bool {
    const STATE: u32 = backend_flags::USED | backend_flags::DOWN;
    tables.backend(id).is_some_and(|backend| {
        // One comparison, for the verifier.
        let state = (backend.flags & STATE) ^ backend_flags::USED;
        (state | (backend.service ^ service.id)) == 0 && backend.next_hop != 0
    })
}

#[inline(always)]
fn service_key(packet: &Packet) -> EndpointKey {
    EndpointKey::new(
        packet.ip.destination,
        packet.ports.destination.get(),
        packet.ip.protocol,
    )
}

/// Gives a flow that lost its backend another one, by its id. `None` when there is none; the flow
/// is as it was then.
#[inline(always)]
pub(super) fn move_flow<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    packet: &Packet,
    now: Ticks,
    flow: &FlowEntry,
) -> Option<u32> {
    let service = tables.service(&service_key(packet))?;
    let id = pick::next(frame, tables, &service, packet)?;
    let backend = tables.backend(id)?;
    if backend.flags & (backend_flags::USED | backend_flags::DOWN) != backend_flags::USED {
        return None;
    }
    // A flow of a backend on this host has no source port, which another one needs.
    if tables.has(features::FULL_NAT)
        && backend.forwarding == Forwarding::FullNat as u8
        && !flow.path().has_source()
    {
        return None;
    }
    if flow.is_active(now) {
        change_load(tables, flow.backend(), -1);
        change_load(tables, id, 1);
    }
    flow.set_backend(id);
    tables.count_event(Event::FlowRescheduled);
    tables.count_connection(id);
    Some(id)
}

/// Notes what a TCP packet's flags say, and returns whether the flow is closed now.
#[inline(always)]
pub(super) fn note_tcp<T: Tables>(
    tables: &T,
    flow: &FlowEntry,
    side: Side,
    flags: u8,
    backend: u32,
) -> bool {
    if !tables.has(features::LEAST_CONNECTIONS) {
        return flow.note_tcp(side, flags);
    }
    let was_closed = flow.is_closed();
    let is_closed = flow.note_tcp(side, flags);
    if was_closed != is_closed {
        change_load(tables, backend, if is_closed { -1 } else { 1 });
    }
    is_closed
}

/// Tells the agent of a flow that other balancers should know.
#[inline(always)]
pub(super) fn tell<T: Tables>(tables: &T, place: Place) {
    if tables.has(features::SYNC) {
        tables.tell(ports::mark(place));
    }
}

/// Tells of a flow that this very packet may have closed.
#[inline(always)]
pub(super) fn tell_closed<T: Tables>(tables: &T, place: Place, closed: bool, flags: u8) {
    if tables.has(features::SYNC) && closed && flags & (tcp_flags::FIN | tcp_flags::RST) != 0 {
        tables.tell(ports::mark(place));
    }
}

/// Notes that a flow is about to be closed by the balancer.
#[inline(always)]
pub(super) fn note_end<T: Tables>(tables: &T, flow: &FlowEntry, now: Ticks) {
    if tables.has(features::LEAST_CONNECTIONS) && flow.is_active(now) {
        change_load(tables, flow.backend(), -1);
    }
}

/// Forgets a flow, and gives back what it held.
#[inline(always)]
pub(super) fn forget<T: Tables>(
    tables: &T,
    protocol: u8,
    place: Place,
    now: Ticks,
    found: Found<'_>,
) {
    note_end(tables, found.flow, now);
    let path = found.flow.path();
    found.release(tables);
    give_back(tables, path, protocol, place);
}

#[inline(always)]
fn give_back<T: Tables>(tables: &T, path: Path, protocol: u8, place: Place) {
    if tables.has(features::FULL_NAT) {
        ports::give_back(tables, path, protocol, place);
    }
}

/// Counts a live flow of a backend, for least connections. The agent, which counts the flows in the
/// tables, corrects what is lost by flows that expire or are displaced.
#[inline(always)]
fn change_load<T: Tables>(tables: &T, backend: u32, change: i64) {
    if tables.has(features::LEAST_CONNECTIONS)
        && let Some(cell) = tables.load(backend)
    {
        tables.add(cell, change as u64);
    }
}

#[inline(always)]
fn refuse_stray(packet: &Packet, tcp: TcpInfo) -> Outcome {
    if packet.is_later_fragment {
        return Verdict::DropFragment.into();
    }
    if tcp.flags() & tcp_flags::RST != 0 {
        return Verdict::DropResetNoFlow.into();
    }
    if tcp.flags() & (tcp_flags::SYN | tcp_flags::FIN) == tcp_flags::SYN | tcp_flags::FIN {
        return Verdict::DropMalformed.into();
    }
    Outcome::answer(Verdict::AnsweredResetNoFlow)
}

const DROP: u8 = OnNoBackend::Drop as u8;
const RESET: u8 = OnNoBackend::Reset as u8;

#[inline(always)]
fn refuse_no_backend(packet: &Packet, service: &Service) -> Outcome {
    match service.on_no_backend {
        DROP => Verdict::DropNoBackend.into(),
        RESET if packet.is_tcp() => Outcome::answer(Verdict::AnsweredResetNoBackend),
        _ => Outcome::answer(Verdict::AnsweredUnreachableNoBackend),
    }
}

#[inline(always)]
fn refuse_no_source_port(packet: &Packet, service: &Service) -> Outcome {
    match service.on_no_backend {
        DROP => Verdict::DropNoSourcePort.into(),
        RESET if packet.is_tcp() => Outcome::answer(Verdict::AnsweredResetNoSourcePort),
        _ => Outcome::answer(Verdict::AnsweredUnreachableNoSourcePort),
    }
}
