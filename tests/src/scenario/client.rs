//! HTTP clients: a connection per request, kept connections, and a load beside other work.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lb_lab::{Lab, get};

use super::await_until;

/// How long a connection or an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// Requests `/` so many times in turn, each on a new connection from the namespace `client`, and
/// returns who answered.
///
/// # Errors
/// When a request fails.
pub fn names(lab: &Lab, address: SocketAddr, count: usize) -> Result<Vec<String>> {
    lab.within("client", || (0..count).map(|_| name(address)).collect())?
}

fn name(address: SocketAddr) -> Result<String> {
    let answer = get(address, "/", PATIENCE)?;
    ensure!(answer.status == 200, "{answer:?}");
    let name = answer
        .backend
        .context("the answer does not say who gave it")?;
    ensure!(
        answer.body == format!("{name}\n").into_bytes(),
        "the body is not {name}'s"
    );
    Ok(name)
}

/// A load that runs beside other work.
#[derive(Debug, Default)]
pub struct Load {
    is_over: AtomicBool,
    done: AtomicUsize,
}

impl Load {
    /// Waits until so many more requests, or what the load consists of, have been answered.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn await_more(&self, count: usize) -> Result<()> {
        let before = self.done.load(Ordering::Relaxed);
        await_until(PATIENCE + PATIENCE, "the load goes on", || {
            let more = self.done.load(Ordering::Relaxed) - before;
            ensure!(more >= count, "{more} of {count} more");
            Ok(())
        })
    }

    /// Whether it is to go on; call it once for every answer.
    pub fn goes_on(&self) -> bool {
        self.done.fetch_add(1, Ordering::Relaxed);
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Does `work` here while `load` runs on another thread.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn beside<T, L: Send>(
        load: impl FnOnce(&Self) -> Result<L> + Send,
        work: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<(T, L)> {
        let own = Self::default();
        thread::scope(|scope| {
            let running = scope.spawn(|| load(&own));
            // Here and not on a thread: processes end with the thread that started them.
            let done = work(&own);
            own.is_over.store(true, Ordering::Relaxed);
            let loaded = running.join().map_err(|_| anyhow!("the load panicked"))?;
            match (done, loaded) {
                (Ok(done), Ok(loaded)) => Ok((done, loaded)),
                (Ok(_), Err(error)) | (Err(error), Ok(_)) => Err(error),
                (Err(one), Err(other)) => Err(one.context(format!("and the load: {other:#}"))),
            }
        })
    }
}

/// Does `work` while the client requests `/` again and again, each time on a new connection, and
/// returns who answered beside what `work` returned.
///
/// # Errors
/// When a request fails, or `work`.
pub fn while_loading<T>(
    lab: &Lab,
    address: SocketAddr,
    work: impl FnOnce(&Load) -> Result<T>,
) -> Result<(T, Vec<String>)> {
    let load = |load: &Load| {
        lab.within("client", || {
            let mut names = Vec::new();
            while load.goes_on() {
                let count = names.len();
                names.push(name(address).with_context(|| format!("request {count}"))?);
            }
            Ok(names)
        })?
    };
    Load::beside(load, work)
}

/// A kept HTTP connection.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<TcpStream>,
}

impl Session {
    /// Connects from the namespace `client`.
    ///
    /// # Errors
    /// When it fails.
    pub fn open(lab: &Lab, address: SocketAddr) -> Result<Self> {
        let stream = lab.within("client", || TcpStream::connect_timeout(&address, PATIENCE))??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Requests `/` and returns who answered.
    ///
    /// # Errors
    /// When it fails.
    pub fn name(&mut self) -> Result<String> {
        self.stream
            .get_mut()
            .write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        ensure!(
            line.starts_with("HTTP/1.1 200"),
            "the connection gave {line:?}"
        );
        let (mut length, mut name) = (0, None);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((key, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            match key.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse()?,
                "x-backend" => name = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        name.context("the answer does not say who gave it")
    }
}
