//! Puts a packet into another one, for a backend to take out again.
//!
//! IP in IP (RFC 2003, RFC 2473, RFC 4213), or behind a UDP header by generic UDP encapsulation,
//! variant 1. The outer source, or the UDP source port, varies from flow to flow, so that the
//! receiver's queues share the load.

use crate::{
    abi::{Backend, Forwarding, GUE_PORT, NextHop},
    address::Address,
    engine::{packet::Packet, vlan},
    flow::Place,
    frame::Frame,
    headers::{Ethernet, Ipv4, Ipv6, Ports, Udp, Vlan, Word16, ethertype},
    ip::{Ip, Outer, V4, V6, number},
    tags::Tags,
};

/// Wraps the packet and addresses the frame. `None` when there is no room in front of it.
#[inline(always)]
pub(super) fn wrap<I: Ip, F: Frame>(
    frame: &mut F,
    packet: &Packet,
    backend: &Backend,
    hop: &NextHop,
    tags: Tags,
    place: Place,
) -> Option<()> {
    let l3 = packet.link.payload;
    let inner = I::for_outer(frame, l3)?;
    I::decrement_hop_limit(frame, l3)?;
    let is_v4 = backend.address.is_v4();
    let is_gue = backend.forwarding == Forwarding::DsrGue as u8;
    let overhead = Forwarding::overhead(backend.forwarding, is_v4) as usize;
    let link = size_of::<Ethernet>() + tags.count() * size_of::<Vlan>();
    if !frame.move_head(l3 as i32 - (overhead + link) as i32) {
        return None;
    }
    let link = frame.forget(link);
    let ethertype = if is_v4 {
        ethertype::IPV4
    } else {
        ethertype::IPV6
    };
    vlan::write(frame, hop.destination, hop.source, tags, ethertype)?;
    let varied = (place.hash() >> 40) as u32;
    let length = packet.ip.length;
    let outer = Outer {
        source: vary(backend, varied),
        destination: backend.address,
        protocol: if is_gue { number::UDP } else { I::IN_IP },
        payload: length + if is_gue { size_of::<Udp>() as u16 } else { 0 },
        traffic_class: inner.traffic_class,
        identification: inner.identification,
        dont_fragment: inner.dont_fragment,
        flow_label: varied,
    };
    let behind = if is_v4 {
        *frame.header::<Ipv4>(link)? = V4::outer(&outer);
        link + size_of::<Ipv4>()
    } else {
        *frame.header::<Ipv6>(link)? = V6::outer(&outer);
        link + size_of::<Ipv6>()
    };
    if is_gue {
        let behind = frame.forget(behind);
        // No checksum: the inner packet has its own (RFC 6935).
        *frame.header::<Udp>(behind)? = Udp {
            ports: Ports {
                source: Word16::new((0xc000 | (varied as u16 & 0x3fff)).to_be()),
                destination: Word16::new(GUE_PORT.to_be()),
            },
            length: (length + size_of::<Udp>() as u16).into(),
            checksum: Word16::new(0),
        };
    }
    Some(())
}

/// The outer source of a flow.
#[inline(always)]
fn vary(backend: &Backend, varied: u32) -> Address {
    let [high, low] = backend.tunnel_source.words();
    let [a, b, c, d] = (varied & backend.tunnel_source_mask).to_ne_bytes();
    let bits = u64::from_ne_bytes([0, 0, 0, 0, a, b, c, d]);
    Address::from_words([high, low | bits])
}
