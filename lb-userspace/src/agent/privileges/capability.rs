//! Linux capabilities of the calling thread: the system calls, and what is left after them.

use std::{fs, io};

use super::Error;

const NET_ADMIN: u32 = 12;
/// For files of other users.
pub(super) const DAC_OVERRIDE: u32 = 1;
/// For what happens in another network namespace.
pub(super) const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// What steering needs from its first to its last moment.
pub(super) const NEEDED: [u32; 3] = [NET_ADMIN, PERFMON, BPF];

/// The layout of `capset` with 64 bits.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The sets of a process, from its status in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sets {
    permitted: u64,
    effective: u64,
    bounding: u64,
    ambient: u64,
}

impl Sets {
    fn own() -> Option<Self> {
        Self::of(&fs::read_to_string("/proc/thread-self/status").ok()?)
    }

    fn of(status: &str) -> Option<Self> {
        let set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        Some(Self {
            permitted: set("CapPrm:")?,
            effective: set("CapEff:")?,
            bounding: set("CapBnd:")?,
            ambient: set("CapAmb:")?,
        })
    }
}

fn mask(capabilities: &[u32]) -> u64 {
    capabilities.iter().fold(0, |mask, bit| mask | 1 << bit)
}

/// Takes all others from the bounding set, so that no program started from here can get them. A
/// container may forbid this; then its own bounding set is the limit.
pub(super) fn drop_bounding(kept: &[u32]) {
    let Some(sets) = Sets::own() else { return };
    for bit in 0..64 {
        if sets.bounding & !mask(kept) & 1 << bit == 0 {
            continue;
        }
        if let Err(error) = prctl(libc::PR_CAPBSET_DROP, bit, 0) {
            tracing::debug!("the bounding set of capabilities stays: {error}");
            return;
        }
    }
}

/// Keeps at most these of the thread's capabilities, none for programs that it starts, and says so
/// to the kernel for good (`no_new_privs`).
pub(super) fn limit(kept: &[u32]) -> Result<(), Error> {
    let failed = |action| move |source| Error::Keep { action, source };
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map_err(failed("no_new_privs"))?;
    let Some(sets) = Sets::own() else {
        return Ok(());
    };
    if sets.ambient != 0 {
        let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
        prctl(libc::PR_CAP_AMBIENT, clear, 0).map_err(failed("ambient capabilities"))?;
    }
    // `lb detach` and similar commands by other means than root may have less.
    let left = sets.permitted & mask(kept);
    if (sets.permitted, sets.effective) != (left, left) {
        set(left).map_err(failed("capset"))?;
    }
    // Changing the user made the process opaque, also to itself: `/proc/self` would be root's.
    prctl(libc::PR_SET_DUMPABLE, 1, 0).map_err(failed("stay readable"))
}

fn set(capabilities: u64) -> io::Result<()> {
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    let half = |shift: u32| {
        let bits = (capabilities >> shift) as u32;
        Data {
            effective: bits,
            permitted: bits,
            inheritable: 0,
        }
    };
    let data = [half(0), half(32)];
    // SAFETY: the kernel reads a header and, for this version, two entries; both have its layout and
    // live until after the call, and it writes to the header only for an unknown version.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    answer(result)
}

fn prctl(option: libc::c_int, second: libc::c_ulong, third: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: the options used here take numbers, no pointers, and change only this process.
    let result = unsafe { libc::prctl(option, second, third, none, none) };
    answer(result.into())
}

fn answer(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_from_the_status() {
        let status = "Name:\tlb\nCapInh:\t0000000000000000\nCapPrm:\t000000c000001000\n\
                      CapEff:\t0000000000001000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0\n";
        let sets = Sets::of(status).unwrap();
        assert_eq!(sets.permitted, mask(&NEEDED));
        assert_eq!(sets.effective, 1 << NET_ADMIN);
        assert_eq!(sets.ambient, 0);
        assert_eq!(Sets::of("Name:\tlb\n"), None);
        assert!(Sets::own().is_some());
    }
}
