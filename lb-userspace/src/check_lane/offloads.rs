//! Offloads of a virtual interface.

use std::io;

use crate::ethtool::{Number, ask, asker};

// From <linux/ethtool.h>.
const SET_TX_CHECKSUM: u32 = 0x17;
const SET_TSO: u32 = 0x1f;
const SET_GSO: u32 = 0x24;
const SET_GRO: u32 = 0x2c;

/// Has an interface send packets as they will be on the wire, which no device completes, and take in
/// those that a driver redirects to its peer, which takes its own queue of them.
pub(super) fn prepare(interface: &str) -> io::Result<()> {
    let socket = asker()?;
    // Segments of no checksum cannot be, so the order matters.
    for (command, value) in [
        (SET_TSO, 0),
        (SET_GSO, 0),
        (SET_TX_CHECKSUM, 0),
        (SET_GRO, 1),
    ] {
        ask(&socket, interface, &mut Number { command, value })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(prepare("no-such-if").is_err());
        assert!(prepare("a-name-that-is-far-too-long").is_err());
    }
}
