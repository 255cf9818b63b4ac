//! The few system calls of BPF that aya does not offer.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;

/// What the kernel knows of a link on an XDP hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XdpLinkInfo {
    /// The program it runs.
    pub(super) program_id: u32,
    /// The interface it is on, in the network namespace of that interface; 0 when that is gone.
    pub(super) ifindex: u32,
}

/// What the kernel knows of the link pinned at a path.
pub(super) fn pinned_link_info(path: &Path) -> io::Result<XdpLinkInfo> {
    #[repr(C)]
    #[derive(Default)]
    struct LinkInfo {
        kind: u32,
        id: u32,
        program_id: u32,
        padding: u32,
        ifindex: u32,
        rest: [u32; 27],
    }
    const KIND_XDP: u32 = 6;

    let link = obj_get(path)?;
    let mut info = LinkInfo::default();
    let mut attributes = InfoByFd {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: `attributes` is laid out as the kernel's `union bpf_attr` is for this command, and
    // `info` is a live buffer of the length it names, of integers only, so any bytes are valid.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    if info.kind != KIND_XDP {
        return Err(io::Error::other("the pin is no XDP link"));
    }
    Ok(XdpLinkInfo {
        program_id: info.program_id,
        ifindex: info.ifindex,
    })
}

/// Detaches the link pinned at a path, at once; removing the pin alone does it some time later.
pub(super) fn detach_pinned_link(path: &Path) -> io::Result<()> {
    #[repr(C)]
    struct LinkDetach {
        fd: u32,
    }
    let link = obj_get(path)?;
    let mut attributes = LinkDetach {
        fd: link.as_raw_fd() as u32,
    };
    // SAFETY: `attributes` is laid out as the kernel's `union bpf_attr` is for this command and
    // holds no pointer.
    unsafe { bpf(BPF_LINK_DETACH, &mut attributes) }.map(drop)
}

/// Writes `values` to the elements of an array of `u32` that begin at `first`.
pub(super) fn update_u32_array(map: BorrowedFd<'_>, first: u32, values: &[u32]) -> io::Result<()> {
    let mut done = 0;
    while done < values.len() {
        let part = &values[done..];
        let keys: Vec<u32> = (first + done as u32..).take(part.len()).collect();
        let mut attributes = Batch {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_ptr() as u64,
            values: part.as_ptr() as u64,
            count: part.len() as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: `attributes` is laid out as the kernel's `union bpf_attr` is for this command;
        // `keys` and `part` live until after the call, hold `count` elements of the four bytes
        // that keys and values of this map have, and the kernel only reads them.
        let result = unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut attributes) };
        match result {
            Ok(_) => return Ok(()),
            // A signal may end a batch early; the kernel says how far it came.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                done += attributes.count as usize;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads elements of an array of words for each CPU, from the one behind `before` on (element 0 cannot
/// be had so): as many as `values` has room for, each with `words` words of each of `cpus` CPUs. Says
/// how many there were (Linux 5.13).
pub(super) fn lookup_percpu_array(
    map: BorrowedFd<'_>,
    before: u32,
    (words, cpus): (usize, usize),
    values: &mut [u64],
) -> io::Result<usize> {
    let room = values.len() / (words * cpus).max(1);
    let mut keys = vec![0_u32; room];
    let mut last = 0_u32;
    let mut attributes = Batch {
        in_batch: (&raw const before) as u64,
        out_batch: (&raw mut last) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: room as u32,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: `attributes` is the `union bpf_attr` of this command; all that it points to takes any
    // bits, lives until after the call, and has room: `before` and `last` for a key, the others for
    // `count` keys and their words on every possible CPU, by the caller's `words` and `cpus`.
    let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) };
    match result {
        Ok(_) => Ok(attributes.count as usize),
        // The end of the map; the kernel says how many there were before it.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(attributes.count as usize),
        Err(error) => Err(error),
    }
}

/// What the kernel tells a socket from all others by.
pub(super) fn socket_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    socket_word(socket, libc::SO_COOKIE)
}

/// What it tells the socket's network namespace by (Linux 5.14).
pub(super) fn namespace_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    socket_word(socket, libc::SO_NETNS_COOKIE)
}

fn socket_word(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<u64> {
    let mut word = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `word` and `length` live until after the call, the kernel writes at most `length`
    // bytes to `word`, which is an integer, of which any bits are valid.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut word).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(word)
    }
}

fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ObjGet {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjGet {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: `attributes` is laid out as the kernel's `union bpf_attr` is for this command, and
    // `path` is a string with a final zero that lives until after the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attributes) }?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `bpf(2)`.
///
/// # Safety
///
/// `A` must have the layout of the kernel's `union bpf_attr` for `command`, and every pointer in
/// it must be valid for what the command does with it.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: the caller vouches for the content; the size is that of the value pointed to.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<A>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as libc::c_int)
    }
}
