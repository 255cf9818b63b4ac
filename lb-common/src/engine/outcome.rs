//! What a stage says: what becomes of a frame, or which stage goes on with it and what it should know.

use crate::{flow::Path, verdict::Verdict};

/// [`Outcome::mtu`] of [`Outcome::stray`].
pub(super) const IS_STRAY: u16 = 1;
/// The same of a datagram, which begins a flow.
pub(super) const IS_DATAGRAM: u16 = 2;

/// Bits of a backend's id.
const BACKEND_BITS: u32 = 24;

/// What to do with a frame.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What happened and why.
    pub verdict: Verdict,
    /// Interface to leave by, where the verdict's disposition is to emit; else 0.
    pub egress: u32,
    /// What is still to be done; the frame is untouched until then.
    pub next: Next,
    /// For [`Next::Answer`], the largest packet that fits, where that is the trouble; for
    /// [`Next::Flow`], whether it is a later fragment, and `egress` holds its ports.
    pub mtu: u16,
}

/// The stage that goes on with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Next {
    /// None: the outcome is final.
    Done = 0,
    /// [`flow`], with a [`Hint`] that says what a fragment does not.
    Flow = 1,
    /// [`open`]
    Open = 2,
    /// [`control`]
    Control = 3,
    /// [`answer`]
    Answer = 4,
    /// [`check`]
    Check = 5,
    /// [`cookie`]
    Cookie = 6,
    /// [`forward`]
    Forward = 7,
    /// [`open`], for a packet that may be of a connection that began by another balancer.
    TakeUp = 8,
}

impl From<Verdict> for Outcome {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            egress: 0,
            next: Next::Done,
            mtu: 0,
        }
    }
}

impl Outcome {
    /// Leaves by an interface.
    #[inline(always)]
    pub(super) const fn emit(verdict: Verdict, egress: u32) -> Self {
        Self {
            verdict,
            egress,
            next: Next::Done,
            mtu: 0,
        }
    }

    /// Goes on with another stage.
    #[inline(always)]
    pub(super) const fn then(next: Next) -> Self {
        Self {
            verdict: Verdict::PassNotOurs,
            egress: 0,
            next,
            mtu: 0,
        }
    }

    /// Goes to a backend, that way.
    #[inline(always)]
    pub(super) const fn forward(backend: u32, path: Path) -> Self {
        let (kind, port) = path.words();
        Self {
            egress: backend | (kind as u32) << BACKEND_BITS,
            mtu: port,
            ..Self::then(Next::Forward)
        }
    }

    /// The backend and the way of [`Outcome::forward`].
    #[inline(always)]
    pub(super) const fn target(self) -> (u32, Path) {
        let path = Path::from_words((self.egress >> BACKEND_BITS) as u8, self.mtu);
        (self.egress & ((1 << BACKEND_BITS) - 1), path)
    }

    /// Is of no flow; a packet of TCP that does not begin one either takes no token of its source: it
    /// may be a client's answer to a SYN cookie, whose SYN has taken one.
    #[inline(always)]
    pub(super) const fn stray(is_tcp: bool) -> Self {
        let mut outcome = Self::then(Next::Open);
        outcome.mtu = IS_DATAGRAM - is_tcp as u16;
        outcome
    }

    /// Is answered, with that verdict if it succeeds.
    #[inline(always)]
    pub(super) const fn answer(verdict: Verdict) -> Self {
        Self::answer_too_big(verdict, 0)
    }

    /// Is answered that it is larger than `mtu`.
    #[inline(always)]
    pub(super) const fn answer_too_big(verdict: Verdict, mtu: u16) -> Self {
        Self {
            verdict,
            egress: 0,
            next: Next::Answer,
            mtu,
        }
    }

    /// A fragment of a packet with these ports is steered; a later one has no ports of its own.
    #[inline(always)]
    pub(super) const fn fragment(ports: u32, is_later: bool) -> Self {
        Self {
            verdict: Verdict::PassNotOurs,
            egress: ports,
            next: Next::Flow,
            mtu: is_later as u16,
        }
    }

    /// As one number, for a function in the kernel to return.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        self.verdict as u64
            | (self.next as u64) << 8
            | (self.mtu as u64) << 16
            | (self.egress as u64) << 32
    }

    /// From [`Outcome::pack`].
    #[inline(always)]
    pub const fn unpack(packed: u64) -> Self {
        let next = match (packed >> 8) as u8 {
            1 => Next::Flow,
            2 => Next::Open,
            3 => Next::Control,
            4 => Next::Answer,
            5 => Next::Check,
            6 => Next::Cookie,
            7 => Next::Forward,
            8 => Next::TakeUp,
            _ => Next::Done,
        };
        Self {
            verdict: Verdict::from_number(packed as u8),
            egress: (packed >> 32) as u32,
            next,
            mtu: (packed >> 16) as u16,
        }
    }
}

/// What [`control`] tells [`flow`] and [`open`] of a fragment, and [`cookie`] tells [`open`]; 0 is
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint(pub u64);

impl Hint {
    const IS_FRAGMENT: u64 = 1 << 32;
    const IS_LATER: u64 = 1 << 33;
    const HAS_COOKIE: u64 = 1 << 34;
    const IS_REPLY: u64 = 1 << 35;
    pub(super) const IS_TAKEN_UP: u64 = 1 << 36;

    #[inline(always)]
    pub(super) const fn of_fragment(outcome: Outcome) -> Self {
        let later = if outcome.mtu == 0 { 0 } else { Self::IS_LATER };
        Self(outcome.egress as u64 | Self::IS_FRAGMENT | later)
    }

    /// The packet is the SYN of a client that has that SYN cookie.
    #[inline(always)]
    pub(super) const fn of_cookie(cookie: u32) -> Self {
        Self(cookie as u64 | Self::HAS_COOKIE)
    }

    #[inline(always)]
    pub(super) const fn cookie(self) -> Option<u32> {
        if self.0 & Self::HAS_COOKIE == 0 {
            None
        } else {
            Some(self.0 as u32)
        }
    }

    /// The packet is of no flow, and goes on as if it began one.
    #[inline(always)]
    pub(super) const fn of_taken_up(self) -> Self {
        Self(self.0 | Self::IS_TAKEN_UP)
    }

    /// The packet is not for a service.
    #[inline(always)]
    pub(super) const fn of_reply(self) -> Self {
        Self(self.0 | Self::IS_REPLY)
    }

    pub(super) const fn is_reply(self) -> bool {
        self.0 & Self::IS_REPLY != 0
    }

    pub(super) const fn is_fragment(self) -> bool {
        self.0 & Self::IS_FRAGMENT != 0
    }

    pub(super) const fn is_later_fragment(self) -> bool {
        self.0 & Self::IS_LATER != 0
    }

    pub(super) const fn ports(self) -> u32 {
        self.0 as u32
    }
}
