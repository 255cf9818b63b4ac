//! The way between the balancer and a backend.

use crate::{
    abi::{Backend, Forwarding},
    frame::Frame,
};

/// How packets of a flow travel between the balancer and the backend.
///
/// Plain numbers rather than an enum, so that it has no part that is sometimes undefined, which the
/// compiler would carry around and the verifier refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// 0, [`Path::ONE_SIDED`]'s, or 1 more than the index of a source address.
    kind: u8,
    port: u16,
}

/// Source addresses that full NAT may have.
pub const SOURCE_CAPACITY: u32 = 254;

impl Path {
    /// Both ways, with the client's own address.
    pub const DIRECT: Self = Self { kind: 0, port: 0 };
    /// Only to the backend, which answers the client itself.
    pub const ONE_SIDED: Self = Self {
        kind: u8::MAX,
        port: 0,
    };

    /// Both ways, with a source address of ours, by its index below [`SOURCE_CAPACITY`], and a port
    /// in network order.
    #[inline(always)]
    #[must_use]
    pub const fn with_source(address: u8, port: u16) -> Self {
        Self {
            kind: address.wrapping_add(1),
            port,
        }
    }

    /// How flows of a backend travel that need no address of ours.
    #[inline(always)]
    #[must_use]
    pub const fn without_source(backend: &Backend) -> Self {
        if Forwarding::sees_replies(backend.forwarding) {
            Self::DIRECT
        } else {
            Self::ONE_SIDED
        }
    }

    /// Whether there is a source address of ours.
    #[inline(always)]
    #[must_use]
    pub const fn has_source(self) -> bool {
        self.kind != 0 && self.kind != u8::MAX
    }

    /// Index of that address.
    #[inline(always)]
    #[must_use]
    pub const fn address(self) -> u8 {
        self.kind.wrapping_sub(1)
    }

    /// Its port, network order.
    #[inline(always)]
    #[must_use]
    pub const fn port(self) -> u16 {
        self.port
    }

    /// As two numbers.
    #[inline(always)]
    pub(crate) const fn words(self) -> (u8, u16) {
        (self.kind, self.port)
    }

    /// From [`Path::words`].
    #[inline(always)]
    pub(crate) const fn from_words(kind: u8, port: u16) -> Self {
        Self { kind, port }
    }

    /// Makes the verifier forget how it came to this, see [`Frame::forget`].
    #[inline(always)]
    pub(crate) fn merged<F: Frame>(self, frame: &F) -> Self {
        let words = frame.forget((self.kind as usize) << 16 | self.port as usize);
        Self::from_words((words >> 16) as u8, words as u16)
    }
}
