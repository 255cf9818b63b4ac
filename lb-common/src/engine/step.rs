//! What became of a packet's flow: sent on, or not.

use crate::{engine::Outcome, flow::Path, frame::Frame};

/// The packet goes to a backend; or this is all; or it begins a flow.
///
/// A plain number rather than an enum, so that it has no part that is sometimes undefined, which
/// the compiler would carry around and the verifier refuse.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step(u64);

impl Step {
    const IS_FORWARD: u64 = 1 << 63;

    /// Its flow is over, or there was none.
    pub(super) const ANEW: Self = Self(1 << 62);

    /// It goes to that backend.
    #[inline(always)]
    pub(super) const fn forward(backend: u32, path: Path) -> Self {
        let (kind, port) = path.words();
        Self(Self::IS_FORWARD | backend as u64 | (kind as u64) << 24 | (port as u64) << 32)
    }

    /// Makes the verifier forget how it came to this, so that it walks through what follows once.
    #[inline(always)]
    pub(super) fn merged<F: Frame>(self, frame: &F) -> Self {
        Self(frame.forget(self.0 as usize) as u64)
    }

    /// Whether it begins a flow.
    #[inline(always)]
    pub(super) const fn is_anew(self) -> bool {
        self.0 & (Self::ANEW.0 | Self::IS_FORWARD) == Self::ANEW.0
    }

    /// The backend's id and the way there, or the end.
    #[inline(always)]
    pub(super) const fn target(self) -> Result<(u32, Path), Outcome> {
        if self.0 & Self::IS_FORWARD == 0 {
            return Err(Outcome::unpack(self.0));
        }
        let path = Path::from_words((self.0 >> 24) as u8, (self.0 >> 32) as u16);
        Ok((self.0 as u32 & 0x00ff_ffff, path))
    }
}

impl<T: Into<Outcome>> From<T> for Step {
    /// Nothing ends here that leaves by an interface, so the upper bits are free.
    #[inline(always)]
    fn from(outcome: T) -> Self {
        Self(outcome.into().pack())
    }
}
