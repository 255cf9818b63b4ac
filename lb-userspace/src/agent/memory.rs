//! Gives memory back that a config took while it was read: an agent is at rest nearly always, and
//! what it needed for a moment is somebody else's then.

/// Has the allocator return what is free to the system.
pub(super) fn trim() {
    // SAFETY: it moves nothing that is in use, and may be called at any time by any thread.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::malloc_trim(0) };
}
