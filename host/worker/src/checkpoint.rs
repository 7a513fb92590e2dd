//! Windows kept in the store, so that whoever evaluates next has them soon.
//!
//! Whoever evaluates writes all parts of its windows once in [`EVERY`], some at a time and each with the position of
//! the tail at which it stands, under its lease: who lost it keeps nothing any more. Whoever comes next reads them, and
//! the tail from the earliest of those positions on. A process may end at any moment: a part is stored as it was before
//! or as it is now, and good either way.
//!
//! | found | then |
//! |---|---|
//! | parts of what rules read now, and all that was committed since is in the tail | parts and tail |
//! | a part that is damaged, of another version, or of a series that is gone | its series are read from history, the rest from parts and tail |
//! | parts of other rules, or of an evaluator that asks for something else; or none | history |
//! | something behind a part's position is packed | its series are read from history |
//! | something is packed while the tail is read | all is forgotten and read from history |
//!
//! Nothing is evaluated before the tail was read to its end. Parts that are older than a whole turn are removed at its
//! end.

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::term::Term;
use crate::windows::Windows;
use crate::windows::parts::part_of;
use parking_lot::RwLock;
use sentinel_store::format::window::{self, WindowColumns};
use sentinel_store::format::{Codec, FormatError};
use sentinel_store::tail::TailPosition;
use sentinel_store::windows::{MAX_PART_BYTES, WindowChange, WindowPart};
use sentinel_store::{Store, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a turn takes: no position is much older than that.
pub const EVERY: Duration = Duration::from_secs(50);
/// The most parts that are written at once.
const PARTS_AT_ONCE: u32 = 32;
/// The pause before the next turn where there is nothing to keep, or the store does not take it.
const AGAIN: Duration = Duration::from_secs(5);

/// What parts are written with.
pub struct Checkpoint {
    /// Where to.
    pub store: Arc<dyn Store>,
    /// What of.
    pub windows: Arc<RwLock<Windows>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
    /// Every write says that it is of this term.
    pub term: Term,
}

impl Checkpoint {
    /// Writes turn by turn, until it is dropped.
    pub async fn keep(self) {
        let mut trouble = false;
        loop {
            match self.turn(EVERY).await {
                Ok(true) => trouble = false,
                // Rules change, or their windows are not there yet.
                Ok(false) => tokio::time::sleep(AGAIN).await,
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!(%error, "the windows of rules could not be kept; whoever evaluates next may have to read them from history");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Writes all parts once, spread over a time, and removes what is older. The answer says whether it did: not so
    /// where there is none, or windows were not whole on the way.
    ///
    /// # Errors
    /// What the store says; parts that were written are good.
    pub async fn turn(&self, lasts: Duration) -> Result<bool, StoreError> {
        let (began, mut bytes) = (self.clock.now(), 0);
        let parts = {
            let windows = self.windows.read();
            windows.needs().map_or(0, |_| windows.parts())
        };
        if parts == 0 {
            return Ok(false);
        }
        let pause = lasts / parts.div_ceil(PARTS_AT_ONCE);
        let mut from = 0;
        loop {
            let step = Instant::now();
            let until = parts.min(from + PARTS_AT_ONCE);
            let Some(written) = self.write_parts(from..until, began).await? else {
                return Ok(false);
            };
            bytes += written;
            self.metrics.checkpoint_seconds.observe(step.elapsed().as_secs_f64());
            tokio::time::sleep(pause.saturating_sub(step.elapsed())).await;
            from = until;
            if from >= parts {
                break;
            }
        }
        // All that are good were made in this turn.
        self.write(WindowChange { older: Some(began), ..WindowChange::default() }).await?;
        self.metrics.checkpoint_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.checkpoint_time.set(began / 1_000);
        Ok(true)
    }

    /// Writes some parts together, in a turn that began at `made_at`; their bytes, or `None` where windows are not
    /// whole.
    ///
    /// # Errors
    /// What the store says: then all are as they were.
    pub async fn write_parts(
        &self,
        parts: std::ops::Range<u32>,
        made_at: i64,
    ) -> Result<Option<usize>, StoreError> {
        let windows = Arc::clone(&self.windows);
        let encoding = tokio::task::spawn_blocking(move || encoded(&windows, parts, made_at));
        let parts = encoding.await.map_err(|e| StoreError::Engine(e.to_string()))?;
        let Some(parts) = parts else { return Ok(None) };
        let bytes = parts.iter().map(|part| part.data.len()).sum();
        self.write(WindowChange { parts, ..WindowChange::default() }).await?;
        Ok(Some(bytes))
    }

    async fn write(&self, mut change: WindowChange) -> Result<(), StoreError> {
        change.fence = self.term.fence();
        let saved = self.store.save_windows(change).await;
        self.term.heed(&saved);
        saved
    }
}

/// Parts as they are now, `None` where they are not whole; those that are too large are left out.
fn encoded(
    windows: &RwLock<Windows>,
    parts: std::ops::Range<u32>,
    made_at: i64,
) -> Option<Vec<WindowPart>> {
    let mut codec = Codec::new();
    let mut made = Vec::with_capacity(parts.len());
    for part in parts {
        // The lock is held for one part at a time.
        let Some(columns) = windows.read().part(part)? else { continue };
        match window::encode(&mut codec, &columns) {
            Ok(data) if data.len() <= MAX_PART_BYTES => {
                made.push(WindowPart { part, made_at, data });
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, part, "a part of windows has no form to be kept in");
            }
        }
    }
    Some(made)
}

/// What was found of windows.
#[derive(Debug)]
pub struct Recovered {
    /// The parts whose series are there, up to the tail from the earliest of their positions on.
    pub parts: BTreeSet<u32>,
    /// That position.
    pub earliest: TailPosition,
}

/// Reads the parts that are of what rules read into windows whose series are adopted already, and has the tail read
/// again from where they stand; `None` where there is none.
///
/// # Errors
/// What the store says.
pub async fn recover(
    store: &dyn Store,
    windows: &Arc<RwLock<Windows>>,
) -> Result<Option<Recovered>, StoreError> {
    let wanted = windows.read().wanted();
    let mut recovered: Option<Recovered> = None;
    let (mut foreign, mut too_old) = (0_usize, 0_usize);
    let mut page = store.windows(0).await?;
    while let Some(last) = page.last() {
        let next = last.part.saturating_add(1);
        let decoding = tokio::task::spawn_blocking(move || decoded(page));
        // The next ones come while these are decoded.
        let (found, read) = tokio::join!(decoding, store.windows(next));
        page = read?;
        let mut known: Option<(TailPosition, bool)> = None;
        for (part, columns, position) in found.map_err(|e| StoreError::Engine(e.to_string()))? {
            if columns.needs != wanted {
                foreign += 1;
                continue;
            }
            let reaches = match &known {
                Some((of, reaches)) if *of == position => *reaches,
                Some(_) | None => store.tail_reaches(&position).await?,
            };
            known = Some((position.clone(), reaches));
            if !reaches {
                too_old += 1;
            } else if windows.write().restore(columns) {
                let earliest = position.clone();
                let parts = BTreeSet::new();
                let so_far = recovered.get_or_insert(Recovered { parts, earliest });
                so_far.parts.insert(part);
                if position.precedes(&so_far.earliest) {
                    so_far.earliest = position;
                }
            } else {
                tracing::warn!(
                    part,
                    "kept windows are of series that are gone; theirs are read from history"
                );
            }
        }
    }
    if foreign + too_old > 0 {
        tracing::info!(
            of_other_rules = foreign,
            too_old,
            "some parts of kept windows are not of use; their series are read from history"
        );
    }
    if let Some(recovered) = &recovered {
        let mut windows = windows.write();
        windows.go_back(recovered.earliest.clone());
        windows.wake().notify_one();
    }
    Ok(recovered)
}

/// The parts that are sound.
fn decoded(page: Vec<WindowPart>) -> Vec<(u32, WindowColumns, TailPosition)> {
    let mut codec = Codec::new();
    let mut sound = Vec::with_capacity(page.len());
    for WindowPart { part, data, .. } in page {
        let decoded = window::decode(&mut codec, &data).and_then(|columns| {
            let position = TailPosition::from_text(&columns.position);
            let position = position.ok_or(FormatError::Number("a position of kept windows"))?;
            let is_of = columns.series.iter().all(|series| part_of(series.id) == part);
            let stranger = FormatError::Number("a part of kept windows");
            if is_of { Ok((part, columns, position)) } else { Err(stranger) }
        });
        match decoded {
            Ok(found) => sound.push(found),
            Err(error) => {
                tracing::warn!(%error, part, "kept windows cannot be used; their series are read from history");
            }
        }
    }
    sound
}
