//! What clients send, in bounded memory: what is longer than servers take is not stored, what is
//! long takes a share of a budget first, and whoever stops in the middle is not waited for.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    budget::{Budget, Share},
    peer::{Lost, Peer},
    shared::Shared,
};
use crate::wire::{
    command::Command,
    packet::{self, Extent, FULL, HEADER, Header, Measure},
};

/// Bytes of a command that each session may have without a share.
const FREE: usize = 64 << 10;
/// The same before it has logged in.
const FREE_TO_STRANGERS: usize = 4 << 10;
/// How long nothing may come in the middle of a command, as `net_read_timeout` of servers.
const STALL: Duration = Duration::from_secs(30);
/// How long a command waits for its share: longer than servers wait for locks, so that those who
/// wait for one that this client holds are through by then.
const TURN: Duration = Duration::from_secs(120);
/// Bytes of a command that does not queue up behind the longest.
const SHORT: usize = 1 << 20;
/// Who has a share that others wait for sends so many bytes a second, but for the first seconds.
const RATE: usize = 64 << 10;
const GRACE: Duration = Duration::from_secs(15);
/// How often that is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long a client that has been told an error may go on sending.
const LINGER: Duration = Duration::from_secs(2);

/// A command at the beginning of the inbox.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) extent: Extent,
    /// Of the memory that it takes, until it is done.
    pub(super) share: Option<Share>,
}

/// Why none came.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("{0}")]
    Lost(#[from] Lost),
    #[error("a command was sent too slowly")]
    TooSlow,
    #[error("no memory for a command")]
    NoRoom,
}

impl From<packet::Error> for Unread {
    fn from(error: packet::Error) -> Self {
        Self::Lost(error.into())
    }
}

/// Waits for a command as a whole.
pub(super) async fn command(client: &mut Peer, shared: &Shared) -> Result<Came, Unread> {
    while client.inbox().is_empty() {
        client.more().await?;
    }
    let most = shared.most_command();
    match packet::measure(client.inbox(), 0, most)? {
        Measure::Whole(extent) if extent.bytes <= FREE => Ok(Came {
            extent,
            share: None,
        }),
        // Rare, and not in the memory of each session.
        Measure::Whole(_) | Measure::Needs(_) => {
            let budgets = [&shared.short_commands, &shared.commands];
            Box::pin(rest(client, budgets, most)).await
        }
    }
}

/// Waits for the rest of a command.
async fn rest(client: &mut Peer, budgets: [&Budget; 2], most: usize) -> Result<Came, Unread> {
    let mut share: Option<Share> = None;
    let mut budget = budgets[0];
    let mut since = Instant::now();
    let (mut came_at, mut had) = (since, client.inbox().len());
    loop {
        let measured = packet::measure(client.inbox(), 0, most)?;
        let bytes = match measured {
            Measure::Whole(extent) => extent.bytes,
            Measure::Needs(bytes) => bytes,
        };
        if bytes > FREE && share.is_none() {
            let needed = needed(client.inbox(), bytes, most);
            budget = budgets[usize::from(needed > SHORT)];
            share = Some(budget.take(needed, TURN).await.ok_or(Unread::NoRoom)?);
            since = Instant::now();
            (came_at, had) = (since, client.inbox().len());
        }
        if let Measure::Whole(extent) = measured {
            if let Some(share) = &mut share {
                share.shrink_to(copied(client.inbox(), extent.bytes));
            }
            return Ok(Came { extent, share });
        }
        if share.is_some() {
            client.make_room(bytes);
        }
        if let Ok(more) = timeout(TICK, client.more()).await {
            more?;
            came_at = Instant::now();
        }
        let is_late = share.is_some() && budget.is_awaited() && {
            let late = since.elapsed().saturating_sub(GRACE);
            let due = late.as_secs_f64() * RATE as f64;
            ((client.inbox().len() - had) as f64) < due
        };
        if is_late || came_at.elapsed() >= STALL {
            return Err(Unread::TooSlow);
        }
    }
}

/// Memory for a command of which the first packets are here: as much as it may turn out to need,
/// since two that wait for more of what the other has would wait for ever.
fn needed(begun: &[u8], bytes: usize, most: usize) -> usize {
    let is_open = Header::read(begun).is_some_and(|first| first.length == FULL);
    if is_open {
        copied(begun, most.saturating_add(HEADER))
    } else {
        copied(begun, bytes)
    }
}

/// Memory for a command of so many bytes, with its copies on the way to a server.
fn copied(begun: &[u8], bytes: usize) -> usize {
    let kind = begun.get(HEADER).copied().and_then(Command::from_byte);
    let is_changed = matches!(
        kind,
        Some(Command::Execute | Command::BulkExecute | Command::LongData)
    );
    // One without headers where there are several; what is sent of a prepared statement, and that
    // with its headers.
    let copies = 1 + usize::from(bytes > FULL) + 2 * usize::from(is_changed);
    bytes.saturating_mul(copies)
}

/// A packet of a client that has not logged in, of at most so many bytes: of what comes behind it
/// nothing is read.
pub(super) async fn of_stranger(
    client: &mut Peer,
    shared: &Shared,
    sequence: &mut u8,
    most: usize,
) -> Result<Vec<u8>, Lost> {
    let mut share: Option<Share> = None;
    loop {
        match packet::measure(client.inbox(), *sequence, most)? {
            Measure::Whole(extent) => {
                *sequence = extent.next_sequence;
                let payload = packet::payload(&client.inbox()[..extent.bytes]).into_owned();
                client.consume(extent.bytes);
                return Ok(payload);
            }
            Measure::Needs(bytes) => {
                if bytes > FREE_TO_STRANGERS && share.is_none() {
                    share = shared.logins.take(bytes, TURN).await;
                    if share.is_none() {
                        return Err(packet::Error::TooLong { most }.into());
                    }
                }
                client.more_up_to(bytes - client.inbox().len()).await?;
            }
        }
    }
}

/// Reads away what a client sends that has been told an error, until it has seen it: a connection
/// that is closed with something unread takes back what was said last.
pub(super) async fn drain(client: &mut Peer) {
    client.stream.end_writing().await;
    let all = async {
        loop {
            client.consume(usize::MAX);
            if client.more().await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(LINGER, all).await;
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, sync::Arc};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
        task::{LocalSet, spawn_local},
    };

    use super::{super::stream::Stream, *};

    const MIB: usize = 1 << 20;
    const MOST: usize = 64 * MIB;

    fn pair() -> (UnixStream, Peer) {
        let (one, other) = UnixStream::pair().unwrap();
        (one, Peer::new(Stream::Unix(other)))
    }

    fn header(length: usize) -> [u8; HEADER] {
        let sequence = 0;
        Header { length, sequence }.bytes()
    }

    #[tokio::test]
    async fn a_long_command_has_its_share_as_long_as_it_is_there() {
        let budget = Budget::new(100 * MIB);
        for length in [FREE, 3 * MIB, FULL, FULL + 7] {
            let (mut client, mut peer) = pair();
            let payload = vec![3; length];
            let mut framed = Vec::new();
            packet::put(&mut framed, &mut 0, &payload);
            let bytes = framed.len();
            let sends = async move {
                client.write_all(&framed).await.unwrap();
                client
            };
            let (came, _client) = tokio::join!(rest(&mut peer, [&budget; 2], MOST), sends);
            let came = came.unwrap();
            assert_eq!((came.extent.payload, came.extent.bytes), (length, bytes));
            let copies = 1 + usize::from(length >= FULL);
            let free = 100 * MIB - (bytes * copies).next_multiple_of(1 << 10);
            assert!(budget.try_take(free).is_some(), "{length}: too much");
            assert!(budget.try_take(free + 1).is_none(), "{length}: too little");
            let room = peer.take_command(bytes).capacity();
            assert!(room <= bytes + 2 * FREE, "{length}: {room}");
            drop(came);
            assert!(budget.try_take(100 * MIB).is_some());
        }
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_stored() {
        let budget = Budget::new(MIB);
        let (mut client, mut peer) = pair();
        client.write_all(&header(2 * MIB)).await.unwrap();
        client.write_all(&[0; 100]).await.unwrap();
        let unread = rest(&mut peer, [&budget; 2], 2 * MIB - 1)
            .await
            .unwrap_err();
        assert!(
            matches!(
                unread,
                Unread::Lost(Lost::Framing(packet::Error::TooLong { .. }))
            ),
            "{unread}"
        );
    }

    /// What a client of the sort that sends a beginning and then no more is told, and when.
    async fn stops(begun: &[u8], budget: &Budget) -> (Unread, Duration) {
        let (mut client, mut peer) = pair();
        client.write_all(begun).await.unwrap();
        let began = Instant::now();
        let unread = rest(&mut peer, [budget; 2], MOST).await.unwrap_err();
        drop(client);
        (unread, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_in_the_middle_is_not_waited_for() {
        let budget = Budget::new(100 * MIB);
        for begun in [
            &[1][..],
            &[10, 0, 0, 0, 3],
            &[&header(5 * MIB)[..], &[3; 9]].concat(),
        ] {
            let (unread, took) = stops(begun, &budget).await;
            assert!(matches!(unread, Unread::TooSlow), "{unread}");
            assert!(took >= STALL && took < STALL + 2 * TICK, "{took:?}");
        }
        assert!(budget.try_take(100 * MIB).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_are_slow_hold_no_more_than_there_is_and_not_for_long() {
        const CLIENTS: usize = 100;
        const DRIPS: u32 = 45;

        let budget = Rc::new(Budget::new(8 * MIB));
        let local = LocalSet::new();
        let clock = Instant::now();
        let work = async {
            let mut tasks = Vec::new();
            let mut held = Vec::new();
            for _ in 0..CLIENTS {
                let (mut client, mut peer) = pair();
                let budget = Rc::clone(&budget);
                let size = Rc::new(std::cell::Cell::new(0));
                held.push(Rc::clone(&size));
                // They go on a little, for longer than others wait.
                spawn_local(async move {
                    let begun = [&header(3 * MIB)[..], &[3; MIB]].concat();
                    let mut rest: &[u8] = &begun;
                    while !rest.is_empty() {
                        let Ok(written) = client.write(rest).await else {
                            return;
                        };
                        rest = &rest[written..];
                    }
                    for _ in 0..DRIPS {
                        tokio::time::sleep(TICK).await;
                        if client.write_all(&[3]).await.is_err() {
                            return;
                        }
                    }
                    std::future::pending::<()>().await;
                });
                tasks.push(spawn_local(async move {
                    let mut read = Box::pin(rest(&mut peer, [&budget; 2], MOST));
                    let unread = (&mut read).await.unwrap_err();
                    drop(read);
                    size.set(peer.inbox().len());
                    unread
                }));
            }
            let (mut slow, mut waited) = (0, 0);
            let mut all = 0;
            for (task, size) in tasks.into_iter().zip(held) {
                match task.await.unwrap() {
                    Unread::TooSlow => slow += 1,
                    Unread::NoRoom => {
                        waited += 1;
                        all += size.get();
                    }
                    Unread::Lost(lost) => panic!("{lost}"),
                }
            }
            assert_eq!(slow + waited, CLIENTS);
            assert!(all <= waited * 2 * FREE, "{all} of those that only wait");
            slow
        };
        let slow = local.run_until(work).await;
        // Two at a time fit; each has the first seconds and what it has sent for.
        assert!((4..=40).contains(&slow), "{slow} had a share");
        assert!(
            clock.elapsed() < DRIPS * TICK + STALL + TURN,
            "{:?}",
            clock.elapsed()
        );
        assert!(budget.try_take(8 * MIB).is_some());
    }

    #[tokio::test]
    async fn a_client_that_goes_on_gets_its_turn_behind_a_slow_one() {
        let budget = Arc::new(Budget::new(4 * MIB));
        let held = budget.try_take(4 * MIB).unwrap();
        let (mut client, mut peer) = pair();
        let own = Arc::clone(&budget);
        let local = LocalSet::new();
        let work = async move {
            let read = spawn_local(async move { rest(&mut peer, [&own; 2], MOST).await.is_ok() });
            let sends = spawn_local(async move {
                let begun = [&header(2 * MIB)[..], &[3; 2 * MIB]].concat();
                client.write_all(&begun).await.unwrap();
                client
            });
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(!read.is_finished() && budget.is_awaited());
            drop(held);
            assert!(read.await.unwrap());
            drop(sends.await.unwrap());
        };
        local.run_until(work).await;
    }

    #[tokio::test]
    async fn an_error_arrives_though_the_client_goes_on() {
        let (mut client, mut peer) = pair();
        let says = async {
            peer.write_all(b"error").await.unwrap();
            drain(&mut peer).await;
            drop(peer);
        };
        let reads = async {
            client.write_all(&vec![7; 3 * MIB]).await.unwrap();
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            drop(client);
            said
        };
        let ((), said) = tokio::join!(says, reads);
        assert_eq!(said, b"error");
    }
}
