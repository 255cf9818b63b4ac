//! One client, from its login to its end.

use std::io::{self, Write as _};

use lb_mysql::{
    auth::{
        Channel, Nonce, client,
        server::{self, Action, Claim},
    },
    wire::{
        Capabilities,
        change_user::ChangeUser,
        command::{Command, Request},
        error::{ERR, Refusal},
        ok::Done,
        packet::{self, Measure},
        reply::{FileWatch, Packet, Watch},
        response::Response,
    },
};

use super::{
    House,
    common::{Connection, Fallible, secure},
};

/// A command is no longer than that.
const MOST_COMMAND: usize = 64 << 20;

/// A client and its server.
pub(crate) struct Session<'h> {
    pub(crate) house: &'h House,
    pub(crate) client: Connection,
    pub(crate) server: Connection,
    pub(crate) channel: Channel,
    /// To the server.
    pub(crate) server_channel: Channel,
    /// Agreed on with the client, and with the server.
    pub(crate) capabilities: (Capabilities, Capabilities),
    pub(crate) is_mariadb: bool,
    /// Of the server's greeting.
    pub(crate) plugin: Vec<u8>,
    pub(crate) nonce: [u8; 20],
}

impl Session<'_> {
    /// Lets the client say who it is, until a server can be asked.
    fn claim(&mut self, mut login: server::Login, first: Action) -> Fallible<Option<Claim>> {
        let mut action = first;
        loop {
            action = match action {
                Action::Send(payload) => {
                    self.client.send(&payload)?;
                    login.feed(&self.client.receive()?)
                }
                Action::Key => login.key(self.house.pair().public()),
                Action::Unseal(sealed) => login.unsealed(sealed.open(self.house.pair())),
                Action::Judge(claim) => {
                    println!("  {:?}", claim.basis);
                    return Ok(Some(claim));
                }
                Action::Refuse(refusal) => {
                    self.refuse(refusal)?;
                    return Ok(None);
                }
            };
        }
    }

    fn refuse(&mut self, refusal: Refusal<'_>) -> Fallible<()> {
        let mut out = Vec::new();
        refusal.put(&mut out);
        self.client.send(&out)
    }

    /// Passes the server's decision on.
    fn decided(&mut self, user: &[u8], claim: &Claim, decision: &[u8]) -> Fallible<bool> {
        let is_let_in = decision.first() != Some(&ERR);
        self.house.remember(user, claim, is_let_in);
        if !is_let_in {
            self.client.send(decision)?;
            return Ok(false);
        }
        if let Some(before) = claim.before_ok() {
            self.client.send(before)?;
        }
        let (client, server) = self.capabilities;
        // MariaDB's proof of the server's certificate says nothing about ours.
        let done = Done {
            info: b"",
            ..Done::read(decision, server)?
        };
        let mut out = Vec::new();
        done.put(client, &mut out);
        self.client.send(&out)?;
        Ok(true)
    }

    /// The login of a new client.
    pub(crate) fn log_in(&mut self, response: &Response<'_>, greeted: Nonce) -> Fallible<bool> {
        let known = self.house.known(response.user);
        let next = Nonce::random().ok_or("no random numbers")?;
        let mut login = server::Login::new(self.channel, greeted, next, known);
        let first = login.begin(response.plugin, response.proof);
        let Some(claim) = self.claim(login, first)? else {
            return Ok(false);
        };
        let mut head = response.head;
        head.capabilities = match self.server_channel {
            Channel::Tls => self.capabilities.1 | Capabilities::TLS,
            Channel::Plain | Channel::Socket => self.capabilities.1,
        };
        let mut login = client::Login::new(claim.secret.clone(), self.server_channel);
        let first = login.begin(&self.plugin, &self.nonce)?;
        let mut out = Vec::new();
        let towards = Response {
            head,
            proof: &first.proof,
            plugin: Some(first.plugin.name().as_bytes()),
            zstd_level: None,
            ..*response
        };
        if self.server_channel == Channel::Tls {
            towards.put_tls_request(&mut out);
            self.server.send(&out)?;
            let stream = std::mem::replace(&mut self.server.stream, Box::new(io::empty()));
            self.server.stream = Box::new(secure(stream)?);
            out.clear();
        }
        towards.put(&mut out);
        self.server.send(&out)?;
        let decision = self.server.log_in(login)?;
        self.decided(response.user, &claim, &decision)
    }

    fn change_user(&mut self, payload: &[u8]) -> Fallible<bool> {
        let (client, server) = self.capabilities;
        let change = ChangeUser::read(payload, client)?;
        let known = self.house.known(change.user);
        let nonces = (Nonce::random(), Nonce::random());
        let (Some(greeted), Some(next)) = nonces else {
            return Err("no random numbers".into());
        };
        let mut login = server::Login::new(self.channel, greeted, next, known);
        let first = login.begin_again(change.plugin, change.proof);
        let Some(claim) = self.claim(login, first)? else {
            return Ok(false);
        };
        let mut login = client::Login::new(claim.secret.clone(), self.server_channel);
        let first = login.begin(&self.plugin, &self.nonce)?;
        let towards = ChangeUser {
            proof: &first.proof,
            plugin: Some(first.plugin.name().as_bytes()),
            ..change
        };
        let mut out = Vec::new();
        towards.put(server, &mut out);
        self.server.sequence = 0;
        self.server.send(&out)?;
        let decision = self.server.log_in(login)?;
        self.decided(change.user, &claim, &decision)
    }

    /// Carries commands and replies until the client leaves.
    pub(crate) fn serve(&mut self) -> Fallible<()> {
        let mut watch = Watch::new(self.capabilities.1);
        loop {
            let extent = loop {
                match packet::measure(&self.client.buffer, 0, MOST_COMMAND)? {
                    Measure::Whole(extent) => break extent,
                    Measure::Needs(_) => self.client.fill()?,
                }
            };
            let raw: Vec<u8> = self.client.buffer.drain(..extent.bytes).collect();
            self.client.sequence = extent.next_sequence;
            let payload = packet::payload(&raw);
            let command = payload.first().copied().and_then(Command::from_byte);
            if let Err(error) = Request::read(&payload, self.capabilities.0) {
                println!("  {error}: {command:?}");
            }
            match command {
                Some(Command::ChangeUser) => {
                    // MariaDB leaves a session as it was, MySQL closes.
                    let stays = self.change_user(&payload)? || self.is_mariadb;
                    if !stays {
                        return Ok(());
                    }
                    continue;
                }
                Some(Command::Quit) => return Ok(()),
                _ => {}
            }
            let Some(expect) = command.and_then(Command::expects) else {
                self.refuse(Refusal::new(1047, b"08S01", "Unknown command"))?;
                continue;
            };
            self.server.stream.write_all(&raw)?;
            watch.begin(expect, extent.next_sequence);
            self.follow(&mut watch)?;
        }
    }

    /// Carries a reply.
    fn follow(&mut self, watch: &mut Watch) -> Fallible<()> {
        let client = self.capabilities.0;
        while !watch.is_ended() {
            let step = watch.feed(&self.server.buffer)?;
            let mut out = self.server.buffer[..step.forward].to_vec();
            let mut used = step.forward;
            let (mut file, must_read) = (None, step.event.is_none() && !step.is_last);
            if let Some(event) = step.event {
                used += event.raw.len();
                match event.packet {
                    Packet::Done(done) | Packet::ColumnsEnd(done) if !done.fits(client) => {
                        let mut sequence = event.sequence;
                        packet::put_with(&mut out, &mut sequence, |out| done.put(client, out));
                    }
                    Packet::File(_) => {
                        file = Some(event.sequence);
                        out.extend_from_slice(event.raw);
                    }
                    Packet::Done(_)
                    | Packet::ColumnsEnd(_)
                    | Packet::Refused(_)
                    | Packet::Progress
                    | Packet::Columns(_)
                    | Packet::Prepared(_)
                    | Packet::Text(_) => out.extend_from_slice(event.raw),
                }
            }
            self.server.buffer.drain(..used);
            self.client.stream.write_all(&out)?;
            if let Some(request) = file {
                self.carry_file(watch, request)?;
            } else if must_read {
                self.client.stream.flush()?;
                self.server.fill()?;
            }
        }
        Ok(self.client.stream.flush()?)
    }

    fn carry_file(&mut self, watch: &mut Watch, request: u8) -> Fallible<()> {
        self.client.stream.flush()?;
        let mut file = FileWatch::new(request);
        loop {
            let used = file.feed(&self.client.buffer)?;
            self.server.stream.write_all(&self.client.buffer[..used])?;
            self.client.buffer.drain(..used);
            if file.is_ended() {
                watch.file_sent(file.next_sequence());
                return Ok(());
            }
            self.client.fill()?;
        }
    }
}
