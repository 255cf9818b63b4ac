//! Peers that vanish without a word, such as a host that lost its power, are noticed in bounded time.

use std::{os::fd::AsFd, time::Duration};

use nix::sys::socket::{
    setsockopt,
    sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval, TcpUserTimeout},
};

use super::stream::Stream;

/// How often a silent peer is asked whether it is there.
struct Times {
    /// How long it has to be silent.
    idle: Duration,
    /// From one question to the next.
    interval: Duration,
    /// Questions without an answer that end the connection.
    count: u32,
}

/// 30 s.
const SERVERS: Times = Times {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    count: 3,
};
/// Two minutes.
const CLIENTS: Times = Times {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(15),
    count: 4,
};
/// How long a server may leave unacknowledged what it was sent.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// For a connection to a server.
pub(super) fn of_server(socket: &impl AsFd) {
    set(socket, &SERVERS);
    set_unacknowledged(socket, UNACKNOWLEDGED);
}

/// For the connections that a listener takes, which have what it has.
pub(super) fn of_clients(listener: &impl AsFd) {
    set(listener, &CLIENTS);
}

/// A server that reads nothing for long counts as gone, but not while it gets a file: it may wait
/// for a lock in the middle of that.
pub(super) fn set_patient(server: &Stream, is_patient: bool) {
    let unacknowledged = if is_patient {
        // The system's own.
        Duration::ZERO
    } else {
        UNACKNOWLEDGED
    };
    match server {
        Stream::Tcp(stream) => set_unacknowledged(stream, unacknowledged),
        Stream::TlsServer(stream) => set_unacknowledged(stream.get_ref().0, unacknowledged),
        Stream::Unix(_) | Stream::TlsClient(_) | Stream::Gone => {}
    }
}

fn set(socket: &impl AsFd, times: &Times) {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    // A system that cannot do one of them does without.
    let _ = setsockopt(socket, KeepAlive, &true);
    let _ = setsockopt(socket, TcpKeepIdle, &seconds(times.idle));
    let _ = setsockopt(socket, TcpKeepInterval, &seconds(times.interval));
    let _ = setsockopt(socket, TcpKeepCount, &times.count);
}

fn set_unacknowledged(socket: &impl AsFd, time: Duration) {
    let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let _ = setsockopt(socket, TcpUserTimeout, &millis);
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn what_is_set_holds_for_both_sides() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        of_clients(&listener);
        let server = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        of_server(&server);
        let (client, _) = listener.accept().unwrap();
        for (socket, idle, unacknowledged) in [(&server, 15, 30_000), (&client, 60, 0)] {
            assert!(getsockopt(socket, KeepAlive).unwrap());
            assert_eq!(getsockopt(socket, TcpKeepIdle).unwrap(), idle);
            assert_eq!(getsockopt(socket, TcpUserTimeout).unwrap(), unacknowledged);
        }
    }
}
