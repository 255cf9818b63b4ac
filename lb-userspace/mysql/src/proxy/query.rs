//! Statements as text: to the server where they belong, and the answer back.

use std::time::Instant;

use super::{
    connection::Connection,
    peer::Lost,
    relay::{Broken, Relay, Treatment},
    session::{Next, Session, Told, lost_words},
    settings::Consistency,
    trouble::Trouble,
    untold,
};
use crate::{
    route::{Answer, Decision, Reason, Target, route},
    sql::{Class, Statement, classify, with_own_number},
    wire::{
        Capabilities, Status,
        command::Command,
        error::Refusal,
        packet::{self, HEADER},
        reply::{Event, Expect, Packet},
    },
};

/// How often a read is tried elsewhere when its server is lost before it has said anything.
pub(super) const TRIES: usize = 3;
/// ER_OPTION_PREVENTS_STATEMENT, which names the option, in whatever language.
const OPTION_PREVENTS: u16 = 1290;
/// ER_READ_ONLY_MODE.
const READ_ONLY_MODE: u16 = 1836;

/// What came of a statement that was sent.
pub(super) enum Sent {
    /// The server takes no writes, and so this was one, of which nothing is left there. The payload
    /// of its error, which the client does not have.
    TurnedBack(Vec<u8>),
    /// The client has its answer.
    Answered(Told),
    /// The client knows that there will be none, or is to be told so.
    Lost(Broken, bool),
}

/// What matters when an answer comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) expect: Expect,
    /// Whether another server is asked when this one takes no writes.
    pub(super) turns: bool,
    /// Whether the primary may have written something when rows or an error come.
    pub(super) may_write: bool,
}

impl Session {
    /// What matters when the answer to a statement comes.
    pub(super) fn asked(
        &self,
        expect: Expect,
        (statement, decision): (&Statement, &Decision),
    ) -> Asked {
        Asked {
            expect,
            turns: self.may_turn_back(decision, statement.class),
            may_write: untold::may_write(statement),
        }
    }

    /// `COM_QUERY`.
    pub(super) async fn query(
        &mut self,
        framed: &[u8],
        reply: u8,
        sql: &[u8],
    ) -> Result<Next, Lost> {
        let statement = classify(sql, self.state.dialect());
        let decision = self.decide(sql, &statement);
        if decision.target == Target::Proxy {
            return self.answer_itself(reply, sql, &statement, &decision).await;
        }
        let before = framed.len().checked_sub(sql.len());
        if let Some(own) = with_own_number(sql, &statement, self.number)
            && let Some(begins) = before.and_then(|before| framed.get(HEADER..before))
        {
            let (framed, reply) = self::framed(&[begins, &own].concat());
            let known = (sql, &statement, decision);
            return self
                .run_statement(&framed, reply, Expect::Results, known)
                .await;
        }
        self.run_statement(framed, reply, Expect::Results, (sql, &statement, decision))
            .await
    }

    /// Where a statement goes.
    pub(super) fn decide(&self, sql: &[u8], statement: &Statement) -> Decision {
        let readers = self.worker.view().readers.len();
        route(&self.state, sql, statement, readers, &self.routines())
    }

    /// Sends a command that is a statement, and relays its answer.
    pub(super) async fn run_statement(
        &mut self,
        framed: &[u8],
        reply: u8,
        expect: Expect,
        (sql, statement, mut decision): (&[u8], &Statement, Decision),
    ) -> Result<Next, Lost> {
        let began = Instant::now();
        let (mut tries, mut is_write) = (0, false);
        loop {
            tries += 1;
            let (server, mut connection) = match self
                .place(&mut decision, Some((sql, statement)), tries)
                .await
            {
                Ok(found) => found,
                Err(refusal) => {
                    self.client_refused(reply, &refusal).await?;
                    return Ok(self.after_refusal(&decision));
                }
            };
            let prepared = match self.before(&mut connection, &decision).await {
                Ok(()) => self
                    .learn_routines(&mut connection, sql, statement, decision.reason)
                    .await
                    .map_err(|broken| refusal(&lost_words(&broken))),
                refused => refused,
            };
            if let Err(refusal) = prepared {
                self.client_refused(reply, &refusal).await?;
                return Ok(Next::End);
            }
            let mut asked = self.asked(expect, (statement, &decision));
            asked.may_write |= is_write;
            let sent = self.exchange(&mut connection, framed, reply, asked).await;
            match sent {
                Sent::TurnedBack(refused) => {
                    is_write = true;
                    self.put_away(connection);
                    decision = match self.turn_back(server, decision, refused, began).await {
                        Ok(decision) => decision,
                        Err(refused) => {
                            self.client_refused(reply, &refused).await?;
                            return Ok(Next::Command);
                        }
                    };
                }
                Sent::Answered(told) => {
                    self.note_definition(statement.class);
                    self.after(&mut connection, sql, statement, &decision, &told);
                    self.account(server, sql, &decision, began, &told);
                    self.put_away(connection);
                    return Ok(Next::Command);
                }
                Sent::Lost(Broken::Client(lost), _) => return Err(lost),
                Sent::Lost(broken, has_forwarded) => {
                    let is_again = !has_forwarded
                        && tries < TRIES
                        && decision.target == Target::Replica
                        && !decision.same_connection
                        && self.state.transaction().is_none();
                    self.note_trouble(server, &broken);
                    if is_again {
                        self.worker.shared.count_trouble(Trouble::Retried);
                        continue;
                    }
                    return self
                        .lost(connection, reply, &broken, has_forwarded, &decision)
                        .await;
                }
            }
        }
    }

    /// Whether what a server refuses as a write may still run elsewhere, or later.
    pub(super) fn may_turn_back(&self, decision: &Decision, class: Class) -> bool {
        let is_whole = match decision.target {
            Target::Replica => true,
            // What may have done something before it was refused is not done again.
            Target::Primary => {
                matches!(class, Class::Write | Class::Ddl) && !self.state.holds_primary()
            }
            Target::Both | Target::Proxy => false,
        };
        is_whole && !decision.same_connection && self.state.transaction().is_none()
    }

    /// A server took something for a write and takes none: a replica, which has others run it, or
    /// the primary that was, which somebody has just made read-only. After a moment there is
    /// another; as long as there is none the client waits as for any.
    pub(super) async fn turn_back(
        &mut self,
        server: usize,
        decision: Decision,
        refused: Vec<u8>,
        began: Instant,
    ) -> Result<Decision, Vec<u8>> {
        let shared = &self.worker.shared;
        if decision.target == Target::Primary {
            self.tell_trouble(server, "it was the primary, and takes no writes");
            shared.count_trouble(Trouble::PrimaryReadOnly);
            let end = began + shared.now().primary_wait;
            let goes_on = self.wait_for_another(end.into()).await;
            return if goes_on { Ok(decision) } else { Err(refused) };
        }
        shared.count_trouble(Trouble::TurnedBack);
        self.tell_trouble(server, "it refused as a write what reads by its words");
        Ok(Decision {
            target: Target::Primary,
            ..decision
        })
    }

    /// Sends a command and relays its answer.
    pub(super) async fn exchange(
        &mut self,
        connection: &mut Connection,
        framed: &[u8],
        reply: u8,
        asked: Asked,
    ) -> Sent {
        let Self {
            running,
            client,
            capabilities,
            worker,
            face,
            wanted,
            ..
        } = self;
        let shared = &worker.shared;
        let consistency = shared.consistency();
        let is_global = consistency == Consistency::Global;
        // A replica refuses it.
        let may_write = asked.may_write
            && consistency != Consistency::Eventual
            && worker.view().primary == Ok(connection.server);
        let _running = running.run(connection.server, connection.number);
        if let Err(lost) = connection.peer.write_all(framed).await {
            return Sent::Lost(Broken::Server(lost), false);
        }
        let of_server = connection.capabilities;
        let Connection { peer, watch, .. } = connection;
        watch.begin(asked.expect, reply);
        let mut told = Told::default();
        let mut relay = Relay {
            client,
            server: peer,
            watch,
            has_forwarded: false,
        };
        // MariaDB tells the columns first, which the client has then.
        let (mut is_first, mut turned_back) = (true, None);
        let mut see = |event: &Event<'_>, instead: &mut Vec<u8>| {
            if asked.turns
                && std::mem::take(&mut is_first)
                && let Packet::Refused(refused) = event.packet
                && takes_no_writes(&refused)
            {
                turned_back = Some(refusal(&refused));
                return Treatment::Drop;
            }
            let treatment = told.see(event, *capabilities, instead);
            // Known to be before the client knows that it is done.
            if may_write && cannot_tell(event, of_server) {
                wanted.add_untold(shared.untold.take());
            }
            // Known to all before the client knows that it is done.
            if is_global && let Some(written) = told.written(face.family) {
                shared.note_written(&written);
            }
            treatment
        };
        let relayed = relay.run(&mut see).await;
        let has_forwarded = relay.has_forwarded;
        match (relayed, turned_back) {
            // Nothing has been written: that is what it says.
            (Ok(()), Some(refused)) => Sent::TurnedBack(refused),
            (Ok(()), None) => {
                if let Some(status) = told.status {
                    connection.status = status;
                }
                Sent::Answered(told)
            }
            (Err(broken), _) => Sent::Lost(broken, has_forwarded),
        }
    }

    /// Brings the session up to date.
    pub(super) fn after(
        &mut self,
        connection: &mut Connection,
        sql: &[u8],
        statement: &Statement,
        decision: &Decision,
        told: &Told,
    ) {
        let variables: Vec<(&[u8], &[u8])> = told
            .variables
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
            .collect();
        let answer = Answer {
            succeeded: !told.failed,
            status: told.status.map(|status| status.0),
            last_insert_id: told.insert_id,
            schema: told.schema.as_deref(),
            variables: &variables,
            state_changed: told.state_changed,
            warnings: told.warnings,
            calls_only_read: self.calls_only_read(sql, statement),
        };
        let before = self.state.remembered().number();
        self.state.after(sql, statement, decision, &answer);
        if let Some(status) = told.status {
            self.status = Status(
                status.0
                    & (Status::IN_TRANSACTION.0
                        | Status::AUTOCOMMIT.0
                        | Status::NO_BACKSLASH_ESCAPES.0),
            );
        }
        // What was set just now is on this connection.
        if connection.state.variables == before {
            connection.state.variables = self.state.remembered().number();
        }
        if let Some(schema) = &told.schema {
            connection.state.schema = schema.as_slice().into();
        }
        if let Some(written) = told.written(self.face.family) {
            self.wanted.add(&written);
        }
    }

    /// The server was lost.
    pub(super) async fn lost(
        &mut self,
        connection: Connection,
        reply: u8,
        broken: &Broken,
        has_forwarded: bool,
        decision: &Decision,
    ) -> Result<Next, Lost> {
        self.worker.shared.count_trouble(Trouble::ServerLost);
        let sequence = if has_forwarded {
            connection.watch.next_sequence()
        } else {
            reply
        };
        if !connection.watch.is_inside_packet() {
            self.refuse_at(sequence, &lost_words(broken)).await?;
        }
        let goes_on = decision.target == Target::Replica
            && self.state.transaction().is_none()
            && !connection.watch.is_inside_packet();
        drop(connection);
        // As without a proxy: what was open is gone, and the client has to begin anew.
        Ok(if goes_on { Next::Command } else { Next::End })
    }

    async fn client_refused(&mut self, reply: u8, payload: &[u8]) -> Result<(), Lost> {
        let mut sequence = reply;
        self.client.send(&mut sequence, payload).await
    }

    /// Whether a session goes on whose statement could not be sent.
    pub(super) fn after_refusal(&self, decision: &Decision) -> Next {
        let had_something = decision.target != Target::Replica && self.state.holds_primary()
            || self.state.holds_replica();
        if had_something {
            Next::End
        } else {
            Next::Command
        }
    }

    pub(super) fn note_trouble(&self, server: usize, broken: &Broken) {
        self.tell_trouble(server, &broken.to_string());
    }

    pub(super) fn tell_trouble(&self, server: usize, sentence: &str) {
        let shared = &self.worker.shared;
        let name = &shared.settings.servers[server].name;
        shared.tell_rarely(&format!("mysql: server {name}: {sentence}"));
    }

    /// What no server is asked for.
    async fn answer_itself(
        &mut self,
        reply: u8,
        sql: &[u8],
        statement: &Statement,
        decision: &Decision,
    ) -> Result<Next, Lost> {
        self.running.decided(decision.target, decision.reason);
        if decision.reason == Reason::Kill || statement.class == Class::Kill {
            return self.kill_statement(reply, sql).await;
        }
        let answer = Answer {
            succeeded: true,
            status: None,
            ..Answer::default()
        };
        self.state.after(sql, statement, decision, &answer);
        self.done(reply).await?;
        Ok(Next::Command)
    }

    /// Sends a command to the primary that nothing is known of but what its answer looks like.
    pub(super) async fn pass_on(
        &mut self,
        framed: &[u8],
        reply: u8,
        command: Command,
    ) -> Result<Next, Lost> {
        let Some(expect) = command.expects() else {
            let unknown = Refusal::new(1047, b"08S01", "Unknown command");
            self.refuse(&unknown).await?;
            return Ok(Next::Command);
        };
        let nothing = classify(b"", self.state.dialect());
        let decision = route(&self.state, b"", &nothing, 0, &());
        self.run_statement(framed, reply, expect, (b"", &nothing, decision))
            .await
    }
}

/// Whether an answer ends in a way that has no room for what was written.
const fn cannot_tell(event: &Event<'_>, of_server: Capabilities) -> bool {
    match &event.packet {
        Packet::Done(done) => done.is_end && !of_server.has(Capabilities::DEPRECATE_EOF),
        Packet::Refused(_) => true,
        Packet::ColumnsEnd(_)
        | Packet::Progress
        | Packet::Columns(_)
        | Packet::Prepared(_)
        | Packet::File(_)
        | Packet::Text(_) => false,
    }
}

/// Whether this is the error of a server that is read-only.
fn takes_no_writes(refused: &Refusal<'_>) -> bool {
    let names = |option: &[u8]| {
        refused
            .message
            .windows(option.len())
            .any(|part| part == option)
    };
    match refused.code {
        OPTION_PREVENTS => names(b"read-only") || names(b"read_only"),
        code => code == READ_ONLY_MODE,
    }
}

/// The payload of an error.
pub(super) fn refusal(refusal: &Refusal<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    refusal.put(&mut payload);
    payload
}

/// Keeps the framing in one place.
pub(super) fn framed(payload: &[u8]) -> (Vec<u8>, u8) {
    let mut out = Vec::with_capacity(payload.len() + HEADER);
    let mut sequence = 0;
    packet::put(&mut out, &mut sequence, payload);
    (out, sequence)
}
