//! A server's reply goes to the client as it comes: rows are never kept.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use super::{
    keepalive,
    peer::{Lost, Peer, with_buffer},
};
use crate::wire::{
    packet,
    reply::{self, Event, FileWatch, Packet, Watch},
};

/// What becomes of a packet that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// The client gets it as it is.
    Pass,
    /// The client gets the payload that was made in its place.
    Replace,
    /// The client gets nothing of it.
    Drop,
}

/// Whoever looks at the packets that decide something.
pub(super) trait Observe {
    /// Looks at one. What the client is to get in its place is appended.
    fn see(&mut self, event: &Event<'_>, instead: &mut Vec<u8>) -> Treatment;
}

impl<F: FnMut(&Event<'_>, &mut Vec<u8>) -> Treatment> Observe for F {
    fn see(&mut self, event: &Event<'_>, instead: &mut Vec<u8>) -> Treatment {
        self(event, instead)
    }
}

/// Who failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The client is gone.
    #[error("the client: {0}")]
    Client(#[source] Lost),
    /// The server is gone.
    #[error("the server: {0}")]
    Server(#[source] Lost),
    /// The server does not speak the protocol.
    #[error("{0}")]
    Reply(#[from] reply::Error),
}

/// A reply on its way.
#[derive(Debug)]
pub(super) struct Relay<'r> {
    pub(super) client: &'r mut Peer,
    pub(super) server: &'r mut Peer,
    pub(super) watch: &'r mut Watch,
    /// Whether the client has got something of it.
    pub(super) has_forwarded: bool,
}

impl Relay<'_> {
    /// Relays the reply to its end.
    pub(super) async fn run(&mut self, observer: &mut impl Observe) -> Result<(), Broken> {
        let (mut file, mut had_file) = (None, false);
        loop {
            let mut note_file = |event: &Event<'_>, instead: &mut Vec<u8>| {
                if let Packet::File(_) = event.packet {
                    file = Some(event.sequence);
                }
                observer.see(event, instead)
            };
            let is_last = poll_fn(|context| self.poll_some(context, &mut note_file)).await?;
            self.client.flush().await.map_err(Broken::Client)?;
            if let Some(request) = file.take() {
                self.send_file(request).await?;
                had_file = true;
            } else if is_last {
                // Until it has answered it may wait in the middle of the file.
                if had_file {
                    keepalive::set_patient(&self.server.stream, false);
                }
                return Ok(());
            }
        }
    }

    /// Passes on what is there. Whether the reply has ended.
    fn poll_some(
        &mut self,
        context: &mut Context<'_>,
        observer: &mut impl Observe,
    ) -> Poll<Result<bool, Broken>> {
        if let Err(lost) = self.client.poll_ahead(context) {
            return Poll::Ready(Err(Broken::Client(lost)));
        }
        let mut kept = self.server.take_inbox();
        if !kept.is_empty() {
            // It came with something before it.
            let (used, is_last) = self.pass(context, &kept, observer)?;
            if used > 0 || is_last {
                kept.drain(..used);
                self.server.set_inbox(kept);
                return Poll::Ready(Ok(is_last));
            }
        }
        with_buffer(|buffer| {
            let read = match self.server.stream.poll_read(context, buffer) {
                Poll::Ready(read) => read,
                Poll::Pending => {
                    self.server.set_inbox(kept);
                    return Poll::Pending;
                }
            };
            let read = match read {
                Ok(0) if kept.is_empty() => Err(Lost::Closed),
                Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => Ok(&buffer[..read]),
                Err(error) => Err(error.into()),
            };
            let read = read.map_err(Broken::Server)?;
            if kept.is_empty() {
                let (used, is_last) = self.pass(context, read, observer)?;
                self.server.put_back(&read[used..]);
                return Poll::Ready(Ok(is_last));
            }
            kept.extend_from_slice(read);
            let (used, is_last) = self.pass(context, &kept, observer)?;
            kept.drain(..used);
            self.server.set_inbox(kept);
            Poll::Ready(Ok(is_last))
        })
    }

    /// Gives the client what of these bytes is for it. How many were used, and whether the reply
    /// has ended.
    fn pass(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        observer: &mut impl Observe,
    ) -> Result<(usize, bool), Broken> {
        let (mut passed, mut at) = (0, 0);
        let is_last = loop {
            let step = self.watch.feed(&bytes[at..])?;
            at += step.forward;
            let Some(event) = step.event else {
                break step.is_last;
            };
            let mut instead = Vec::new();
            match observer.see(&event, &mut instead) {
                Treatment::Pass => at += event.raw.len(),
                Treatment::Replace => {
                    self.client.queue(&bytes[passed..at]);
                    let mut sequence = event.sequence;
                    self.client
                        .queue_with(|outbox| packet::put(outbox, &mut sequence, &instead));
                    at += event.raw.len();
                    passed = at;
                    self.has_forwarded = true;
                }
                Treatment::Drop => {
                    self.has_forwarded |= at > passed;
                    self.client.queue(&bytes[passed..at]);
                    at += event.raw.len();
                    passed = at;
                }
            }
            if step.is_last || self.watch.waits_for_file() {
                break step.is_last;
            }
        };
        self.has_forwarded |= at > passed;
        self.client
            .poll_push(context, &bytes[passed..at])
            .map_err(Broken::Client)?;
        Ok((at, is_last))
    }

    /// The client sends a file, and the server gets it.
    async fn send_file(&mut self, request: u8) -> Result<(), Broken> {
        keepalive::set_patient(&self.server.stream, true);
        let mut file = FileWatch::new(request);
        while !file.is_ended() {
            let forward = match file.feed(self.client.inbox()) {
                Ok(forward) => forward,
                Err(error) => return Err(Broken::Reply(error)),
            };
            if forward == 0 {
                self.client.more().await.map_err(Broken::Client)?;
                continue;
            }
            let sent = self
                .server
                .stream
                .write_all(&self.client.inbox()[..forward])
                .await;
            sent.map_err(|error| Broken::Server(error.into()))?;
            self.client.consume(forward);
        }
        self.watch.file_sent(file.next_sequence());
        Ok(())
    }
}

/// Reads a reply that is not for the client: what is forwarded of it is collected, up to so many
/// bytes.
pub(super) async fn swallow(
    server: &mut Peer,
    watch: &mut Watch,
    most: usize,
    mut see: impl FnMut(&Event<'_>),
) -> Result<Vec<u8>, Broken> {
    let mut collected = Vec::new();
    loop {
        let bytes = server.inbox();
        let step = watch.feed(bytes)?;
        collected
            .extend_from_slice(&bytes[..step.forward.min(most.saturating_sub(collected.len()))]);
        let mut used = step.forward;
        let is_last = step.is_last;
        let must_read = step.event.is_none();
        if let Some(event) = step.event {
            used += event.raw.len();
            see(&event);
        }
        server.consume(used);
        if is_last {
            return Ok(collected);
        }
        if must_read {
            server.more().await.map_err(Broken::Server)?;
        }
    }
}
