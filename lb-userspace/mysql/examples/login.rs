//! Logs in to a server and asks, by the state machines of this crate and a blocking socket.
//!
//! `login ADDRESS|SOCKET USER PASSWORD [tls] [old] [capabilities=HEX] [without=HEX] COMMAND…`, where
//! a command is SQL, `prepared:SQL` (without parameters, with a cursor), `change_user:USER:PASSWORD`, or
//! `raw:HEX` (a payload). `old` leaves out [`Capabilities::DEPRECATE_EOF`]; `capabilities` adds some,
//! `without` takes some away. TLS trusts everyone: this is for trying things out.

mod common;

use lb_mysql::{
    auth::{Channel, Secret, client::Login},
    wire::{
        Capabilities,
        attributes::{Attributes, put_attribute},
        change_user::ChangeUser,
        command::Command,
        error::ERR,
        greeting::{First, Greeting},
        packet,
        reply::{Event, Packet, Watch},
        response::{Head, Response},
    },
};

use self::common::{Connection, Fallible, refused, secure, shown};

/// Sends a command and follows its reply. Gives the id of a prepared statement.
fn ask(connection: &mut Connection, watch: &mut Watch, command: &[u8]) -> Fallible<Option<u32>> {
    connection.sequence = 0;
    connection.send(command)?;
    let kind = command.first().copied().and_then(Command::from_byte);
    let expect = kind.and_then(Command::expects).ok_or("not carried")?;
    watch.begin(expect, connection.sequence);
    let (mut forwarded, mut statement) = (0, None);
    while !watch.is_ended() {
        let step = watch
            .feed(&connection.buffer)
            .map_err(|error| format!("{error}: {}", shown(&connection.buffer)))?;
        forwarded += step.forward;
        let mut used = step.forward;
        let mut file = None;
        match step.event {
            Some(event) => {
                println!("  {forwarded} bytes, then {}", told(&event));
                used += event.raw.len();
                match event.packet {
                    Packet::Prepared(prepared) => statement = Some(prepared.statement),
                    Packet::File(_) => file = Some(event.sequence),
                    Packet::Done(_)
                    | Packet::ColumnsEnd(_)
                    | Packet::Refused(_)
                    | Packet::Progress
                    | Packet::Columns(_)
                    | Packet::Text(_) => {}
                }
            }
            None if step.is_last => println!("  {forwarded} bytes, and that is all"),
            None => {
                connection.buffer.drain(..used);
                connection.fill()?;
                continue;
            }
        }
        connection.buffer.drain(..used);
        if let Some(request) = file {
            connection.sequence = request.wrapping_add(1);
            connection.send(b"1\n2\n3\n")?;
            connection.send(b"")?;
            watch.file_sent(connection.sequence);
        }
    }
    Ok(statement)
}

fn told(event: &Event<'_>) -> String {
    let trackers = match event.packet {
        Packet::Done(done) | Packet::ColumnsEnd(done) => {
            let tracked: Vec<_> = done.trackers.iter().collect();
            let words = tracked.iter().map(|one| match one {
                Ok(tracked) => format!(" {}", text(&format!("{tracked:?}"))),
                Err(error) => format!(" {error}"),
            });
            words.collect()
        }
        Packet::Refused(error) => text(&String::from_utf8_lossy(error.message)),
        Packet::Progress
        | Packet::Columns(_)
        | Packet::Prepared(_)
        | Packet::File(_)
        | Packet::Text(_) => String::new(),
    };
    format!("{}{trackers}", shown(&event.raw[packet::HEADER..]))
}

fn text(words: &str) -> String {
    words.escape_debug().collect()
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, user, password, rest @ ..] = &arguments[..] else {
        return Err("usage: login ADDRESS|SOCKET USER PASSWORD [tls] [old] COMMAND…".into());
    };
    let has = |word: &str| rest.iter().any(|argument| argument == word);
    let (is_socket, wants_tls) = (address.starts_with('/'), has("tls"));
    let mut connection = Connection::open(address)?;
    let payload = connection.receive()?;
    let greeting = match First::read(&payload).ok_or("not MySQL")? {
        First::Greeting(greeting) => greeting,
        First::Refused(_) => return Err(refused(&payload).into()),
    };
    println!(
        "{} {:#x} {}",
        shown(greeting.version),
        greeting.capabilities.0,
        shown(greeting.plugin)
    );
    let capabilities = wanted(&greeting, rest, wants_tls)?;
    let mut attributes = Vec::new();
    put_attribute(&mut attributes, "program_name", "lb");
    let head = Head {
        capabilities,
        most_packet: 1 << 24,
        collation: 45,
    };
    let channel = match (is_socket, wants_tls) {
        (true, _) => Channel::Socket,
        (_, true) => Channel::Tls,
        (_, false) => Channel::Plain,
    };
    let mut login = Login::new(Secret::new(password.clone().into_bytes()), channel);
    let first = login.begin(greeting.plugin, &greeting.nonce)?;
    let response = Response {
        head,
        user: user.as_bytes(),
        proof: &first.proof,
        database: None,
        plugin: Some(first.plugin.name().as_bytes()),
        attributes: Attributes::made(&attributes),
        zstd_level: None,
    };
    let mut out = Vec::new();
    if wants_tls {
        response.put_tls_request(&mut out);
        connection.send(&out)?;
        connection.stream = Box::new(secure(connection.stream)?);
        out.clear();
    }
    response.put(&mut out);
    connection.send(&out)?;
    let decision = connection.log_in(login)?;
    if decision.first() == Some(&ERR) {
        return Err(refused(&decision).into());
    }
    println!("logged in over {channel:?} with {:#x}", capabilities.0);
    let mut watch = Watch::new(capabilities);
    for command in rest {
        let options = ["capabilities=", "without="];
        if ["tls", "old"].contains(&&command[..])
            || options.iter().any(|option| command.starts_with(option))
        {
            continue;
        }
        println!("{}", text(command));
        let has_attributes = capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        let query = |sql: &str| {
            let head: &[u8] = if has_attributes {
                b"\x03\0\x01"
            } else {
                b"\x03"
            };
            [head, sql.as_bytes()].concat()
        };
        if let Some(sql) = command.strip_prefix("prepared:") {
            let prepare = [b"\x16", sql.as_bytes()].concat();
            if let Some(statement) = ask(&mut connection, &mut watch, &prepare)? {
                let id = statement.to_le_bytes();
                let execute = [&[0x17], &id[..], &[1, 1, 0, 0, 0]].concat();
                ask(&mut connection, &mut watch, &execute)?;
                let fetch = [&[0x1c], &id[..], &[2, 0, 0, 0]].concat();
                ask(&mut connection, &mut watch, &fetch)?;
                ask(&mut connection, &mut watch, &[&[0x19], &id[..]].concat())?;
            }
        } else if let Some(hex) = command.strip_prefix("raw:") {
            let byte = |at| u8::from_str_radix(hex.get(at..at + 2).unwrap_or_default(), 16);
            let payload: Result<Vec<u8>, _> = (0..hex.len()).step_by(2).map(byte).collect();
            ask(&mut connection, &mut watch, &payload?)?;
        } else if let Some(who) = command.strip_prefix("change_user:") {
            let (user, password) = who.split_once(':').ok_or("no password")?;
            let mut login = Login::new(Secret::new(password.as_bytes().to_vec()), channel);
            let first = login.begin(greeting.plugin, &greeting.nonce)?;
            let change = ChangeUser {
                user: user.as_bytes(),
                proof: &first.proof,
                collation: Some(45),
                plugin: Some(first.plugin.name().as_bytes()),
                attributes: Attributes::made(&attributes),
                ..ChangeUser::default()
            };
            let mut out = Vec::new();
            change.put(capabilities, &mut out);
            connection.sequence = 0;
            connection.send(&out)?;
            let decision = connection.log_in(login)?;
            if decision.first() == Some(&ERR) {
                return Err(refused(&decision).into());
            }
        } else {
            ask(&mut connection, &mut watch, &query(command))?;
        }
    }
    connection.sequence = 0;
    connection.send(&[Command::Quit as u8])
}

fn wanted(greeting: &Greeting<'_>, words: &[String], tls: bool) -> Fallible<Capabilities> {
    let mut client = Capabilities::MULTI_STATEMENTS
        | Capabilities::MULTI_RESULTS
        | Capabilities::PS_MULTI_RESULTS
        | Capabilities::LOCAL_FILES
        | Capabilities::DEPRECATE_EOF;
    for word in words {
        if word == "old" {
            client = client.without(Capabilities::DEPRECATE_EOF);
        } else if let Some(more) = word.strip_prefix("capabilities=") {
            client = client | Capabilities(u64::from_str_radix(more, 16)?);
        }
    }
    let mut agreed = client.towards(greeting.capabilities);
    for word in words {
        if let Some(fewer) = word.strip_prefix("without=") {
            agreed = agreed.without(Capabilities(u64::from_str_radix(fewer, 16)?));
        }
    }
    let attributes = greeting.capabilities & Capabilities::CONNECT_ATTRIBUTES;
    Ok(if tls {
        agreed | attributes | Capabilities::TLS
    } else {
        agreed | attributes
    })
}
