//! A client that blocks, for tests that have to see more than a command line shows: the number of
//! an error, a status, a connection that is lost in the middle.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_mysql::auth::{Channel, Secret, client::Action, client::Login};
use lb_mysql::wire::{
    Capabilities, Reader, Status,
    error::{ERR, Refusal},
    greeting::First,
    ok::{Done, EOF, OK},
    packet::{self, FULL},
    response::{Head, Response},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// UTF-8 with four bytes.
const COLLATION: u16 = 45;

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A session.
pub struct Client {
    stream: BufReader<Box<dyn Stream>>,
    sequence: u8,
    connection: u32,
    version: String,
    capabilities: Capabilities,
}

/// A value as text; none for NULL.
pub type Value = Option<String>;

/// A server's answer to a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Rows, if the statement has such.
    pub rows: Option<Vec<Vec<Value>>>,
    /// Rows that were changed.
    pub affected: u64,
    /// Behind the statement.
    pub status: Status,
}

/// A server's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number.
    pub code: u16,
    /// Its text.
    pub message: String,
}

/// What a server says: the answers of each of the statements of a text, or an error.
pub type Outcome = Result<Vec<Answer>, Refused>;

impl Client {
    /// Logs in at an address, from the calling thread's namespace.
    ///
    /// # Errors
    /// When nobody is there, or the login is refused.
    pub fn open(address: SocketAddr, user: &str, password: &str) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::log_in(Box::new(stream), Channel::Plain, user, password)
    }

    /// Logs in at a Unix socket.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn open_socket(path: &Path, user: &str, password: &str) -> Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::log_in(Box::new(stream), Channel::Socket, user, password)
    }

    fn log_in(
        stream: Box<dyn Stream>,
        channel: Channel,
        user: &str,
        password: &str,
    ) -> Result<Self> {
        let mut client = Self {
            stream: BufReader::new(stream),
            sequence: 0,
            connection: 0,
            version: String::new(),
            capabilities: Capabilities::NONE,
        };
        let payload = client.receive()?;
        let greeting = match First::read(&payload).context("this is not MySQL")? {
            First::Greeting(greeting) => greeting,
            First::Refused(refusal) => bail!("{:?}", Refused::of(&refusal)),
        };
        client.connection = greeting.connection;
        client.version = String::from_utf8_lossy(greeting.version).into_owned();
        let mut login = Login::new(Secret::new(password.as_bytes().to_vec()), channel);
        let first = login.begin(greeting.plugin, &greeting.nonce)?;
        let capabilities = Capabilities::PROTOCOL_41
            | Capabilities::SECURE_CONNECTION
            | Capabilities::PLUGIN_AUTH
            | Capabilities::TRANSACTIONS
            | Capabilities::MULTI_STATEMENTS
            | Capabilities::MULTI_RESULTS
            | Capabilities::DEPRECATE_EOF
            | Capabilities::SESSION_TRACK;
        client.capabilities = capabilities & greeting.capabilities;
        let response = Response {
            head: Head {
                capabilities: client.capabilities,
                most_packet: 1 << 24,
                collation: COLLATION,
            },
            user: user.as_bytes(),
            proof: &first.proof,
            plugin: Some(first.plugin.name().as_bytes()),
            ..Response::default()
        };
        ensure!(
            response.head.capabilities.has(Capabilities::DEPRECATE_EOF),
            "a server of before 2016"
        );
        let mut out = Vec::new();
        response.put(&mut out);
        client.send(&out)?;
        loop {
            let payload = client.receive()?;
            match login.feed(&payload)? {
                Action::Send(answer) => client.send(&answer)?,
                Action::Read => {}
                Action::Done => return Ok(client),
                Action::Refused => {
                    let refusal = Refusal::read(&payload).context("an error")?;
                    bail!("{:?}", Refused::of(&refusal));
                }
            }
        }
    }

    /// The number that the server gave the connection.
    #[must_use]
    pub const fn connection(&self) -> u32 {
        self.connection
    }

    /// As the server greeted.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Sends statements and reads all answers.
    ///
    /// # Errors
    /// When the connection is lost. The server's own error is none of these.
    pub fn query(&mut self, sql: impl AsRef<[u8]>) -> Result<Outcome> {
        self.sequence = 0;
        self.send(&[b"\x03", sql.as_ref()].concat())?;
        let mut answers = Vec::new();
        loop {
            let answer = match self.answer()? {
                Ok(answer) => answer,
                Err(refused) => return Ok(Err(refused)),
            };
            let more = answer.status.has(Status::MORE_RESULTS);
            answers.push(answer);
            if !more {
                return Ok(Ok(answers));
            }
        }
    }

    /// Sends statements that have to succeed, and gives the rows of the last one.
    ///
    /// # Errors
    /// When the server refuses one, or is lost.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Value>>> {
        let answers = self.query(sql)?;
        let mut answers = answers
            .map_err(|refused| anyhow::anyhow!("{sql}: {} {}", refused.code, refused.message))?;
        Ok(answers.pop().and_then(|last| last.rows).unwrap_or_default())
    }

    /// As [`Client::rows`], of one row.
    ///
    /// # Errors
    /// As there, and when there is no row.
    pub fn row(&mut self, sql: &str) -> Result<Vec<Value>> {
        let row = self.rows(sql)?.into_iter().next();
        row.with_context(|| format!("{sql}: no row"))
    }

    fn answer(&mut self) -> Result<One> {
        const FILE: u8 = 0xfb;
        let payload = self.receive()?;
        let columns = match payload.first() {
            Some(&OK) => return Ok(Ok(Answer::of(&payload, None, self.capabilities)?)),
            Some(&ERR) => return Ok(Err(refused(&payload)?)),
            // There is no file.
            Some(&FILE) => {
                self.send(&[])?;
                return self.answer();
            }
            _ => Reader(&payload).number().context("a number of columns")?,
        };
        for _ in 0..columns {
            self.receive()?;
        }
        let mut rows = Vec::new();
        loop {
            let payload = self.receive()?;
            match payload.first() {
                Some(&EOF) if payload.len() < FULL => {
                    return Ok(Ok(Answer::of(&payload, Some(rows), self.capabilities)?));
                }
                Some(&ERR) => return Ok(Err(refused(&payload)?)),
                _ => {}
            }
            let mut reader = Reader(&payload);
            let value = |reader: &mut Reader<'_>| -> Result<Value> {
                let value = reader.nullable().context("a row")?;
                Ok(value.map(|text| String::from_utf8_lossy(text).into_owned()))
            };
            let row: Result<_> = (0..columns).map(|_| value(&mut reader)).collect();
            rows.push(row?);
        }
    }

    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut out = Vec::new();
        packet::put(&mut out, &mut self.sequence, payload);
        Ok(self.stream.get_mut().write_all(&out)?)
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            let mut header = [0; packet::HEADER];
            self.stream.read_exact(&mut header)?;
            let header = packet::Header::read(&header).context("a header")?;
            ensure!(
                header.sequence == self.sequence,
                "packet {} in the place of {}",
                header.sequence,
                self.sequence
            );
            self.sequence = self.sequence.wrapping_add(1);
            let begin = payload.len();
            payload.resize(begin + header.length, 0);
            self.stream.read_exact(&mut payload[begin..])?;
            if !header.goes_on() {
                return Ok(payload);
            }
        }
    }
}

type One = Result<Answer, Refused>;

fn refused(payload: &[u8]) -> Result<Refused> {
    Ok(Refused::of(&Refusal::read(payload).context("an error")?))
}

impl Refused {
    fn of(refusal: &Refusal<'_>) -> Self {
        Self {
            code: refusal.code,
            message: String::from_utf8_lossy(refusal.message).into_owned(),
        }
    }
}

impl Answer {
    fn of(
        payload: &[u8],
        rows: Option<Vec<Vec<Value>>>,
        capabilities: Capabilities,
    ) -> Result<Self> {
        let done = Done::read(payload, capabilities)?;
        Ok(Self {
            rows,
            affected: done.affected,
            status: done.status,
        })
    }
}
