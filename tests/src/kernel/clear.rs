//! Empties a table through its memory: by system calls an emulated processor is busy with the flow
//! tables for longer than with the rows.

use std::{num::NonZero, os::fd::AsFd as _};

use anyhow::{Context, Result, bail};
use aya::{Ebpf, maps::Map};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Sets every element of an array to zeros, which the kernel lets this process map.
pub(super) fn clear(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let Some(Map::Array(map)) = ebpf.map(name) else {
        bail!("no array {name}");
    };
    let info = map.info()?;
    let element = (info.value_size() as usize).next_multiple_of(8);
    let length = info.max_entries() as usize * element;
    let mapped = NonZero::new(length).context("an array without elements")?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
    let memory = unsafe {
        mmap(
            None,
            mapped,
            access,
            MapFlags::MAP_SHARED,
            map.fd().as_fd(),
            0,
        )
    }
    .with_context(|| format!("mapping {name}"))?;
    // SAFETY: the mapping is `length` bytes long and writable, and no program runs meanwhile.
    unsafe { memory.cast::<u8>().write_bytes(0, length) };
    // SAFETY: exactly what was mapped above, to which no reference is left.
    unsafe { munmap(memory, length) }?;
    Ok(())
}
