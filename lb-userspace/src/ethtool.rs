//! `SIOCETHTOOL`, the request about an interface's driver that every kernel knows.

use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `struct ifreq`.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut c_void,
    rest: [u8; 16],
}

/// `struct ethtool_value`, which most commands take.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    /// What is asked, or told.
    pub(crate) command: u32,
    /// What it is, or is to be.
    pub(crate) value: u32,
}

/// Structures that a command of the kernel's takes.
///
/// # Safety
/// It begins with its command, is as large as the kernel has it for that, and consists of integers.
pub(crate) unsafe trait Data {}

// SAFETY: `struct ethtool_value` is what the commands take that it is made with here: GET_… and
// SET_… of one number each.
unsafe impl Data for Number {}

/// Something to ask in this thread's network namespace by.
pub(crate) fn asker() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    Ok(socket)
}

/// Has the kernel read and fill `data`.
pub(crate) fn ask<T: Data>(socket: &OwnedFd, interface: &str, data: &mut T) -> io::Result<()> {
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
    // through the call, as does `data`, which is what its command takes ([`Data`]).
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
}
