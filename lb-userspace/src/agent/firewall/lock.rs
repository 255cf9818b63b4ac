//! What this host lets in where it is locked down: a pure function of the config, but for the ports
//! that the kernel gives to clients.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    net::IpAddr,
    ops::RangeInclusive,
};

use lb_common::{
    abi::Protocol,
    firewall::{Action, Prefix},
};

use super::plan::{Entries, Wanted};
use crate::config::model::{Model, firewall::HostPort};

/// Where a DHCP client is answered (RFC 2131, RFC 8415).
const DHCP: [u16; 2] = [68, 546];
/// The kernel's own default.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

/// What is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Lock {
    /// Ports that anybody may begin to talk to.
    ports: BTreeSet<HostPort>,
    /// Sources that may reach everything.
    trusted: HashSet<Prefix>,
}

/// What a config comes to, and what is allowed by it and at run time.
pub(super) fn of(model: &Model, entries: &Entries) -> Lock {
    let listening = model.mysql.iter().flat_map(|mysql| &mysql.listen);
    let listening = listening.map(|listen| HostPort {
        protocol: Protocol::Tcp,
        port: listen.port(),
    });
    Lock {
        ports: model
            .firewall
            .host_ports
            .iter()
            .copied()
            .chain(listening)
            .collect(),
        trusted: trusted(model, entries),
    }
}

/// Whom no limit holds for, and who may reach all of this host: who is allowed, and those that the
/// balancer cannot do without.
pub(super) fn trusted(model: &Model, entries: &Entries) -> HashSet<Prefix> {
    let backends = model.services.iter().flat_map(|service| &service.backends);
    let servers = model.mysql.iter().flat_map(|mysql| &mysql.servers);
    let peers = model.cluster.iter().flat_map(|cluster| &cluster.peers);
    let addresses = backends
        .map(|backend| backend.address)
        .chain(servers.map(|server| server.address.ip()))
        .chain(peers.map(|peer| peer.ip()));
    let allowed = entries
        .iter()
        .filter(|(_, action)| **action == Action::Allow)
        .map(|(prefix, _)| *prefix);
    addresses.map(whole).chain(allowed).collect()
}

fn whole(address: IpAddr) -> Prefix {
    Prefix::new(address, 128)
}

impl Lock {
    /// All ports that are open, as the table takes them.
    pub(super) fn all_ports(&self) -> impl Iterator<Item = (Protocol, u16)> {
        let named = self.ports.iter().map(|port| (port.protocol, port.port));
        let of_clients = ephemeral().chain(DHCP).map(|port| (Protocol::Udp, port));
        named.chain(of_clients)
    }

    /// Whether a connection to a port may begin.
    pub(super) fn lets_in(&self, address: IpAddr, port: u16) -> bool {
        let asked = HostPort {
            protocol: Protocol::Tcp,
            port,
        };
        let mut trusted = self.trusted.iter();
        self.ports.contains(&asked) || trusted.any(|prefix| prefix.contains(address))
    }

    pub(super) fn in_words(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(HostPort::to_string).collect();
        let ports = if ports.is_empty() {
            "no port".to_owned()
        } else {
            ports.join(", ")
        };
        format!(
            "; this host is locked down but for {ports} and {} trusted prefixes",
            self.trusted.len()
        )
    }
}

impl Wanted {
    /// Sources that may reach all of this host where it is locked down, and that no limit holds for.
    pub(super) fn trusted(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.all_trusted().iter().copied()
    }

    fn all_trusted(&self) -> &HashSet<Prefix> {
        let lock = self.lock.as_ref();
        lock.map_or(&self.unlimited, |lock| &lock.trusted)
    }

    pub(super) fn trusts_the_same(&self, other: &Self) -> bool {
        self.all_trusted() == other.all_trusted()
    }
}

/// The ports that the kernel gives to clients of this host.
fn ephemeral() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    parse_range(&text).unwrap_or(EPHEMERAL)
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_range_is_read() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        for odd in ["", "1", "0 5", "9 5", "a b", "1 70000"] {
            assert_eq!(parse_range(odd), None, "{odd}");
        }
    }

    #[test]
    fn named_ports_and_those_that_are_needed_are_let_in() {
        let text = "[agent]\ninterfaces = [\"eth0\"]\n[firewall]\ndefault = \"deny\"\n\
             host_ports = [\"tcp/22\", \"udp/53\"]\nallow = [\"192.0.2.0/24\"]\n\
             [[service]]\nname = \"web\"\naddress = \"203.0.113.10\"\nport = 80\n\
             [[service.backend]]\nname = \"web1\"\naddress = \"10.0.0.11\"\n";
        let model = crate::config::parse(text.as_bytes()).unwrap().model;
        let wanted = super::super::plan::wanted(&model, &super::super::plan::Rules::new());
        let lock = wanted.lock.as_ref().unwrap();
        let lets_in = |address: &str, port| lock.lets_in(address.parse().unwrap(), port);
        assert!(lets_in("198.51.100.1", 22) && !lets_in("198.51.100.1", 53));
        assert!(lets_in("192.0.2.77", 9000) && lets_in("10.0.0.11", 9000));
        assert!(!lets_in("10.0.0.12", 9000));
        let ports: Vec<_> = lock.all_ports().collect();
        for port in [
            (Protocol::Udp, 53),
            (Protocol::Udp, 68),
            (Protocol::Tcp, 22),
        ] {
            assert!(ports.contains(&port), "{port:?}");
        }
        assert!(!ports.contains(&(Protocol::Tcp, 53)));
        let control = super::super::plan::control(&wanted, 4);
        assert!(control.is_locked() && control.generation() == 4);
        let open = Wanted::default();
        assert!(!open.trusts_the_same(&wanted) && wanted.trusts_the_same(&wanted));
    }
}
