//! A map's memory in this process.

use std::{ffi::c_void, num::NonZeroUsize, ops::Range, os::fd::BorrowedFd, ptr::NonNull, slice};

use lb_common::{flow::Bucket, shared::Shared64};
use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
    unistd::{SysconfVar, sysconf},
};

/// What may stand in memory that the kernel and other threads change at any time.
///
/// # Safety
///
/// All fields are atomics of at most eight bytes, of which any bits are valid, and the type is
/// aligned to no more than a page.
pub(super) unsafe trait InSharedMemory {}

// SAFETY: tags and flows are made of `Shared` integers, which are atomics here.
unsafe impl InSharedMemory for Bucket {}
// SAFETY: it is one.
unsafe impl InSharedMemory for Shared64 {}

/// Elements of an array map.
pub(super) struct Mapping<T> {
    first: NonNull<T>,
    count: usize,
    /// All that is mapped: it begins at a page.
    base: NonNull<c_void>,
    length: NonZeroUsize,
}

// SAFETY: the memory is shared with the kernel anyway and all of it is atomics; it is unmapped only
// when the last owner drops it.
unsafe impl<T: InSharedMemory> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: InSharedMemory> Sync for Mapping<T> {}

/// Writable: places of expired flows are given back, and so are ports.
const ACCESS: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

impl<T: InSharedMemory> Mapping<T> {
    /// The first so many of a map.
    pub(super) fn of(map: BorrowedFd<'_>, count: u32) -> nix::Result<Self> {
        Self::part(map, 0..count as usize)
    }

    /// Some of a map.
    pub(super) fn part(map: BorrowedFd<'_>, range: Range<usize>) -> nix::Result<Self> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?
            .and_then(|size| usize::try_from(size).ok())
            .ok_or(nix::Error::EINVAL)?;
        let begin = range.start * size_of::<T>();
        let before = begin % page;
        let count = range.len();
        let length =
            NonZeroUsize::new(before + count * size_of::<T>()).ok_or(nix::Error::EINVAL)?;
        let offset = libc::off_t::try_from(begin - before).map_err(|_| nix::Error::EINVAL)?;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
        let base = unsafe { mmap(None, length, ACCESS, MapFlags::MAP_SHARED, map, offset) }?;
        // SAFETY: the mapping is longer than `before`.
        let first = unsafe { base.byte_add(before) };
        Ok(Self {
            first: first.cast(),
            count,
            base,
            length,
        })
    }

    /// So many zeros.
    pub(super) fn zeros(count: u32) -> nix::Result<Self> {
        let count = count as usize;
        let length = NonZeroUsize::new(count * size_of::<T>()).ok_or(nix::Error::EINVAL)?;
        // Its pages are there from the beginning, as those of a map are.
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
        let base = unsafe { mmap_anonymous(None, length, ACCESS, flags) }?;
        Ok(Self {
            first: base.cast(),
            count,
            base,
            length,
        })
    }

    /// All of them.
    pub(super) fn elements(&self) -> &[T] {
        // `first` is aligned: it is a multiple of the element's size from the beginning of the map,
        // which is at a page, and so is `base`, both no less aligned than `T`. That the kernel and
        // other threads change it at any time is allowed by `InSharedMemory`, without which there
        // is no `Mapping`.
        // SAFETY: as said, and the mapping has `count` elements from `first` on and lives as long
        // as `self`.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: exactly this range was mapped, and no borrow outlives `self`.
        let _ = unsafe { munmap(self.base, self.length.get()) };
    }
}
