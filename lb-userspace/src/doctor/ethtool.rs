//! What a driver says of an interface.

use crate::ethtool::{Data, Number, ask, asker};

// From <linux/ethtool.h>.
const GET_DRIVER: u32 = 0x03;
const GET_TX_CHECKSUM: u32 = 0x16;
const GET_FLAGS: u32 = 0x25;
const GET_GRO: u32 = 0x2b;
const GET_CHANNELS: u32 = 0x3c;
const FLAG_RX_VLAN: u32 = 1 << 8;
const FLAG_LRO: u32 = 1 << 15;

/// What matters of an interface's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Driver {
    /// Its name: `veth`, `ixgbe`.
    pub(super) name: String,
    /// Checksums of outgoing packets are left to the device.
    pub(super) tx_checksum: bool,
    /// Incoming segments are joined by the device.
    pub(super) lro: bool,
    /// Incoming segments are joined by the kernel, which takes NAPI.
    pub(super) gro: bool,
    /// Tags of incoming frames are taken off by the device.
    pub(super) rx_vlan: bool,
    /// Queues that packets come in by.
    pub(super) rx_queues: Option<u32>,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    most: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

// SAFETY: this is the structure of GET_DRIVER, which it is made with alone; a test says its size.
unsafe impl Data for DriverInfo {}

// SAFETY: the same of GET_CHANNELS.
unsafe impl Data for Channels {}

/// Asks the driver of an interface in this thread's network namespace; nothing where there is no
/// such interface, or it has no driver to ask.
pub(super) fn driver(interface: &str) -> Option<Driver> {
    let socket = asker().ok()?;
    let mut info = DriverInfo {
        command: GET_DRIVER,
        driver: [0; 32],
        rest: [0; 160],
    };
    ask(&socket, interface, &mut info).ok()?;
    let number = |command: u32| {
        let mut number = Number { command, value: 0 };
        ask(&socket, interface, &mut number).map_or(0, |()| number.value)
    };
    let flags = number(GET_FLAGS);
    let mut channels = Channels {
        command: GET_CHANNELS,
        ..Channels::default()
    };
    let rx_queues = ask(&socket, interface, &mut channels)
        .ok()
        .map(|()| channels.rx + channels.combined);
    let end = info.driver.iter().position(|byte| *byte == 0);
    let name = &info.driver[..end.unwrap_or(info.driver.len())];
    Some(Driver {
        name: String::from_utf8_lossy(name).into_owned(),
        tx_checksum: number(GET_TX_CHECKSUM) != 0,
        lro: flags & FLAG_LRO != 0,
        gro: number(GET_GRO) != 0,
        rx_vlan: flags & FLAG_RX_VLAN != 0,
        rx_queues,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernel_s() {
        assert_eq!(size_of::<DriverInfo>(), 196);
        assert_eq!(size_of::<Channels>(), 36);
    }

    #[test]
    fn no_interface_has_no_driver() {
        assert_eq!(driver("no-such-if"), None);
        assert_eq!(driver("a-name-that-is-far-too-long"), None);
    }
}
