//! What a driver says of an interface: `SIOCETHTOOL`, the request that every kernel knows.

use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

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

/// `struct ifreq`.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut c_void,
    rest: [u8; 16],
}

/// Most requests: a command and a number.
#[repr(C)]
struct Number {
    command: u32,
    value: u32,
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

/// Asks the driver of an interface in this thread's network namespace; nothing where there is no
/// such interface, or it has no driver to ask.
pub(super) fn driver(interface: &str) -> Option<Driver> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .ok()?;
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

/// Has the kernel fill `data`, one of the structures above.
fn ask<T>(socket: &OwnedFd, interface: &str, data: &mut T) -> io::Result<()> {
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        data: std::ptr::from_mut(data).cast(),
        rest: [0; 16],
    };
    if interface.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..interface.len()].copy_from_slice(interface.as_bytes());
    // SAFETY: `request` is laid out as `struct ifreq`, with a name that ends with a zero, and lives
    // through the call, as does `data`, which is one of the structures that its command asks for, as
    // large as the kernel has them and of integers only.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernel_s() {
        assert_eq!(size_of::<Request>(), size_of::<libc::ifreq>());
        assert_eq!(size_of::<DriverInfo>(), 196);
        assert_eq!(size_of::<Channels>(), 36);
    }

    #[test]
    fn no_interface_has_no_driver() {
        assert_eq!(driver("no-such-if"), None);
        assert_eq!(driver("a-name-that-is-far-too-long"), None);
    }
}
