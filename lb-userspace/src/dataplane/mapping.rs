//! A map's memory in this process.

use std::{num::NonZeroUsize, os::fd::BorrowedFd, ptr::NonNull, slice};

use lb_common::{flow::Bucket, shared::Shared64};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

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

/// The elements of an array map.
pub(super) struct Mapping<T> {
    first: NonNull<T>,
    count: usize,
}

// SAFETY: the memory is shared with the kernel anyway and all of it is atomics; it is unmapped only
// when the last owner drops it.
unsafe impl<T: InSharedMemory> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: InSharedMemory> Sync for Mapping<T> {}

impl<T> Mapping<T> {
    /// Of a map, or of zeros.
    pub(super) fn new(map: Option<BorrowedFd<'_>>, count: u32) -> nix::Result<Self>
    where
        T: InSharedMemory,
    {
        let count = count as usize;
        let length = NonZeroUsize::new(count * size_of::<T>()).ok_or(nix::Error::EINVAL)?;
        // Writable: places of expired flows are given back, and so are ports.
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let memory = match map {
            // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
            Some(map) => unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map, 0) },
            // SAFETY: as above.
            None => unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) },
        }?;
        Ok(Self {
            first: memory.cast(),
            count,
        })
    }

    /// All of them.
    pub(super) fn elements(&self) -> &[T] {
        // SAFETY: the mapping begins at a page, which is aligned for `T`, is as long as `count`
        // elements, and lives as long as `self`. That the kernel and other threads change it at
        // any time is allowed by `InSharedMemory`, without which there is no `Mapping`.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this range, and no borrow outlives `self`.
        let _ = unsafe { munmap(self.first.cast(), self.count * size_of::<T>()) };
    }
}
