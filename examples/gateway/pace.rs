//! Bodies and connections that do not wait forever for the other end.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

/// What a client must send in each second, on average, to be granted more time for its body.
const BYTES_PER_SECOND: u32 = 500;

/// A body that ends with an error if its sender is too slow.
pub struct Paced {
    body: Body,
    patience: Duration,
    /// How much longer the sender may be waited for.
    left: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// From a client that sends a request: then each byte only earns the time that it may take.
    upload: Option<watch::Sender<Upload>>,
}

/// How far a request's body has come. The channel closes at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    UnderWay,
    TooSlow,
}

impl Paced {
    /// What the upstream sends: the next part must come within `patience`.
    pub fn from_upstream(body: Body, patience: Duration) -> Body {
        Body::new(Self { body, patience, left: patience, waiting: None, upload: None })
    }

    /// What a client sends: it has `patience`, and a second more for every 500 bytes, so that neither silence nor one byte
    /// now and then holds the gateway and the upstream.
    pub fn from_client(body: Body, patience: Duration) -> (Body, watch::Receiver<Upload>) {
        let (upload, progress) = watch::channel(Upload::UnderWay);
        let upload = Some(upload);
        (Body::new(Self { body, patience, left: patience, waiting: None, upload }), progress)
    }

    fn came(&mut self, length: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let earned = match &self.upload {
            Some(upload) => {
                upload.send_replace(Upload::UnderWay);
                Duration::from_secs(1) * u32::try_from(length).unwrap_or(u32::MAX) / BYTES_PER_SECOND
            }
            None => self.patience,
        };
        self.left = self.left.saturating_add(earned).min(self.patience);
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            match &frame {
                Some(Ok(frame)) => self.came(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(_)) | None => self.upload = None,
            }
            return Poll::Ready(frame);
        }
        let left = self.left;
        let (_, end) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        ready!(end.as_mut().poll(cx));
        if let Some(upload) = self.upload.take() {
            upload.send_replace(Upload::TooSlow);
        }
        Poll::Ready(Some(Err(axum::Error::new(io::Error::from(io::ErrorKind::TimedOut)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        HttpBody::size_hint(&self.body)
    }
}

impl fmt::Debug for Paced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paced").field("left", &self.left).finish_non_exhaustive()
    }
}

/// A connection that fails if the client takes nothing of a response for `patience`.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, stalled: None }
    }

    fn unless_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.unless_stalled(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.unless_stalled(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
