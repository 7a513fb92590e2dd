//! Threads on which guests run, apart from those that do I/O: a guest that spins delays other
//! guests by at most a few ticks, and no timer or socket of the host at all.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// A pool of threads that drives calls of guests.
pub(crate) struct WasmThreads {
    runtime: Option<tokio::runtime::Runtime>,
}

impl WasmThreads {
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .max_blocking_threads(4)
            .thread_name("wasm")
            // Timers serve WASI guests that sleep; everything of ours is timed elsewhere.
            .enable_time()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Starts a future on the pool; dropping the handle's guard stops it at its next yield.
    pub(crate) fn spawn<F>(&self, future: F) -> AbortOnDrop<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let runtime = self.runtime.as_ref().expect("the pool runs until it is dropped");
        AbortOnDrop(runtime.spawn(future))
    }
}

impl Drop for WasmThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping a runtime inside another panics; this does not wait.
            runtime.shutdown_background();
        }
    }
}

/// A task that ends when nobody waits for it any more.
pub(crate) struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    pub(crate) fn new(task: JoinHandle<T>) -> Self {
        Self(task)
    }
}

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Measures the time that a future spends running, not waiting.
pub(crate) struct Metered<F> {
    future: F,
    busy: Duration,
}

impl<F: Future + Unpin> Metered<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future, busy: Duration::ZERO }
    }
}

impl<F: Future + Unpin> Future for Metered<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let start = Instant::now();
        let polled = Pin::new(&mut self.future).poll(context);
        self.busy += start.elapsed();
        polled.map(|output| (output, self.busy))
    }
}
