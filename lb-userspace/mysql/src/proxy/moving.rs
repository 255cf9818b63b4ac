//! A session goes along to another primary, where it had nothing at the former one that would be
//! lost: `autocommit` and the last generated id are set anew.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    connection::{Answer, Connection},
    obtain::{Unobtained, first_value},
    place::run_on,
    session::Session,
};
use crate::wire::Status;

/// For the former primary to say what a session had there.
const PATIENCE: Duration = Duration::from_secs(1);
const ASK: &str = "SELECT LAST_INSERT_ID()";

impl Session {
    /// Leaves the connection to the former primary that it may not exchange otherwise. What another
    /// one has to be told in its place; nothing if the session cannot leave.
    pub(super) async fn leave_home(&mut self) -> Option<Vec<String>> {
        let home = self.home?;
        if !self.state.may_move() {
            return None;
        }
        let at = self.held.iter().position(|held| held.server == home)?;
        let mut connection = self.held.swap_remove(at);
        let is_idle = connection.is_alive()
            && !connection.has_open()
            && !connection.status.has(Status::IN_TRANSACTION);
        if !is_idle {
            return None;
        }
        let mut statements = Vec::new();
        if !connection.status.has(Status::AUTOCOMMIT) {
            statements.push("SET autocommit = 0".to_owned());
        }
        let id = timeout(PATIENCE, last_id(&mut connection)).await.ok()??;
        if id != 0 {
            statements.push(format!("SET last_insert_id = {id}"));
        }
        connection.quit();
        self.home = None;
        Some(statements)
    }
}

async fn last_id(connection: &mut Connection) -> Option<u64> {
    match connection.query(ASK).await.ok()? {
        Answer::Rows(columns, rows) => {
            let value = first_value(columns, &rows)?;
            std::str::from_utf8(value).ok()?.parse().ok()
        }
        Answer::Done | Answer::Refused(_) => None,
    }
}

/// Tells a connection what a session had at the former primary.
pub(super) async fn arrive(
    connection: &mut Connection,
    statements: &[String],
) -> Result<(), Unobtained> {
    for statement in statements {
        run_on(connection, statement.as_bytes()).await?;
    }
    Ok(())
}
