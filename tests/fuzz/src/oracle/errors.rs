//! ICMP errors that go on: sound, and translated inside and outside.

use lb_common::{abi::Forwarding, flow::FlowView};
use lb_packets::{Fault, decapsulate, verify};

use super::{
    demand,
    reading::{End, has_sound_header, quoted, quoted_ends, read_ip},
    steered::{Passage, addressee, flows_between, leaves_for_client},
};

type Quote = (u8, End, End);

/// An error that was steered.
pub(super) fn translated(passage: &Passage<'_>) -> Result<(), String> {
    let came = quoted(passage.before).ok_or("it is no error")?;
    let told = quoted_ends(&came).ok_or("what it quotes has no ports")?;
    let (_, ip) = read_ip(passage.before).ok_or("it is no IP packet")?;
    demand(!ip.source.is_martian(), "it comes from nobody")?;
    to_client(passage, &came, told).or_else(|first| {
        to_backend(passage, &came, told).map_err(|second| format!("{first}; or else {second}"))
    })
}

/// About a packet of the service: it goes to the flow's backend.
fn to_backend(passage: &Passage<'_>, came: &[u8], told: Quote) -> Result<(), String> {
    let (id, backend) = addressee(passage)?;
    let (protocol, service, client) = told;
    let is_its = |view: &&FlowView| {
        let key = &view.flow.key;
        key.protocol == protocol
            && (key.service, key.service_port) == service
            && (key.client, key.client_port) == client
    };
    let flow = passage
        .flows
        .iter()
        .find(is_its)
        .ok_or("it is about no flow")?;
    demand(flow.flow.backend == id, "it goes to another flow's backend")?;
    demand(
        (backend.service_address, backend.service_port) == service,
        "it goes to a backend of another service",
    )?;
    let is_tunnel = matches!(
        backend.forwarding,
        one if one == Forwarding::DsrIpip as u8 || one == Forwarding::DsrGue as u8
    );
    let taken = is_tunnel
        .then(|| decapsulate(passage.after).ok_or("nothing can be taken out"))
        .transpose()?;
    let after = taken.as_deref().unwrap_or(passage.after);
    let (_, outer) = read_ip(after).ok_or("it is no IP packet any more")?;
    let path = flow.flow.path;
    let (sender, receiver, to) = if Forwarding::sees_replies(backend.forwarding) {
        let receiver = if path.has_source() {
            let address = passage.tables.sources[usize::from(path.address())];
            (address, path.port())
        } else {
            client
        };
        ((backend.address, backend.port), receiver, backend.address)
    } else {
        (service, client, service.0)
    };
    demand(outer.destination == to, "it goes to another address")?;
    same_error(passage.before, came, after, (protocol, sender, receiver))
}

/// About a packet to a backend: it goes to the flow's client.
fn to_client(passage: &Passage<'_>, came: &[u8], told: Quote) -> Result<(), String> {
    let (protocol, peer, backend) = told;
    let (_, outer) = read_ip(passage.after).ok_or("it is no IP packet any more")?;
    let (_, asked) = read_ip(passage.before).ok_or("it is no IP packet")?;
    let left = quoted(passage.after).and_then(|quote| quoted_ends(&quote));
    let flow = flows_between(passage, protocol, backend, peer)
        .find(|view| {
            let key = &view.flow.key;
            let expected = (
                protocol,
                (key.client, key.client_port),
                (key.service, key.service_port),
            );
            left == Some(expected)
        })
        .ok_or("it is about no flow of a backend")?;
    leaves_for_client(passage, flow)?;
    let key = &flow.flow.key;
    let speaker = if asked.source == backend.0 {
        key.service
    } else {
        asked.source
    };
    demand(
        (outer.source, outer.destination) == (speaker, key.client),
        "it goes from or to another address",
    )?;
    let expected = (
        protocol,
        (key.client, key.client_port),
        (key.service, key.service_port),
    );
    same_error(passage.before, came, passage.after, expected)
}

/// The quote has those ends now, and everything is as sound as it was.
fn same_error(before: &[u8], came: &[u8], after: &[u8], expected: Quote) -> Result<(), String> {
    let left = quoted(after).ok_or("it quotes nothing any more")?;
    demand(
        quoted_ends(&left) == Some(expected),
        "what it quotes has other ends than the receiver knows",
    )?;
    demand(came.len() == left.len(), "it quotes more or less")?;
    if verify(before).is_ok() {
        verify(after).map_err(|fault| format!("it was sound: {fault}"))?;
    }
    demand(
        !has_sound_header(&came[14..]) || has_sound_header(&left[14..]),
        "the quoted header's checksum is wrong",
    )?;
    // Eight bytes of TCP do not reach the checksum; nobody looks at it in a quote.
    match verify(came).and_then(|_| verify(&left)) {
        Err(Fault::Checksum { of, .. }) if of != "TCP" && verify(came).is_ok() => {
            Err(format!("the quoted {of} checksum is wrong"))
        }
        _ => Ok(()),
    }
}
