//! Ends flows of sources that a service keeps out: the program asks only of what begins.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lb_common::{
    abi::EndpointKey,
    firewall::{Entry, Prefix},
    flow::FlowView,
};

use super::services::Access;

/// What services keep out, as the thread that goes through flows sees it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Ward {
    rules: Arc<Mutex<Arc<Rules>>>,
    version: Arc<AtomicU64>,
}

/// By service.
#[derive(Debug, Default)]
pub(in crate::agent) struct Rules(HashMap<EndpointKey, Lists>);

#[derive(Debug)]
struct Lists {
    access: Access,
    /// Lengths that there are, longest first: of IPv4, of IPv6.
    lengths: [Vec<u8>; 2],
}

impl Lists {
    fn new(access: Access) -> Self {
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        for prefix in access.keys() {
            lengths[usize::from(prefix.address().is_ipv6())].insert(prefix.length());
        }
        Self {
            access,
            lengths: lengths.map(|of| of.into_iter().rev().collect()),
        }
    }

    fn keeps_out(&self, source: std::net::IpAddr) -> bool {
        let lengths = self.lengths[usize::from(source.is_ipv6())].iter();
        let found = lengths
            .map(|length| Prefix::new(source, *length))
            .find_map(|prefix| self.access.get(&prefix));
        found.is_some_and(|entry: &Entry| entry.denies())
    }
}

impl Rules {
    /// Of these services.
    pub(in crate::agent) fn new(services: impl Iterator<Item = (EndpointKey, Access)>) -> Self {
        Self(
            services
                .map(|(key, access)| (key, Lists::new(access)))
                .collect(),
        )
    }

    /// Whether there is nobody to keep out.
    pub(in crate::agent) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a flow's client may not use its service.
    pub(in crate::agent) fn keep_out(&self, flow: &FlowView) -> bool {
        let key = &flow.flow.key;
        let service = EndpointKey::new(key.service, key.service_port, key.protocol);
        let lists = self.0.get(&service);
        lists.is_some_and(|lists| lists.keeps_out(key.client.into()))
    }
}

impl Ward {
    /// Has these hold.
    pub(in crate::agent) fn set(&self, rules: Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// What holds, if that is another version than the one that is known.
    pub(in crate::agent) fn news(&self, known: &mut u64) -> Option<Arc<Rules>> {
        let version = self.version.load(Ordering::Acquire);
        if version == *known {
            return None;
        }
        *known = version;
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&rules))
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{
        abi::Ticks,
        flow::{ClientLink, FlowKey, NewFlow, Path, Shift, Sides},
    };

    use super::*;

    fn flow(client: &str, port: u16) -> FlowView {
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        FlowView {
            flow: NewFlow {
                key: FlowKey {
                    client: address(client),
                    client_port: 40_000,
                    service: address("203.0.113.10"),
                    service_port: port,
                    protocol: 6,
                },
                backend: 1,
                link: ClientLink::default(),
                expires: Ticks(5),
                path: Path::DIRECT,
                own_mac: 0,
                client_finished: false,
                shift: Shift::NONE,
            },
            is_closed: false,
            sides: Sides::default(),
        }
    }

    #[test]
    fn the_longest_prefix_of_the_flows_service_decides() {
        let model = crate::config::parse(
            b"[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
              address = \"203.0.113.10\"\nport = 80\n[service.firewall]\n\
              allow = [\"10.0.0.0/8\", \"2001:db8::/32\"]\ndeny = [\"10.9.0.0/16\"]\n\
              [[service.backend]]\nname = \"b\"\naddress = \"10.0.0.11\"\n",
        )
        .unwrap()
        .model;
        let service = &model.services[0];
        let key = crate::agent::plan::service_key(service);
        let access = super::super::services::access(&service.firewall);
        let ward = Ward::default();
        let mut known = 0;
        assert!(ward.news(&mut known).is_none());
        ward.set(Rules::new([(key, access)].into_iter()));
        let rules = ward.news(&mut known).unwrap();
        assert!(ward.news(&mut known).is_none() && !rules.is_empty());
        let port = 80_u16.to_be();
        for (client, is_out) in [
            ("10.1.2.3", false),
            ("10.9.2.3", true),
            ("198.51.100.1", true),
            ("2001:db8::1", false),
            ("2001:db9::1", true),
        ] {
            assert_eq!(rules.keep_out(&flow(client, port)), is_out, "{client}");
            assert!(!rules.keep_out(&flow(client, 81_u16.to_be())), "{client}");
        }
    }
}
