//! Which addresses cannot be steered to.

use std::net::{IpAddr, Ipv4Addr};

/// Why this cannot be a service's address.
pub(super) fn refused_vip(address: IpAddr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("is a loopback address (clients cannot reach it from outside)")
    } else {
        refused(address)
    }
}

/// Why this cannot be a backend's address.
pub(crate) fn refused_backend(address: IpAddr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("is a loopback address (steered packets leave by an interface and never get there)")
    } else {
        refused(address)
    }
}

fn refused(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("is the unspecified address (name one host)")
    } else if address.is_multicast() {
        Some("is a multicast address (name one host)")
    } else if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("is the broadcast address (name one host)")
    } else if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        Some("is a link-local address (it means another host on every interface)")
    } else if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        Some("is an IPv4 address written as IPv6 (write it as IPv4)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_one_host_are_taken() {
        for text in [
            "203.0.113.10",
            "10.0.0.255",
            "2001:db8::1",
            "fd00::1",
            "169.254.1.1",
        ] {
            let address = text.parse().unwrap();
            assert_eq!(refused_vip(address), None, "{text}");
            assert_eq!(refused_backend(address), None, "{text}");
        }
        for text in [
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            let address = text.parse().unwrap();
            assert!(refused_vip(address).is_some(), "{text}");
            assert!(refused_backend(address).is_some(), "{text}");
        }
    }
}
