//! How long a slow peer is waited for: not forever, and longer the more it has moved.
//!
//! Only time spent waiting for the peer counts; what the store or the other direction takes
//! is not its fault. A peer that moves less than the least rate runs out of patience within
//! `grace`, however it spreads its bytes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The least that is asked of a peer.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Waiting that is free.
    pub grace: Duration,
    /// Bytes that pay for one second of waiting more.
    pub bytes_per_second: u32,
}

impl Patience {
    /// How long may be waited in all once `bytes` have moved.
    fn budget(self, bytes: u64) -> Duration {
        let rate = u64::from(self.bytes_per_second.max(1));
        self.grace + Duration::from_millis(bytes.saturating_mul(1000) / rate)
    }
}

/// Waiting for one direction of one peer.
struct Wait {
    patience: Patience,
    bytes: u64,
    waited: Duration,
    /// Since when it is waited now, and until when.
    now: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Wait {
    fn new(patience: Patience) -> Self {
        Self { patience, bytes: 0, waited: Duration::ZERO, now: None }
    }

    /// The peer moved this many bytes.
    fn moved(&mut self, bytes: usize) {
        if let Some((since, _)) = self.now.take() {
            self.waited += since.elapsed();
        }
        self.bytes += bytes as u64;
    }

    /// The peer is waited for; true once that was long enough.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let left = self.patience.budget(self.bytes).saturating_sub(self.waited);
        let (_, sleep) =
            self.now.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        sleep.as_mut().poll(cx).is_ready()
    }
}

/// The body of a request came too slowly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// Too slowly.
    #[error("the body comes too slowly")]
    TooSlow,
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
}

/// A request's body that must come at the least rate.
pub(crate) struct PatientBody {
    inner: Incoming,
    wait: Wait,
}

impl PatientBody {
    pub(crate) fn new(inner: Incoming, patience: Patience) -> Self {
        Self { inner, wait: Wait::new(patience) }
    }
}

impl Body for PatientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.wait.moved(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if self.wait.is_over(cx) => Poll::Ready(Some(Err(BodyError::TooSlow))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A connection whose peer must take what is sent to it at the least rate.
pub(crate) struct PatientStream<S> {
    inner: S,
    wait: Wait,
}

impl<S> PatientStream<S> {
    pub(crate) fn new(inner: S, patience: Patience) -> Self {
        Self { inner, wait: Wait::new(patience) }
    }

    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<std::io::Result<usize>>,
    ) -> Poll<std::io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.wait.moved(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Pending if self.wait.is_over(cx) => {
                Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()))
            }
            other => other,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Patience =
        Patience { grace: Duration::from_millis(50), bytes_per_second: 10_000 };

    #[test]
    fn what_has_moved_pays_for_more_waiting() {
        let paid = |bytes| PATIENCE.budget(bytes).as_millis();
        assert_eq!([paid(0), paid(10_000), paid(100_000)], [50, 1_050, 10_050]);
        assert!(PATIENCE.budget(u64::MAX) > Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_the_grace() {
        let (near, _far) = tokio::io::duplex(100);
        let mut stream = PatientStream::new(near, PATIENCE);
        let began = Instant::now();
        let error = stream.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= Duration::from_millis(60), "grace, and 100 bytes' worth");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_drops_is_given_up_and_one_that_takes_all_is_not() {
        for (pause, survives) in [(Duration::from_millis(5), false), (Duration::ZERO, true)] {
            let (near, mut far) = tokio::io::duplex(1);
            let mut stream = PatientStream::new(near, PATIENCE);
            let writing = tokio::spawn(async move { stream.write_all(&[0; 2_000]).await });
            let reading = tokio::spawn(async move {
                // A drop at a time, each of which pays for a tenth of a millisecond.
                while far.read_u8().await.is_ok() {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
            });
            assert_eq!(writing.await.unwrap().is_ok(), survives, "{pause:?}");
            reading.abort();
        }
    }
}
