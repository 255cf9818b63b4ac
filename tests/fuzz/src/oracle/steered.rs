//! Packets that go on: to a backend of their service, or to the client of their flow.

use lb_common::{
    abi::{Backend, EndpointKey, Forwarding, OnBackendDown, backend_flags, service_flags},
    address::Address,
    engine::Outcome,
    flow::FlowView,
    host::HostTables,
    tags::Tags,
};
use lb_packets::{FIN, RST, SYN, decapsulate, verify};

use super::{
    demand,
    reading::{End, Reading, masked, read, segment_size, tcp_flags},
};

/// A frame before and after.
#[derive(Clone, Copy)]
pub(super) struct Passage<'f> {
    pub(super) before: &'f [u8],
    pub(super) after: &'f [u8],
    pub(super) outcome: Outcome,
    pub(super) tables: &'f HostTables,
    /// The flows that were known when it came.
    pub(super) flows: &'f [FlowView],
}

/// The backend that a frame is addressed to, by the next hop that it leaves by.
pub(super) fn addressee(passage: &Passage<'_>) -> Result<(u32, Backend), String> {
    let Passage { after, tables, .. } = passage;
    let hops = tables.next_hops.iter().enumerate().skip(1);
    let found = hops.into_iter().find(|(_, hop)| {
        hop.ifindex == passage.outcome.egress
            && after[..6] == hop.destination
            && after[6..12] == hop.source
    });
    let (id, hop) = found.ok_or("it goes to nobody's MAC")?;
    // Every backend has a next hop of its own, of the same number.
    let backend = tables.backends[id];
    demand(
        backend.next_hop == id as u32,
        "it goes where the backend is no more",
    )?;
    let (link, _) = super::reading::read_ip(after).ok_or("it is no IP packet any more")?;
    demand(
        link.tags == Tags::of_next_hop(hop.vlan, hop.outer_vlan)
            // What has the right tags keeps them, priority and kind.
            || (link.tags.inner(), link.tags.outer()) == (hop.vlan, hop.outer_vlan),
        "it has other tags than its next hop asks for",
    )?;
    Ok((id as u32, backend))
}

/// A packet of a client.
pub(super) fn to_backend(passage: &Passage<'_>) -> Result<(), String> {
    let Passage {
        before,
        after,
        tables,
        ..
    } = *passage;
    let packet = read(before, tables).ok_or("it is no TCP or UDP packet")?;
    let (id, backend) = addressee(passage)?;
    demand(!packet.ip.source.is_martian(), "it comes from nobody")?;
    demand(
        (backend.service_address, backend.service_port) == packet.destination
            && backend.protocol == packet.ip.protocol
            && backend.flags & backend_flags::USED != 0,
        "it goes to a backend of another service",
    )?;
    let is_tunnel =
        [Forwarding::DsrIpip as u8, Forwarding::DsrGue as u8].contains(&backend.forwarding);
    let inner = if is_tunnel {
        Some(taken_out(after, &packet, &backend)?)
    } else {
        None
    };
    let out = inner.as_deref().unwrap_or(after);
    let left = read(out, tables);
    let left = left.or_else(|| as_piece(out, &packet));
    let left = left.ok_or("what leaves is no TCP or UDP packet")?;
    let source = flow_of(passage, &packet, id)?;
    let destination = if Forwarding::sees_replies(backend.forwarding) {
        (backend.address, backend.port)
    } else {
        packet.destination
    };
    same_packet(passage, (before, &packet), (out, &left), &backend)?;
    let ports_say = |found: End, expected: End| {
        found.0 == expected.0 && (packet.ip.is_later_fragment || found.1 == expected.1)
    };
    demand(
        ports_say(left.destination, destination),
        "it goes to another endpoint than its backend's",
    )?;
    demand(
        ports_say(left.source, source),
        "it comes from another endpoint than its flow's",
    )
}

/// A piece of which the tables say nothing under its new addresses.
fn as_piece(frame: &[u8], original: &Reading) -> Option<Reading> {
    let (link, ip) = super::reading::read_ip(frame)?;
    (original.ip.is_later_fragment && ip.is_later_fragment).then_some(Reading {
        link,
        ip,
        source: (ip.source, original.source.1),
        destination: (ip.destination, original.destination.1),
    })
}

/// The packet that a tunnel's packet holds.
fn taken_out(after: &[u8], packet: &Reading, backend: &Backend) -> Result<Vec<u8>, String> {
    let (_, outer) = super::reading::read_ip(after).ok_or("the outer packet is no IP")?;
    verify(after).map_err(|fault| format!("the outer packet: {fault}"))?;
    demand(
        outer.destination == backend.address,
        "it is tunnelled to somebody else",
    )?;
    let differs = differing_bits(outer.source, backend.tunnel_source);
    demand(
        differs & !u128::from(u32::from_be(backend.tunnel_source_mask)) == 0,
        "its outer source is none of ours",
    )?;
    let overhead = Forwarding::overhead(backend.forwarding, backend.address.is_v4());
    demand(
        u32::from(outer.length) == u32::from(packet.ip.length) + overhead,
        "the lengths of outer and inner packet do not fit",
    )?;
    decapsulate(after).ok_or_else(|| "nothing can be taken out".to_owned())
}

fn differing_bits(one: Address, other: Address) -> u128 {
    u128::from_be_bytes(one.octets()) ^ u128::from_be_bytes(other.octets())
}

/// The packet's flow is known and is that backend's, as it was; returns by which endpoint it
/// reaches the backend.
fn flow_of(passage: &Passage<'_>, packet: &Reading, id: u32) -> Result<End, String> {
    let tables = passage.tables;
    let (service, protocol) = (packet.destination, packet.ip.protocol);
    let is_it = |view: &&FlowView| {
        let key = &view.flow.key;
        (key.client, key.client_port) == packet.source
            && (key.service, key.service_port) == service
            && key.protocol == protocol
    };
    let key = EndpointKey::new(service.0, service.1, protocol);
    let flags = tables.services.get(&key).map_or(0, |service| service.flags);
    // What ends a connection that another balancer has needs no flow.
    let said = tcp_flags(passage.before, packet);
    let ends = said & (FIN | RST) != 0;
    let takes_up = flags & service_flags::TAKES_UP != 0;
    let is_stateless = flags & service_flags::ONE_PACKET != 0 || (takes_up && ends);
    if protocol == 6 && said & SYN == 0 && !passage.flows.iter().any(|view| is_it(&view)) {
        demand(takes_up, "it is of no flow, and begins one")?;
    }
    let now = tables.views().collect::<Vec<_>>();
    let Some(flow) = now.iter().find(is_it) else {
        demand(is_stateless, "its flow is not known")?;
        return Ok(packet.source);
    };
    demand(flow.flow.backend == id, "it goes to another flow's backend")?;
    if let Some(old) = passage.flows.iter().find(is_it) {
        let backend = tables.backends[old.flow.backend as usize];
        let is_of_service = (backend.service_address, backend.service_port) == service;
        let is_down = backend.flags & backend_flags::DOWN != 0
            && backend.on_backend_down != OnBackendDown::Hold as u8;
        let may_move = is_down
            || !is_of_service
            || backend.flags & backend_flags::USED == 0
            || old.is_closed
            || old.is_expired(tables.now.get());
        demand(
            may_move || old.flow.backend == id,
            "a live flow changed its backend",
        )?;
    }
    let path = flow.flow.path;
    if path.has_source() {
        return Ok((tables.sources[usize::from(path.address())], path.port()));
    }
    Ok(packet.source)
}

/// Nothing changed but what has to.
fn same_packet(
    passage: &Passage<'_>,
    (before, came): (&[u8], &Reading),
    (after, left): (&[u8], &Reading),
    backend: &Backend,
) -> Result<(), String> {
    demand(
        left.ip.hop_limit.wrapping_add(1) == came.ip.hop_limit && left.ip.hop_limit > 0,
        "its hop limit did not go down by one",
    )?;
    let rewritten = Forwarding::sees_replies(backend.forwarding);
    // Only SYNs announce a size; what else has such an option means nothing by it.
    let sized = backend.mss != 0 && came.ip.protocol == 6;
    let length = usize::from(came.ip.length);
    let mut expected = masked(before, came, rewritten, sized);
    let mut found = masked(after, left, rewritten, sized);
    if passage.after.as_ptr() != after.as_ptr() {
        // A tunnel does not carry padding.
        expected.truncate(length);
        found.truncate(length);
    }
    demand(expected == found, "something changed that must not")?;
    if sized
        && let (Some((_, announced)), Some((_, allowed))) =
            (segment_size(before, came), segment_size(after, left))
    {
        demand(
            allowed == announced || allowed == announced.min(backend.mss),
            "it announces another segment size",
        )?;
    }
    demand_sound(before, after)
}

/// What was sound is sound, its payload, padding and kind of checksum the same.
pub(super) fn demand_sound(before: &[u8], after: &[u8]) -> Result<(), String> {
    let Ok(seen_before) = verify(before) else {
        return Ok(());
    };
    let seen_after = verify(after).map_err(|fault| format!("it was sound: {fault}"))?;
    demand(
        seen_before.payload == seen_after.payload
            && seen_before.has_verified_checksum == seen_after.has_verified_checksum,
        "its payload or kind of checksum changed",
    )
}

/// The flows by which a backend's endpoint talks to a peer, as tables have them.
pub(super) fn flows_between<'v>(
    passage: &'v Passage<'_>,
    protocol: u8,
    backend: End,
    peer: End,
) -> impl Iterator<Item = &'v FlowView> {
    let tables = passage.tables;
    passage.flows.iter().filter(move |view| {
        let flow = &view.flow;
        let its = tables.backends[flow.backend as usize];
        let path = flow.path;
        let its_peer = if path.has_source() {
            (tables.sources[usize::from(path.address())], path.port())
        } else {
            (flow.key.client, flow.key.client_port)
        };
        flow.key.protocol == protocol && (its.address, its.port) == backend && its_peer == peer
    })
}

/// A reply of a backend.
pub(super) fn to_client(passage: &Passage<'_>) -> Result<(), String> {
    let Passage {
        before,
        after,
        tables,
        ..
    } = *passage;
    let packet = read(before, tables).ok_or("it is no TCP or UDP packet")?;
    let left = read(after, tables).or_else(|| as_piece(after, &packet));
    let left = left.ok_or("what leaves is no TCP or UDP packet")?;
    let mut flows = flows_between(
        passage,
        packet.ip.protocol,
        packet.source,
        packet.destination,
    );
    let is_later = packet.ip.is_later_fragment;
    let same_end =
        |found: End, expected: End| found.0 == expected.0 && (is_later || found.1 == expected.1);
    let flow = flows
        .find(|view| {
            let key = &view.flow.key;
            same_end(left.source, (key.service, key.service_port))
                && same_end(left.destination, (key.client, key.client_port))
        })
        .ok_or("it goes to the client of another flow")?;
    leaves_for_client(passage, flow)?;
    let backend = tables.backends[flow.flow.backend as usize];
    same_packet(passage, (before, &packet), (after, &left), &backend)
}

/// It goes the way that the client's packets came by.
pub(super) fn leaves_for_client(passage: &Passage<'_>, flow: &FlowView) -> Result<(), String> {
    let link = flow.flow.link;
    let (left, _) = super::reading::read_ip(passage.after).ok_or("it is no IP packet any more")?;
    demand(
        passage.outcome.egress == link.ingress && left.destination == link.mac,
        "it leaves by another way than the client's packets came",
    )?;
    demand(
        left.tags == link.tags,
        "it has other tags than the client's packets",
    )
}
