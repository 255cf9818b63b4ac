//! Commands that are no statements: the session anew, another user, KILL.

use super::{
    connect::Failure,
    login,
    peer::Lost,
    query::refusal,
    session::{Next, Session},
};
use crate::{
    auth::{Nonce, server::Login},
    route,
    sql::{Class, classify},
    wire::{change_user::ChangeUser, command::Command, error::Refusal},
};

impl Session {
    /// `COM_RESET_CONNECTION`: connections are reset when they are next used.
    pub(super) async fn reset(&mut self, reply: u8) -> Result<Next, Lost> {
        self.begin_anew();
        self.state.reset();
        self.done(reply).await?;
        Ok(Next::Command)
    }

    /// Gives all connections away, as somebody else's.
    pub(super) fn begin_anew(&mut self) {
        self.leave();
        self.life = self.life.wrapping_add(1);
        self.prepared.clear();
        self.replica = None;
        self.home = None;
    }

    /// `COM_CHANGE_USER`: a login on the same connection.
    pub(super) async fn change_user(&mut self, payload: &[u8], reply: u8) -> Result<Next, Lost> {
        let Ok(change) = ChangeUser::read(payload, self.capabilities) else {
            self.refuse(&Refusal::new(1047, b"08S01", "Unknown command"))
                .await?;
            return Ok(Next::End);
        };
        let (Some(nonce), Some(next)) = (Nonce::random(), Nonce::random()) else {
            return Ok(Next::End);
        };
        let worker = self.worker.clone();
        let known = login::known(&worker, change.user);
        let channel = super::connect::channel(&self.client);
        let mut login = Login::new(channel, nonce, next, known);
        let action = login.begin_again(change.plugin, change.proof);
        let mut sequence = reply;
        let claimed = login::converse(&worker, &mut self.client, &mut sequence, &mut login, action);
        let Ok(claim) = claimed.await else {
            return Ok(Next::End);
        };
        let identity = login::Identity {
            user: change.user.into(),
            secret: claim.secret.clone(),
            collation: change.collation.unwrap_or(self.identity.collation),
            database: (!change.database.is_empty()).then(|| change.database.into()),
            attributes: change.attributes.bytes().into(),
            is_private: self.identity.is_private,
        };
        self.begin_anew();
        let judged = login::judge(
            &worker,
            &mut self.client,
            &mut sequence,
            &identity,
            &claim,
            self.capabilities,
        )
        .await;
        let Ok(judged) = judged else {
            return Ok(Next::End);
        };
        self.state = route::Session::new(
            super::session::dialect(&self.face, &identity),
            identity.database.as_deref(),
        );
        self.identity = identity;
        self.put_away(judged.connection);
        Ok(Next::Command)
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

    /// KILL as a statement.
    pub(super) async fn kill_statement(&mut self, reply: u8, sql: &[u8]) -> Result<Next, Lost> {
        let statement = classify(sql, self.state.dialect());
        let words = String::from_utf8_lossy(sql).to_ascii_uppercase();
        let number = words
            .trim_end_matches([';', ' ', '\n', '\t', '\r'])
            .rsplit(|character: char| character.is_ascii_whitespace())
            .next()
            .and_then(|word| word.parse::<u32>().ok());
        match number.filter(|_| statement.class == Class::Kill) {
            Some(number) => {
                let of_query = words.contains("QUERY");
                self.kill(reply, number, of_query).await
            }
            None => {
                let odd = "lb takes KILL and KILL QUERY with the number of a connection; for others \
                           connect to the server";
                self.refuse(&Refusal::new(1235, b"42000", odd)).await?;
                Ok(Next::Command)
            }
        }
    }

    /// Ends a session of this proxy, or what it runs.
    pub(super) async fn kill(
        &mut self,
        reply: u8,
        session: u32,
        only_statement: bool,
    ) -> Result<Next, Lost> {
        let shared = self.worker.shared.clone();
        let Some(running) = shared.running(session) else {
            let words = format!("Unknown thread id: {session}");
            self.refuse(&Refusal::new(1094, b"HY000", &words)).await?;
            return Ok(Next::Command);
        };
        let view = self.worker.view();
        // Whoever may do it is for the server to say: by a connection of this user.
        let (server, statement) = match running.at() {
            Some((server, number)) if only_statement => (server, format!("KILL QUERY {number}")),
            Some((server, number)) => (server, format!("KILL {number}")),
            None => {
                if !only_statement {
                    running.end.notify_one();
                }
                self.done(reply).await?;
                return Ok(Next::Command);
            }
        };
        let who = self.identity.who(self.capabilities);
        let refused = match self.worker.log_in(server, &who, view.epoch).await {
            Ok(mut judged) => match judged.connection.query(&statement).await {
                Ok(super::connection::Answer::Refused(payload)) => Some(payload),
                Ok(_) => None,
                Err(broken) => Some(refusal(&super::session::lost_words(&broken))),
            },
            Err(Failure::Refused(payload)) => Some(payload),
            Err(Failure::Trouble(sentence)) => {
                Some(refusal(&Refusal::new(1105, b"HY000", &sentence)))
            }
        };
        if let Some(payload) = refused {
            let mut sequence = reply;
            self.client.send(&mut sequence, &payload).await?;
            return Ok(Next::Command);
        }
        if !only_statement {
            running.end.notify_one();
        }
        self.done(reply).await?;
        Ok(Next::Command)
    }
}
