//! The log itself: opening, appending, offsets, closing.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::bell::Bell;
use crate::queue::{Pushed, Queue, Stage, Ticket, Waiting};
use crate::recovery;
use crate::state::State;
use crate::threads;
use crate::writer::Tail;
use crate::{
    Epoch, EpochOffsets, Error, Folder, LockFailure, LogState, MAX_RECORD_BYTES, MAX_TAG_BYTES,
    Options, Position, Reader, Recovery, Result, Stats, Storage, StorageLock, SyncPolicy,
};

/// An open log. Share it in an `Arc`: every method takes `&self`.
///
/// Dropping it without [`Log::close`] hands everything to the file but leaves the shutdown marked as unclean.
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) lock: Mutex<Option<Box<dyn StorageLock>>>,
}

/// What the log's threads, its writers and its readers share.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) epoch: Epoch,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) syncing: Mutex<()>,
    pub(crate) keeping: Mutex<()>,
    pub(crate) state: Mutex<State>,
    pub(crate) progress: watch::Sender<u64>,
    pub(crate) sync_bell: Bell,
    pub(crate) keep_bell: Bell,
}

impl Shared {
    pub(crate) fn wake_readers(&self) {
        self.progress.send_modify(|n| *n = n.wrapping_add(1));
    }
}

impl Log {
    /// Opens the log in `folder`, creating it where it is missing, and begins a new epoch. What earlier epochs left
    /// is checked, made durable, and reported.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::BadOption`], [`Error::Version`], or an I/O error. Damage is no error: see [`Recovery`].
    pub fn open(folder: &Path, options: Options) -> Result<(Log, Recovery)> {
        let storage = Folder::open(folder)
            .map_err(|e| Error::io("open", &folder.display().to_string(), e))?;
        Log::open_on(Arc::new(storage), options)
    }

    /// The same on any storage.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(storage: Arc<dyn Storage>, options: Options) -> Result<(Log, Recovery)> {
        options.check()?;
        let lock = storage.lock().map_err(|failure| match failure {
            LockFailure::Held(pid) => Error::Locked {
                folder: storage.describe(),
                holder: pid.map_or("another process".to_owned(), |pid| format!("process {pid}")),
            },
            LockFailure::Io(e) => Error::io("lock", &storage.describe(), e),
        })?;
        let epoch = Epoch::random()?;
        let (state, next_number, report) = recovery::recover(storage.as_ref(), epoch)?;
        let waiting = Arc::<Waiting>::default();
        let shared = Arc::new(Shared {
            storage,
            options,
            epoch,
            queue: Mutex::new(Queue::new(epoch, waiting.clone())),
            waiting,
            tail: Mutex::new(Tail::new(next_number)),
            syncing: Mutex::new(()),
            keeping: Mutex::new(()),
            state: Mutex::new(state),
            progress: watch::Sender::new(0),
            sync_bell: Bell::default(),
            keep_bell: Bell::default(),
        });
        shared.keep();
        let threads = if shared.options.background { threads::spawn(&shared)? } else { Vec::new() };
        Ok((Log { shared, threads: Mutex::new(threads), lock: Mutex::new(Some(lock)) }, report))
    }

    /// The epoch that this opening began: that of every record appended through it.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// Appends a record and returns when it is *written*: in the file, so that it survives the death of this process
    /// but not of the machine. It is synced according to [`Options::sync`].
    ///
    /// # Errors
    /// The record is not in the log, and nothing of it will ever be seen: [`Error::RecordSize`], [`Error::Full`],
    /// [`Error::NoSpace`], [`Error::Suspended`], [`Error::TooManyEpochs`], an I/O error, [`Error::Closed`].
    /// [`Error::SyncFailed`], only without [`Options::background`] or when the log is closed meanwhile: unknown.
    pub fn append(&self, payload: &[u8]) -> Result<Position> {
        let (ticket, seq) = self.enqueue(payload)?;
        self.write_through(&ticket, seq)?;
        self.after_append()?;
        Ok(self.position(seq))
    }

    /// [`Log::append`] for tasks: the writing is left to the log's thread (without one, and under
    /// [`SyncPolicy::Interval`], it is done here: a copy into the page cache).
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_written(&self, payload: &[u8]) -> Result<Position> {
        let by_thread = !matches!(self.shared.options.sync, SyncPolicy::Interval(_));
        if !(self.shared.options.background && by_thread) {
            return self.append(payload);
        }
        let (ticket, seq) = self.enqueue_async(payload).await?;
        self.shared.sync_bell.ring();
        ticket.reached(seq, Stage::Written).await?;
        Ok(self.position(seq))
    }

    /// Appends a record and blocks until it is *synced*: safe from power failure. Writers that wait at the same time share
    /// one sync. Under [`SyncPolicy::Never`] it returns when the record is written. While syncs fail it goes on waiting
    /// (see [`Log::state`]) until one succeeds or the log is closed; without [`Options::background`] it fails.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_blocking(&self, payload: &[u8]) -> Result<Position> {
        let (ticket, seq) = self.enqueue(payload)?;
        if self.shared.syncs_in_background() {
            self.shared.sync_bell.ring();
            ticket.wait(seq, Stage::Synced)?;
        } else {
            self.sync_through(&ticket, seq)?;
        }
        Ok(self.position(seq))
    }

    /// [`Log::append_blocking`] for tasks. The record is appended even if the future is dropped.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_synced(&self, payload: &[u8]) -> Result<Position> {
        if !self.shared.syncs_in_background() {
            return self.append_blocking(payload);
        }
        let (ticket, seq) = self.enqueue_async(payload).await?;
        self.shared.sync_bell.ring();
        ticket.reached(seq, Stage::Synced).await?;
        Ok(self.position(seq))
    }

    /// Syncs all that was appended before the call, whatever the policy.
    ///
    /// # Errors
    /// [`Error::SyncFailed`] (what was appended is kept in memory and tried again); [`Error::Closed`].
    pub fn sync(&self) -> Result<()> {
        self.shared.sync_now()?;
        self.keep_if_alone();
        Ok(())
    }

    /// A reader that begins at the oldest record not committed.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::from_committed(self.shared.clone())
    }

    /// A reader that begins at `position`. Records before it that are still kept are not yielded; records at and behind
    /// it that were committed and removed are skipped without a word.
    ///
    /// # Errors
    /// [`Error::UnknownEpoch`].
    pub fn reader_from(&self, position: Position) -> Result<Reader> {
        Reader::from_position(self.shared.clone(), position)
    }

    /// The offsets of every epoch that holds something not committed, oldest first, and of the current one.
    #[must_use]
    pub fn offsets(&self) -> Vec<EpochOffsets> {
        self.shared.state.lock().offsets()
    }

    /// Disk use and counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let spare = self.shared.tail.lock().spare_bytes();
        self.shared.state.lock().stats(spare)
    }

    /// Whether it takes records, and if not, why: for the owner to report.
    #[must_use]
    pub fn state(&self) -> LogState {
        self.shared.state.lock().log_state()
    }

    /// Records that all up to `seq` was taken by whoever records are sent to. Never moves back; `Ok(false)` when nothing moved.
    ///
    /// # Errors
    /// [`Error::UnknownEpoch`], [`Error::BeyondSynced`].
    pub fn accept(&self, epoch: Epoch, seq: u64) -> Result<bool> {
        self.shared.state.lock().advance(epoch, seq, false)
    }

    /// Records that all up to `seq` is safe elsewhere, so that it may be removed here. Never moves back; `Ok(false)` when
    /// nothing moved. It becomes durable with the next segment, or on [`Log::close`]: a crash may bring back an
    /// older value, so that records are sent again.
    ///
    /// # Errors
    /// [`Error::UnknownEpoch`] (an epoch is forgotten once it is committed as a whole), [`Error::BeyondSynced`].
    pub fn commit(&self, epoch: Epoch, seq: u64) -> Result<bool> {
        let removal = {
            let mut state = self.shared.state.lock();
            if !state.advance(epoch, seq, true)? {
                return Ok(false);
            }
            state.wants_removal(state.active)
        };
        if removal {
            self.shared.keep_bell.ring();
            self.keep_if_alone();
        }
        Ok(true)
    }

    /// The owner's tag: a few bytes kept with the offsets. Empty until it is set.
    #[must_use]
    pub fn tag(&self) -> Vec<u8> {
        self.shared.state.lock().tag.clone()
    }

    /// Stores the owner's tag; durable when this returns.
    ///
    /// # Errors
    /// [`Error::TagSize`], [`Error::NoSpace`], an I/O error. After an I/O error the old or the new tag is there.
    pub fn set_tag(&self, tag: &[u8]) -> Result<()> {
        if tag.len() > MAX_TAG_BYTES {
            return Err(Error::TagSize { bytes: tag.len(), max: MAX_TAG_BYTES });
        }
        self.shared.state.lock().tag = tag.to_vec();
        self.shared.write_meta(false)
    }

    fn position(&self, seq: u64) -> Position {
        Position { epoch: self.shared.epoch, seq }
    }

    fn push(&self, payload: &[u8]) -> Result<Pushed> {
        if payload.is_empty() || payload.len() > MAX_RECORD_BYTES {
            return Err(Error::RecordSize { bytes: payload.len(), max: MAX_RECORD_BYTES });
        }
        let crc = crc32c::crc32c(payload);
        self.shared.queue.lock().push(payload, crc)
    }

    fn enqueue(&self, payload: &[u8]) -> Result<(Arc<Ticket>, u64)> {
        if !self.shared.options.background && self.shared.retry_after().is_some() {
            // Nobody else tries. What comes of it, the queue answers.
            let _ = self.shared.sync_now();
        }
        loop {
            match self.push(payload)? {
                Pushed::Queued(ticket, seq) => return Ok((ticket, seq)),
                // An error concerns those records, not this one.
                Pushed::Busy(ticket, seq) => drop(self.write_through(&ticket, seq)),
            }
        }
    }

    async fn enqueue_async(&self, payload: &[u8]) -> Result<(Arc<Ticket>, u64)> {
        loop {
            match self.push(payload)? {
                Pushed::Queued(ticket, seq) => return Ok((ticket, seq)),
                Pushed::Busy(ticket, seq) => {
                    self.shared.sync_bell.ring();
                    drop(ticket.reached(seq, Stage::Written).await);
                }
            }
        }
    }

    /// Whoever gets hold of the tail first writes for all that are queued.
    fn write_through(&self, ticket: &Ticket, seq: u64) -> Result<()> {
        let mut tail = self.shared.tail.lock();
        if let Some(result) = ticket.check(seq, Stage::Written) {
            return result;
        }
        self.shared.drain(&mut tail);
        drop(tail);
        ticket.wait(seq, Stage::Written)
    }

    fn sync_through(&self, ticket: &Ticket, seq: u64) -> Result<()> {
        if self.shared.options.sync == SyncPolicy::Never {
            self.write_through(ticket, seq)?;
            self.keep_if_alone();
            return Ok(());
        }
        if let Err(error) = self.shared.sync_now() {
            return ticket.check(seq, Stage::Synced).unwrap_or(Err(error));
        }
        self.keep_if_alone();
        ticket.wait(seq, Stage::Synced)
    }

    fn after_append(&self) -> Result<()> {
        let shared = &self.shared;
        let over_bound =
            shared.options.sync != SyncPolicy::Never && shared.tail.lock().over_bound();
        match shared.options.sync {
            SyncPolicy::Always if shared.options.background => shared.sync_bell.ring(),
            SyncPolicy::Always => shared.sync_now()?,
            SyncPolicy::Interval(_) if over_bound => shared.sync_now()?,
            SyncPolicy::Interval(_) => shared.sync_bell.ring_soon(),
            SyncPolicy::Never => {}
        }
        self.keep_if_alone();
        Ok(())
    }

    fn keep_if_alone(&self) {
        if !self.shared.options.background {
            self.shared.prepare_spare();
            let active = self.shared.tail.lock().active_number();
            let due = {
                let state = self.shared.state.lock();
                state.meta_due || state.wants_removal(active)
            };
            if due {
                self.shared.keep();
            }
        }
    }
}
