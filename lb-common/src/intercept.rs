//! Which connections of this host's programs are taken into the MySQL proxy
//! (`[mysql] intercept = true`).
//!
//! A connect to one of the servers goes to the proxy instead, unless the agent makes it, or it is
//! made in another network namespace, where the proxy's address is somebody else's. The agent is
//! told by its process id as the kernel sees it, which it learns by a socket that the program is
//! told to look out for: inside a container it knows itself by another number.
//!
//! Nothing of this is pinned: the programs are gone with the agent, and connects reach the servers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;

/// Names of the programs in the object `lb-intercept`.
pub mod programs {
    /// Of connects of IPv4 and IPv6 sockets.
    pub const CONNECT: [&str; 2] = ["intercept_v4", "intercept_v6"];
    /// Tells programs the address that they connected to.
    pub const PEER: [&str; 2] = ["peer_name_v4", "peer_name_v6"];
}

/// Names of the maps, at most 15 characters so that the kernel keeps them whole.
pub mod maps {
    /// `ARRAY` of one [`super::Settings`].
    pub const SETTINGS: &str = "TAKE_SETTINGS";
    /// `HASH`, [`super::Endpoint`] to `u32`: the servers.
    pub const SERVERS: &str = "TAKE_SERVERS";
    /// `ARRAY` of one `u32`: the process that [`super::Settings::probe`] belongs to.
    pub const AGENT: &str = "TAKE_AGENT";
    /// `PERCPU_ARRAY` of one [`super::Counters`].
    pub const COUNTERS: &str = "TAKE_COUNTERS";
    /// `SK_STORAGE` of [`super::Endpoint`]: where a socket wanted to be connected to; port 0 where
    /// it is.
    pub const WANTED: &str = "TAKE_WANTED";
}

/// Servers for which there is room.
pub const MOST_SERVERS: u32 = 1024;

/// An address and a port.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Endpoint {
    /// The address; of both families.
    pub address: Address,
    /// The port in host order; 0 is no endpoint.
    pub port: u32,
    /// Zero.
    pub reserved: u32,
}

impl Endpoint {
    /// An address and a port.
    #[inline(always)]
    #[must_use]
    pub fn new(address: Address, port: u16) -> Self {
        Self {
            address,
            port: port.into(),
            reserved: 0,
        }
    }

    /// Whether it is one.
    #[inline(always)]
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.port != 0
    }
}

/// What the agent told the programs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Settings {
    /// The cookie of the network namespace that the proxy listens in.
    pub namespace: u64,
    /// The cookie of a socket by whose connect the agent makes itself known; 0 for none.
    pub probe: u64,
    /// Where the proxy listens by IPv4.
    pub v4: Endpoint,
    /// Where it listens by IPv6.
    pub v6: Endpoint,
    /// The agent's process.
    pub agent: u32,
    /// Whether anything is intercepted yet.
    pub is_on: u32,
}

/// Connects to the servers, by what became of them, of one CPU.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Counters {
    /// Taken into the proxy.
    pub intercepted: u64,
    /// The agent's own.
    pub own: u64,
    /// Made in another network namespace.
    pub other_namespace: u64,
    /// Of IPv4 sockets, while the proxy listens on IPv6 only.
    pub no_listener: u64,
}

/// A connect, before it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Where to.
    pub destination: Endpoint,
    /// Whether an IPv6 socket makes it, which may be to an IPv4 address.
    pub is_v6_socket: bool,
    /// Whether it is one of TCP.
    pub is_tcp: bool,
}

/// What becomes of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It is none of ours.
    Elsewhere,
    /// The agent makes itself known.
    Probe,
    /// To a server, from another network namespace.
    OtherNamespace,
    /// To a server, by the agent.
    Own,
    /// To a server, by a socket that cannot reach the proxy.
    NoListener,
    /// It goes to [`Settings::v4`] instead.
    ToV4,
    /// It goes to [`Settings::v6`] instead.
    ToV6,
}

/// What a decision goes by. All but the settings is asked only when it matters.
pub trait Host {
    /// What the agent said.
    fn settings(&self) -> Option<&Settings>;

    /// Whether a server is there.
    fn is_server(&self, endpoint: &Endpoint) -> bool;

    /// The cookie of the socket.
    fn socket(&self) -> u64;

    /// The cookie of the socket's network namespace.
    fn namespace(&self) -> u64;

    /// The process that connects, without the thread.
    fn process(&self) -> u32;
}

/// What becomes of a connect.
#[inline(always)]
pub fn decide(attempt: &Attempt, host: &impl Host) -> Decision {
    let Some(settings) = host.settings() else {
        return Decision::Elsewhere;
    };
    if settings.probe != 0 && host.socket() == settings.probe {
        return Decision::Probe;
    }
    if settings.is_on == 0 || !attempt.is_tcp || !host.is_server(&attempt.destination) {
        return Decision::Elsewhere;
    }
    if host.namespace() != settings.namespace {
        return Decision::OtherNamespace;
    }
    if host.process() == settings.agent {
        return Decision::Own;
    }
    // IPv6 sockets reach IPv4 addresses as well, and rather keep to the family they asked for.
    let is_v4 = attempt.destination.address.is_v4();
    let can_v4 = settings.v4.is_some();
    let can_v6 = settings.v6.is_some() && attempt.is_v6_socket;
    if can_v4 && (is_v4 || !can_v6) {
        Decision::ToV4
    } else if can_v6 {
        Decision::ToV6
    } else {
        Decision::NoListener
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const NAMESPACE: u64 = 77;
    const AGENT: u32 = 4711;
    const PROBE: u64 = 9;

    fn endpoint(text: &str) -> Endpoint {
        if text.is_empty() {
            return Endpoint::default();
        }
        let address: SocketAddr = text.parse().unwrap();
        Endpoint::new(address.ip().into(), address.port())
    }

    struct Fake {
        settings: Option<Settings>,
        servers: [Endpoint; 2],
        socket: u64,
        namespace: u64,
        process: u32,
    }

    impl Host for Fake {
        fn settings(&self) -> Option<&Settings> {
            self.settings.as_ref()
        }

        fn is_server(&self, endpoint: &Endpoint) -> bool {
            self.servers.contains(endpoint)
        }

        fn socket(&self) -> u64 {
            self.socket
        }

        fn namespace(&self) -> u64 {
            self.namespace
        }

        fn process(&self) -> u32 {
            self.process
        }
    }

    fn host(v4: &str, v6: &str) -> Fake {
        Fake {
            settings: Some(Settings {
                namespace: NAMESPACE,
                probe: PROBE,
                v4: endpoint(v4),
                v6: endpoint(v6),
                agent: AGENT,
                is_on: 1,
            }),
            servers: [endpoint("10.0.0.11:3306"), endpoint("[2001:db8::11]:3306")],
            socket: 1,
            namespace: NAMESPACE,
            process: 1,
        }
    }

    const BOTH: (&str, &str) = ("127.0.0.1:3306", "[::1]:3306");

    fn attempt(to: &str, is_v6_socket: bool) -> Attempt {
        Attempt {
            destination: endpoint(to),
            is_v6_socket,
            is_tcp: true,
        }
    }

    #[test]
    fn connects_to_servers_go_to_the_proxy() {
        let (v4, v6) = (Decision::ToV4, Decision::ToV6);
        let only_v4 = ("127.0.0.1:3306", "");
        let only_v6 = ("", "[::1]:3306");
        for (listen, server, is_v6_socket, expected) in [
            (BOTH, "10.0.0.11:3306", false, v4),
            // Mapped into IPv6, as an application writes it that has only such sockets.
            (BOTH, "[::ffff:10.0.0.11]:3306", true, v4),
            (BOTH, "[2001:db8::11]:3306", true, v6),
            (only_v4, "[2001:db8::11]:3306", true, v4),
            (only_v6, "[::ffff:10.0.0.11]:3306", true, v6),
            (only_v6, "10.0.0.11:3306", false, Decision::NoListener),
            (BOTH, "10.0.0.11:3307", false, Decision::Elsewhere),
            (BOTH, "10.0.0.12:3306", false, Decision::Elsewhere),
            (BOTH, "[2001:db8::12]:3306", true, Decision::Elsewhere),
        ] {
            let found = decide(&attempt(server, is_v6_socket), &host(listen.0, listen.1));
            assert_eq!(found, expected, "{server} with {listen:?}");
        }
    }

    #[test]
    fn what_is_not_to_be_taken_is_let_go() {
        let ours = attempt("10.0.0.11:3306", false);
        let decided = |change: &dyn Fn(&mut Fake)| {
            let mut host = host(BOTH.0, BOTH.1);
            change(&mut host);
            decide(&ours, &host)
        };
        let settings = |host: &mut Fake, change: &dyn Fn(&mut Settings)| {
            if let Some(settings) = &mut host.settings {
                change(settings);
            }
        };
        assert_eq!(decided(&|host| host.process = AGENT), Decision::Own);
        assert_eq!(
            decided(&|host| host.namespace = 1),
            Decision::OtherNamespace
        );
        assert_eq!(decided(&|host| host.settings = None), Decision::Elsewhere);
        assert_eq!(
            decided(&|host| settings(host, &|settings| settings.is_on = 0)),
            Decision::Elsewhere
        );
        let datagram = Attempt {
            is_tcp: false,
            ..ours
        };
        assert_eq!(
            decide(&datagram, &host(BOTH.0, BOTH.1)),
            Decision::Elsewhere
        );
    }

    #[test]
    fn the_agent_makes_itself_known_before_anything_is_taken() {
        let mut host = host(BOTH.0, BOTH.1);
        host.socket = PROBE;
        if let Some(settings) = &mut host.settings {
            settings.is_on = 0;
        }
        let probe = Attempt {
            is_tcp: false,
            ..attempt("127.0.0.1:9", false)
        };
        assert_eq!(decide(&probe, &host), Decision::Probe);
        // Sockets have cookies other than 0, but one that was never asked for has none.
        if let Some(settings) = &mut host.settings {
            settings.probe = 0;
        }
        host.socket = 0;
        assert_eq!(decide(&probe, &host), Decision::Elsewhere);
    }
}
