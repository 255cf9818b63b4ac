//! Clients that come by a balancer which says so, and others, at a proxy that has no server: who is
//! let in as far as that is told so.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use lb_mysql::{
    auth::Secret,
    proxy::{Consistency, Failover, Monitor, Network, Proxy, Reads, Role, Server, Settings, Tls},
};

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn start(balancers: &[(IpAddr, u8)]) -> (Proxy, SocketAddr) {
    let listen = nobody();
    let networks = balancers.iter();
    let settings = Settings {
        listen: vec![listen],
        unix_socket: None,
        proxy_protocol: networks
            .map(|&(address, length)| Network { address, length })
            .collect(),
        max_connections: 10,
        learns: true,
        users: Vec::new(),
        tls: None,
        servers: vec![Server {
            name: Arc::from("db"),
            address: nobody(),
            weight: 1,
            role: Role::Auto,
            max_connections: None,
            tls: Tls::Off,
        }],
        reads: Reads::Replicas,
        read_scheduler: Default::default(),
        consistency: Consistency::Session,
        consistency_timeout: Duration::ZERO,
        max_lag: Duration::ZERO,
        primary_wait: Duration::ZERO,
        connection_wait: Duration::ZERO,
        slow_statement: None,
        digests: 0,
        pool: true,
        monitor: Monitor {
            user: "watcher".to_owned(),
            password: Secret::empty(),
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(1),
            fall: 1,
        },
        failover: Failover::default(),
        threads: 1,
    };
    (Proxy::start(settings).unwrap(), listen)
}

/// The code of the error that a client gets, and its words.
fn refused(stream: &mut TcpStream) -> (u16, String) {
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(said[4], 0xff, "no error: {said:?}");
    let code = u16::from_le_bytes([said[5], said[6]]);
    (code, String::from_utf8_lossy(&said[7..]).into_owned())
}

/// Who is let in is told that there is no server.
const LET_IN: u16 = 1105;
const BAD_HANDSHAKE: u16 = 1043;

#[test]
fn a_balancer_says_whom_it_has_connected() {
    let (_proxy, listen) = start(&[([127, 0, 0, 0].into(), 8)]);
    let connect = |pieces: &[&[u8]]| {
        let mut stream = TcpStream::connect(listen).unwrap();
        for piece in pieces {
            stream.write_all(piece).unwrap();
        }
        refused(&mut stream)
    };
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x05\xc8\x22\x0c\xea";
    for pieces in [
        &[b"PROXY TCP4 192.0.2.7 10.0.0.5 51234 3306\r\n".as_slice()][..],
        &[b"PROXY TCP6 2001:db8::7 ::1", b" 51234 3306\r", b"\n"],
        &[b"PROXY UNKNOWN\r\n"],
        &[v2],
        &[&v2[..5], &v2[5..20], &v2[20..]],
    ] {
        let (code, why) = connect(pieces);
        assert_eq!(code, LET_IN, "{pieces:?}: {why}");
    }
    // A client that came past the balancer.
    let (code, why) = connect(&[b"\x20\0\0\x01\x85\xa6\x3f\0"]);
    assert_eq!(code, BAD_HANDSHAKE, "{why}");
    assert!(why.contains("PROXY protocol"), "{why}");
}

#[test]
fn who_is_no_balancer_is_not_asked() {
    let (_proxy, listen) = start(&[([10, 0, 0, 0].into(), 8)]);
    let mut stream = TcpStream::connect(listen).unwrap();
    let (code, why) = refused(&mut stream);
    assert_eq!(code, LET_IN, "{why}");
}

#[test]
fn a_balancer_that_says_nothing_is_not_served() {
    let (proxy, listen) = start(&[([127, 0, 0, 1].into(), 32)]);
    let mut silent = TcpStream::connect(listen).unwrap();
    silent
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let error = silent.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    drop(silent);
    drop(proxy);
}
