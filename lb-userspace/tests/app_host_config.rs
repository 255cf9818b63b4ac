//! `[app_host]`: what is taken, and what is said about the rest.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

use std::net::IpAddr;

use lb_userspace::config::{
    self,
    model::{AppHost, Decap, Prefix},
};

fn problems(text: &str) -> Vec<String> {
    let list = config::parse(text.as_bytes()).err().unwrap_or_default();
    list.into_iter()
        .map(|problem| format!("{}: {}", problem.line, problem.message))
        .collect()
}

fn app_host(text: &str) -> AppHost {
    let loaded = config::parse(text.as_bytes()).unwrap();
    assert_eq!(loaded.warnings, []);
    loaded.model.app_host.unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn everything_is_taken_as_it_is_written() {
    let host = app_host(
        "[app_host]\ninterfaces = [\"eth0\", \"eth1\"]\nvips = [\"203.0.113.10\", \
         \"2001:db8::10\"]\ndecap = [\"ipip\", \"gue\"]\nallowed_sources = [\"10.0.0.0/8\", \
         \"fd00::/8\", \"192.0.2.1\", \"::/0\"]\n",
    );
    assert_eq!(host.interfaces, ["eth0", "eth1"]);
    assert_eq!(host.vips, [ip("203.0.113.10"), ip("2001:db8::10")]);
    assert_eq!(host.decap, [Decap::IpIp, Decap::Gue]);
    let prefix = |address: &str, length| Prefix {
        address: ip(address),
        length,
    };
    assert_eq!(
        host.allowed_sources,
        [
            prefix("10.0.0.0", 8),
            prefix("fd00::", 8),
            prefix("192.0.2.1", 32),
            prefix("::", 0)
        ]
    );
}

#[test]
fn direct_return_by_mac_needs_no_tunnels() {
    let host = app_host("[app_host]\ninterfaces = [\"eth0\"]\nvips = [\"203.0.113.10\"]\n");
    assert_eq!((host.decap, host.allowed_sources), (vec![], vec![]));
    let none = config::parse(b"[agent]\n").unwrap().model.app_host;
    assert_eq!(none, None);
}

#[test]
fn every_problem_is_reported_at_once() {
    let found = problems(
        "[app_host]\ninterfaces = [\"eth0\", \"eth0\"]\nvips = [\"203.0.113.10\", \"nowhere\", \
         \"203.0.113.10\"]\ndecap = [\"ipip\", \"vxlan\"]\nallowed_sources = [\"10.0.0.1/8\", \
         \"::ffff:10.0.0.0/104\", \"ten\"]\nvip = 1\n",
    );
    assert_eq!(
        found,
        [
            "2: app_host: interfaces \"eth0\" is in the list twice",
            "3: app_host: vips \"nowhere\" is not an IP address (a name is not looked up)",
            "3: app_host: vips \"203.0.113.10\" is in the list twice",
            "4: app_host: decap \"vxlan\" is unknown (allowed: \"ipip\", \"gue\")",
            "5: app_host: allowed_sources \"10.0.0.1/8\" has bits set behind its prefix (write \
             \"10.0.0.0/8\")",
            "5: app_host: allowed_sources \"::ffff:10.0.0.0/104\" is a prefix of IPv4 addresses in \
             IPv6 clothes (write \"10.0.0.0/8\")",
            "5: app_host: allowed_sources \"ten\" is not a prefix (write \"172.16.0.0/16\" or \
             \"10.0.0.2\")",
            "6: app_host: unknown key \"vip\", did you mean \"vips\"? (allowed: interfaces, vips, \
             decap, allowed_sources)",
        ]
    );
}

#[test]
fn what_it_cannot_do_without_is_asked_for() {
    assert_eq!(
        problems("[app_host]\ndecap = [\"gue\"]\n"),
        [
            "1: app_host: interfaces is missing (name those that packets for the VIPs come in by: \
             interfaces = [\"eth0\"])",
            "1: app_host: vips is missing (name the addresses of the services: vips = \
             [\"203.0.113.10\"])",
        ]
    );
    let found = problems("[app_host]\ninterfaces = []\nvips = []\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("2: app_host: interfaces is empty"));
    assert!(found[1].starts_with("3: app_host: vips is empty"));
}

#[test]
fn a_vip_is_the_address_of_one_host() {
    for (vip, why) in [
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("fe80::1", "link-local"),
        ("255.255.255.255", "broadcast"),
    ] {
        let text = format!("[app_host]\ninterfaces = [\"eth0\"]\nvips = [\"{vip}\"]\n");
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = format!("3: app_host: vips \"{vip}\" is ");
        assert!(
            found[0].starts_with(&expected) && found[0].contains(why),
            "{found:?}"
        );
    }
}

#[test]
fn an_interface_takes_one_program() {
    let text = |decap: &str| {
        format!(
            "[agent]\ninterfaces = [\"eth0\"]\n[app_host]\ninterfaces = [\"eth1\", \
             \"eth0\"]\nvips = [\"203.0.113.10\"]\ndecap = [{decap}]\n"
        )
    };
    assert_eq!(
        problems(&text("\"gue\"")),
        [
            "4: app_host: interfaces \"eth0\" is also in agent.interfaces, and an interface takes \
             one XDP program: take it out of one of the two lists (without decap, app_host needs \
             no program)"
        ]
    );
    assert!(problems(&text("")).is_empty());
}

#[test]
fn sources_without_tunnels_are_odd() {
    let text = "[app_host]\ninterfaces = [\"eth0\"]\nvips = [\"203.0.113.10\"]\n\
                allowed_sources = [\"10.0.0.0/8\"]\n";
    let warnings = config::parse(text.as_bytes()).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        warnings[0].message,
        "app_host: allowed_sources does nothing without decap"
    );
}
