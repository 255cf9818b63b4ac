//! Commands that are no statements: the session anew, another user, another database.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    login::{self, Turned},
    peer::Lost,
    session::{Next, Session},
};
use crate::{
    auth::{Nonce, server::Login},
    gtid::Family,
    route,
    sql::classify,
    wire::{Status, change_user::ChangeUser, command::Command, error::Refusal, reply::Expect},
};

/// How often a session may be refused another user, so that it is no way to guess passwords:
/// MariaDB's number.
const MOST_REFUSED_USERS: u8 = 3;
/// Bytes of a request for another user: as of a login.
const MOST_CHANGE: usize = 72 << 10;
/// How long a client may take to prove who it is.
const PATIENCE: Duration = Duration::from_secs(10);

impl Session {
    /// `COM_RESET_CONNECTION`: connections are reset when they are next used.
    pub(super) async fn reset(&mut self, reply: u8) -> Result<Next, Lost> {
        self.begin_anew().await;
        self.state.reset();
        self.done(reply).await?;
        Ok(Next::Command)
    }

    /// Gives all connections away, as somebody else's.
    async fn begin_anew(&mut self) {
        self.leave().await;
        self.life = self.life.wrapping_add(1);
        self.prepared.clear();
        self.replica = None;
        self.home = None;
        self.status = Status::AUTOCOMMIT;
    }

    /// `COM_CHANGE_USER`: a login on the same connection. The session begins anew whether the client
    /// is let in or not.
    pub(super) async fn change_user(&mut self, payload: &[u8], reply: u8) -> Result<Next, Lost> {
        let unknown = Refusal::new(1047, b"08S01", "Unknown command");
        let Ok(change) = ChangeUser::read(payload, self.capabilities) else {
            self.refuse(&unknown).await?;
            return Ok(Next::End);
        };
        if payload.len() > MOST_CHANGE {
            self.refuse(&unknown).await?;
            return Ok(Next::End);
        }
        self.begin_anew().await;
        if self.refused_users >= MOST_REFUSED_USERS {
            self.state.reset();
            self.refuse(&unknown).await?;
            return Ok(Next::Command);
        }
        let changed = timeout(PATIENCE, self.log_in_anew(&change, reply)).await;
        match changed.unwrap_or(Err(Turned::Away)) {
            Ok(()) => Ok(Next::Command),
            Err(Turned::Away) => Ok(Next::End),
            Err(Turned::Refused(trouble)) => {
                self.worker.shared.count_trouble(trouble);
                self.state.reset();
                self.refused_users += 1;
                // MySQL closes; with MariaDB the client is who it was.
                Ok(match self.face.family {
                    Family::MySql => Next::End,
                    Family::MariaDb => Next::Command,
                })
            }
        }
    }

    async fn log_in_anew(
        &mut self,
        change: &ChangeUser<'_>,
        mut sequence: u8,
    ) -> Result<(), Turned> {
        let next = Nonce::random().ok_or(Turned::Away)?;
        let worker = self.worker.clone();
        let client = &mut self.client;
        let known = login::known(&worker, change.user);
        let channel = super::connect::channel(client);
        let mut login = Login::new(channel, self.nonce, next, known);
        let action = login.begin_again(change.plugin, change.proof);
        let claimed = login::converse(&worker, client, &mut sequence, &mut login, action).await;
        self.nonce = login.nonce();
        let claim = claimed?;
        let place = if *change.user == *self.identity.user {
            self.identity.place.clone()
        } else {
            login::enter_user(&worker, client, &mut sequence, change.user).await?
        };
        let identity = login::Identity {
            place,
            user: change.user.into(),
            secret: claim.secret.clone(),
            collation: change.collation.unwrap_or(self.identity.collation),
            database: (!change.database.is_empty()).then(|| change.database.into()),
            attributes: change.attributes.bytes().into(),
            is_private: self.identity.is_private,
        };
        let judged = login::judge(
            &worker,
            client,
            &mut sequence,
            (&identity, &self.running),
            &claim,
            self.capabilities,
        );
        let judged = judged.await?;
        self.state = route::Session::new(
            super::session::dialect(&self.face, &identity),
            identity.database.as_deref(),
        );
        self.identity = identity;
        self.status = judged.connection.status;
        self.put_away(judged.connection);
        Ok(())
    }

    /// `COM_INIT_DB`: as USE, of which the server tells what became.
    pub(super) async fn init_database(
        &mut self,
        framed: &[u8],
        reply: u8,
        schema: &[u8],
    ) -> Result<Next, Lost> {
        let mut sql = b"USE `".to_vec();
        for byte in schema {
            sql.extend(std::iter::repeat_n(*byte, 1 + usize::from(*byte == b'`')));
        }
        sql.push(b'`');
        let statement = classify(&sql, self.state.dialect());
        let decision = self.decide(&sql, &statement);
        self.run_statement(framed, reply, Expect::Done, (&sql, &statement, decision))
            .await
    }

    /// `COM_SET_OPTION`.
    pub(super) async fn set_multi_statements(
        &mut self,
        framed: &[u8],
        reply: u8,
        on: bool,
    ) -> Result<Next, Lost> {
        self.multi_statements = Some(on);
        self.pass_on(framed, reply, Command::SetOption).await
    }
}
