//! KILL: numbers that clients know are those of the proxy's sessions, or those that the primary's
//! process list shows. Whoever may do it is for a server to say.

use std::time::Duration;

use super::{
    connect::Failure,
    connection::Answer,
    login,
    peer::Lost,
    query::refusal,
    session::{Next, Session, lost_words},
};
use crate::{gtid::Family, wire::error::Refusal};

/// How long a session may take to end that is killed: one that does something ends behind it.
const GRACE: Duration = Duration::from_millis(500);

/// What a KILL is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    session: u32,
    /// Whether the session goes on.
    only_statement: bool,
}

impl Order {
    /// Reads a statement; nothing where it is about something else than one session.
    fn read(sql: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(sql).ok()?.to_ascii_uppercase();
        let text = text.trim_end_matches(|end: char| end == ';' || end.is_ascii_whitespace());
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let rest = words.strip_prefix(&["KILL"])?;
        let rest = match rest {
            ["HARD" | "SOFT", rest @ ..] | rest => rest,
        };
        let (only_statement, number) = match rest {
            ["QUERY", number] => (true, number),
            ["CONNECTION", number] | [number] => (false, number),
            _ => return None,
        };
        Some(Self {
            session: number.parse().ok()?,
            only_statement,
        })
    }

    fn statement(self, number: u32) -> String {
        let what = if self.only_statement { "QUERY " } else { "" };
        format!("KILL {what}{number}")
    }
}

impl Session {
    /// KILL as a statement.
    pub(super) async fn kill_statement(&mut self, reply: u8, sql: &[u8]) -> Result<Next, Lost> {
        match Order::read(sql) {
            Some(order) => self.kill_session(reply, order).await,
            None => {
                let odd = "lb takes KILL and KILL QUERY with the number of a connection; for others \
                           connect to the server";
                let odd = refusal(&Refusal::new(1235, b"42000", odd));
                self.give_up(reply, &odd).await
            }
        }
    }

    /// `COM_PROCESS_KILL`.
    pub(super) async fn kill(&mut self, reply: u8, session: u32) -> Result<Next, Lost> {
        let order = Order {
            session,
            only_statement: false,
        };
        self.kill_session(reply, order).await
    }

    async fn kill_session(&mut self, reply: u8, order: Order) -> Result<Next, Lost> {
        if order.session == self.number {
            return self.kill_itself(reply, order).await;
        }
        let Some(running) = self.worker.shared.sessions.get(order.session) else {
            return self.kill_at_primary(reply, order).await;
        };
        let judged = match running.at() {
            Some((server, number)) => self.kill_there(server, &order.statement(number)).await,
            None => self.may_kill(&running.user()).await,
        };
        if let Err(payload) = judged {
            let payload = in_its_words(payload, order.session);
            return self.give_up(reply, &payload).await;
        }
        if !order.only_statement {
            running.end.notify_one();
            // Clients look whether they were killed before they send something: whoever knows that
            // a session is killed finds it so.
            running.ended(GRACE).await;
        }
        self.done(reply).await?;
        Ok(Next::Command)
    }

    /// What is none of the proxy's sessions is one of the primary's connections, or nobody's.
    async fn kill_at_primary(&mut self, reply: u8, order: Order) -> Result<Next, Lost> {
        let killed = match self.primary().await {
            Ok(server) => {
                let statement = order.statement(order.session);
                self.kill_there(server, &statement).await
            }
            Err(refused) => Err(refused),
        };
        match killed {
            Ok(()) => {
                self.done(reply).await?;
                Ok(Next::Command)
            }
            Err(refused) => self.give_up(reply, &refused).await,
        }
    }

    async fn kill_itself(&mut self, reply: u8, order: Order) -> Result<Next, Lost> {
        let (killed, next) = match (order.only_statement, self.face.family) {
            (true, _) => (interrupted(), Next::Command),
            (false, Family::MySql) => (interrupted(), Next::End),
            (false, Family::MariaDb) => (
                Refusal::new(1927, b"70100", "Connection was killed"),
                Next::End,
            ),
        };
        self.give_up(reply, &refusal(&killed)).await?;
        Ok(next)
    }

    /// Has a server kill, by a connection of this user.
    async fn kill_there(&self, server: usize, statement: &str) -> Result<(), Vec<u8>> {
        let who = self.identity.who(self.capabilities);
        let epoch = self.worker.view().epoch;
        let failed = |failure| match failure {
            Failure::Refused(payload) | Failure::Full(payload) => payload,
            Failure::Trouble(sentence) => refusal(&Refusal::new(1105, b"HY000", &sentence)),
        };
        let judged = self.worker.log_in_beside(server, &who, epoch).await;
        let mut connection = judged.map_err(failed)?.connection;
        match connection.query(statement).await {
            Ok(Answer::Refused(payload)) => Err(payload),
            Ok(Answer::Done | Answer::Rows(..)) => Ok(()),
            Err(broken) => Err(refusal(&lost_words(&broken))),
        }
    }

    /// Whether this user may kill a session of another one, which has nothing at a server that
    /// could be killed. Everybody may kill their own; for others a connection is made, in the name
    /// of the one to be killed, for a server to judge by.
    async fn may_kill(&self, user: &[u8]) -> Result<(), Vec<u8>> {
        if *user == *self.identity.user {
            return Ok(());
        }
        let server = self.primary().await?;
        let known = login::known(&self.worker, user);
        let Some(secret) = known.secret else {
            return Err(not_owner());
        };
        let mut other = self.identity.clone();
        other.user = user.into();
        other.secret = secret;
        other.database = None;
        let epoch = self.worker.view().epoch;
        let who = other.who(self.capabilities);
        let judged = self.worker.log_in_beside(server, &who, epoch).await;
        let Ok(victim) = judged else {
            return Err(not_owner());
        };
        let number = victim.connection.number;
        self.kill_there(server, &format!("KILL {number}")).await
    }
}

const fn interrupted() -> Refusal<'static> {
    Refusal::new(1317, b"70100", "Query execution was interrupted")
}

fn not_owner() -> Vec<u8> {
    refusal(&Refusal::new(1095, b"HY000", ""))
}

/// A server's refusal with the number that the client knows.
fn in_its_words(payload: Vec<u8>, session: u32) -> Vec<u8> {
    let words = match Refusal::read(&payload).map(|refused| refused.code) {
        Some(1094) => format!("Unknown thread id: {session}"),
        Some(1095) => format!("You are not owner of thread {session}"),
        Some(_) | None => return payload,
    };
    let code = Refusal::read(&payload).map_or(1094, |refused| refused.code);
    refusal(&Refusal::new(code, b"HY000", &words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        let order = |session, only_statement| {
            Some(Order {
                session,
                only_statement,
            })
        };
        for (sql, expected) in [
            ("KILL 7", order(7, false)),
            ("kill connection 7 ; ", order(7, false)),
            ("KILL\tQUERY\n7", order(7, true)),
            ("KILL HARD QUERY 7", order(7, true)),
            ("KILL SOFT 7", order(7, false)),
            ("KILL USER app", None),
            ("KILL QUERY ID 7", None),
            ("KILL CONNECTION_ID()", None),
            ("KILL", None),
            ("KILL 4294967296", None),
        ] {
            assert_eq!(Order::read(sql.as_bytes()), expected, "{sql}");
        }
    }

    #[test]
    fn a_refusal_names_the_number_that_the_client_knows() {
        let payload = refusal(&Refusal::new(
            1095,
            b"HY000",
            "You are not owner of thread 99",
        ));
        let named = in_its_words(payload, 5);
        let named = Refusal::read(&named).map(|refused| refused.message.to_vec());
        assert_eq!(
            named.as_deref(),
            Some(&b"You are not owner of thread 5"[..])
        );
    }
}
