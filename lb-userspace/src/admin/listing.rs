//! A list of flows as the body of an answer: made a piece at a time, when the client has taken the
//! piece before.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::{JoinError, JoinHandle, spawn_blocking},
    time::Instant,
};

use super::Pieces;

/// How long a client may leave a piece where it is, as in a pager. It holds two pieces of memory
/// meanwhile, and neither a thread nor a lock.
const STANDSTILL: Duration = Duration::from_secs(300);

/// When a connection ends, whatever it is doing.
#[derive(Clone, Debug)]
pub(super) struct Deadline(Arc<Mutex<Instant>>);

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Self(Arc::new(Mutex::new(Instant::now() + time)))
    }

    pub(super) fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Later by so much.
    pub(super) fn postpone(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    fn move_to(&self, after: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + after;
    }
}

/// The rest of the pieces, if there are more; and the one that was made.
type Made = (Option<Box<dyn Pieces>>, Vec<u8>);

/// A body of pieces. While the client takes one, the next is made.
pub(super) struct Listing {
    making: Option<JoinHandle<Made>>,
    deadline: Deadline,
    _permit: OwnedSemaphorePermit,
}

impl Listing {
    /// Begins to make it.
    pub(super) fn new(
        pieces: Box<dyn Pieces>,
        deadline: Deadline,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            making: Some(make(pieces)),
            deadline,
            _permit: permit,
        }
    }
}

fn make(mut pieces: Box<dyn Pieces>) -> JoinHandle<Made> {
    spawn_blocking(move || {
        let mut piece = Vec::new();
        let is_more = pieces.next(&mut piece);
        (is_more.then_some(pieces), piece)
    })
}

impl Body for Listing {
    type Data = Bytes;
    type Error = JoinError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, JoinError>>> {
        while let Some(making) = &mut self.making {
            let (rest, piece) = match ready!(Pin::new(making).poll(context)) {
                Ok(made) => made,
                Err(error) => {
                    self.making = None;
                    return Poll::Ready(Some(Err(error)));
                }
            };
            self.deadline.move_to(STANDSTILL);
            self.making = rest.map(make);
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.making.is_none()
    }
}
