//! A connection's bytes, whatever carries them.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{client, server};

use super::rewound::Rewound;

/// A connection to a client or to a server.
#[derive(Debug)]
pub(super) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket, which nobody else hears.
    Unix(UnixStream),
    /// TLS towards a client.
    TlsClient(Box<server::TlsStream<Rewound>>),
    /// TLS towards a server.
    TlsServer(Box<client::TlsStream<TcpStream>>),
    /// One that is being made into another.
    Gone,
}

impl Stream {
    /// Whether nobody on the way can read or change what is said.
    pub(super) const fn is_secure(&self) -> bool {
        matches!(
            self,
            Self::Unix(_) | Self::TlsClient(_) | Self::TlsServer(_)
        )
    }

    /// Whether it is TLS.
    pub(super) const fn is_tls(&self) -> bool {
        matches!(self, Self::TlsClient(_) | Self::TlsServer(_))
    }

    /// Reads what is there; 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::TlsClient(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::TlsServer(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::Gone => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        read.map_ok(|()| buffer.filled().len())
    }

    /// Writes what fits.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::TlsClient(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::TlsServer(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Sends what TLS holds back; the others hold nothing.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::TlsClient(stream) => Pin::new(stream).poll_flush(context),
            Self::TlsServer(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(_) | Self::Unix(_) | Self::Gone => Poll::Ready(Ok(())),
        }
    }

    /// Writes all of it.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|context| {
            while !bytes.is_empty() {
                match self.poll_write(context, bytes) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => bytes = &bytes[written..],
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.poll_flush(context)
        })
        .await
    }

    /// Says that nothing more will be said, as far as that goes.
    pub(super) async fn end_writing(&mut self) {
        // One that is broken has nobody to tell.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Unix(stream) => stream.shutdown().await,
            Self::TlsClient(stream) => stream.shutdown().await,
            Self::TlsServer(stream) => stream.shutdown().await,
            Self::Gone => Ok(()),
        };
    }

    /// Takes the stream to make another one of it.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Gone)
    }
}
