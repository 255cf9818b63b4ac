//! Connects on their way into the MySQL proxy, by real sockets on loopback addresses.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};

use lb_common::intercept::{Counters, Endpoint, Settings};
use lb_tests::{cgroup::Cgroup, intercept::Kernel};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, getpeername, getsockopt, socket,
    sockopt,
};

/// What the verifier may walk through.
const MOST_VERIFIED: u32 = 10_000;

/// Somebody who listens.
struct Door(TcpListener);

impl Door {
    fn open(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn at(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.at().ip().into(), self.at().port())
    }

    /// Whether somebody has come in.
    fn has_guest(&self) -> bool {
        self.0.accept().is_ok()
    }
}

struct Scene {
    kernel: Kernel,
    proxy4: Door,
    proxy6: Door,
    server4: Door,
    server6: Door,
    // After the programs on it.
    _cgroup: Cgroup,
}

impl Scene {
    fn set() -> Self {
        let cgroup = Cgroup::enter().unwrap();
        let mut scene = Self {
            kernel: Kernel::attach(&cgroup).unwrap(),
            proxy4: Door::open("127.0.0.1:0"),
            proxy6: Door::open("[::1]:0"),
            server4: Door::open("127.0.0.2:0"),
            server6: Door::open("[::1]:0"),
            _cgroup: cgroup,
        };
        for server in [scene.server4.endpoint(), scene.server6.endpoint()] {
            scene.kernel.add_server(server).unwrap();
        }
        scene
    }

    /// All on, for an agent that is another process.
    fn settings(&self) -> Settings {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Settings {
            namespace: word(&socket, NETNS_COOKIE),
            probe: 0,
            v4: self.proxy4.endpoint(),
            v6: self.proxy6.endpoint(),
            agent: std::process::id() + 1,
            is_on: 1,
        }
    }

    /// Where a connect comes out, and who is said to be there.
    fn connect(&self, to: SocketAddr) -> (&'static str, SocketAddr) {
        let stream = TcpStream::connect(to).unwrap();
        let doors = [
            ("proxy4", &self.proxy4),
            ("proxy6", &self.proxy6),
            ("server4", &self.server4),
            ("server6", &self.server6),
        ];
        let found: Vec<_> = doors.iter().filter(|(_, door)| door.has_guest()).collect();
        let [(name, _)] = found.as_slice() else {
            panic!("{} doors were opened", found.len());
        };
        (*name, stream.peer_addr().unwrap())
    }
}

const COOKIE: i32 = 57;
const NETNS_COOKIE: i32 = 71;

fn word(socket: &UdpSocket, option: i32) -> u64 {
    let mut value = 0_u64;
    let mut length = size_of::<u64>() as u32;
    // SAFETY: value and length outlive the call, which writes at most that many bytes of an
    // integer.
    let result = unsafe {
        nix::libc::getsockopt(
            socket.as_raw_fd(),
            nix::libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    value
}

/// As an IPv6 socket writes it.
fn mapped(address: SocketAddr) -> SocketAddr {
    let IpAddr::V4(v4) = address.ip() else {
        panic!("{address}");
    };
    SocketAddr::new(v4.to_ipv6_mapped().into(), address.port())
}

#[test]
fn connects_go_where_the_settings_say() {
    let mut scene = Scene::set();
    let verified = scene.kernel.verified().unwrap();
    println!("verified: {verified} instructions");
    assert!(verified <= MOST_VERIFIED, "{verified}");
    let on = scene.settings();
    let (v4, v6) = (scene.server4.at(), scene.server6.at());
    let only_v4 = Settings {
        v6: Endpoint::default(),
        ..on
    };
    let only_v6 = Settings {
        v4: Endpoint::default(),
        ..on
    };
    let own = Settings {
        agent: std::process::id(),
        ..on
    };
    let elsewhere = Settings {
        namespace: on.namespace + 1,
        ..on
    };
    let off = Settings { is_on: 0, ..on };
    for (row, settings, to, expected) in [
        ("IPv4", on, v4, "proxy4"),
        ("IPv6", on, v6, "proxy6"),
        ("IPv4 by an IPv6 socket", on, mapped(v4), "proxy4"),
        ("IPv6 to IPv4", only_v4, v6, "proxy4"),
        ("IPv4 to IPv6", only_v6, mapped(v4), "proxy6"),
        ("IPv4 alone to IPv6", only_v6, v4, "server4"),
        ("the agent", own, v4, "server4"),
        ("the agent by IPv6", own, v6, "server6"),
        ("another namespace", elsewhere, v4, "server4"),
        ("off", off, v6, "server6"),
        ("not a server", on, scene.proxy4.at(), "proxy4"),
    ] {
        scene.kernel.set(settings).unwrap();
        let (came, peer) = scene.connect(to);
        assert_eq!(came, expected, "{row}");
        assert_eq!(peer, to, "{row}: the peer's name");
    }
    let counters = scene.kernel.counters().unwrap();
    let expected = Counters {
        intercepted: 5,
        own: 2,
        other_namespace: 1,
        no_listener: 1,
    };
    assert_eq!(counters, expected);
}

#[test]
fn datagrams_stay_where_they_are() {
    let mut scene = Scene::set();
    scene.kernel.set(scene.settings()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(scene.server4.at()).unwrap();
    assert_eq!(socket.peer_addr().unwrap(), scene.server4.at());
    assert_eq!(scene.kernel.counters().unwrap(), Counters::default());
}

#[test]
fn a_socket_that_connects_anew_has_its_new_name() {
    let mut scene = Scene::set();
    let nobody = Door::open("127.0.0.1:0").endpoint();
    let settings = Settings {
        v4: nobody,
        ..scene.settings()
    };
    scene.kernel.set(settings).unwrap();
    let socket: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let address = |door: &Door| match door.at() {
        SocketAddr::V4(v4) => SockaddrIn::from(v4),
        SocketAddr::V6(v6) => panic!("{v6}"),
    };
    let refused = connect(socket.as_raw_fd(), &address(&scene.server4));
    assert_eq!(refused, Err(nix::errno::Errno::ECONNREFUSED));
    connect(socket.as_raw_fd(), &address(&scene.proxy4)).unwrap();
    let peer: SockaddrIn = getpeername(socket.as_raw_fd()).unwrap();
    assert_eq!(peer, address(&scene.proxy4));
    // It is one of TCP, as far as the kernel is concerned.
    assert_eq!(
        getsockopt(&socket, sockopt::SockType).unwrap(),
        SockType::Stream
    );
}

#[test]
fn the_agent_is_told_by_its_probe() {
    let mut scene = Scene::set();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        probe: word(&socket, COOKIE),
        is_on: 0,
        ..scene.settings()
    };
    scene.kernel.set(settings).unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.connect("127.0.0.1:9").unwrap();
    assert_eq!(scene.kernel.agent().unwrap(), 0);
    socket.connect("127.0.0.1:9").unwrap();
    assert_eq!(scene.kernel.agent().unwrap(), std::process::id());
}

#[test]
fn connects_reach_the_servers_when_the_programs_are_gone() {
    let mut scene = Scene::set();
    scene.kernel.set(scene.settings()).unwrap();
    let to = scene.server4.at();
    assert_eq!(scene.connect(to).0, "proxy4");
    let Scene {
        kernel,
        server4,
        _cgroup: cgroup,
        ..
    } = scene;
    drop(kernel);
    let stream = TcpStream::connect(to).unwrap();
    assert!(server4.has_guest());
    assert_eq!(stream.peer_addr().unwrap(), to);
    drop(cgroup);
}
