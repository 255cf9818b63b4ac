//! Checks that go through the data path, as their prober sees them.

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{SockaddrStorage, setsockopt, sockopt},
};
use tokio::{
    net::TcpSocket,
    time::{Instant, sleep},
};

use super::{
    BackendKey,
    probe::{Connection, Failed},
};
use crate::check_lane::DUMMY;

/// The way into the data path, which the agent makes and steers.
pub trait Lane: Send + Sync {
    /// The interface that sockets are bound to.
    fn interface(&self) -> &'static str;

    /// Has what comes from an address of this host go to that backend from now on.
    ///
    /// # Errors
    /// Why that cannot be.
    fn begin(&self, backend: &BackendKey, from: SocketAddr) -> Result<(), Busy>;

    /// Whether that backend has the service's address itself, as with direct return.
    fn has_vip(&self, backend: &BackendKey) -> bool;

    /// Whether that is the address of a service.
    fn is_vip(&self, address: IpAddr) -> bool;

    /// The check from that port is over. Its connection's last packet, a reset, may still be on its
    /// way.
    fn end(&self, port: u16);

    /// A socket of this host's found no way by the interface, which has to be looked at.
    fn doubt(&self);
}

/// Why a check cannot begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Another check had that port a moment ago.
    Port,
    /// The data path does not know the backend, or the way to it, yet.
    NotYet,
    /// There is no way to the backend, for that reason.
    NoWay(String),
    /// Something of this host's, in words.
    Because(String),
}

/// A check of a backend at its service's address.
#[derive(Clone, Copy)]
pub(super) struct Passage<'a> {
    pub(super) lane: Option<&'a Arc<dyn Lane>>,
    pub(super) backend: &'a BackendKey,
    /// The backend's own address.
    pub(super) server: IpAddr,
    /// The service.
    pub(super) service: SocketAddr,
    /// How long it may wait for the data path to know the backend.
    pub(super) patience: Duration,
}

/// Tells the lane at the end of a check. The connection has to be closed before.
pub(super) struct Permit {
    lane: Arc<dyn Lane>,
    port: u16,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lane.end(self.port);
    }
}

/// Ports that are tried, one after the other, until one is free.
const TRIES: usize = 32;
/// How often is looked whether a backend is known that was not.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Passage<'_> {
    /// Connects to the service such that the backend answers.
    pub(super) async fn connect(self) -> Result<(Connection, Permit), Failed> {
        let Some(lane) = self.lane else {
            return Err(Failed::not_asked("there is no way through the service now"));
        };
        let source = self.source(lane).map_err(Failed::not_asked)?;
        let (socket, permit) = self.begin(lane, source).await?;
        let stream = socket.connect(self.service).await;
        match stream {
            // Its port is bound, and nobody else could have it while it waits after the end: a few
            // hundred checks a second would take all that this host has.
            Ok(stream) => Ok((Connection::new(stream).ending_by_reset(), permit)),
            Err(error) if is_lost(lane.interface(), source, self.service) => {
                lane.doubt();
                Err(Failed::not_asked(format_args!(
                    "there is no way by {}: {}",
                    lane.interface(),
                    super::probe::system_words(&error)
                )))
            }
            Err(error) => Err(Failed::to_connect(&error)),
        }
    }

    async fn begin(
        self,
        lane: &Arc<dyn Lane>,
        source: IpAddr,
    ) -> Result<(TcpSocket, Permit), Failed> {
        let end = Instant::now() + self.patience;
        let mut tries = 0;
        while tries < TRIES {
            let bound = bind(lane.interface(), source);
            let (socket, from) = bound.map_err(|error| {
                if error.raw_os_error() == Some(libc::ENODEV) {
                    lane.doubt();
                }
                Failed::not_asked(format_args!(
                    "no socket at {source} on {}: {}",
                    lane.interface(),
                    super::probe::system_words(&error)
                ))
            })?;
            match lane.begin(self.backend, from) {
                Ok(()) => {
                    let permit = Permit {
                        lane: Arc::clone(lane),
                        port: from.port(),
                    };
                    return Ok((socket, permit));
                }
                Err(Busy::Port) => tries += 1,
                Err(Busy::NotYet) if Instant::now() < end => sleep(LOOK_EVERY).await,
                Err(Busy::NotYet) => {
                    let why = "the data path does not know the way to the backend yet";
                    return Err(Failed::not_asked(why));
                }
                Err(Busy::NoWay(reason)) => {
                    return Err(Failed::because(format!("no way to it: {reason}")));
                }
                Err(Busy::Because(why)) => return Err(Failed::not_asked(why)),
            }
        }
        Err(Failed::not_asked(
            "too many checks at once, no port is free",
        ))
    }

    /// The address that this host has towards the backend, or where that has another IP version,
    /// towards the world.
    fn source(self, lane: &Arc<dyn Lane>) -> Result<IpAddr, String> {
        let towards = match (self.service.ip(), self.server) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => self.server,
            // Of the documentation's networks: nobody is asked there.
            (IpAddr::V4(_), IpAddr::V6(_)) => Ipv4Addr::new(192, 0, 2, 1).into(),
            (IpAddr::V6(_), IpAddr::V4(_)) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        };
        let source = own_address(towards).map_err(|error| {
            format!(
                "this host has no address towards {towards}: {}",
                super::probe::system_words(&error)
            )
        })?;
        if !lane.has_vip(self.backend) || !lane.is_vip(source) {
            return Ok(source);
        }
        // The backend has that address, or may have it, and would answer itself.
        let others = addresses().into_iter().filter(|own| !lane.is_vip(own.ip));
        Ok(nearest(others, towards).unwrap_or(source))
    }
}

/// The address that the kernel would take towards another. Nothing is sent.
fn own_address(towards: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match towards {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Any port but 0 does.
    socket.connect((towards, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Whether this host's own way by the interface is lost, so that nobody behind it could be asked.
/// Nothing is sent.
fn is_lost(interface: &str, source: IpAddr, to: SocketAddr) -> bool {
    let connect = || {
        let socket = UdpSocket::bind((source, 0))?;
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface))?;
        socket.connect(to)
    };
    let found = connect()
        .err()
        .and_then(|error: io::Error| error.raw_os_error());
    matches!(found, Some(libc::ENETUNREACH | libc::ENODEV))
}

/// An address of this host, and which others are on its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OwnAddress {
    ip: IpAddr,
    mask: Option<IpAddr>,
}

impl OwnAddress {
    fn is_beside(self, other: IpAddr) -> bool {
        match (self.ip, self.mask, other) {
            (IpAddr::V4(own), Some(IpAddr::V4(mask)), IpAddr::V4(other)) => {
                own & mask == other & mask
            }
            (IpAddr::V6(own), Some(IpAddr::V6(mask)), IpAddr::V6(other)) => {
                own & mask == other & mask
            }
            _ => false,
        }
    }
}

/// Addresses of this host that others reach.
fn addresses() -> Vec<OwnAddress> {
    let ip = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let is_far = |own: &OwnAddress| match own.ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && v4 != DUMMY,
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    let found = getifaddrs().into_iter().flatten().filter_map(|entry| {
        Some(OwnAddress {
            ip: ip(entry.address?)?,
            mask: entry.netmask.and_then(ip),
        })
    });
    found.filter(is_far).collect()
}

/// The one that whoever is at that address has the shortest way to.
fn nearest(own: impl Iterator<Item = OwnAddress>, towards: IpAddr) -> Option<IpAddr> {
    own.filter(|own| own.ip.is_ipv4() == towards.is_ipv4())
        .min_by_key(|own| !own.is_beside(towards))
        .map(|own| own.ip)
}

fn bind(interface: &str, source: IpAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = match source {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind((source, 0).into())?;
    let from = socket.local_addr()?;
    Ok((socket, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towards_itself_this_host_has_its_loopback_address() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(own_address(loopback).unwrap(), loopback);
    }

    #[test]
    fn of_several_addresses_the_one_on_the_backend_s_network_is_taken() {
        let own = |ip: &str, mask: &str| OwnAddress {
            ip: ip.parse().unwrap(),
            mask: mask.parse().ok(),
        };
        let all = [
            own("192.168.0.5", "255.255.255.0"),
            own("10.30.0.1", "255.255.0.0"),
            own("10.30.7.1", "255.255.255.0"),
            own("fd00:30::1", "ffff:ffff::"),
            own("fd00:31::1", ""),
        ];
        for (towards, expected) in [
            ("10.30.7.9", Some("10.30.0.1")),
            ("172.16.0.1", Some("192.168.0.5")),
            ("fd00:30:1::9", Some("fd00:30::1")),
            ("fd00:31::9", Some("fd00:30::1")),
        ] {
            let found = nearest(all.into_iter(), towards.parse().unwrap());
            assert_eq!(found, expected.map(|ip| ip.parse().unwrap()), "{towards}");
        }
        assert_eq!(nearest([].into_iter(), [10, 0, 0, 1].into()), None);
    }

    #[test]
    fn whoever_finds_no_interface_has_lost_the_way() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert!(is_lost("no-such-if", loopback, (loopback, 9).into()));
        assert!(!is_lost("lo", loopback, (loopback, 9).into()));
    }

    #[tokio::test]
    async fn without_a_lane_nobody_is_asked() {
        let backend = BackendKey {
            service: "web".into(),
            backend: "web1".into(),
        };
        let passage = Passage {
            lane: None,
            backend: &backend,
            server: [10, 0, 0, 11].into(),
            service: ([203, 0, 113, 10], 80).into(),
            patience: Duration::ZERO,
        };
        let failed = passage.connect().await.map(drop).unwrap_err();
        assert_eq!(
            failed,
            Failed::not_asked("there is no way through the service now")
        );
    }
}
