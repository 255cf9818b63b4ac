//! One client's conversation with an admin socket.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep_until,
};

use super::{
    answers::{Answers, Peer},
    listing::Deadline,
};

/// Time for a client to ask.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Bytes of a head.
const LARGEST_HEAD: usize = 16 << 10;
/// Lines of a head.
const MOST_HEADERS: usize = 64;

/// Answers one request, unless that takes longer than `time`. A client that is too slow, or not
/// HTTP, is its own problem.
pub(super) async fn converse<Stream>(
    stream: Stream,
    answers: Arc<Answers>,
    peer: Peer,
    time: Duration,
) where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let deadline = Deadline::after(time);
    let end = deadline.clone();
    let service = service_fn(move |request| {
        let (answers, deadline) = (Arc::clone(&answers), deadline.clone());
        async move { Ok::<_, Infallible>(answers.answer(request, peer, deadline).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .keep_alive(false)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::debug!("admin: {peer}: {error}");
            }
        }
        () = passed(&end) => {}
    }
}

/// Waits until a deadline has passed, which may be postponed meanwhile.
async fn passed(deadline: &Deadline) {
    loop {
        let end = deadline.get();
        sleep_until(end).await;
        if deadline.get() <= end {
            return;
        }
    }
}
