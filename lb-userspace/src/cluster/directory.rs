//! What flows mean here: services and backends by address, and interfaces by name.

use std::collections::{HashMap, HashSet};

use lb_common::{
    abi::{Backend, EndpointKey, Forwarding, Ticks},
    address::Address,
    flow::{ClientLink, FlowKey, FlowView, INTERFACE_LIMIT, NewFlow, Path, Shift, Sides},
    tags::Tags,
};

use super::{
    interfaces::Interfaces,
    tally::Fate,
    wire::{NO_INTERFACE, Record},
};

/// What is known here of who sends a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'s> {
    /// The indexes of its interfaces here, 0 where there is none of the name.
    pub(super) interfaces: &'s [u32],
    /// See [`lb_common::flow::FlowEntry::adopt`].
    pub(super) foreign_mac: u8,
}

/// Where a backend listens, and for which service.
type Of = (EndpointKey, Address, u16);

/// See the module. Made anew whenever the tables hold something else.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    services: HashSet<EndpointKey>,
    backends: HashMap<u32, Backend>,
    /// The same, with their ids: one look-up for each flow that is told.
    ends: HashMap<Of, (u32, Backend)>,
    /// Source addresses of full NAT, by index.
    sources: Vec<Address>,
    /// Names of the interfaces where steering is attached, in the order of the config.
    pub(super) interfaces: Vec<String>,
}

impl Directory {
    /// Of the backends in the tables, by id, the source addresses of full NAT, and the names of
    /// the interfaces where steering is attached.
    #[must_use]
    pub fn new(
        backends: impl IntoIterator<Item = (u32, Backend)>,
        sources: Vec<Address>,
        interfaces: Vec<String>,
    ) -> Self {
        let mut directory = Self {
            sources,
            interfaces,
            ..Self::default()
        };
        for (id, backend) in backends {
            let service = EndpointKey::new(
                backend.service_address,
                backend.service_port,
                backend.protocol,
            );
            directory.services.insert(service);
            let of = (service, backend.address, backend.port);
            directory.ends.insert(of, (id, backend));
            directory.backends.insert(id, backend);
        }
        directory
    }

    /// Addresses of services.
    pub(super) fn addresses(&self) -> HashSet<Address> {
        self.services
            .iter()
            .map(|service| service.address)
            .collect()
    }

    /// Ticks without packets after which flows of a backend are forgotten.
    pub(super) fn idle_timeout(&self, backend: u32) -> Option<u32> {
        self.backends.get(&backend).map(|one| one.idle_timeout)
    }

    /// What a peer is told of a flow; `None` of one whose backend is not known any more.
    pub(super) fn record(
        &self,
        view: &FlowView,
        interfaces: &Interfaces,
        now: Ticks,
    ) -> Option<Record> {
        let FlowView { flow, sides, .. } = view;
        // Nobody could end the handshake that the balancer began for it.
        if flow.shift.is_awaiting() {
            return None;
        }
        let backend = self.backends.get(&flow.backend)?;
        let source = if flow.path.has_source() {
            let address = self.sources.get(usize::from(flow.path.address()))?;
            Some((*address, flow.path.port()))
        } else {
            None
        };
        Some(Record {
            client: flow.key.client,
            client_port: flow.key.client_port,
            service: flow.key.service,
            service_port: flow.key.service_port,
            protocol: flow.key.protocol,
            backend: backend.address,
            backend_port: backend.port,
            source,
            lifetime: milliseconds(flow.expires.since(now)),
            client_state: sides.client,
            backend_state: sides.backend,
            backend_sequence: sides.backend_sequence,
            sequence_delta: flow.shift.is_some().then(|| flow.shift.value()),
            mac: flow.link.mac,
            tags: flow.link.tags.words(),
            interface: interfaces
                .position(flow.link.ingress)
                .unwrap_or(NO_INTERFACE),
        })
    }

    /// The flow that a record means here, its backend, and what its sides said.
    pub(super) fn flow(
        &self,
        record: &Record,
        sender: &Sender<'_>,
        now: Ticks,
    ) -> Result<(NewFlow, &Backend, Sides), Fate> {
        let service = EndpointKey::new(record.service, record.service_port, record.protocol);
        let of = (service, record.backend, record.backend_port);
        let (id, backend) = self.ends.get(&of).ok_or_else(|| {
            if self.services.contains(&service) {
                Fate::UnknownBackend
            } else {
                Fate::UnknownService
            }
        })?;
        let path = match record.source {
            // A backend on the peer's own host, or one of another forwarding.
            None if backend.forwarding == Forwarding::FullNat as u8 => {
                return Err(Fate::OtherForwarding);
            }
            None => Path::without_source(backend),
            Some(_) if backend.forwarding != Forwarding::FullNat as u8 => {
                return Err(Fate::OtherForwarding);
            }
            Some((address, port)) => {
                let index = self.sources.iter().position(|source| *source == address);
                let index = index.ok_or(Fate::UnknownSource)?;
                let index = u8::try_from(index).map_err(|_| Fate::UnknownSource)?;
                Path::with_source(index, port)
            }
        };
        let left = ticks(record.lifetime).min(backend.idle_timeout);
        if left == 0 {
            return Err(Fate::Expired);
        }
        let ingress = sender
            .interfaces
            .get(usize::from(record.interface))
            .copied();
        let link = match ingress {
            Some(ingress) if ingress != 0 && ingress < INTERFACE_LIMIT => ClientLink {
                mac: record.mac,
                tags: Tags::from_words(record.tags.0, record.tags.1),
                ingress,
            },
            // Replies wait for the client's next packet.
            _ => ClientLink::default(),
        };
        let flow = NewFlow {
            key: FlowKey {
                client: record.client,
                client_port: record.client_port,
                service: record.service,
                service_port: record.service_port,
                protocol: record.protocol,
            },
            backend: *id,
            link,
            expires: Ticks(now.0.wrapping_add(left)),
            path,
            own_mac: sender.foreign_mac,
            client_finished: false,
            shift: record.sequence_delta.map_or(Shift::NONE, Shift::by),
        };
        let sides = Sides {
            client: record.client_state,
            backend: record.backend_state,
            backend_sequence: record.backend_sequence,
            is_foreign: true,
        };
        Ok((flow, backend, sides))
    }
}

/// Of ticks.
fn milliseconds(ticks: u32) -> u32 {
    let milliseconds = (u64::from(ticks) << Ticks::SHIFT) / 1_000_000;
    milliseconds.try_into().unwrap_or(u32::MAX)
}

/// Of milliseconds, rounded, so that what goes there and back stays the same.
fn ticks(milliseconds: u32) -> u32 {
    let nanos = u64::from(milliseconds) * 1_000_000;
    Ticks::from_nanos(nanos + (1 << (Ticks::SHIFT - 1))).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_survive_the_way() {
        for span in [0, 1, 2, 15, 224, 3353, 1 << 20] {
            assert_eq!(ticks(milliseconds(span)), span);
        }
        assert!(ticks(u32::MAX) < 1 << 25);
    }
}
