//! Offloads of a virtual interface, by `SIOCETHTOOL`.

use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

// From <linux/ethtool.h>.
const SET_TX_CHECKSUM: u32 = 0x17;
const SET_TSO: u32 = 0x1f;
const SET_GSO: u32 = 0x24;
const SET_GRO: u32 = 0x2c;

/// `struct ifreq`.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut c_void,
    rest: [u8; 16],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Number {
    command: u32,
    value: u32,
}

/// Has an interface send packets as they will be on the wire, which no device completes, and take in
/// those that a driver redirects to its peer, which takes its own queue of them.
pub(super) fn prepare(interface: &str) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // Segments of no checksum cannot be, so the order matters.
    set(&socket, interface, SET_TSO, 0)?;
    set(&socket, interface, SET_GSO, 0)?;
    set(&socket, interface, SET_TX_CHECKSUM, 0)?;
    set(&socket, interface, SET_GRO, 1)
}

fn set(socket: &OwnedFd, interface: &str, command: u32, value: u32) -> io::Result<()> {
    let mut number = Number { command, value };
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        data: (&raw mut number).cast(),
        rest: [0; 16],
    };
    if interface.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..interface.len()].copy_from_slice(interface.as_bytes());
    // SAFETY: `request` is laid out as `struct ifreq`, with a name that ends with a zero, and lives
    // through the call, as does `number`, which is what each of these commands takes.
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
        assert_eq!(size_of::<Number>(), 8);
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(prepare("no-such-if").is_err());
        assert!(prepare("a-name-that-is-far-too-long").is_err());
    }
}
