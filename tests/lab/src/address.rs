//! The address plan of the labs. All of it is documentation or private space, and exists only
//! inside the lab's own namespaces.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The service address of both topologies.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

/// The service address of both topologies.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

/// A network of a lab: `10.<second>.<third>.0/24` and `fd00:<second>:<third>::/64`, the digits of
/// the decimal numbers being reused as hexadecimal so that both read alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    second: u8,
    third: u8,
}

impl Network {
    pub(crate) const fn new(second: u8, third: u8) -> Self {
        Self { second, third }
    }

    pub(crate) fn v4(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, self.third, host)
    }

    pub(crate) fn v6(self, host: u8) -> Ipv6Addr {
        let group = |number| decimal_as_hexadecimal(number);
        Ipv6Addr::new(
            0xfd00,
            group(self.second),
            group(self.third),
            0,
            0,
            0,
            0,
            group(host),
        )
    }
}

fn decimal_as_hexadecimal(number: u8) -> u16 {
    let number = u16::from(number);
    ((number / 100) << 8) | ((number / 10 % 10) << 4) | (number % 10)
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn both_families_read_alike() {
        assert_eq!(Network::new(20, 3).v4(2).to_string(), "10.20.3.2");
        assert_eq!(Network::new(20, 3).v6(2).to_string(), "fd00:20:3::2");
        assert_eq!(Network::new(10, 0).v6(1).to_string(), "fd00:10::1");
        assert_eq!(Network::new(20, 12).v6(2).to_string(), "fd00:20:12::2");
    }
}
