//! `[cluster]`.

use std::{net::SocketAddr, time::Duration};

use crate::config::{
    model::Cluster,
    problem::{Place, Sink},
    raw,
    schema::{Field, Located},
};

/// The cluster, if the file has one; also nothing when there is a problem in the sink.
pub(super) fn cluster(file: &raw::File, sink: &mut Sink) -> Option<Cluster> {
    let Located { value: raw, at } = file.cluster.given()?;
    let place = Place::TOP.table("cluster");
    let listen = needed(
        &raw.listen,
        "listen",
        "listen = \"10.0.0.2:4789\"",
        (*at, &place, sink),
    );
    let key_file = needed(
        &raw.key_file,
        "key_file",
        "key_file = \"/etc/lb/cluster.key\"",
        (*at, &place, sink),
    );
    let peers = raw.peers.get();
    if let Some(peers) = peers
        && peers.value.is_empty()
    {
        let message = "peers is empty (name the other balancers: peers = [\"10.0.0.3:4789\"])";
        sink.problem(peers.at, &place, "peers", message);
    }
    if let Some(listen) = listen {
        if listen.value.ip().is_unspecified() {
            let message = "listen is no address of its own: peers know each other by their addresses \
                           (write the one by which they reach this host)";
            sink.problem(listen.at, &place, "listen", message);
        }
        for peer in peers.into_iter().flat_map(|peers| &peers.value) {
            check_peer(peer, listen.value, &place, sink);
        }
    }
    Some(Cluster {
        listen: listen?.value,
        peers: peers?.value.iter().map(|peer| peer.value).collect(),
        key_file: key_file?.value.clone(),
        catch_up: Duration::from_secs_f64(raw.catch_up_seconds.get()?.value),
    })
}

fn check_peer(peer: &Located<SocketAddr>, own: SocketAddr, place: &Place<'_>, sink: &mut Sink) {
    let trouble = if peer.value == own {
        "is this balancer's own"
    } else if peer.value.ip().is_unspecified() {
        "is no address"
    } else if peer.value.is_ipv4() != own.is_ipv4() {
        "and listen are of two IP versions"
    } else {
        return;
    };
    let message = format!("peers \"{}\" {trouble}", peer.value);
    sink.problem(peer.at, place, "peers", message);
}

/// A key that must be there.
fn needed<'f, T>(
    field: &'f Field<T>,
    name: &str,
    example: &str,
    (at, place, sink): (usize, &Place<'_>, &mut Sink),
) -> Option<&'f Located<T>> {
    if matches!(field, Field::Absent) {
        let message = format!("{name} is missing (write {example})");
        sink.problem(at, place, name, message);
    }
    field.get()
}
