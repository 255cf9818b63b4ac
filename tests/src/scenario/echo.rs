//! The clients of [`super::Server`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::PATIENCE;

/// How long a long transfer may stand still.
const STANDSTILL: Duration = Duration::from_secs(10);

/// A connection to [`super::Server::echo`].
#[derive(Debug)]
pub struct EchoClient {
    stream: BufReader<TcpStream>,
}

impl EchoClient {
    /// Connects; call it inside a namespace.
    ///
    /// # Errors
    /// When it fails.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Waits no longer than that for answers from now on.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn be_patient_for(&self, patience: Duration) -> Result<()> {
        Ok(self.stream.get_ref().set_read_timeout(Some(patience))?)
    }

    /// Where it connects from.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.stream.get_ref().local_addr()?)
    }

    /// Sends a line, and returns who sent it back.
    ///
    /// # Errors
    /// When it fails, or something else comes back.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        self.stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        let (name, rest) = answer
            .trim_end()
            .split_once(' ')
            .context("the connection ended")?;
        ensure!(rest == line, "sent {line:?} and got {answer:?}");
        Ok(name.to_owned())
    }
}

/// What [`super::Server::greeter`] says to whoever connects and is silent; call it inside a namespace.
///
/// # Errors
/// When it fails.
pub fn greeting(address: SocketAddr) -> Result<String> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Sends a datagram to [`super::Server::datagrams`], and returns who sent it back.
///
/// # Errors
/// When it fails, or something else comes back.
pub fn ask_datagram(socket: &UdpSocket, address: SocketAddr, text: &str) -> Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(text.as_bytes(), address)?;
    let mut buffer = vec![0; 1 << 16];
    let (length, from) = socket.recv_from(&mut buffer)?;
    ensure!(
        from == address,
        "sent to {address}, and the answer came from {from}"
    );
    let answer = std::str::from_utf8(&buffer[..length])?;
    let (name, rest) = answer.split_once(' ').context("the answer is too short")?;
    ensure!(rest == text, "sent {text:?} and got {answer:?}");
    Ok(name.to_owned())
}

/// Sends the bytes to [`super::Server::digest`], and checks the digest that comes back; call it
/// inside a namespace.
///
/// # Errors
/// When it fails, or the server got other bytes.
pub fn upload(address: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(STANDSTILL))?;
    stream.set_write_timeout(Some(STANDSTILL))?;
    stream.write_all(&(bytes.len() as u64).to_be_bytes())?;
    stream.write_all(bytes)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    let mut own = Digest::default();
    own.write_all(bytes)?;
    ensure!(
        u64::from_be_bytes(answer) == own.value(),
        "the server got other bytes"
    );
    Ok(())
}

/// FNV-1a over what is written to it: enough to tell two contents apart, whatever was changed.
#[derive(Debug)]
pub(super) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    pub(super) fn value(&self) -> u64 {
        self.0
    }
}

impl Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = bytes.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_fnv_1a() {
        let mut digest = Digest::default();
        digest.write_all(b"foobar").unwrap();
        assert_eq!(digest.value(), 0x8594_4171_f739_67e8);
    }
}
