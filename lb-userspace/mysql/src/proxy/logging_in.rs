//! Connections for logins: an idle one that is made the user's, or a new one. However many clients
//! come at once, few are opened at a time, and a server that is full has the idle ones shared.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::{
    sync::{SemaphorePermit, TryAcquireError},
    time::{sleep, timeout},
};

use super::{
    connect::{self, Failure, LoggedIn, Who},
    connection::{Connection, Key},
    shared::Shared,
    worker::Worker,
};
use crate::wire::error::Refusal;

/// Connections to a server that are opened at a time.
pub(super) const AT_A_TIME: usize = 16;
/// How long somebody waits until he may open one.
const PATIENCE: Duration = Duration::from_secs(5);
/// ER_CON_COUNT_ERROR: a server has no room for anybody. What an account is not allowed (1203, 1226)
/// is its own affair, and nobody else loses a connection by it.
const FULL: u16 = 1040;
/// How long a server counts as full that has said so.
const FULL_FOR: Duration = Duration::from_secs(1);
/// Between two attempts at a server that is full.
const AGAIN: Duration = Duration::from_millis(30);

/// Whether a server refuses because it has no room.
pub(super) fn says_full(payload: &[u8]) -> bool {
    Refusal::read(payload).is_some_and(|refusal| refusal.code == FULL)
}

impl Shared {
    /// A server has no room.
    fn note_full(&self, server: usize) {
        let until = (self.began.elapsed() + FULL_FOR).as_millis();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        self.servers[server]
            .full_until
            .store(until, Ordering::Relaxed);
    }

    /// Whether a server has said a moment ago that it has no room.
    pub(super) fn is_full(&self, server: usize) -> bool {
        let until = self.servers[server].full_until.load(Ordering::Relaxed);
        until > 0 && self.began.elapsed().as_millis() < u128::from(until)
    }
}

impl Worker {
    /// A connection for a login. At a server that is full an idle one is waited for.
    pub(super) async fn log_in(
        &self,
        server: usize,
        who: &Who<'_>,
        epoch: u64,
        patience: Duration,
    ) -> Result<LoggedIn, Failure> {
        let end = Instant::now() + patience;
        loop {
            if let Some(outcome) = self.log_in_on_idle(server, who, epoch).await {
                return outcome;
            }
            match self.log_in_anew(server, who, epoch).await {
                Err(Failure::Refused(payload)) if says_full(&payload) => {
                    self.shared.note_full(server);
                    if Instant::now() >= end {
                        return Err(Failure::Refused(payload));
                    }
                    // None of them fits.
                    self.have_idle_closed(server);
                    sleep(AGAIN).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// An idle connection that is made the user's; nothing if there is none.
    async fn log_in_on_idle(
        &self,
        server: usize,
        who: &Who<'_>,
        epoch: u64,
    ) -> Option<Result<LoggedIn, Failure>> {
        loop {
            let mut connection = self.idle(server, who)?;
            if connection.epoch != epoch || !connection.is_alive() {
                continue;
            }
            match connect::change_user(&mut connection, who).await {
                Ok(ok) => {
                    return Some(Ok(LoggedIn {
                        connection,
                        ok,
                        greeted: None,
                    }));
                }
                // The server closes it.
                Err(Failure::Refused(payload)) => return Some(Err(Failure::Refused(payload))),
                // It was dead after all.
                Err(Failure::Trouble(_) | Failure::Full(_)) => {}
            }
        }
    }

    fn idle(&self, server: usize, who: &Who<'_>) -> Option<Connection> {
        let key = Key {
            user: who.user.into(),
            capabilities: who.capabilities.shaping(),
            is_tls: who.is_private,
        };
        let takes_warm = self.takes_warm(server);
        let mut pool = self.pool.borrow_mut();
        pool.any(server, &key, Instant::now(), takes_warm)
    }

    async fn log_in_anew(
        &self,
        server: usize,
        who: &Who<'_>,
        epoch: u64,
    ) -> Result<LoggedIn, Failure> {
        let (_opens, has_waited) = self.may_open(server).await?;
        // Others that have come in meanwhile may have left one.
        if has_waited && let Some(outcome) = self.log_in_on_idle(server, who, epoch).await {
            return outcome;
        }
        let place = self.place(server).await?;
        let mut logged_in = connect::connect(&self.shared, server, who, epoch).await?;
        logged_in.connection.room.place = place;
        Ok(logged_in)
    }

    /// Leave to open a connection, and whether that was waited for.
    async fn may_open(&self, server: usize) -> Result<(SemaphorePermit<'_>, bool), Failure> {
        let opening = &self.shared.servers[server].opening;
        match opening.try_acquire() {
            Ok(permit) => return Ok((permit, false)),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {}
        }
        let permit = timeout(PATIENCE, opening.acquire()).await;
        let permit = permit
            .ok()
            .and_then(Result::ok)
            .map(|permit| (permit, true));
        permit.ok_or_else(|| {
            Failure::Trouble(format!(
                "{AT_A_TIME} connections to it are being opened, for {} s",
                PATIENCE.as_secs()
            ))
        })
    }

    /// Whether connections that others have used a moment ago are to be taken over.
    pub(super) fn takes_warm(&self, server: usize) -> bool {
        self.is_short_of_places(server) || self.shared.is_full(server)
    }
}
