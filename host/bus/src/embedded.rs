//! The bus of a single process, on `sentinel-wal`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sentinel_wal::{
    AtCap, Epoch, Folder, GapReason, Item, Log, MIN_SEGMENTS_IN_CAP, Options, Position, Reader,
    Storage,
};
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;

use crate::ledger::{Index, Ledger};
use crate::life::Life;
use crate::{
    Answer, Bus, BusError, Delivery, Depth, EmbeddedOptions, Incarnation, MAX_PAYLOAD_BYTES,
    Message, REDELIVERY_DELAY, Subscription, record,
};

/// What a publisher is told to wait at the bound.
const BUSY_RETRY_MS: u64 = 250;

/// A bus in this process. Serves one subscription at a time.
pub struct EmbeddedBus {
    inner: Arc<Inner>,
}

struct Inner {
    log: Log,
    options: EmbeddedOptions,
    life: Mutex<Life>,
    /// Epochs of the log as it was opened, oldest first.
    epochs: Vec<Epoch>,
    /// The life could not be stored: the next opening must not take the stored one for this one.
    unstored: AtomicBool,
    depth: Mutex<Depth>,
    ledger: Mutex<Ledger<Position>>,
    /// Held by the subscription.
    reader: Arc<tokio::sync::Mutex<Reader>>,
    /// An answer came, or the bus was closed.
    changed: Notify,
    closed: AtomicBool,
}

fn failed(operation: &'static str) -> impl Fn(sentinel_wal::Error) -> BusError {
    move |error| match error {
        sentinel_wal::Error::Closed => BusError::Closed,
        error => BusError::Failed { operation, cause: error.to_string() },
    }
}

impl EmbeddedBus {
    /// Opens the bus in `folder`, creating it where it is missing. Blocks on files.
    ///
    /// # Errors
    /// [`BusError::Failed`]: the folder is open elsewhere, or cannot be read or written.
    pub fn open(folder: &Path, options: EmbeddedOptions) -> Result<EmbeddedBus, BusError> {
        let storage = Folder::open(folder).map_err(|e| BusError::Failed {
            operation: "open its folder",
            cause: format!("{}: {e}", folder.display()),
        })?;
        EmbeddedBus::open_on(Arc::new(storage), options)
    }

    /// The same on any storage.
    ///
    /// # Errors
    /// As [`EmbeddedBus::open`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        options: EmbeddedOptions,
    ) -> Result<EmbeddedBus, BusError> {
        let log_options = Options {
            sync: options.sync,
            segment_bytes: options.segment_bytes,
            max_bytes: options.max_bytes + (MIN_SEGMENTS_IN_CAP + 1) * options.segment_bytes,
            at_cap: AtCap::Refuse,
            max_age: None,
            background: true,
        };
        let (log, recovery) = Log::open_on(storage, log_options).map_err(failed("open its log"))?;
        let stored = Life::decode(&log.tag()).filter(|_| recovery.clean);
        let epochs = log.offsets().iter().map(|o| o.epoch).collect();
        let backlog = log.offsets().iter().map(|o| o.bytes).sum();
        let depth = Depth {
            messages: recovery.records,
            bytes: if recovery.records == 0 { 0 } else { backlog },
        };
        let reader = log.reader();
        let inner = Inner {
            options,
            life: Mutex::new(stored.unwrap_or_else(|| Life::begin(&log))),
            epochs,
            log,
            unstored: AtomicBool::new(false),
            depth: Mutex::new(depth),
            ledger: Mutex::default(),
            reader: Arc::new(tokio::sync::Mutex::new(reader)),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
        };
        if stored.is_none() {
            inner.keep_life();
        }
        Ok(EmbeddedBus { inner: Arc::new(inner) })
    }

    /// Closes the bus: everything published is synced and waits for the next opening, which has the same incarnation. Blocks
    /// on files. Subscriptions end with [`BusError::Closed`].
    ///
    /// # Errors
    /// [`BusError::Failed`]: the bus is closed, but the next opening begins a new incarnation.
    pub fn close(&self) -> Result<(), BusError> {
        self.inner.close()
    }

    /// What waits.
    #[must_use]
    pub fn depth(&self) -> Depth {
        *self.inner.depth.lock()
    }
}

impl Inner {
    fn close(&self) -> Result<(), BusError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.changed.notify_waiters();
        if self.unstored.load(Ordering::Acquire) {
            self.store_life().map_err(failed("store its incarnation"))?;
        }
        self.log.close().map_err(failed("close its log"))
    }

    /// Says that a record is lost, unless that was said.
    fn lost(&self, place: Position) {
        if self.life.lock().covers(place, &self.epochs) {
            return;
        }
        *self.life.lock() = Life::begin(&self.log);
        self.keep_life();
    }

    fn keep_life(&self) {
        if let Err(error) = self.store_life() {
            self.unstored.store(true, Ordering::Release);
            tracing::warn!(%error, "the bus could not store its new incarnation; it tries again when it is closed");
        }
    }

    fn store_life(&self) -> sentinel_wal::Result<()> {
        let life = *self.life.lock();
        self.log.set_tag(&life.encode())
    }

    fn alive(&self) -> Result<(), BusError> {
        if self.closed.load(Ordering::Acquire) { Err(BusError::Closed) } else { Ok(()) }
    }

    /// Counts a message in, unless the bus is at its bound.
    fn admit(&self, bytes: u64) -> Result<(), BusError> {
        let mut depth = self.depth.lock();
        let fits = depth.messages == 0 || depth.bytes + bytes <= self.options.max_bytes;
        if depth.messages >= self.options.max_messages || !fits {
            return Err(BusError::Busy { retry_after_ms: BUSY_RETRY_MS });
        }
        depth.messages += 1;
        depth.bytes += bytes;
        Ok(())
    }

    fn leave(&self, messages: u64, bytes: u64) {
        let mut depth = self.depth.lock();
        depth.messages = depth.messages.saturating_sub(messages);
        depth.bytes = if depth.messages == 0 { 0 } else { depth.bytes.saturating_sub(bytes) };
    }

    /// Enters what the log yielded. A gap, or a record that is no message, is lost: the incarnation ends, unless it began
    /// after those were accepted.
    fn enter(&self, item: Item) {
        let place = match item {
            Item::Record { position, payload } => match record::decode(payload) {
                Some(message) => {
                    self.ledger.lock().add(position, message, 0, Instant::now());
                    return;
                }
                None => {
                    tracing::error!(seq = position.seq, epoch = %position.epoch, "a record of the bus is no message; skipped");
                    self.leave(1, 0);
                    position
                }
            },
            Item::Gap { epoch, from, to, reason: GapReason::Corrupt | GapReason::DroppedAtCap } => {
                self.leave(to - from + 1, 0);
                tracing::error!(%epoch, from, to, "messages of the bus are lost; agents will send again");
                Position { epoch, seq: to }
            }
        };
        let commit = self.ledger.lock().add_gap(place);
        self.commit(&commit);
        self.lost(place);
    }

    /// Frees the log up to these places, which lie in its order.
    fn commit(&self, places: &[Position]) {
        for place in places.chunk_by(|a, b| a.epoch == b.epoch).filter_map(<[Position]>::last) {
            if let Err(error) = self.log.commit(place.epoch, place.seq) {
                tracing::warn!(%error, "the bus could not free its log; messages may be delivered again after a restart");
            }
        }
    }

    fn ack(&self, index: Index) -> Result<(), BusError> {
        let done = self.ledger.lock().ack(index);
        if let Some(bytes) = done.finished {
            self.leave(1, bytes as u64);
        }
        self.alive()?;
        self.commit(&done.left);
        self.changed.notify_waiters();
        Ok(())
    }

    fn nak(&self, index: Index, delivery: u32, delay: Duration) {
        self.ledger.lock().nak(index, delivery, Instant::now() + delay);
        self.changed.notify_waiters();
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    fn incarnation(&self) -> Incarnation {
        self.inner.life.lock().incarnation
    }

    async fn publish(&self, message: Message) -> Result<(), BusError> {
        let (inner, bytes) = (Arc::clone(&self.inner), message.payload.len());
        inner.alive()?;
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(BusError::TooLarge { id: message.id, bytes, max: MAX_PAYLOAD_BYTES });
        }
        inner.admit(bytes as u64)?;
        // In a task of its own: whoever gives up waiting must not leave the message counted in and nowhere.
        let append = async move {
            let Err(error) = inner.log.append_written(&record::encode(&message)).await else {
                return Ok(());
            };
            inner.leave(1, bytes as u64);
            if error.is_temporary() {
                tracing::warn!(%error, "the bus takes no messages for now");
                return Err(BusError::Busy { retry_after_ms: BUSY_RETRY_MS });
            }
            Err(failed("append to its log")(error))
        };
        let appended = tokio::spawn(append).await;
        appended.map_err(|error| BusError::Failed {
            operation: "append to its log",
            cause: error.to_string(),
        })?
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError> {
        self.inner.alive()?;
        let reader =
            self.inner.reader.clone().try_lock_owned().map_err(|_| BusError::Subscribed)?;
        self.inner.ledger.lock().release_all(Instant::now());
        Ok(Box::new(EmbeddedSubscription { inner: self.inner.clone(), reader }))
    }

    async fn depth(&self) -> Result<Depth, BusError> {
        Ok(EmbeddedBus::depth(self))
    }

    async fn close(&self) -> Result<(), BusError> {
        let inner = Arc::clone(&self.inner);
        let closed = tokio::task::spawn_blocking(move || inner.close()).await;
        closed.map_err(|error| BusError::Failed { operation: "close", cause: error.to_string() })?
    }
}

struct EmbeddedSubscription {
    inner: Arc<Inner>,
    reader: OwnedMutexGuard<Reader>,
}

impl EmbeddedSubscription {
    /// What can be delivered without waiting.
    fn ready(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let mut out = Vec::new();
        while out.len() < max {
            let taken = self.inner.ledger.lock().take(Instant::now());
            if let Some((index, message, deliveries)) = taken {
                let answer = EmbeddedAnswer {
                    inner: self.inner.clone(),
                    index,
                    deliveries,
                    answered: false,
                };
                out.push(Delivery::new(message, deliveries, Box::new(answer)));
                continue;
            }
            if self.inner.ledger.lock().full() {
                break;
            }
            match self.reader.try_next().map_err(failed("read its log"))? {
                Some(item) => self.inner.enter(item),
                None => break,
            }
        }
        Ok(out)
    }
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn next_many(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let inner = self.inner.clone();
        loop {
            let changed = inner.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            inner.alive()?;
            let ready = self.ready(max.max(1))?;
            if !ready.is_empty() {
                return Ok(ready);
            }
            let (full, due) = {
                let ledger = inner.ledger.lock();
                (ledger.full(), ledger.next_due())
            };
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = timer => {}
                item = self.reader.next(), if !full => inner.enter(item.map_err(failed("read its log"))?),
            }
        }
    }
}

impl Drop for EmbeddedSubscription {
    fn drop(&mut self) {
        self.inner.ledger.lock().release_all(Instant::now());
    }
}

struct EmbeddedAnswer {
    inner: Arc<Inner>,
    index: Index,
    deliveries: u32,
    answered: bool,
}

#[async_trait]
impl Answer for EmbeddedAnswer {
    async fn ack(&mut self) -> Result<(), BusError> {
        self.answered = true;
        self.inner.ack(self.index)
    }

    async fn nak(&mut self, delay: Duration) -> Result<(), BusError> {
        self.answered = true;
        self.inner.nak(self.index, self.deliveries, delay);
        self.inner.alive()
    }
}

impl Drop for EmbeddedAnswer {
    fn drop(&mut self) {
        if !self.answered {
            self.inner.nak(self.index, self.deliveries, REDELIVERY_DELAY);
        }
    }
}
