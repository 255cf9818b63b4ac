//! Small servers of the test itself, on threads whose sockets are in a namespace of the lab.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use lb_lab::Lab;

use super::echo::Digest;

/// How often a waiting thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// Threads of connections do little.
const STACK: usize = 128 << 10;

/// A server; dropping it closes its sockets and ends its threads.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    listeners: Mutex<Vec<TcpListener>>,
}

impl Server {
    /// Answers every line of a connection with its name, a blank and the line.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn echo(lab: &Lab, name: &str, addresses: &[SocketAddr]) -> Result<Self> {
        let own = name.to_owned();
        Self::tcp(lab, name, addresses, move |stream| {
            let (mut lines, mut stream) = (BufReader::new(stream), stream);
            let mut line = String::new();
            while lines.read_line(&mut line)? > 0 {
                stream.write_all(format!("{own} {line}").as_bytes())?;
                line.clear();
            }
            Ok(())
        })
    }

    /// Says its name and a newline as soon as somebody connects, and nothing else.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn greeter(lab: &Lab, name: &str, addresses: &[SocketAddr]) -> Result<Self> {
        let own = name.to_owned();
        Self::tcp(lab, name, addresses, move |mut stream| {
            stream.write_all(format!("{own}\n").as_bytes())
        })
    }

    /// Reads a length and so many bytes, and answers with their digest.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn digest(lab: &Lab, name: &str, addresses: &[SocketAddr]) -> Result<Self> {
        Self::tcp(lab, name, addresses, |mut stream| {
            let mut length = [0; 8];
            stream.read_exact(&mut length)?;
            let mut digest = Digest::default();
            io::copy(&mut stream.take(u64::from_be_bytes(length)), &mut digest)?;
            stream.write_all(&digest.value().to_be_bytes())
        })
    }

    /// Answers every datagram with its name, a blank and the datagram.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn datagrams(lab: &Lab, name: &str, addresses: &[SocketAddr]) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for address in addresses {
            let socket = lab.within(name, || UdpSocket::bind(address))??;
            socket.set_read_timeout(Some(LOOK))?;
            let (own, shared) = (name.to_owned(), Arc::clone(&shared));
            threads.push(thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while !shared.is_over.load(Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                        continue;
                    };
                    let answer = [own.as_bytes(), b" ", &buffer[..length]].concat();
                    // The client may have gone.
                    let _ = socket.send_to(&answer, from);
                }
            }));
        }
        Ok(Self { shared, threads })
    }

    fn tcp(
        lab: &Lab,
        namespace: &str,
        addresses: &[SocketAddr],
        serve: impl Fn(&TcpStream) -> io::Result<()> + Clone + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut server = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        for address in addresses {
            let listener = lab.within(namespace, || TcpListener::bind(address))??;
            lock(&shared.listeners).push(listener.try_clone()?);
            let (shared, serve) = (Arc::clone(&shared), serve.clone());
            server
                .threads
                .push(thread::spawn(move || accept(&listener, &shared, &serve)));
        }
        Ok(server)
    }
}

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    serve: &(impl Fn(&TcpStream) -> io::Result<()> + Clone + Send + 'static),
) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let prepared = stream.set_nodelay(true).and_then(|()| stream.try_clone());
        let Ok(clone) = prepared else { continue };
        lock(&shared.connections).push(clone);
        let serve = serve.clone();
        // The thread ends with its connection, and that with the server at the latest.
        let spawned = thread::Builder::new().stack_size(STACK).spawn(move || {
            // A client that goes away is no failure here; there is a clone, so a drop closes
            // nothing.
            let _ = serve(&stream);
            let _ = stream.shutdown(Shutdown::Both);
        });
        if let Err(error) = spawned {
            eprintln!("no thread for a connection: {error}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for listener in lock(&self.shared.listeners).drain(..) {
            // Ends a waiting `accept`.
            let _ =
                nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for connection in lock(&self.shared.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}
