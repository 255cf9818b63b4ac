//! A statement was answered: it is counted, and told of if it took long.

use std::time::{Duration, Instant};

use super::session::{Session, Told};
use crate::{
    digest::{self, Seen},
    route::Decision,
    sql::Dialect,
};

/// What there is to tell of a statement that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered<'a> {
    pub(super) sql: &'a [u8],
    pub(super) dialect: Dialect,
    pub(super) server: &'a str,
    pub(super) decision: &'a Decision,
    pub(super) took: Duration,
    pub(super) failed: bool,
    pub(super) user: &'a [u8],
    pub(super) session: u32,
}

impl Answered<'_> {
    /// The same as a line.
    pub(super) fn line(&self) -> String {
        let mut text = Vec::new();
        digest::text(self.sql, self.dialect, &mut text);
        let number = digest::number(self.sql, self.dialect);
        let shown = |bytes: &[u8]| -> String {
            let text = String::from_utf8_lossy(bytes);
            let printed = |c: char| if c.is_control() { ' ' } else { c };
            text.chars().map(printed).collect()
        };
        format!(
            "slow statement: {:.3} s at {} ({}/{}){}, user {}, session {}, digest {number:016x}: {}",
            self.took.as_secs_f64(),
            self.server,
            self.decision.target.label(),
            self.decision.reason.label(),
            if self.failed { ", an error" } else { "" },
            shown(self.user),
            self.session,
            shown(&text)
        )
    }
}

impl Session {
    /// A statement was answered by a server.
    pub(super) fn account(
        &self,
        server: usize,
        sql: &[u8],
        decision: &Decision,
        began: Instant,
        told: &Told,
    ) {
        let took = began.elapsed();
        // Where it really ran: the primary answers for replicas that are behind.
        let is_replica = self.worker.view().primary != Ok(server);
        self.worker.count(server, is_replica, decision.reason, took);
        let dialect = self.state.dialect();
        if let Some(digests) = &self.worker.digests
            && !sql.is_empty()
        {
            let seen = Seen {
                is_replica,
                reason: decision.reason,
                took,
                failed: told.failed,
            };
            digests.borrow_mut().note(sql, dialect, &seen);
        }
        let shared = &self.worker.shared;
        if shared.slow.is_slow(took) {
            shared.slow.tell(&Answered {
                sql,
                dialect,
                server: &shared.settings.servers[server].name,
                decision,
                took,
                failed: told.failed,
                user: &self.identity.user,
                session: self.number,
            });
        }
    }
}
