//! A peer: its connection, and what came over it and has not been used yet.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use super::stream::Stream;
use crate::wire::packet::{self, Extent, HEADER, Measure};

/// Bytes that are read at a time.
const SCRATCH: usize = 64 << 10;
/// Bytes that are read ahead of a command's end.
const AHEAD: usize = 64 << 10;
/// Bytes that an idle peer may keep.
const KEPT: usize = 4 << 10;

thread_local! {
    /// What is being read or made in this moment, by whoever is polled: never kept over an await,
    /// so that an idle connection needs no buffer.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// Runs something with this thread's buffer.
pub(super) fn with_buffer<R>(run: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| run(buffer))
}

/// Why a packet did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The peer closed, between two packets.
    #[error("the connection was closed")]
    Closed,
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// What came is not the protocol.
    #[error("{0}")]
    Framing(#[from] packet::Error),
}

/// A client or a server.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) stream: Stream,
    /// Read and not used.
    inbox: Vec<u8>,
    /// To be written.
    outbox: Vec<u8>,
    /// Nothing more will come.
    is_ended: bool,
}

impl Peer {
    pub(super) const fn new(stream: Stream) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
            is_ended: false,
        }
    }

    /// What has come.
    pub(super) fn inbox(&self) -> &[u8] {
        &self.inbox
    }

    /// Takes away what has been used.
    pub(super) fn consume(&mut self, bytes: usize) {
        if bytes >= self.inbox.len() {
            self.inbox.clear();
            if self.inbox.capacity() > KEPT {
                self.inbox = Vec::new();
            }
        } else {
            self.inbox.drain(..bytes);
        }
    }

    /// Takes the inbox out, to look at it while other things of the peer are used.
    pub(super) fn take_inbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inbox)
    }

    /// Puts it back.
    pub(super) fn set_inbox(&mut self, inbox: Vec<u8>) {
        self.inbox = inbox;
    }

    /// Takes a command out of the beginning of the inbox.
    pub(super) fn take_command(&mut self, bytes: usize) -> Vec<u8> {
        let rest = self.inbox.split_off(bytes);
        std::mem::replace(&mut self.inbox, rest)
    }

    /// Takes the memory of a command back, which is done.
    pub(super) fn give_back(&mut self, mut command: Vec<u8>) {
        if self.inbox.is_empty() && command.capacity() <= KEPT {
            command.clear();
            self.inbox = command;
        }
    }

    /// Reads ahead while an answer is awaited, so that it is seen when the client goes away.
    pub(super) fn poll_ahead(&mut self, context: &mut Context<'_>) -> Result<(), Lost> {
        if self.is_ended || self.inbox.len() >= AHEAD {
            return Ok(());
        }
        match self.poll_more(context) {
            Poll::Ready(Ok(0)) => Err(Lost::Closed),
            Poll::Ready(Err(error)) => Err(error.into()),
            // There may be more, but one read for each look is enough.
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    /// Has bytes written later.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Has something written later that is made in place.
    pub(super) fn queue_with(&mut self, make: impl FnOnce(&mut Vec<u8>)) {
        make(&mut self.outbox);
    }

    /// Writes bytes now as far as that goes, and the rest later.
    pub(super) fn poll_push(
        &mut self,
        context: &mut Context<'_>,
        mut bytes: &[u8],
    ) -> Result<(), Lost> {
        while self.outbox.is_empty() && !bytes.is_empty() {
            match self.stream.poll_write(context, bytes) {
                Poll::Ready(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(Ok(written)) => bytes = &bytes[written..],
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => break,
            }
        }
        self.outbox.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes all that is to be written.
    pub(super) async fn flush(&mut self) -> Result<(), Lost> {
        if self.outbox.is_empty() {
            if self.stream.is_tls() {
                poll_fn(|context| self.stream.poll_flush(context)).await?;
            }
            return Ok(());
        }
        let outbox = std::mem::take(&mut self.outbox);
        self.stream.write_all(&outbox).await?;
        if outbox.capacity() <= KEPT {
            self.outbox = outbox;
            self.outbox.clear();
        }
        Ok(())
    }

    /// Puts back what was read too much.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
    }

    /// Reads what is there, once; 0 is the end.
    pub(super) fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        with_buffer(|buffer| {
            let read = ready!(self.stream.poll_read(context, buffer))?;
            self.inbox.extend_from_slice(&buffer[..read]);
            Poll::Ready(Ok(read))
        })
    }

    /// Waits for a whole payload at the beginning of the inbox, of at most so many bytes.
    pub(super) async fn whole(&mut self, sequence: u8, most: usize) -> Result<Extent, Lost> {
        loop {
            match packet::measure(&self.inbox, sequence, most)? {
                Measure::Whole(extent) => return Ok(extent),
                // Whoever announces much gets room as it comes.
                Measure::Needs(_) => self.more().await?,
            }
        }
    }

    /// Waits for more.
    pub(super) async fn more(&mut self) -> Result<(), Lost> {
        match poll_fn(|context| self.poll_more(context)).await? {
            0 if self.inbox.is_empty() => Err(Lost::Closed),
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Waits for so many more bytes at most.
    pub(super) async fn more_up_to(&mut self, most: usize) -> Result<(), Lost> {
        let read = poll_fn(|context| {
            with_buffer(|buffer| {
                let buffer = &mut buffer[..most.min(SCRATCH)];
                let read = ready!(self.stream.poll_read(context, buffer))?;
                self.inbox.extend_from_slice(&buffer[..read]);
                Poll::Ready(Ok::<_, io::Error>(read))
            })
        });
        match read.await? {
            0 if self.inbox.is_empty() => Err(Lost::Closed),
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Room for an inbox of so many bytes, and what is read with the last of them; not for twice as
    /// many, as it would grow by itself.
    pub(super) fn make_room(&mut self, bytes: usize) {
        let more = (bytes + SCRATCH).saturating_sub(self.inbox.len());
        self.inbox.reserve_exact(more);
    }

    /// The next payload, taken out of the inbox: for what is short and rare.
    pub(super) async fn receive(
        &mut self,
        sequence: &mut u8,
        most: usize,
    ) -> Result<Vec<u8>, Lost> {
        let extent = self.whole(*sequence, most).await?;
        *sequence = extent.next_sequence;
        let payload = packet::payload(&self.inbox[..extent.bytes]).into_owned();
        self.consume(extent.bytes);
        Ok(payload)
    }

    /// Sends a payload.
    pub(super) async fn send(&mut self, sequence: &mut u8, payload: &[u8]) -> Result<(), Lost> {
        let mut framed = Vec::with_capacity(payload.len() + HEADER);
        packet::put(&mut framed, sequence, payload);
        Ok(self.stream.write_all(&framed).await?)
    }

    /// Sends bytes that have their headers.
    pub(super) async fn write_all(&mut self, framed: &[u8]) -> Result<(), Lost> {
        Ok(self.stream.write_all(framed).await?)
    }
}
