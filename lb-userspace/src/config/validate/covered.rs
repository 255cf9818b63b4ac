//! Prefixes of `[firewall] deny` that hold whom the config itself names.

use std::net::IpAddr;

use crate::config::{
    model::{DiscoverySource, Model, Prefix},
    problem::{Place, Sink},
    raw,
};

/// Somebody whom the config names.
struct Named {
    address: IpAddr,
    /// Who that is.
    who: String,
    /// What a prefix that holds the address means.
    means: &'static str,
}

const STAYS: &str = "which stays allowed";
const IS_DENIED: &str = "whose answers are dropped";
const IS_OURS: &str = "but deny is about where packets come from, not where they go";
const IS_NEAR: &str = "whose neighbours, from where it is administered, may be cut off";

fn named(model: &Model) -> Vec<Named> {
    let mut all = Vec::new();
    let mut add = |address: IpAddr, who: String, means| {
        all.push(Named {
            address: address.to_canonical(),
            who,
            means,
        });
    };
    for service in &model.services {
        for backend in &service.backends {
            let who = format!("backend {}/{}", service.name, backend.name);
            add(backend.address, who, STAYS);
        }
    }
    for server in model.mysql.iter().flat_map(|mysql| &mysql.servers) {
        let who = format!("server {} of [mysql]", server.name);
        add(server.address.ip(), who, STAYS);
    }
    for peer in model.cluster.iter().flat_map(|cluster| &cluster.peers) {
        add(peer.ip(), "a peer of [cluster]".to_owned(), STAYS);
    }
    for service in &model.services {
        let source = service.discovery.as_ref().map(|one| &one.source);
        if let Some(DiscoverySource::Dns(query)) = source
            && let Some(server) = query.server
        {
            let who = format!("the DNS server of service {}", service.name);
            add(server.ip(), who, IS_DENIED);
        }
    }
    let listen = model.admin.listen.map(|listen| listen.ip());
    let is_near = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified();
    if let Some(listen) = listen.filter(is_near) {
        add(listen, "[admin] listen".to_owned(), IS_NEAR);
    }
    for service in &model.services {
        let who = format!("the address of service {}", service.name);
        add(service.address, who, IS_OURS);
    }
    all
}

/// Warns of each prefix that stands in the file and holds somebody, unless a prefix of `allow` does
/// that is at least as long.
pub(super) fn check(file: &raw::File, model: &Model, sink: &mut Sink) {
    let Some(firewall) = file.firewall.get() else {
        return;
    };
    let Some(deny) = firewall.value.deny.get() else {
        return;
    };
    let named = named(model);
    let holds = |prefix: &Prefix, address: IpAddr| {
        let own = Prefix {
            address,
            length: prefix.length,
        };
        address.is_ipv4() == prefix.address.is_ipv4() && own.network() == prefix.network()
    };
    for prefix in &deny.value {
        let is_allowed = |address| {
            let mut allow = model.firewall.allow.all();
            allow.any(|one| one.length >= prefix.value.length && holds(&one, address))
        };
        let mut held = named
            .iter()
            .filter(|one| holds(&prefix.value, one.address) && !is_allowed(one.address));
        let Some(first) = held.next() else {
            continue;
        };
        let more = match held.count() {
            0 => String::new(),
            more => format!(" (and {more} more that the config names)"),
        };
        sink.warning(
            prefix.at,
            &Place::TOP.table("firewall"),
            "deny",
            format!(
                "deny \"{}\" holds {}, {}, {}{more}",
                prefix.value, first.address, first.who, first.means
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    fn warnings(firewall: &str) -> Vec<String> {
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\n[admin]\nlisten = \"10.9.0.1:9900\"\n[firewall]\n\
             {firewall}\n[[service]]\nname = \"web\"\naddress = \"203.0.113.10\"\nport = 80\n\
             [service.discovery]\nkind = \"dns\"\nname = \"web.internal\"\nserver = \"10.5.0.53:53\"\n\
             [[service.backend]]\nname = \"web1\"\naddress = \"10.0.0.11\"\n\
             [[service.backend]]\nname = \"web2\"\naddress = \"10.0.0.12\"\n"
        );
        let warnings = crate::config::parse(text.as_bytes()).unwrap().warnings;
        let lines = warnings.iter();
        lines
            .map(|one| format!("{}: {}", one.line, one.message))
            .collect()
    }

    #[test]
    fn whoever_is_named_is_told_with_the_line() {
        assert_eq!(warnings("deny = [\"198.51.100.0/24\", \"::/0\"]"), [""; 0]);
        let said = warnings("deny = [\n\"10.0.0.0/24\",\n\"203.0.113.0/24\"]");
        assert_eq!(
            said,
            [
                "7: firewall: deny \"10.0.0.0/24\" holds 10.0.0.11, backend web/web1, which stays allowed \
                 (and 1 more that the config names)",
                "8: firewall: deny \"203.0.113.0/24\" holds 203.0.113.10, the address of service web, but \
                 deny is about where packets come from, not where they go"
            ]
        );
        let said = warnings("deny = [\"10.5.0.0/16\", \"10.9.0.0/24\"]");
        assert!(
            said[0].contains("the DNS server of service web, whose answers"),
            "{said:?}"
        );
        assert!(
            said[1].contains("[admin] listen, whose neighbours"),
            "{said:?}"
        );
        let said = warnings("deny = [\"10.0.0.0/24\"]\nallow = [\"10.0.0.8/29\", \"10.0.0.0/16\"]");
        assert_eq!(said, [""; 0]);
    }
}
