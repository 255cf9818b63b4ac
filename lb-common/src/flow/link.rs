//! The way back to a client.

use crate::{headers::Mac, tags::Tags};

/// The way back to a client: what its packets came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLink {
    /// Source MAC of its packets.
    pub mac: Mac,
    /// VLAN tags of its packets.
    pub tags: Tags,
    /// Interface its packets came in by; below [`INTERFACE_LIMIT`].
    pub ingress: u32,
}

/// Interface indexes that a flow can hold are below this.
pub const INTERFACE_LIMIT: u32 = 1 << INTERFACE_BITS;
const INTERFACE_BITS: u32 = 20;

impl ClientLink {
    #[inline(always)]
    pub(super) const fn words(self) -> (u64, u32) {
        let [a, b, c, d, e, f] = self.mac;
        let (inner, outer) = self.tags.words();
        let [t0, t1] = inner.to_ne_bytes();
        (
            u64::from_ne_bytes([a, b, c, d, e, f, t0, t1]),
            self.ingress & (INTERFACE_LIMIT - 1) | (outer as u32) << INTERFACE_BITS,
        )
    }

    #[inline(always)]
    pub(super) const fn from_words(link: u64, ingress: u32) -> Self {
        let [a, b, c, d, e, f, t0, t1] = link.to_ne_bytes();
        Self {
            mac: [a, b, c, d, e, f],
            tags: Tags::from_words(
                u16::from_ne_bytes([t0, t1]),
                (ingress >> INTERFACE_BITS) as u16,
            ),
            ingress: ingress & (INTERFACE_LIMIT - 1),
        }
    }
}
