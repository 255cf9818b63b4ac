//! Whom the generated packets are between, and how their flows are established beforehand.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::Range,
};

use anyhow::{Result, bail, ensure};
use lb_common::{abi::Forwarding, headers::Mac, lab::flow_offsets};

use crate::{
    bench::template::{Segment, frame},
    kernel::Ran,
};

/// The generator's flow 0, from which the others differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The client.
    pub client: SocketAddr,
    /// The service.
    pub vip: SocketAddr,
    /// Services, minus 1; a power of two minus 1.
    pub service_mask: u16,
}

impl Endpoints {
    /// The client of a flow.
    #[must_use]
    pub fn client_of(&self, flow: u64) -> SocketAddr {
        let (port, offset) = flow_offsets(flow);
        let ip = match self.client.ip() {
            IpAddr::V4(ip) => (u32::from(ip) ^ offset).to_be_bytes().into(),
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) ^ u128::from(offset)).into(),
        };
        SocketAddr::new(ip, self.client.port() ^ port)
    }

    /// The service of a flow.
    #[must_use]
    pub fn vip_of(&self, flow: u64) -> SocketAddr {
        let port = self.vip.port() ^ (flow as u16 & self.service_mask);
        SocketAddr::new(self.vip.ip(), port)
    }
}

/// Which side of the balancer a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The clients'.
    Client,
    /// The backends'.
    Backend,
}

/// How flows of a case are established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// What flows are between.
    pub endpoints: Endpoints,
    /// How the service forwards.
    pub forwarding: Forwarding,
    /// Source and destination of frames of clients.
    pub inward: (Mac, Mac),
    /// Source and destination of frames of backends.
    pub outward: (Mac, Mac),
    /// The XDP action of a steered frame.
    pub action: u32,
}

impl Handshake {
    /// Establishes a flow by running its first three packets through the program.
    pub fn establish(
        &self,
        flow: u64,
        mut run: impl FnMut(&[u8], From) -> Result<Ran>,
    ) -> Result<()> {
        let client = self.endpoints.client_of(flow);
        let vip = self.endpoints.vip_of(flow);
        let opening = frame(self.inward, client, vip, Segment::Syn)?;
        let opened = run(&opening, From::Client)?;
        if Forwarding::sees_replies(self.forwarding as u8) {
            let (sender, backend) = ends(&opened.frame, client.is_ipv6())?;
            let answer = frame(self.outward, backend, sender, Segment::SynAck)?;
            run(&answer, From::Backend)?;
        }
        let acknowledgement = frame(self.inward, client, vip, Segment::Ack(5001))?;
        let ran = run(&acknowledgement, From::Client)?;
        ensure!(
            ran.action == self.action,
            "a flow of {client} to {vip} was not steered"
        );
        Ok(())
    }
}

/// Where a frame comes from and where it goes, by its IP and TCP headers.
fn ends(frame: &[u8], is_v6: bool) -> Result<(SocketAddr, SocketAddr)> {
    let [source, destination] = if is_v6 {
        [(22..38, 54), (38..54, 56)]
    } else {
        [(26..30, 34), (30..34, 36)]
    };
    Ok((end(frame, source)?, end(frame, destination)?))
}

fn end(frame: &[u8], (address, port): (Range<usize>, usize)) -> Result<SocketAddr> {
    let (Some(address), Some(&[high, low])) = (frame.get(address), frame.get(port..port + 2))
    else {
        bail!("the program left a frame of {} bytes", frame.len());
    };
    let ip = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (Ok(octets), _) => IpAddr::from(octets),
        (_, Ok(octets)) => IpAddr::from(octets),
        _ => bail!("an address has 4 or 16 bytes"),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes([high, low])))
}
