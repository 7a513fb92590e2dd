//! Records on their way to the file: encoded by their writers into one buffer, taken as one batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::format::{frame_bytes, push_record};
use crate::{Epoch, Error, MAX_PENDING_BYTES, Result};

/// How far a record got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Written,
    Synced,
}

/// What became of a batch; shared by its writers, who wait on it.
#[derive(Default)]
pub(crate) struct Ticket {
    outcome: Mutex<Outcome>,
    written: Waiters,
    synced: Waiters,
}

/// Who waits for one stage. Of each stage apart, so that a write does not wake those who wait for the sync behind it.
#[derive(Default)]
struct Waiters {
    threads: Condvar,
    tasks: Notify,
}

impl Waiters {
    fn wake(&self) {
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }
}

#[derive(Default)]
struct Outcome {
    written_through: u64,
    synced_through: u64,
    /// Why records after `written_through` were not written.
    write_error: Option<Error>,
    /// Why records after `synced_through` will not be synced.
    sync_error: Option<Error>,
}

impl Outcome {
    fn check(&self, seq: u64, stage: Stage) -> Option<Result<()>> {
        let reached = match stage {
            Stage::Written => self.written_through,
            Stage::Synced => self.synced_through,
        };
        if seq <= reached {
            return Some(Ok(()));
        }
        let write_error = self.write_error.as_ref().filter(|_| seq > self.written_through);
        write_error.or(self.sync_error.as_ref()).map(|e| Err(e.clone()))
    }
}

impl Ticket {
    pub(crate) fn check(&self, seq: u64, stage: Stage) -> Option<Result<()>> {
        self.outcome.lock().check(seq, stage)
    }

    /// Blocks until the record reached the stage, or never will.
    pub(crate) fn wait(&self, seq: u64, stage: Stage) -> Result<()> {
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(result) = outcome.check(seq, stage) {
                return result;
            }
            self.waiters(stage).threads.wait(&mut outcome);
        }
    }

    /// The same, for tasks. Cancel-safe: the record goes its way whether or not anybody waits.
    pub(crate) async fn reached(&self, seq: u64, stage: Stage) -> Result<()> {
        loop {
            let notified = self.waiters(stage).tasks.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(result) = self.check(seq, stage) {
                return result;
            }
            notified.await;
        }
    }

    pub(crate) fn written(&self, through: u64, error: Option<Error>) {
        let failed = error.is_some();
        {
            let mut outcome = self.outcome.lock();
            (outcome.written_through, outcome.write_error) = (through, error);
        }
        self.written.wake();
        if failed {
            self.synced.wake();
        }
    }

    pub(crate) fn synced(&self, through: u64) {
        {
            let mut outcome = self.outcome.lock();
            outcome.synced_through = through.min(outcome.written_through);
        }
        self.synced.wake();
    }

    pub(crate) fn failed(&self, error: &Error) {
        self.outcome.lock().sync_error = Some(error.clone());
        self.written.wake();
        self.synced.wake();
    }

    fn waiters(&self, stage: Stage) -> &Waiters {
        match stage {
            Stage::Written => &self.written,
            Stage::Synced => &self.synced,
        }
    }
}

/// Encoded records with consecutive sequence numbers.
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) ticket: Arc<Ticket>,
}

/// What the queue answers to a writer.
pub(crate) enum Pushed {
    /// In the batch of this ticket.
    Queued(Arc<Ticket>, u64),
    /// No room: wait until the batch of this ticket, up to this record, is written.
    Busy(Arc<Ticket>, u64),
}

/// What is in the batch being filled, for whoever waits for more of it without holding up those who add to it.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicUsize,
}

/// The batch being filled. Double buffering: while one batch is written and synced, the next one fills.
pub(crate) struct Queue {
    epoch: Epoch,
    bytes: Vec<u8>,
    first: u64,
    next: u64,
    ticket: Arc<Ticket>,
    waiting: Arc<Waiting>,
    stopped: Option<Error>,
    suspended: Option<Error>,
    /// Buffers that served a batch, to be filled again.
    recycled: Vec<Vec<u8>>,
}

/// Buffers above this in all are not kept: an idle log holds little memory.
const KEPT_BUFFER_BYTES: usize = 512 << 10;

impl Queue {
    pub(crate) fn new(epoch: Epoch, waiting: Arc<Waiting>) -> Queue {
        Queue {
            epoch,
            bytes: Vec::new(),
            first: 1,
            next: 1,
            ticket: Arc::default(),
            waiting,
            stopped: None,
            suspended: None,
            recycled: Vec::new(),
        }
    }

    /// Numbers a record and adds it to the batch.
    pub(crate) fn push(&mut self, payload: &[u8], payload_crc: u32) -> Result<Pushed> {
        if let Some(error) = self.stopped.as_ref().or(self.suspended.as_ref()) {
            return Err(error.clone());
        }
        let bytes = frame_bytes(payload.len()) as usize;
        if !self.bytes.is_empty() && self.bytes.len() + bytes > MAX_PENDING_BYTES {
            return Ok(Pushed::Busy(self.ticket.clone(), self.next - 1));
        }
        let seq = self.next;
        push_record(&mut self.bytes, self.epoch, seq, payload, payload_crc);
        self.next += 1;
        self.publish();
        Ok(Pushed::Queued(self.ticket.clone(), seq))
    }

    /// Takes the batch, leaving an empty one.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.bytes.is_empty() {
            return None;
        }
        let bytes = std::mem::replace(&mut self.bytes, self.recycled.pop().unwrap_or_default());
        let ticket = std::mem::take(&mut self.ticket);
        let first = std::mem::replace(&mut self.first, self.next);
        self.publish();
        Some(Batch { bytes, first, last: self.next - 1, ticket })
    }

    fn publish(&self) {
        self.waiting.records.store(self.next - self.first, Ordering::Relaxed);
        self.waiting.bytes.store(self.bytes.len(), Ordering::Relaxed);
    }

    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        let kept: usize = self.recycled.iter().map(Vec::capacity).sum();
        if buffer.capacity() > 0 && kept + buffer.capacity() <= KEPT_BUFFER_BYTES {
            buffer.clear();
            self.recycled.push(buffer);
        }
    }

    /// After a failed write: what waits behind it fails too, and numbering goes on after `through`.
    pub(crate) fn roll_back(&mut self, through: u64, error: &Error) {
        if let Some(batch) = self.take() {
            batch.ticket.written(through, Some(error.clone()));
        }
        (self.first, self.next) = (through + 1, through + 1);
    }

    /// Until [`Queue::resume`] every append fails with `error`, and so does the waiting batch.
    pub(crate) fn suspend(&mut self, error: &Error) {
        self.suspended = Some(error.clone());
        self.roll_back(self.first - 1, error);
    }

    pub(crate) fn resume(&mut self) {
        self.suspended = None;
    }

    /// From now on every append fails with `error`, and so does the waiting batch.
    pub(crate) fn stop(&mut self, error: &Error) {
        self.stopped.get_or_insert_with(|| error.clone());
        let through = self.first - 1;
        if let Some(batch) = self.take() {
            batch.ticket.written(through, Some(error.clone()));
        }
    }

    pub(crate) fn stopped(&self) -> Option<Error> {
        self.stopped.clone()
    }
}
