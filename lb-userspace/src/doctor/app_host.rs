//! On a backend's own host: the VIPs on `lo`, and the sysctls that keep them quiet and let packets in.

use std::{collections::BTreeSet, fs, net::IpAddr};

use super::{Finding, Severity};
use crate::config::model::AppHost;

/// What the kernel says.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// VIPs that are addresses of this host.
    pub(super) present: BTreeSet<IpAddr>,
    /// For every interface: the effective `arp_ignore`, `arp_announce`, `rp_filter`.
    pub(super) sysctls: Vec<(String, [u32; 3])>,
}

/// Asks it.
pub(super) fn gather(app_host: &AppHost) -> Facts {
    let own: BTreeSet<IpAddr> = nix::ifaddrs::getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|one| IpAddr::V4(one.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|one| IpAddr::V6(one.ip())))
        })
        .collect();
    let read = |scope: &str, word: &str| -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{scope}/{word}")).ok()?;
        text.trim().parse().ok()
    };
    let sysctls = app_host.interfaces.iter().filter_map(|name| {
        let effective = |word: &str| Some(read(name, word)?.max(read("all", word)?));
        let values = [
            effective("arp_ignore")?,
            effective("arp_announce")?,
            effective("rp_filter")?,
        ];
        Some((name.clone(), values))
    });
    Facts {
        present: app_host
            .vips
            .iter()
            .copied()
            .filter(|vip| own.contains(vip))
            .collect(),
        sysctls: sysctls.collect(),
    }
}

/// What is wrong with it.
pub(super) fn judge(app_host: &AppHost, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for vip in app_host
        .vips
        .iter()
        .filter(|vip| !facts.present.contains(vip))
    {
        let length = if vip.is_ipv4() { 32 } else { 128 };
        findings.push(
            Finding::new(
                Severity::Error,
                "app_host_vip",
                vip.to_string(),
                "it is not on lo",
            )
            .why("this host does not take the packets that balancers send it for that address")
            .cure(format!(
                "lb run puts it there; by hand: ip addr add {vip}/{length} dev lo"
            )),
        );
    }
    let has_v4 = app_host.vips.iter().any(IpAddr::is_ipv4);
    for (name, [ignore, announce, rp_filter]) in &facts.sysctls {
        if has_v4 && !matches!(ignore, 1 | 2 | 8) {
            let found = format!("arp_ignore is {ignore}");
            findings.push(
                Finding::new(Severity::Error, "arp", name.clone(), found)
                    .why("this host answers ARP for the VIPs, and takes clients past the balancer")
                    .cure(format!("sysctl -w net.ipv4.conf.{name}.arp_ignore=1")),
            );
        }
        if has_v4 && *announce < 2 {
            let found = format!("arp_announce is {announce}");
            findings.push(
                Finding::new(Severity::Error, "arp", name.clone(), found)
                    .why("this host's own questions tell others that a VIP is here")
                    .cure(format!("sysctl -w net.ipv4.conf.{name}.arp_announce=2")),
            );
        }
        if has_v4 && *rp_filter == 1 {
            findings.push(
                Finding::new(
                    Severity::Error,
                    "rp_filter",
                    name.clone(),
                    "rp_filter is 1, strict",
                )
                .why(
                    "packets of clients that this host reaches by another interface are \
                         dropped without a word",
                )
                .cure(format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2")),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::checks;

    #[test]
    fn vips_and_sysctls_are_as_the_agent_sets_them() {
        let vip: IpAddr = "203.0.113.10".parse().unwrap();
        let app_host = AppHost {
            interfaces: vec!["eth0".to_owned()],
            vips: vec![vip],
            decap: Vec::new(),
            allowed_sources: Vec::new(),
        };
        let facts = |present: &[IpAddr], values| Facts {
            present: present.iter().copied().collect(),
            sysctls: vec![("eth0".to_owned(), values)],
        };
        let rows: [(Facts, &[&str]); 6] = [
            (facts(&[vip], [1, 2, 2]), &[]),
            (facts(&[vip], [8, 2, 0]), &[]),
            (facts(&[], [1, 2, 0]), &["app_host_vip"]),
            (facts(&[vip], [0, 2, 0]), &["arp"]),
            (facts(&[vip], [1, 1, 0]), &["arp"]),
            (facts(&[vip], [1, 2, 1]), &["rp_filter"]),
        ];
        for (facts, expected) in rows {
            assert_eq!(checks(&judge(&app_host, &facts)), expected, "{facts:?}");
        }
    }
}
