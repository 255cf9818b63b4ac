//! A body that takes part of a socket's memory until its client has taken it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{sync::OwnedSemaphorePermit, task::JoinError};

/// What is given to the connection at a time. It buffers some, so only with pieces the body lives
/// until its client has taken nearly all.
const PIECE: usize = 16 << 10;

/// The bytes that are left, and the room that all of them take.
pub(super) struct Held {
    rest: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl Held {
    pub(super) const fn new(bytes: Bytes, permit: OwnedSemaphorePermit) -> Self {
        Self {
            rest: bytes,
            _permit: permit,
        }
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = JoinError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, JoinError>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
