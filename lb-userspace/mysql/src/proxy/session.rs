//! A client's session: command after command until it goes.

use std::{cell::Cell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    connection::Connection,
    gate::Permit,
    incoming::{self, Came, Unread},
    least::UnderWay,
    login::{self, Admitted, Identity, Turned},
    peer::{Lost, Peer},
    proxy_protocol,
    readers::Wanted,
    relay::{Broken, Treatment},
    sessions::{Entered, Running},
    trouble::Trouble,
    view::Face,
    worker::Worker,
};
use crate::{
    auth::Nonce,
    gtid::{Family, GtidSet},
    route,
    sql::{Charset, Dialect},
    wire::{
        Capabilities, Status,
        command::{Command, Request},
        error::Refusal,
        ok::Done,
        packet,
        reply::{Event, Packet},
        track::{self, Tracked},
    },
};

/// For a server to end what a session has left behind.
const GOODBYE: Duration = Duration::from_secs(2);

/// What comes after a command.
pub(super) enum Next {
    /// Another one.
    Command,
    /// Nothing.
    End,
}

/// A client's session.
pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) number: u32,
    pub(super) running: Arc<Running>,
    /// How often it has begun anew, so that connections with older states are known.
    pub(super) life: u32,
    pub(super) client: Peer,
    /// Agreed on with the client.
    pub(super) capabilities: Capabilities,
    pub(super) identity: Identity,
    /// What the client was asked with last, at its login.
    pub(super) nonce: Nonce,
    /// How often it was refused another user.
    pub(super) refused_users: u8,
    pub(super) face: Arc<Face>,
    pub(super) state: route::Session,
    /// Connections that nobody else may use, by server.
    pub(super) held: Vec<Connection>,
    /// Where in the pool its others are, by server.
    pub(super) places: Vec<(usize, usize)>,
    pub(super) prepared: HashMap<u32, super::prepared::Statement>,
    /// Bytes of their texts.
    pub(super) prepared_bytes: Rc<Cell<usize>>,
    pub(super) next_prepared: u32,
    /// The one that was prepared last, which clients of MariaDB may name without its id.
    pub(super) last_prepared: u32,
    /// How many statements it has closed.
    pub(super) closes: u64,
    /// Set by `COM_SET_OPTION`.
    pub(super) multi_statements: Option<bool>,
    /// What it must see.
    pub(super) wanted: Wanted,
    /// The replica that its last statement ran on, or its transaction runs on.
    pub(super) replica: Option<usize>,
    /// Where the connection is that it may not exchange for another, as long as it holds one.
    pub(super) home: Option<usize>,
    /// The server that was the primary when its last statement was sent there.
    pub(super) as_primary: Option<usize>,
    /// The client's own wishes about session tracking.
    pub(super) status: Status,
    /// Leave to work at the primary, while it does.
    pub(super) permit: Option<Permit>,
    /// Where a statement of it is under way, where that matters.
    pub(super) under_way: Option<UnderWay>,
}

/// Serves a client that has just come in.
pub(super) async fn serve(worker: Rc<Worker>, mut client: Peer, entered: Entered) {
    let (number, running) = (entered.number, Arc::clone(&entered.running));
    let settings = worker.shared.now();
    match proxy_protocol::receive(&settings.proxy_protocol, &mut client).await {
        Ok(None) => {}
        Ok(Some(from)) => running.came_from(&from.to_string()),
        Err(failure) => {
            worker.shared.count_trouble(Trouble::BadHandshake);
            tracing::debug!("mysql: session {number}: not let in: {failure}");
            return;
        }
    }
    drop(settings);
    match login::admit(&worker, &mut client, &entered).await {
        Ok(admitted) => {
            let mut session = Box::new(Session::new(
                Rc::clone(&worker),
                (number, running),
                client,
                admitted,
            ));
            if let Err(lost) = session.run().await {
                session.worker.shared.count_trouble(Trouble::ClientLost);
                tracing::debug!("mysql: session {number}: {lost}");
            }
            session.leave().await;
        }
        Err(Turned::Away) => tracing::debug!("mysql: session {number}: went away at its login"),
        Err(Turned::Refused(trouble)) => {
            worker.shared.count_trouble(trouble);
            tracing::debug!("mysql: session {number}: not let in: {}", trouble.label());
        }
    }
    drop(entered);
}

impl Session {
    fn new(
        worker: Rc<Worker>,
        (number, running): (u32, Arc<Running>),
        client: Peer,
        admitted: Admitted,
    ) -> Self {
        let Admitted {
            identity,
            capabilities,
            face,
            nonce,
            judged,
        } = admitted;
        let state = route::Session::new(dialect(&face, &identity), identity.database.as_deref());
        let status = judged.connection.status;
        let mut session = Self {
            worker,
            number,
            running,
            life: 1,
            client,
            capabilities,
            identity,
            nonce,
            refused_users: 0,
            face,
            state,
            held: Vec::new(),
            places: Vec::new(),
            prepared: HashMap::new(),
            prepared_bytes: Rc::default(),
            next_prepared: 1,
            last_prepared: 0,
            closes: 0,
            multi_statements: None,
            wanted: Wanted::default(),
            replica: None,
            home: None,
            as_primary: None,
            status,
            permit: None,
            under_way: None,
        };
        session.put_away(judged.connection);
        session.rest();
        session
    }

    async fn run(&mut self) -> Result<(), Lost> {
        let running = Arc::clone(&self.running);
        loop {
            let came = tokio::select! {
                biased;
                () = running.end.notified() => {
                    let killed = Refusal::new(1927, b"70100", "Connection was killed");
                    let told = self.refuse_at(0, &killed).await;
                    running.note_ended();
                    return told;
                }
                came = incoming::command(&mut self.client, &self.worker.shared) => came,
            };
            let Came { extent, share } = match came {
                Ok(came) => came,
                Err(unread) => return self.end_for(unread).await,
            };
            let framed = self.client.take_command(extent.bytes);
            running.begin();
            let next = self.command(&framed, extent.next_sequence).await?;
            self.rest();
            self.client.give_back(framed);
            drop(share);
            self.give_permit_back();
            self.under_way = None;
            if let Next::End = next {
                return Ok(());
            }
        }
    }

    /// Tells a client why its command was not read, and reads no other.
    async fn end_for(&mut self, unread: Unread) -> Result<(), Lost> {
        let (trouble, refusal) = match unread {
            Unread::Lost(Lost::Closed) => return Ok(()),
            Unread::Lost(Lost::Framing(packet::Error::TooLong { .. })) => {
                let long = "Got a packet bigger than 'max_allowed_packet' bytes";
                (Trouble::PacketTooLarge, Refusal::new(1153, b"08S01", long))
            }
            Unread::Lost(Lost::Framing(packet::Error::OutOfOrder { .. })) => {
                let order = "Got packets out of order";
                (Trouble::ClientLost, Refusal::new(1156, b"08S01", order))
            }
            Unread::Lost(broken) => return Err(broken),
            Unread::TooSlow => {
                let slow = "Got timeout reading communication packets";
                (Trouble::SlowCommand, Refusal::new(1159, b"08S01", slow))
            }
            Unread::NoRoom => {
                let room = "lb has no memory for another long command at the moment; try again";
                (Trouble::NoMemory, Refusal::new(1041, b"HY000", room))
            }
        };
        self.worker.shared.count_trouble(trouble);
        self.refuse(&refusal).await?;
        incoming::drain(&mut self.client).await;
        Ok(())
    }

    /// Does a command, which came in these packets.
    async fn command(&mut self, framed: &[u8], reply: u8) -> Result<Next, Lost> {
        let payload = packet::payload(framed);
        let Ok(request) = Request::read(&payload, self.capabilities) else {
            return self.pass_on(framed, reply, Command::Ping).await;
        };
        match request {
            Request::Query(query) => self.query(framed, reply, query.sql).await,
            Request::Prepare(sql) => self.prepare(framed, reply, sql).await,
            Request::Execute(id) => self.execute(&payload, reply, id).await,
            Request::LongData { statement, .. } => self.long_data(&payload, statement).await,
            Request::Fetch { statement, .. } => self.fetch(&payload, reply, statement).await,
            Request::Reset(id) => self.reset_statement(&payload, reply, id).await,
            Request::Close(id) => {
                self.close_statement(id);
                Ok(Next::Command)
            }
            Request::InitDatabase(schema) => self.init_database(framed, reply, schema).await,
            Request::ProcessKill(id) => self.kill(reply, id).await,
            Request::MultiStatements(on) => self.set_multi_statements(framed, reply, on).await,
            Request::Other(Command::Quit) => Ok(Next::End),
            Request::Other(Command::Ping) => {
                self.done(reply).await?;
                Ok(Next::Command)
            }
            Request::Other(Command::ResetConnection) => self.reset(reply).await,
            Request::Other(Command::ChangeUser) => self.change_user(&payload, reply).await,
            Request::Other(command) => self.pass_on(framed, reply, command).await,
            Request::FieldList { .. } => self.pass_on(framed, reply, Command::FieldList).await,
            Request::UnknownOption(_) | Request::Unknown(_) => {
                self.pass_on(framed, reply, Command::Ping).await
            }
        }
    }

    /// Tells the client that something is done.
    pub(super) async fn done(&mut self, mut sequence: u8) -> Result<(), Lost> {
        let mut payload = Vec::new();
        let done = Done {
            status: self.status,
            ..Done::default()
        };
        done.put(self.capabilities, &mut payload);
        self.client.send(&mut sequence, &payload).await
    }

    /// Tells the client an error, in the place of the first packet of an answer.
    pub(super) async fn refuse(&mut self, refusal: &Refusal<'_>) -> Result<(), Lost> {
        self.refuse_at(1, refusal).await
    }

    /// The same, with this sequence id.
    pub(super) async fn refuse_at(
        &mut self,
        mut sequence: u8,
        refusal: &Refusal<'_>,
    ) -> Result<(), Lost> {
        let mut payload = Vec::new();
        refusal.put(&mut payload);
        self.client.send(&mut sequence, &payload).await
    }

    /// The session's mark on its connections.
    pub(super) const fn owner(&self) -> u64 {
        (self.number as u64) << 32 | self.life as u64
    }

    /// Lets go of everything.
    pub(super) async fn leave(&mut self) {
        let owner = self.owner();
        {
            let mut pool = self.worker.pool.borrow_mut();
            for (server, place) in self.places.drain(..) {
                pool.disown(server, place, owner);
            }
        }
        for mut connection in self.held.drain(..) {
            // What is open there, such as a transaction with its locks, ends with the session.
            let is_in_step = connection.watch.is_ended() && self.worker.shared.settings.pool;
            let ended = async { is_in_step && connection.reset().await.is_ok() };
            if timeout(GOODBYE, ended).await.unwrap_or(false) {
                connection.owner = 0;
                self.worker.pool.borrow_mut().put(connection);
            } else {
                connection.quit();
            }
        }
    }
}

/// How statements are read at the beginning.
pub(super) fn dialect(face: &Face, identity: &Identity) -> Dialect {
    let known = face.collations.get(&identity.collation);
    let charset = known.map_or(&b""[..], |(charset, _)| charset.as_bytes());
    Dialect {
        charset: Charset::from_name(charset),
        ..face.dialect
    }
}

/// What a reply told of the session.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) status: Option<Status>,
    pub(super) failed: bool,
    pub(super) error: u16,
    pub(super) insert_id: u64,
    pub(super) warnings: u16,
    pub(super) schema: Option<Vec<u8>>,
    pub(super) variables: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) state_changed: Option<bool>,
    /// Transactions that were written, as the server tells them.
    pub(super) gtids: Option<Vec<u8>>,
}

impl Told {
    /// Takes in a packet, and says what the client gets of it.
    pub(super) fn see(
        &mut self,
        event: &Event<'_>,
        client: Capabilities,
        instead: &mut Vec<u8>,
    ) -> Treatment {
        match event.packet {
            Packet::Done(done) => {
                self.note(&done);
                treat(&done, client, instead)
            }
            Packet::ColumnsEnd(done) => {
                self.status = Some(done.status);
                Treatment::Pass
            }
            Packet::Refused(refusal) => {
                self.failed = true;
                self.error = refusal.code;
                Treatment::Pass
            }
            Packet::Progress
            | Packet::Columns(_)
            | Packet::Prepared(_)
            | Packet::File(_)
            | Packet::Text(_) => Treatment::Pass,
        }
    }

    /// Transactions that were written.
    pub(super) fn written(&self, family: Family) -> Option<GtidSet> {
        let text = std::str::from_utf8(self.gtids.as_deref()?).ok()?;
        let written = GtidSet::parse(family, text).ok()?;
        (!written.is_empty()).then_some(written)
    }

    fn note(&mut self, done: &Done<'_>) {
        self.status = Some(done.status);
        self.warnings = done.warnings;
        if done.insert_id != 0 {
            self.insert_id = done.insert_id;
        }
        if done.trackers.is_empty() {
            self.state_changed.get_or_insert(false);
            return;
        }
        for tracked in done.trackers.iter().flatten() {
            match tracked {
                Tracked::Schema(schema) => self.schema = Some(schema.to_vec()),
                Tracked::Variable { name, value } => {
                    if name == crate::gtid::LAST_GTID.as_bytes() {
                        self.gtids = Some(value.to_vec());
                    } else {
                        self.variables.push((name.to_vec(), value.to_vec()));
                    }
                }
                Tracked::StateChanged(changed) => self.state_changed = Some(changed),
                Tracked::Gtids(data) => match &mut self.gtids {
                    // Of several statements each tells its own.
                    Some(all) => {
                        all.push(b',');
                        all.extend_from_slice(data);
                    }
                    none => *none = Some(data.to_vec()),
                },
                Tracked::Characteristics(_) | Tracked::Transaction(_) | Tracked::Unknown(_) => {}
            }
        }
        self.state_changed.get_or_insert(false);
    }
}

/// Variables that servers tell clients of which have not asked for others.
const TOLD: [&[u8]; 5] = [
    b"autocommit",
    b"character_set_client",
    b"character_set_connection",
    b"character_set_results",
    b"time_zone",
];

/// What a client gets of an OK packet: servers were asked to tell more than it has asked for.
fn treat(done: &Done<'_>, client: Capabilities, instead: &mut Vec<u8>) -> Treatment {
    if !done.status.has(Status::SESSION_STATE_CHANGED) && done.trackers.is_empty() {
        return Treatment::Pass;
    }
    let mut kept = Vec::new();
    if client.has(Capabilities::SESSION_TRACK) {
        for tracked in done.trackers.iter().flatten() {
            let is_kept = match tracked {
                Tracked::Schema(_) => true,
                Tracked::Variable { name, .. } => TOLD.contains(&name),
                Tracked::StateChanged(_)
                | Tracked::Gtids(_)
                | Tracked::Characteristics(_)
                | Tracked::Transaction(_)
                | Tracked::Unknown(_) => false,
            };
            if is_kept {
                track::put(&mut kept, tracked);
            }
        }
    }
    let status = if kept.is_empty() {
        // Nothing follows that the flag could announce.
        done.status.without(Status::SESSION_STATE_CHANGED)
    } else {
        done.status
    };
    let seen = Done {
        trackers: track::Trackers(&kept),
        status,
        ..*done
    };
    seen.put(client, instead);
    Treatment::Replace
}

/// What to tell a client whose server is gone. Numbers from 2000 on are the clients' own, and
/// MariaDB's take a server that says one for broken.
pub(super) fn lost_words(broken: &Broken) -> Refusal<'static> {
    match broken {
        Broken::Reply(_) => Refusal::new(1835, b"HY000", "Malformed packet from the MySQL server"),
        Broken::Client(_) | Broken::Server(_) => Refusal::new(
            1158,
            b"08S01",
            "Lost connection to MySQL server during query",
        ),
    }
}
