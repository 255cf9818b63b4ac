//! Words for what a trace names by number, so that they are put together without a lock on the
//! agent's core.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use lb_common::abi::{self, EndpointKey, Protocol};
use nix::net::if_::if_indextoname;

use super::{core::Core, flow_lister::backends, forwarding};

/// The names of one moment. What is in hardly any trace is looked up when it is asked for, once.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By table id.
    backends: HashMap<u32, String>,
    /// By table id.
    services: HashMap<u32, String>,
    /// Source addresses of full NAT, by index.
    sources: Vec<IpAddr>,
    /// By index in the tables.
    next_hops: HashMap<u32, String>,
    /// By interface index.
    interfaces: HashMap<u32, String>,
}

impl Names {
    /// Of this moment.
    pub(super) fn of(core: &Core) -> Self {
        let named: HashMap<EndpointKey, &str> = core
            .services
            .iter()
            .zip(&core.model.services)
            .map(|(state, service)| (state.key, service.name.as_str()))
            .collect();
        let lingering = core.lingering().map(|(id, backend)| {
            let address =
                SocketAddr::new(IpAddr::from(backend.address), u16::from_be(backend.port));
            let words = format!("backend {address}, which the config does not name any more");
            (id, words)
        });
        let served = backends(core).filter_map(|(key, id, backend)| {
            let service = named.get(&key).unwrap_or(&"?");
            let address = SocketAddr::new(backend.address, backend.port);
            Some((
                id?,
                format!("backend {service}/{} ({address})", backend.name),
            ))
        });
        Self {
            backends: lingering.chain(served).collect(),
            services: core
                .service_keys()
                .map(|(id, key)| (id, service_words(&key, named.get(&key).copied())))
                .collect(),
            sources: forwarding::source_addresses(&core.model.services),
            ..Self::default()
        }
    }

    /// "backend web/web1 (10.0.0.11:8080)"
    pub(super) fn backend(&self, id: u32) -> &str {
        self.backends
            .get(&id)
            .map_or("a backend that has just changed", String::as_str)
    }

    /// "service web (203.0.113.10:80 tcp)"
    pub(super) fn service(&self, id: u32) -> &str {
        self.services
            .get(&id)
            .map_or("a service that has just changed", String::as_str)
    }

    /// A source address of full NAT.
    pub(super) fn source(&self, index: usize) -> Option<IpAddr> {
        self.sources.get(index).copied()
    }

    /// "the way there: eth1, MAC …"; `find` looks it up.
    pub(super) fn next_hop(
        &mut self,
        index: u32,
        find: impl FnOnce(u32) -> Option<abi::NextHop>,
    ) -> &str {
        if !self.next_hops.contains_key(&index) {
            let hop = if index == 0 { None } else { find(index) };
            let words = self.next_hop_words(hop);
            self.next_hops.insert(index, words);
        }
        &self.next_hops[&index]
    }

    /// The name of an interface.
    pub(super) fn interface(&mut self, ifindex: u32) -> &str {
        self.interfaces
            .entry(ifindex)
            .or_insert_with(|| interface_name(ifindex))
    }

    fn next_hop_words(&mut self, hop: Option<abi::NextHop>) -> String {
        let Some(hop) = hop else {
            return "the way to it is not known (see the backend in `lb status`)".to_owned();
        };
        if hop.ifindex == 0 {
            return "the backend is this host".to_owned();
        }
        let mac: Vec<String> = hop
            .destination
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let tag = match (hop.outer_vlan, hop.vlan) {
            (0, 0) => String::new(),
            (0, vlan) => format!(", VLAN {vlan}"),
            (outer, vlan) => format!(", VLAN {vlan} in {outer}"),
        };
        format!(
            "the way there: {}, MAC {}, MTU {}{tag}",
            self.interface(hop.ifindex),
            mac.join(":"),
            hop.mtu
        )
    }
}

fn interface_name(ifindex: u32) -> String {
    if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("interface {ifindex}"))
}

fn service_words(key: &EndpointKey, name: Option<&str>) -> String {
    let protocol = match Protocol::from_number(key.protocol) {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) | None => "udp",
    };
    let address = SocketAddr::new(IpAddr::from(key.address), u16::from_be(key.port));
    match name {
        Some(name) => format!("service {name} ({address} {protocol})"),
        None => format!("{address} {protocol}, which the config does not name any more"),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::address::Address;

    use super::*;

    #[test]
    fn a_next_hop_is_looked_up_once_and_0_never() {
        let mut names = Names::default();
        let mut asked = Vec::new();
        for index in [0, 3, 3, 0, 4] {
            let words = names.next_hop(index, |index| {
                asked.push(index);
                Some(abi::NextHop {
                    ifindex: 1,
                    mtu: 1500,
                    vlan: 7,
                    ..abi::NextHop::default()
                })
            });
            if index == 0 {
                assert!(words.starts_with("the way to it is not known"), "{words}");
            } else {
                let expected = "the way there: lo, MAC 00:00:00:00:00:00, MTU 1500, VLAN 7";
                assert_eq!(words, expected);
            }
        }
        assert_eq!(asked, [3, 4]);
    }

    #[test]
    fn what_is_not_known_has_just_changed() {
        let names = Names::default();
        assert_eq!(names.backend(1), "a backend that has just changed");
        assert_eq!(names.service(1), "a service that has just changed");
        let key = EndpointKey::new(Address::from_v4([203, 0, 113, 10]), 80u16.to_be(), 6);
        assert_eq!(
            service_words(&key, Some("web")),
            "service web (203.0.113.10:80 tcp)"
        );
    }
}
