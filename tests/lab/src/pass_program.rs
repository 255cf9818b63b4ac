//! An XDP program that passes everything. A veth delivers frames that the other end sends back
//! with `XDP_TX` only when it has an XDP program itself, and this is the least it can have.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::namespace::Namespace;

// From <linux/bpf.h>: commands of bpf(2), the program type, and two instructions.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const INSTRUCTIONS: [[u8; 8]; 2] = [
    [0xb7, 0, 0, 0, 2, 0, 0, 0], // r0 = XDP_PASS
    [0x95, 0, 0, 0, 0, 0, 0, 0], // exit
];

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what follows as zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The head of `union bpf_attr` for `BPF_OBJ_PIN`.
#[repr(C)]
struct PinAttributes {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Attaches the program to an interface in native mode. It goes with the interface.
pub(crate) fn attach(namespace: &Namespace, interface: &str, pins: &Path) -> Result<()> {
    let program = load().context("the XDP program for the lab's interfaces does not load")?;
    fs::create_dir_all(pins)?;
    let pin = pins.join(format!("pass-{interface}"));
    pin_at(&program, &pin).with_context(|| format!("pinning at {}", pin.display()))?;
    let attached = namespace.ip(&format!(
        "link set dev {interface} xdpdrv pinned {}",
        pin.display()
    ));
    fs::remove_file(&pin)?;
    attached.map(drop)
}

/// For frames in several buffers as well, where the kernel has that (Linux 5.18).
fn load() -> io::Result<OwnedFd> {
    load_with(BPF_F_XDP_HAS_FRAGS).or_else(|_| load_with(0))
}

fn load_with(flags: u32) -> io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: INSTRUCTIONS.len() as u32,
        instructions: INSTRUCTIONS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags,
    };
    let descriptor = bpf(BPF_PROG_LOAD, &attributes)?;
    // SAFETY: the kernel has just handed out this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn pin_at(program: &OwnedFd, path: &Path) -> io::Result<()> {
    let mut text = PathBuf::from(path).into_os_string().as_bytes().to_vec();
    text.push(0);
    let attributes = PinAttributes {
        path: text.as_ptr() as u64,
        descriptor: program.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &attributes).map(drop)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: both callers hand over a `repr(C)` struct without padding whose pointers refer to
    // memory that outlives the call; the kernel reads no more than the size given.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes, std::mem::size_of::<T>()) };
    match libc::c_int::try_from(result) {
        Ok(descriptor) if descriptor >= 0 => Ok(descriptor),
        _ => Err(io::Error::last_os_error()),
    }
}
