//! What stands on l0: the steering program with its tables, or the kernel with nftables.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{
    TestRun, TestRunOptions,
    xdp::{XdpLink, XdpMode},
};
use lb_common::{
    abi::{Forwarding, Interface, Protocol, features},
    host::{Fixture, HostTables, MAC_BALANCER},
    verdict::{Event, Verdict},
};
use lb_lab::Lab;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use super::bed::{Interfaces, MAC_G0, MAC_L1, MAC_S1, NAMESPACE, context};
use crate::{
    bench::{
        flows::{Endpoints, From, Handshake},
        template::{Segment, frame},
    },
    kernel::{Kernel, Ran},
};

/// `XDP_REDIRECT`
const REDIRECT: u32 = 4;

/// Where the generator's packets go, and where a balancer sends them on to.
pub(super) const VIP: &str = "203.0.113.10:80";
const BACKENDS: [&str; 3] = ["10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080"];

/// A client that is in no other measurement.
const SOMEBODY: &str = "12.0.0.1:32768";

/// Source address of full NAT.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
/// Where tunnels begin, its last two bytes varied.
const TUNNEL_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0));

/// The same balancing by the kernel: round robin, and connection tracking to undo it.
const RULESET: &str = "table ip lb {
    chain prerouting {
        type nat hook prerouting priority dstnat
        ip daddr 203.0.113.10 tcp dport 80 dnat to \
            numgen inc mod 3 map { 0 : 10.0.0.11, 1 : 10.0.0.12, 2 : 10.0.0.13 } : 8080
    }
}
";

/// The steering program with a service of three backends behind l1.
pub(super) struct Steer {
    kernel: Kernel,
    interfaces: Interfaces,
    has_cookies: bool,
}

impl Steer {
    /// Loads it and establishes so many flows.
    pub(super) fn new(
        interfaces: Interfaces,
        forwarding: Forwarding,
        endpoints: Endpoints,
        flows: u64,
    ) -> Result<Self> {
        Self::made(interfaces, forwarding, endpoints, flows, |_| {})
    }

    fn made(
        interfaces: Interfaces,
        forwarding: Forwarding,
        endpoints: Endpoints,
        flows: u64,
        set: impl FnOnce(&mut HostTables),
    ) -> Result<Self> {
        let backends = BACKENDS.map(|text| text.parse::<SocketAddr>().context("a constant"));
        let backends = backends.into_iter().collect::<Result<Vec<_>>>()?;
        let mut fixture = Fixture::with_limits(262_144, 65_536);
        fixture.service(endpoints.vip, Protocol::Tcp, forwarding, &backends);
        let tables = &mut fixture.tables;
        let forwarding_feature = match forwarding {
            Forwarding::Nat => features::NAT,
            Forwarding::FullNat => features::FULL_NAT,
            Forwarding::DsrL2 => 0,
            Forwarding::DsrIpip | Forwarding::DsrGue => features::TUNNEL,
        };
        tables.settings.features = features::IPV4 | forwarding_feature;
        if forwarding == Forwarding::FullNat {
            tables.add_source(SOURCE.into(), |port| port >= 1024);
        }
        for backend in tables.backends.iter_mut().skip(1) {
            backend.sources = 1;
            backend.tunnel_source = TUNNEL_SOURCE.into();
            backend.tunnel_source_mask = 0xffff_0000;
        }
        for hop in tables.next_hops.iter_mut().skip(1) {
            (hop.ifindex, hop.source, hop.destination) = (interfaces.l1, MAC_L1, MAC_S1);
        }
        tables.interfaces.clear();
        for (ifindex, mac) in [(interfaces.l0, MAC_BALANCER), (interfaces.l1, MAC_L1)] {
            let interface = Interface {
                mac,
                reserved: [0; 2],
                mtu: 1500,
            };
            tables.interfaces.insert(ifindex, interface);
        }
        set(tables);
        let kernel = Kernel::load(tables)?;
        let mut steer = Self {
            kernel,
            interfaces,
            has_cookies: false,
        };
        let handshake = Handshake {
            endpoints,
            forwarding,
            inward: (MAC_G0, MAC_BALANCER),
            outward: (MAC_S1, MAC_L1),
            action: REDIRECT,
        };
        for flow in 0..flows {
            handshake.establish(flow, |frame, from| steer.run(frame, from))?;
        }
        Ok(steer)
    }

    /// The same with NAT and a service whose next SYN is answered with a cookie.
    pub(super) fn with_cookies(
        interfaces: Interfaces,
        endpoints: Endpoints,
        flows: u64,
    ) -> Result<Self> {
        let set = |tables: &mut HostTables| {
            tables.settings.features |= features::SYN_COOKIES;
            for service in tables.services.values_mut() {
                service.syn_cookies = 1;
            }
        };
        let mut steer = Self::made(interfaces, Forwarding::Nat, endpoints, flows, set)?;
        steer.has_cookies = true;
        // The one flow that may be half open.
        let macs = (MAC_G0, MAC_BALANCER);
        let syn = frame(macs, SOMEBODY.parse()?, endpoints.vip, Segment::Syn)?;
        steer.run(&syn, From::Client)?;
        Ok(steer)
    }

    /// Runs it once on a frame, as if it came in by l0 or l1.
    fn run(&mut self, frame: &[u8], from: From) -> Result<Ran> {
        let ifindex = match from {
            From::Client => self.interfaces.l0,
            From::Backend => self.interfaces.l1,
        };
        let context = context(frame.len(), ifindex);
        let mut out = vec![0; frame.len() + 512];
        let program = self.kernel.steer()?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })?;
        out.truncate(result.data_size_out as usize);
        Ok(Ran {
            action: result.return_value,
            frame: out,
        })
    }

    /// Attaches it to l0 until the link is dropped.
    pub(super) fn attach(&mut self, mode: XdpMode) -> Result<XdpLink> {
        let program = self.kernel.steer()?;
        let id = program.attach_to_if_index(self.interfaces.l0, mode)?;
        Ok(program.take_link(id)?)
    }

    /// Packets that it steered so far.
    pub(super) fn steered(&self) -> Result<u64> {
        self.kernel.verdict(Verdict::Steered)
    }

    /// SYNs that it answered or steered so far, whichever it does with them.
    pub(super) fn dealt_with(&self) -> Result<u64> {
        if self.has_cookies {
            self.kernel.verdict(Verdict::AnsweredSynCookie)
        } else {
            self.steered()
        }
    }
}

impl Steer {
    /// Established flows that lost their place so far.
    pub(super) fn evicted(&self) -> Result<u64> {
        Ok(self.kernel.counters()?.events[Event::EstablishedEvicted as usize])
    }
}

/// Gives the namespace the ruleset of nftables.
pub(super) fn load_nftables(lab: &Lab) -> Result<()> {
    let namespace = lab.namespace(NAMESPACE)?;
    // The generator's packets do not move the window that connection tracking keeps.
    namespace.sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", "1")?;
    let mut command = lab.command(NAMESPACE, "nft")?;
    let mut child = command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("`nft` cannot be started: is the package nftables installed?")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(RULESET.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`nft -f -` failed: {}",
        error.trim()
    );
    Ok(())
}

/// Forgets all connections that the kernel tracks in the caller's namespace.
pub(super) fn flush_conntrack() -> Result<()> {
    // A `struct nlmsghdr` that asks for IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK with an
    // acknowledgement, and a `struct nfgenmsg` that names no family.
    const DELETE: u16 = (1 << 8) | 2;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
    const LENGTH: u32 = 20;
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(DELETE.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message.resize(LENGTH as usize, 0);
    let socket: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code = answer[..length].get(16..20).map(<[u8; 4]>::try_from);
    match code.map(|code| code.map(i32::from_ne_bytes)) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => {
            let error = nix::Error::from_raw(-code);
            bail!("what the kernel tracks of connections cannot be flushed: {error}")
        }
        _ => bail!("the kernel's answer about conntrack has {length} bytes"),
    }
}
