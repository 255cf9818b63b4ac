//! Which clients: an address or a prefix, and perhaps a port.

use std::{fmt, net::IpAddr, str::FromStr};

use lb_common::{abi::network_port, address::Address};

/// Clients of a prefix, which may be a single address, and of one port or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientFilter {
    network: IpAddr,
    /// Bits of the prefix, by the address's own family.
    length: u8,
    port: Option<u16>,
    /// The network among all addresses as tables hold them, and the bits that count.
    bits: u128,
    mask: u128,
}

impl ClientFilter {
    fn new(address: IpAddr, length: u8, port: Option<u16>) -> Self {
        // An IPv4 address stands in the last 32 of the 128 bits.
        let (bits, before) = match address {
            IpAddr::V4(_) => (wide(address.into()), 96),
            IpAddr::V6(_) => (wide(address.into()), 0),
        };
        let mask = u128::MAX
            .checked_shl(128 - before - u32::from(length))
            .unwrap_or(0);
        Self {
            network: address,
            length,
            port,
            bits: bits & mask,
            mask,
        }
    }

    /// Whether a client is meant; its port in network order.
    #[must_use]
    pub fn matches(&self, client: Address, client_port: u16) -> bool {
        wide(client) & self.mask == self.bits
            && client.is_v4() == self.network.is_ipv4()
            && self
                .port
                .is_none_or(|port| network_port(port) == client_port)
    }
}

fn wide(address: Address) -> u128 {
    u128::from_be_bytes(address.octets())
}

impl FromStr for ClientFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |what: &str| {
            format!(
                "{text:?} {what}; write an address or a prefix, with or without a port: 10.1.2.3, \
                 10.1.0.0/16, 10.1.2.3:40000, 2001:db8::/32, [2001:db8::1]:40000"
            )
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest
                    .split_once(']')
                    .ok_or_else(|| refuse("has a [ without a ]"))?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return Err(refuse("goes on after the ]")),
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        let (address, length) = match host.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (host, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse("is no client"))?;
        let address = address.to_canonical();
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length.map(str::parse::<u8>) {
            None => longest,
            Some(Ok(length)) if length <= longest => length,
            Some(_) => return Err(refuse(&format!("has no prefix length of 0 to {longest}"))),
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(refuse("has no port of 1 to 65535")),
        };
        Ok(Self::new(address, length, port))
    }
}

impl fmt::Display for ClientFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            network,
            length,
            port,
            ..
        } = self;
        match port {
            Some(port) => write!(formatter, "[{network}/{length}]:{port}"),
            None => write!(formatter, "{network}/{length}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn matches(filter: &str, client: &str) -> bool {
        let filter: ClientFilter = filter.parse().unwrap();
        let client: SocketAddr = client.parse().unwrap();
        filter.matches(client.ip().into(), network_port(client.port()))
    }

    #[test]
    fn addresses_prefixes_and_ports_match_what_they_say() {
        for (filter, client, expected) in [
            ("10.1.2.3", "10.1.2.3:4000", true),
            ("10.1.2.3", "10.1.2.4:4000", false),
            ("10.1.2.3:4000", "10.1.2.3:4000", true),
            ("10.1.2.3:4001", "10.1.2.3:4000", false),
            ("10.1.0.0/16", "10.1.255.255:1", true),
            ("10.1.0.0/16", "10.2.0.0:1", false),
            // Bits beyond the prefix do not count.
            ("10.1.2.3/8", "10.9.9.9:1", true),
            ("10.1.0.0/16:80", "10.1.2.3:80", true),
            ("0.0.0.0/0", "203.0.113.1:1", true),
            ("0.0.0.0/0", "[2001:db8::1]:1", false),
            ("::/0", "[2001:db8::1]:1", true),
            ("::/0", "203.0.113.1:1", false),
            ("2001:db8::/32", "[2001:db8:ffff::1]:1", true),
            ("2001:db8::/32", "[2001:db9::1]:1", false),
            ("[2001:db8::1]:40000", "[2001:db8::1]:40000", true),
            ("[2001:db8::1]:40000", "[2001:db8::1]:40001", false),
            ("[2001:db8::1]", "[2001:db8::1]:40001", true),
            ("2001:db8::1", "[2001:db8::1]:40001", true),
            ("::ffff:10.1.2.3", "10.1.2.3:1", true),
        ] {
            assert_eq!(matches(filter, client), expected, "{filter} {client}");
        }
    }

    #[test]
    fn a_filter_survives_the_way_to_the_agent() {
        for text in ["10.1.2.3", "10.1.0.0/16:80", "2001:db8::/32", "[::1]:9"] {
            let filter: ClientFilter = text.parse().unwrap();
            assert_eq!(filter.to_string().parse(), Ok(filter), "{text}");
        }
    }

    #[test]
    fn what_is_no_client_is_refused_with_a_sentence() {
        for text in [
            "",
            "web",
            "10.1.2",
            "10.1.2.3/33",
            "10.1.2.3/x",
            "10.1.2.3:0",
            "10.1.2.3:65536",
            "10.1.2.3:",
            "[2001:db8::1",
            "[2001:db8::1]80",
            "2001:db8::/129",
        ] {
            let sentence = text.parse::<ClientFilter>().unwrap_err();
            assert!(sentence.contains("10.1.0.0/16"), "{text}: {sentence}");
        }
    }
}
