//! A veth without addresses: the program sits on one end, and frames go in and out at the other.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    EbpfLoader,
    programs::{Xdp, XdpMode},
};
use nix::{
    errno::Errno,
    libc::{self, sockaddr_ll},
    net::if_::if_nametoindex,
    sys::{
        socket::{
            AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, recv,
            send, setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

use crate::kernel::{LAB, program};

const BALANCER: &str = "balancer";
const OUTSIDE: &str = "outside";

/// How long a frame may take on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(10);

/// Both ends, up.
#[derive(Debug)]
pub struct Veth {
    /// Index of the end that has the program.
    pub balancer: u32,
    socket: OwnedFd,
    /// Holds the outer end's program, without which it takes no frames sent by XDP.
    _pass: aya::Ebpf,
}

impl Veth {
    /// Makes it in this network namespace, with which it goes.
    ///
    /// # Errors
    /// When the kernel does not want to.
    pub fn make() -> Result<Self> {
        ip(&format!(
            "link add {BALANCER} type veth peer name {OUTSIDE}"
        ))?;
        for end in [BALANCER, OUTSIDE] {
            ip(&format!("link set dev {end} up"))?;
        }
        let outside = if_nametoindex(OUTSIDE)?;
        let mut pass = EbpfLoader::new().load(LAB)?;
        let passing: &mut Xdp = program(&mut pass, "pass")?;
        passing.load()?;
        passing.attach_to_if_index(outside, XdpMode::Driver)?;
        Ok(Self {
            balancer: if_nametoindex(BALANCER)?,
            socket: packet_socket(outside)?,
            _pass: pass,
        })
    }

    /// Sends a frame in, and waits until it comes out as expected.
    ///
    /// # Errors
    /// When it does not.
    pub fn exchange(&self, frame: &[u8], expected: &[u8]) -> Result<()> {
        let fd = self.socket.as_raw_fd();
        let sent = send(fd, frame, MsgFlags::empty()).context("sending")?;
        ensure!(sent == frame.len(), "only {sent} bytes were sent");
        let began = Instant::now();
        let mut others = 0;
        let mut buffer = [0; 2048];
        while began.elapsed() < PATIENCE {
            match recv(fd, &mut buffer, MsgFlags::empty()) {
                Ok(length) if buffer.get(..length) == Some(expected) => return Ok(()),
                // The kernel's own, such as router solicitations.
                Ok(_) => others += 1,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("receiving"),
            }
        }
        bail!("the frame did not come back as expected, {others} others came")
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .context("`ip` cannot be started")?;
    ensure!(
        output.status.success(),
        "`ip {arguments}`: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// A socket for whole frames on one interface.
fn packet_socket(ifindex: u32) -> Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let address = sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a whole `sockaddr_ll` whose family says that it is one; it is
    // copied.
    let address = unsafe {
        LinkAddr::from_raw(
            (&raw const address).cast(),
            Some(size_of::<sockaddr_ll>() as u32),
        )
    }
    .context("no address of a packet socket")?;
    bind(socket.as_raw_fd(), &address)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 200_000))?;
    Ok(socket)
}
