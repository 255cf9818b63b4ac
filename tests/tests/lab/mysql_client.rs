//! A client that hides nothing: commands as they are on the wire, and all that an answer says in
//! words that can be compared. What an answer is it knows by itself, not from the proxy.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_mysql::auth::client::{Action, Login};
use lb_mysql::auth::{Channel, Secret};
use lb_mysql::wire::change_user::ChangeUser;
use lb_mysql::wire::error::Refusal;
use lb_mysql::wire::greeting::{First, NONCE};
use lb_mysql::wire::ok::Done;
use lb_mysql::wire::packet::{self, Header};
use lb_mysql::wire::response::{Head, Response};
use lb_mysql::wire::{Capabilities, Reader, Status};

const PATIENCE: Duration = Duration::from_secs(20);

/// What most drivers can do.
const CAPABILITIES: Capabilities = Capabilities::FIXED
    .with(Capabilities::MYSQL)
    .with(Capabilities::LONG_FLAG)
    .with(Capabilities::LOCAL_FILES)
    .with(Capabilities::MULTI_STATEMENTS)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS);

/// A connection that has logged in.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    capabilities: Capabilities,
    sequence: u8,
    /// What it was asked with last.
    nonce: [u8; NONCE],
    /// Its number by the greeting.
    pub(super) number: u32,
}

/// How the rows of an answer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Text,
    Binary,
    /// Behind a cursor, to be fetched.
    Fetched,
}

impl Client {
    /// Logs in; the inner error is the server's.
    pub(super) fn connect(
        port: u16,
        (user, password): (&str, &str),
        database: Option<&str>,
        more: Capabilities,
    ) -> Result<std::result::Result<Self, String>> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self {
            stream,
            capabilities: CAPABILITIES.with(more),
            sequence: 0,
            nonce: [0; NONCE],
            number: 0,
        };
        let payload = client.receive()?;
        let greeting = match First::read(&payload).context("no greeting")? {
            First::Greeting(greeting) => greeting,
            First::Refused(refusal) => return Ok(Err(refused(&refusal))),
        };
        client.number = greeting.connection;
        client.nonce = greeting.nonce;
        client.capabilities = Capabilities(client.capabilities.0 & greeting.capabilities.0);
        if database.is_some() {
            client.capabilities = client
                .capabilities
                .with(Capabilities::CONNECT_WITH_DATABASE);
        }
        let mut login = Login::new(Secret::new(password.into()), Channel::Plain);
        let first = login.begin(greeting.plugin, &greeting.nonce)?;
        let mut response = Vec::new();
        Response {
            head: Head {
                capabilities: client.capabilities,
                most_packet: 1 << 30,
                collation: 45,
            },
            user: user.as_bytes(),
            proof: &first.proof,
            database: database.map(str::as_bytes),
            plugin: Some(first.plugin.name().as_bytes()),
            ..Response::default()
        }
        .put(&mut response);
        client.send(&response)?;
        loop {
            let payload = client.receive()?;
            client.note_nonce(&payload);
            match login.feed(&payload)? {
                Action::Send(answer) => client.send(&answer)?,
                Action::Read => {}
                Action::Done => return Ok(Ok(client)),
                Action::Refused => {
                    let refusal = Refusal::read(&payload).context("no error")?;
                    return Ok(Err(refused(&refusal)));
                }
            }
        }
    }

    /// Takes the nonce from a request to prove itself by another plugin.
    fn note_nonce(&mut self, payload: &[u8]) {
        let Some((&0xfe, rest)) = payload.split_first() else {
            return;
        };
        let mut parts = rest.splitn(2, |byte| *byte == 0);
        let nonce = parts.nth(1).and_then(|nonce| nonce.first_chunk());
        self.nonce = nonce.copied().unwrap_or(self.nonce);
    }

    /// Becomes another user, as libmariadb does it: first by `mysql_native_password` with the nonce
    /// that it was asked with last, whatever it is told then.
    pub(super) fn change_user(
        &mut self,
        (user, password): (&str, &str),
        database: &str,
    ) -> Result<String> {
        let mut login = Login::new(Secret::new(password.into()), Channel::Plain);
        let first = login.begin(b"mysql_native_password", &self.nonce)?;
        let mut packet = Vec::new();
        ChangeUser {
            user: user.as_bytes(),
            proof: &first.proof,
            database: database.as_bytes(),
            collation: Some(45),
            plugin: Some(b"mysql_native_password"),
            ..ChangeUser::default()
        }
        .put(self.capabilities, &mut packet);
        self.say(&packet)?;
        loop {
            let payload = self.receive()?;
            if payload.starts_with(b"\xfemysql_native_password\0") {
                self.send(&first.proof)?;
                continue;
            }
            self.note_nonce(&payload);
            match login.feed(&payload)? {
                Action::Send(answer) => self.send(&answer)?,
                Action::Read => {}
                Action::Done => return Ok(ok(&Done::read(&payload, self.capabilities)?)),
                Action::Refused => {
                    let refusal = Refusal::read(&payload).context("no error")?;
                    return Ok(refused(&refusal));
                }
            }
        }
    }

    /// For bytes that are no commands.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut framed = Vec::with_capacity(payload.len() + 64);
        packet::put(&mut framed, &mut self.sequence, payload);
        Ok(self.stream.write_all(&framed)?)
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            let mut head = [0; packet::HEADER];
            self.stream.read_exact(&mut head)?;
            let header = Header::read(&head).context("no header")?;
            ensure!(
                header.sequence == self.sequence,
                "packet {} in the place of {}",
                header.sequence,
                self.sequence
            );
            self.sequence = self.sequence.wrapping_add(1);
            let start = payload.len();
            payload.resize(start + header.length, 0);
            self.stream.read_exact(&mut payload[start..])?;
            if !header.goes_on() {
                return Ok(payload);
            }
        }
    }

    /// Sends a command that has no answer, or whose answer is read later.
    pub(super) fn say(&mut self, command: &[u8]) -> Result<()> {
        self.sequence = 0;
        self.send(command)
    }

    /// A statement as text, and all of its results.
    pub(super) fn query(&mut self, sql: &str) -> Result<String> {
        let mut command = vec![3];
        if self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
            command.extend_from_slice(&[0, 1]);
        }
        command.extend_from_slice(sql.as_bytes());
        self.say(&command)?;
        self.results(Rows::Text)
    }

    /// A command whose answer is an OK or an error.
    pub(super) fn command(&mut self, command: &[u8]) -> Result<String> {
        self.say(command)?;
        self.results(Rows::Text)
    }

    /// Prepares a statement: its id, or the server's error.
    pub(super) fn prepare(&mut self, sql: &str) -> Result<std::result::Result<u32, String>> {
        self.say(&[&[0x16], sql.as_bytes()].concat())?;
        let payload = self.receive()?;
        if let Some(refusal) = Refusal::read(&payload) {
            return Ok(Err(refused(&refusal)));
        }
        let mut reader = Reader(payload.get(1..).unwrap_or_default());
        let head = (reader.u32(), reader.u16(), reader.u16());
        let (Some(id), Some(columns), Some(parameters)) = head else {
            bail!("no answer to a preparation: {payload:?}");
        };
        for count in [parameters, columns] {
            for _ in 0..count {
                self.receive()?;
            }
            if count > 0 && !self.capabilities.has(Capabilities::DEPRECATE_EOF) {
                self.receive()?;
            }
        }
        Ok(Ok(id))
    }

    /// Executes it with parameters that are texts; without their types, as every execution but the
    /// first may.
    pub(super) fn execute(
        &mut self,
        id: u32,
        (flags, with_types): (u8, bool),
        parameters: &[Option<&str>],
    ) -> Result<String> {
        let mut command = vec![0x17];
        command.extend_from_slice(&id.to_le_bytes());
        command.extend_from_slice(&[flags, 1, 0, 0, 0]);
        if !parameters.is_empty() {
            if self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
                command.push(parameters.len() as u8);
            }
            let mut nulls = vec![0; parameters.len().div_ceil(8)];
            for (index, parameter) in parameters.iter().enumerate() {
                nulls[index / 8] |= u8::from(parameter.is_none()) << (index % 8);
            }
            command.extend_from_slice(&nulls);
            command.push(with_types.into());
            if with_types {
                for _ in parameters {
                    command.extend_from_slice(&[0xfd, 0]);
                    if self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
                        command.push(0);
                    }
                }
            }
            for parameter in parameters.iter().flatten() {
                // One whose value was sent before is empty here, and has no place.
                if !parameter.is_empty() {
                    command.push(parameter.len() as u8);
                    command.extend_from_slice(parameter.as_bytes());
                }
            }
        }
        self.say(&command)?;
        self.results(if flags & 1 == 0 {
            Rows::Binary
        } else {
            Rows::Fetched
        })
    }

    /// Rows of a cursor.
    pub(super) fn fetch(&mut self, id: u32, rows: u32) -> Result<String> {
        let command = [&[0x1c][..], &id.to_le_bytes(), &rows.to_le_bytes()].concat();
        self.say(&command)?;
        let mut said = String::new();
        self.rows(Rows::Fetched, &mut said)?;
        Ok(said)
    }

    fn results(&mut self, rows: Rows) -> Result<String> {
        let mut said = String::new();
        while self.result(rows, &mut said)? {}
        Ok(said)
    }

    /// One result. Whether there is another.
    fn result(&mut self, rows: Rows, said: &mut String) -> Result<bool> {
        let payload = self.receive()?;
        match payload.first() {
            Some(0) => {
                let done = Done::read(&payload, self.capabilities)?;
                said.push_str(&ok(&done));
                Ok(done.status.has(Status::MORE_RESULTS))
            }
            Some(0xff) => {
                let refusal = Refusal::read(&payload).context("no error")?;
                writeln!(said, "{}", refused(&refusal))?;
                Ok(false)
            }
            Some(0xfb) => {
                // A file is asked for: two lines of it.
                writeln!(said, "file {}", String::from_utf8_lossy(&payload[1..]))?;
                self.send(b"901\tfirst\n902\tsecond\n")?;
                self.send(b"")?;
                self.result(rows, said)
            }
            Some(_) => {
                let columns = Reader(&payload).number().context("no number of columns")?;
                for _ in 0..columns {
                    let column = self.receive()?;
                    write!(said, "{}\t", column_name(&column)?)?;
                }
                said.push('\n');
                if !self.capabilities.has(Capabilities::DEPRECATE_EOF) {
                    let end = self.receive()?;
                    let done = Done::read(&end, self.capabilities)?;
                    if rows == Rows::Fetched && done.status.has(Status::CURSOR_EXISTS) {
                        said.push_str("cursor\n");
                        return Ok(false);
                    }
                }
                self.rows(rows, said)
            }
            None => bail!("an empty packet"),
        }
    }

    /// Rows to their end. Whether another result follows.
    fn rows(&mut self, rows: Rows, said: &mut String) -> Result<bool> {
        loop {
            let payload = self.receive()?;
            match payload.first() {
                Some(0xff) => {
                    let refusal = Refusal::read(&payload).context("no error")?;
                    writeln!(said, "{}", refused(&refusal))?;
                    return Ok(false);
                }
                Some(0xfe) if payload.len() < 1000 => {
                    let done = Done::read(&payload, self.capabilities)?;
                    if rows == Rows::Fetched
                        && done.status.has(Status::CURSOR_EXISTS)
                        && !done.status.has(Status::LAST_ROW_SENT)
                    {
                        said.push_str("cursor\n");
                    } else {
                        said.push_str(&ok(&done));
                    }
                    return Ok(done.status.has(Status::MORE_RESULTS));
                }
                Some(_) => writeln!(said, "{}", row(rows, &payload)?)?,
                None => bail!("an empty row"),
            }
        }
    }
}

fn refused(refusal: &Refusal<'_>) -> String {
    let state = refusal.state.unwrap_or(*b"-----");
    format!(
        "error {} ({}) {}",
        refusal.code,
        String::from_utf8_lossy(&state),
        String::from_utf8_lossy(refusal.message)
    )
}

/// What an OK packet says; how a statement found its rows is a server's own business.
fn ok(done: &Done<'_>) -> String {
    let told = Status::IN_TRANSACTION
        .with(Status::AUTOCOMMIT)
        .with(Status::MORE_RESULTS)
        .with(Status::NO_BACKSLASH_ESCAPES)
        .with(Status::IN_READ_ONLY_TRANSACTION)
        .with(Status::LAST_ROW_SENT)
        .with(Status::DATABASE_DROPPED);
    format!(
        "ok affected {} id {} warnings {} status {:#x} {}\n",
        done.affected,
        done.insert_id,
        done.warnings,
        done.status.0 & told.0,
        String::from_utf8_lossy(done.info)
    )
}

fn column_name(payload: &[u8]) -> Result<String> {
    let mut reader = Reader(payload);
    // The catalogue, the schema, the table by its two names.
    for _ in 0..4 {
        reader.text().context("a column is cut off")?;
    }
    let name = reader.text().context("a column has no name")?;
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn row(rows: Rows, payload: &[u8]) -> Result<String> {
    if payload.len() > 1024 {
        let sum = payload.iter().fold(payload.len(), |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
        });
        return Ok(format!("{} bytes with the sum {sum:x}", payload.len()));
    }
    if rows != Rows::Text {
        return Ok(payload.escape_ascii().to_string());
    }
    let mut reader = Reader(payload);
    let mut fields = Vec::new();
    while !reader.is_empty() {
        let field = reader.nullable().context("a row is cut off")?;
        fields.push(field.map_or_else(
            || "NULL".to_owned(),
            |field| String::from_utf8_lossy(field).into_owned(),
        ));
    }
    Ok(fields.join("\t"))
}
