//! Whom the firewall of the config denies although this host needs him.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{Finding, Severity};
use crate::{agent, config::model::Model};

/// Whom this host needs, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A router.
    Gateway,
    /// A DNS server.
    Resolver,
}

/// Whom it needs.
pub(super) fn gather() -> BTreeMap<IpAddr, Need> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    needs(
        &read("/etc/resolv.conf"),
        &read("/proc/net/route"),
        &read("/proc/net/ipv6_route"),
    )
}

fn needs(resolv: &str, routes: &str, routes_v6: &str) -> BTreeMap<IpAddr, Need> {
    let resolvers = resolv.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        let address: IpAddr = words.next().filter(|_| is_server)?.parse().ok()?;
        Some((address, Need::Resolver))
    });
    let v4 = routes.lines().skip(1).filter_map(|line| {
        let digits = line.split_whitespace().nth(2)?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        Some(IpAddr::from(Ipv4Addr::from(number.to_ne_bytes())))
    });
    let v6 = routes_v6.lines().filter_map(|line| {
        let digits = line.split_whitespace().nth(4)?;
        let number = u128::from_str_radix(digits, 16).ok()?;
        Some(IpAddr::from(Ipv6Addr::from(number)))
    });
    let gateways = v4.chain(v6).map(|address| (address, Need::Gateway));
    let is_other =
        |(address, _): &(IpAddr, Need)| !address.is_unspecified() && !address.is_loopback();
    resolvers.chain(gateways).filter(is_other).collect()
}

/// Who of them is denied.
pub(super) fn judge(model: &Model, needs: &BTreeMap<IpAddr, Need>) -> Vec<Finding> {
    if model.firewall.dry_run {
        return Vec::new();
    }
    let addresses: Vec<IpAddr> = needs.keys().copied().collect();
    let denied = agent::denied(model, &addresses).into_iter();
    let finding = |(address, prefix): (IpAddr, String)| {
        let (who, why) = match needs.get(&address)? {
            Need::Gateway => (
                "a gateway of this host",
                "its ICMP errors (path MTU) do not come, nor with IPv6 its neighbour solicitations \
                 from that address",
            ),
            Need::Resolver => (
                "a DNS server of this host (/etc/resolv.conf)",
                "its answers do not come, and names are not found",
            ),
        };
        let found = format!("{prefix} denies {address}, {who}");
        Some(
            Finding::new(Severity::Warning, "firewall", address.to_string(), found)
                .why(why)
                .cure(format!("[firewall] allow = [\"{address}\"]")),
        )
    };
    denied.filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_needed_and_denied_is_named() {
        let gateway = u32::from_ne_bytes([192, 0, 2, 1]);
        let needs = needs(
            "# x\nnameserver 192.0.2.53\nnameserver 127.0.0.53\nnameserver what\nsearch a\n",
            &format!(
                "Iface Destination Gateway\neth0 00000000 {gateway:08X} 0003\neth0 0 00000000 1\nx\n"
            ),
            "0 00 0 00 fe800000000000000000000000000001 0 0 0 0 eth0\n\
             0 00 0 00 20010db8000000000000000000000001 0 0 0 0 eth0\nshort\n",
        );
        assert_eq!(needs.len(), 4, "{needs:?}");
        let model = |firewall: &str| {
            let text = format!(
                "[agent]\ninterfaces = [\"eth0\"]\n[firewall]\n{firewall}\n[[service]]\n\
                 name = \"web\"\naddress = \"203.0.113.10\"\nport = 80\n"
            );
            crate::config::parse(text.as_bytes()).unwrap().model
        };
        let said = |firewall: &str| -> Vec<String> {
            let findings = judge(&model(firewall), &needs);
            findings.iter().map(|one| one.subject.clone()).collect()
        };
        assert_eq!(
            said("deny = [\"192.0.2.0/24\", \"::/0\"]"),
            ["192.0.2.1", "192.0.2.53", "2001:db8::1"],
            "link-local addresses stay allowed"
        );
        let one = "deny = [\"192.0.2.0/24\"]\nallow = [\"192.0.2.53\"]";
        assert_eq!(said(one), ["192.0.2.1"]);
        assert_eq!(said(&format!("{one}\ndry_run = true")), [""; 0]);
    }
}
