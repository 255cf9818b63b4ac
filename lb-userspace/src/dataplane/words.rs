//! Tables of words that the data path and the agent change by atomic steps, in this process's
//! memory.

use std::{os::fd::BorrowedFd, sync::Arc};

use lb_common::shared::Shared64;

use super::mapping::Mapping;

/// A table of words. Clones share it.
#[derive(Clone)]
pub struct Words(Arc<Mapping<Shared64>>);

impl Words {
    /// Maps a table with its number of words.
    pub(super) fn map(map: BorrowedFd<'_>, count: u32) -> nix::Result<Self> {
        Mapping::of(map, count).map(|mapping| Self(Arc::new(mapping)))
    }

    /// Zeros without a data path: for tests.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn detached(count: u32) -> nix::Result<Self> {
        Mapping::zeros(count).map(|mapping| Self(Arc::new(mapping)))
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Shared64] {
        self.0.elements()
    }
}
