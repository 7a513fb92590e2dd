//! Sending the log: synced records only, signed at each send, again only where asked.
//!
//! What is in flight stands in a queue of records that were read and are not accepted yet.
//! An answer takes accepted records off it and moves the log's offsets. Two things make the
//! exporter go back to the committed offset, with a higher attempt: the server asks for it
//! (`rewind_attempt`), or the bus behind the server is a new one (`incarnation`).

use crate::collect::ended;
use crate::config::AgentConfig;
use crate::enrol::Identity;
use crate::link::{Link, LinkError};
use crate::metrics::Metrics;
use crate::record::LogRecord;
use crate::state::SlotStates;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::RngExt;
use sentinel_model::ids::{Epoch, Position};
use sentinel_wal::{Item, Log, Reader};
use sentinel_wire::envelope::{Content, Record, seal};
use sentinel_wire::heartbeat;
use sentinel_wire::v1::{
    EpochState, HeartbeatRequest, LogOffsets, PushRequest, Refusal, SlotStatus,
};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::Instant;

/// The most records of one push.
const MAX_RECORDS: usize = 64;
/// No further record is added to a push that has so many bytes.
const PUSH_BYTES: usize = 2 << 20;
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// How often the server is asked while records are accepted and not committed.
const POLL: Duration = Duration::from_secs(1);
/// How long an accepted record may go without a commit before it is sent again.
const STALLED: Duration = Duration::from_secs(300);
/// The most warnings of a heartbeat, and the most bytes of its slots.
const MAX_WARNINGS: usize = 256;
const MAX_SLOT_BYTES: usize = 512 << 10;
/// How often commits are brought to the log, at most.
const SETTLE: Duration = Duration::from_secs(1);

/// What the exporter says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExportStatus {
    pub(crate) connected: bool,
    pub(crate) last_error: Option<String>,
    pub(crate) skew_ms: i64,
}

/// What a heartbeat says of the slots: JSON texts and warnings.
pub(crate) type Report = Arc<dyn Fn() -> (Vec<String>, Vec<String>) + Send + Sync>;

/// What the exporter works with.
pub(crate) struct ExportParts {
    pub(crate) log: Arc<Log>,
    pub(crate) states: Arc<SlotStates>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) link: Link,
    pub(crate) identity_file: PathBuf,
    pub(crate) dead: PathBuf,
    pub(crate) token: Option<String>,
    pub(crate) config: watch::Receiver<AgentConfig>,
    pub(crate) status: Arc<Mutex<ExportStatus>>,
    pub(crate) report: Report,
}

/// A record that was read and not accepted yet.
struct Outgoing {
    epoch: Epoch,
    from: u64,
    content: Content,
}

impl Outgoing {
    fn last(&self) -> u64 {
        match self.content {
            Content::Batch(_) => self.from,
            Content::SkippedTo(to) => to,
        }
    }
}

struct Exporter {
    parts: ExportParts,
    identity: Identity,
    reader: Reader,
    queue: VecDeque<Outgoing>,
    attempts: BTreeMap<Epoch, u32>,
    incarnation: Option<Vec<u8>>,
    wanted: BTreeMap<Epoch, u64>,
    /// What the server needs next, of epochs that it asked to be sent again.
    due: BTreeMap<Epoch, u64>,
    /// When something was last committed, or nothing was waiting for it.
    moved_at: Instant,
    settled_at: Instant,
    backoff: Duration,
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.5..1.5))
}

/// Enrols if need be, then sends until told to stop.
pub(crate) async fn run(mut parts: ExportParts, mut stop: watch::Receiver<bool>) {
    let mut backoff = BACKOFF_FIRST;
    let identity = loop {
        let wished = parts.config.borrow().id.clone();
        let token = parts.token.clone();
        let obtain = Identity::obtain(
            &parts.identity_file,
            wished.as_ref(),
            token.as_deref(),
            &mut parts.link,
        );
        match obtain.await {
            Ok(identity) => break identity,
            Err(error) => {
                tracing::warn!(%error, "not enrolled yet; samples are kept");
                parts.status.lock().last_error = Some(error.to_string());
            }
        }
        tokio::select! {
            () = ended(&mut stop) => return,
            () = tokio::time::sleep(jittered(backoff)) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MOST);
    };
    tracing::info!(agent = %identity.id, server = parts.link.server(), "sending");
    let reader = parts.log.reader();
    let exporter = Exporter {
        parts,
        identity,
        reader,
        queue: VecDeque::new(),
        attempts: BTreeMap::new(),
        incarnation: None,
        wanted: BTreeMap::new(),
        due: BTreeMap::new(),
        moved_at: Instant::now(),
        settled_at: Instant::now(),
        backoff: BACKOFF_FIRST,
    };
    exporter.run(stop).await;
}

impl Exporter {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut beat_at = Instant::now();
        let mut beaten = false;
        loop {
            // Never two heartbeats in a row while there is something to send: a server that
            // answers them slowly must not keep records back.
            let due = beat_at <= Instant::now() && !beaten;
            beaten = due;
            let done = if due {
                let beat = self.parts.config.borrow().heartbeat.std();
                beat_at = Instant::now() + if self.awaits_commit() { beat.min(POLL) } else { beat };
                tokio::select! {
                    () = ended(&mut stop) => break,
                    done = self.beat() => done,
                }
            } else if self.fill() {
                tokio::select! {
                    () = ended(&mut stop) => break,
                    done = self.push() => done,
                }
            } else {
                // Nothing to send: wait for the log, the next heartbeat, or the end.
                tokio::select! {
                    () = ended(&mut stop) => break,
                    item = self.reader.next() => self.took(item),
                    () = tokio::time::sleep_until(beat_at) => Ok(()),
                }
            };
            self.settle(false).await;
            if let Err(wait) = self.judge(done) {
                tokio::select! {
                    () = ended(&mut stop) => break,
                    () = tokio::time::sleep(wait) => {}
                }
            }
            if *stop.borrow() {
                break;
            }
        }
        self.settle(true).await;
    }

    /// Whether something was accepted that is not committed.
    fn awaits_commit(&self) -> bool {
        self.parts.log.offsets().iter().any(|o| {
            let wanted = self.wanted.get(&Epoch(o.epoch.0)).copied().unwrap_or(0);
            o.accepted > o.committed.max(wanted)
        })
    }

    fn judge(&mut self, done: Result<(), LinkError>) -> Result<(), Duration> {
        let mut status = self.parts.status.lock();
        match done {
            Ok(()) => {
                self.backoff = BACKOFF_FIRST;
                Ok(())
            }
            Err(error) => {
                let text = error.to_string();
                if status.connected || status.last_error.is_none() {
                    tracing::warn!(error = %text, server = self.parts.link.server(), "the server does not take records; they are kept");
                }
                status.connected = false;
                status.last_error = Some(text);
                self.parts.metrics.connected.set(0);
                let wait = jittered(self.backoff);
                self.backoff = (self.backoff * 2).min(BACKOFF_MOST);
                Err(wait)
            }
        }
    }

    fn answered(&self, server_time_ms: i64) {
        let mut status = self.parts.status.lock();
        if !status.connected {
            tracing::info!(server = self.parts.link.server(), "connected");
        }
        status.connected = true;
        status.last_error = None;
        status.skew_ms = server_time_ms.saturating_sub(now_ms());
        self.parts.metrics.connected.set(1);
    }

    // ---- reading the log ----

    fn took(&mut self, item: sentinel_wal::Result<Item>) -> Result<(), LinkError> {
        match item {
            Ok(item) => {
                self.enqueue(item);
                Ok(())
            }
            Err(error) => Err(LinkError::Answer(format!("the log cannot be read: {error}"))),
        }
    }

    fn enqueue(&mut self, item: Item) {
        let (epoch, from, content) = match item {
            Item::Record { position, payload } => {
                let content = match LogRecord::decode(&payload) {
                    Ok(record) => Content::Batch(record.batch),
                    Err(error) => {
                        tracing::error!(seq = position.seq, %error, "record skipped");
                        Content::SkippedTo(position.seq)
                    }
                };
                (Epoch(position.epoch.0), position.seq, content)
            }
            Item::Gap { epoch, from, to, reason } => {
                tracing::error!(%epoch, from, to, ?reason, "records are gone; the server is told");
                (Epoch(epoch.0), from, Content::SkippedTo(to))
            }
        };
        if let Content::SkippedTo(to) = content {
            self.parts.metrics.skipped.inc_by(to - from + 1);
        }
        self.account_for_lost(epoch, from, &content);
        self.queue.push_back(Outgoing { epoch, from, content });
    }

    /// The server asked for records from a place that this log no longer has: they were
    /// committed, and the database was set back since. They are said to be skipped, so that
    /// what follows is taken; what the database still has of them stays.
    fn account_for_lost(&mut self, epoch: Epoch, from: u64, content: &Content) {
        let Some(due) = self.due.get_mut(&epoch) else { return };
        let last = match content {
            Content::SkippedTo(to) => *to,
            Content::Batch(_) => from,
        };
        if *due < from {
            tracing::error!(%epoch, from = *due, to = from - 1, "the server lost committed records that this log no longer has");
            let content = Content::SkippedTo(from - 1);
            self.queue.push_back(Outgoing { epoch, from: *due, content });
        }
        *due = (*due).max(last.saturating_add(1));
    }

    /// Reads what is there, up to a push; whether there is something to send.
    fn fill(&mut self) -> bool {
        let size = |one: &Outgoing| match &one.content {
            Content::Batch(bytes) => bytes.len(),
            Content::SkippedTo(_) => 0,
        };
        let mut bytes: usize = self.queue.iter().map(size).sum();
        while self.queue.len() < MAX_RECORDS && bytes < PUSH_BYTES {
            match self.reader.try_next() {
                Ok(Some(item)) => {
                    self.enqueue(item);
                    bytes += self.queue.back().map_or(0, size);
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the log cannot be read");
                    break;
                }
            }
        }
        !self.queue.is_empty()
    }

    // ---- talking to the server ----

    fn attempt(&self, epoch: Epoch) -> u32 {
        self.attempts.get(&epoch).copied().unwrap_or(1)
    }

    fn sent_at(&self) -> i64 {
        now_ms().saturating_add(self.parts.status.lock().skew_ms)
    }

    async fn push(&mut self) -> Result<(), LinkError> {
        let sent_at = self.sent_at();
        let envelopes = self.queue.iter().map(|one| {
            let record = Record {
                agent: self.identity.id.clone(),
                position: Position { epoch: one.epoch, seq: one.from },
                attempt: self.attempt(one.epoch),
                content: one.content.clone(),
            };
            seal(&record, &self.identity.key, sent_at, rand::random())
        });
        let envelopes: Vec<_> = envelopes.collect();
        self.parts.metrics.sent.inc_by(envelopes.len() as u64);
        let answer = self.parts.link.push(PushRequest { envelopes }).await?;
        self.answered(answer.server_time_ms);
        for state in &answer.epochs {
            self.advance(state)?;
        }
        self.listen(&answer.epochs, &answer.incarnation).await?;
        match answer.refusal() {
            Refusal::None => Ok(()),
            Refusal::Malformed if self.bury(&answer.refusal_text) => Ok(()),
            Refusal::Malformed => Err(LinkError::Answer(answer.refusal_text)),
            // The clock's difference was just learnt from the answer.
            Refusal::Time | Refusal::Replay => Err(LinkError::Answer(answer.refusal_text)),
            Refusal::Busy => {
                let wait = Duration::from_millis(answer.retry_after_ms.into());
                tokio::time::sleep(wait.min(BACKOFF_MOST)).await;
                Ok(())
            }
            Refusal::Signature | Refusal::UnknownAgent => {
                Err(LinkError::Answer(answer.refusal_text))
            }
        }
    }

    async fn beat(&mut self) -> Result<(), LinkError> {
        let (slots, warnings) = (self.parts.report)();
        let offsets = self.parts.log.offsets();
        let mut request = HeartbeatRequest {
            agent_id: self.identity.id.to_string(),
            sent_at_ms: self.sent_at(),
            nonce: rand::random::<[u8; 16]>().to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            offsets: offsets.iter().rev().take(64).rev().map(offsets_of).collect(),
            slots: fitting(slots),
            warnings: warnings
                .into_iter()
                .take(MAX_WARNINGS)
                .map(|text| text.chars().take(1000).collect())
                .collect(),
            ..HeartbeatRequest::default()
        };
        heartbeat::seal(&mut request, &self.identity.key);
        let answer = self.parts.link.heartbeat(request).await?;
        self.answered(answer.server_time_ms);
        if answer.refusal() != Refusal::None {
            return Err(LinkError::Answer(answer.refusal_text));
        }
        for state in &answer.epochs {
            self.advance(state)?;
        }
        self.listen(&answer.epochs, &answer.incarnation).await?;
        self.stir().await;
        Ok(())
    }

    /// Sends again what was accepted long ago and never committed: whoever had it dropped it
    /// without a trace.
    async fn stir(&mut self) {
        if !self.awaits_commit() {
            self.moved_at = Instant::now();
        }
        if self.moved_at.elapsed() < STALLED {
            return;
        }
        self.moved_at = Instant::now();
        tracing::warn!("nothing was committed for 5 minutes; what was accepted is sent again");
        self.raise_attempts();
        self.go_back().await;
    }

    /// Another attempt for every epoch of which something is under way.
    fn raise_attempts(&mut self) {
        for offsets in self.parts.log.offsets() {
            let epoch = Epoch(offsets.epoch.0);
            let under_way = u32::from(offsets.accepted > offsets.committed);
            self.attempts.insert(epoch, self.attempt(epoch).saturating_add(under_way));
        }
    }

    /// Sets the reader to the oldest record that is not committed.
    async fn go_back(&mut self) {
        self.settle(true).await;
        self.queue.clear();
        self.reader = self.parts.log.reader();
        self.parts.metrics.rewinds.inc();
    }

    /// Moves the offsets of one epoch.
    fn advance(&mut self, state: &EpochState) -> Result<(), LinkError> {
        let bytes = <[u8; 16]>::try_from(state.epoch.as_slice())
            .map_err(|_| LinkError::Answer("an epoch has 16 bytes".to_owned()))?;
        let epoch = Epoch(bytes);
        let taken = state.accepted.max(state.committed);
        self.queue.retain(|one| one.epoch != epoch || one.last() > taken);
        let Some(known) = self.parts.log.offsets().into_iter().find(|o| o.epoch.0 == bytes) else {
            return Ok(());
        };
        if taken > known.synced && known.epoch == self.parts.log.epoch() {
            // Only synced records are sent, so nobody honest can have taken more.
            tracing::error!(%epoch, taken, synced = known.synced, "the server speaks of records that were never sent");
            return Ok(());
        }
        // An older epoch of which the server has more: this log was set back to an earlier copy.
        let taken = taken.min(known.synced);
        if let Err(error) = self.parts.log.accept(known.epoch, taken) {
            tracing::error!(%error, "offset not kept");
        }
        let wanted = self.wanted.entry(epoch).or_default();
        if state.committed.min(known.synced) > *wanted {
            *wanted = state.committed.min(known.synced);
            self.moved_at = Instant::now();
        }
        Ok(())
    }

    /// Goes back to the committed offset where the server asks for it, or the bus is another.
    async fn listen(&mut self, epochs: &[EpochState], incarnation: &[u8]) -> Result<(), LinkError> {
        let mut back = false;
        for state in epochs {
            let Ok(bytes) = <[u8; 16]>::try_from(state.epoch.as_slice()) else { continue };
            if state.rewind_attempt > self.attempt(Epoch(bytes)) {
                self.attempts.insert(Epoch(bytes), state.rewind_attempt);
                self.due.insert(Epoch(bytes), state.committed.saturating_add(1));
                back = true;
            }
        }
        if self.incarnation.as_deref() != Some(incarnation) {
            // Right after the start: what the last run knew, so that nothing is sent twice
            // without need.
            let before = self.incarnation.take().unwrap_or_else(|| self.parts.log.tag());
            if before == incarnation {
                self.go_on_after_accepted();
            } else {
                self.raise_attempts();
                back = true;
            }
            self.incarnation = Some(incarnation.to_vec());
            if let Err(error) = self.parts.log.set_tag(incarnation) {
                tracing::warn!(%error, "the bus's incarnation is not kept; records may be sent again after a restart");
            }
        }
        if back {
            self.go_back().await;
        }
        Ok(())
    }

    /// Sets the reader behind what the last run knew to be accepted by this very bus.
    fn go_on_after_accepted(&mut self) {
        let offsets = self.parts.log.offsets();
        let open =
            offsets.iter().find(|o| o.accepted.max(o.committed) < o.written).or(offsets.last());
        let Some(open) = open else { return };
        let seq = open.accepted.max(open.committed) + 1;
        if let Ok(reader) =
            self.parts.log.reader_from(sentinel_wal::Position { epoch: open.epoch, seq })
        {
            self.queue.clear();
            self.reader = reader;
        }
    }

    /// The first record in the queue is refused for what it is: keep its bytes here, and tell
    /// the server that it is skipped. Whether there was such a record.
    fn bury(&mut self, reason: &str) -> bool {
        let Some(first) = self.queue.front_mut() else { return false };
        let last = first.last();
        let content = std::mem::replace(&mut first.content, Content::SkippedTo(last));
        let Content::Batch(bytes) = content else { return false };
        let name = format!("{}-{}.batch", first.epoch, first.from);
        tracing::error!(reason, file = %name, "the server refuses a record; its bytes are kept in the agent's folder `dead`");
        keep_dead(&self.parts.dead, &name, &bytes);
        true
    }

    /// Tells the log what is committed, after the state of slots was made durable.
    async fn settle(&mut self, now: bool) {
        if !now && self.settled_at.elapsed() < SETTLE {
            return;
        }
        self.settled_at = Instant::now();
        let states = Arc::clone(&self.parts.states);
        let kept = tokio::task::spawn_blocking(move || states.checkpoint()).await;
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::error!(%error, "records are not let go"),
            Err(error) => return tracing::error!(%error, "records are not let go"),
        }
        for (epoch, committed) in std::mem::take(&mut self.wanted) {
            // An epoch that is unknown was committed whole before.
            let _ = self.parts.log.commit(sentinel_wal::Epoch(epoch.0), committed);
        }
    }
}

fn offsets_of(o: &sentinel_wal::EpochOffsets) -> LogOffsets {
    LogOffsets {
        epoch: o.epoch.0.to_vec(),
        written: o.written,
        synced: o.synced,
        accepted: o.accepted,
        committed: o.committed,
        bytes: o.bytes,
    }
}

/// As many slots as a heartbeat has room for.
fn fitting(slots: Vec<String>) -> Vec<SlotStatus> {
    let mut room = MAX_SLOT_BYTES;
    let fits = |json: &String| match room.checked_sub(json.len()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    slots.into_iter().take(256).take_while(fits).map(|json| SlotStatus { json }).collect()
}

/// Bytes that nobody takes are kept, up to a thousand files.
fn keep_dead(folder: &std::path::Path, name: &str, bytes: &Bytes) {
    let keep = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        if std::fs::read_dir(folder)?.count() < 1000 {
            std::fs::write(folder.join(name), bytes)?;
        }
        Ok(())
    };
    if let Err(error) = keep() {
        tracing::error!(%error, "a refused record is not kept");
    }
}
