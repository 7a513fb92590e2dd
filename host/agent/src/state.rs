//! The `kv` state of slots: what the log's records add up to.
//!
//! A call's writes lie in the record of its batch, so both are durable together or not at
//! all. Records go once they are committed, so the sum is kept in a checkpoint file, which is
//! always written before the log is told of a commit. At start: the checkpoint, then the
//! writes of every record behind the place that the checkpoint names for the slot, where it
//! counts (`crate::groups`).
//!
//! A collector appends, then adds the writes here. In between the exporter may already know
//! the record to be committed; `SlotStates::floor` keeps it from letting go of it.

use crate::groups::{Groups, Settled};
use parking_lot::Mutex;
use sentinel_model::ids::{Epoch, SlotName};
use sentinel_runtime::{KvSource, KvState, KvWrite};
use sentinel_wal::Log;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the state of slots cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read or written.
    #[error("the state of slots {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a checkpoint. Without it collectors would begin anew and might send
    /// samples twice, so the operator decides.
    #[error("the state of slots {path} is damaged ({why}); restore it, or remove it to let plugins begin with empty state", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] sentinel_wal::Error),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct SlotCheckpoint {
    /// The last record that is contained.
    epoch: String,
    seq: u64,
    /// Values in hexadecimal.
    entries: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Checkpoint {
    version: u32,
    slots: BTreeMap<SlotName, SlotCheckpoint>,
}

#[derive(Debug, Clone)]
struct Held {
    epoch: Epoch,
    seq: u64,
    state: Arc<KvState>,
}

/// The state of all slots.
pub struct SlotStates {
    path: PathBuf,
    held: Mutex<BTreeMap<SlotName, Held>>,
    dirty: Mutex<bool>,
    /// By a number of its own, the last record before each append that is under way.
    appending: Mutex<BTreeMap<u64, u64>>,
}

/// While it is there, nothing behind its floor is let go of.
pub(crate) struct Appending<'a> {
    states: &'a SlotStates,
    number: u64,
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        self.states.appending.lock().remove(&self.number);
    }
}

impl SlotStates {
    /// Reads the checkpoint and adds up the log's records behind it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(path: &Path, log: &Log) -> Result<Self, StateError> {
        let mut held = read(path)?;
        let order: Vec<Epoch> = log.offsets().iter().map(|o| Epoch(o.epoch.0)).collect();
        let rank = |epoch: Epoch| order.iter().position(|e| *e == epoch);
        let mut reader = log.reader();
        let mut groups = Groups::default();
        while let Some(item) = reader.try_next()? {
            for settled in groups.take(item) {
                let Settled::Counted { epoch, seq, record } = settled else { continue };
                let known = held.get(&record.slot);
                // An epoch that the log no longer has lies before all that it still has.
                let behind = known.is_none_or(|k| (rank(k.epoch), k.seq) < (rank(epoch), seq));
                if behind && !record.writes.is_empty() {
                    apply(&mut held, &record.slot, epoch, seq, record.writes);
                }
            }
        }
        Ok(Self {
            path: path.to_owned(),
            held: Mutex::new(held),
            dirty: Mutex::new(true),
            appending: Mutex::default(),
        })
    }

    /// Says that something is about to be appended, whose writes will be added when it is.
    pub(crate) fn appending(&self, log: &Log) -> Appending<'_> {
        let mut all = self.appending.lock();
        // Under the lock, so that the floor that is asked for next knows it.
        let current = log.epoch();
        let written = log.offsets().iter().find(|o| o.epoch == current).map_or(0, |o| o.written);
        let number = all.last_key_value().map_or(0, |(last, _)| last + 1);
        all.insert(number, written);
        Appending { states: self, number }
    }

    /// The last record of the log's current epoch of which all writes are known to have been
    /// added. To be asked for before [`SlotStates::checkpoint`], and nothing behind it to be
    /// let go of after.
    pub(crate) fn floor(&self) -> u64 {
        self.appending.lock().values().copied().min().unwrap_or(u64::MAX)
    }

    /// Adds a synced record's writes.
    pub fn synced(&self, slot: &SlotName, epoch: Epoch, seq: u64, writes: Vec<KvWrite>) {
        if !writes.is_empty() {
            apply(&mut self.held.lock(), slot, epoch, seq, writes);
            *self.dirty.lock() = true;
        }
    }

    /// Writes the checkpoint if anything changed since the last; durable when this returns.
    ///
    /// # Errors
    /// [`StateError::Io`]; then nothing may be committed to the log.
    pub fn checkpoint(&self) -> Result<(), StateError> {
        let mut dirty = self.dirty.lock();
        if !*dirty {
            return Ok(());
        }
        let slots =
            self.held.lock().iter().map(|(slot, held)| (slot.clone(), freeze(held))).collect();
        let checkpoint = Checkpoint { version: 1, slots };
        self.write(&checkpoint)
            .map_err(|source| StateError::Io { path: self.path.clone(), source })?;
        *dirty = false;
        Ok(())
    }

    fn write(&self, checkpoint: &Checkpoint) -> std::io::Result<()> {
        sentinel_files::replace(&self.path, &serde_json::to_vec(checkpoint)?, 0o600)
    }
}

impl KvSource for SlotStates {
    fn load(&self, slot: &SlotName) -> Arc<KvState> {
        self.held.lock().get(slot).map(|held| Arc::clone(&held.state)).unwrap_or_default()
    }
}

fn apply(
    held: &mut BTreeMap<SlotName, Held>,
    slot: &SlotName,
    epoch: Epoch,
    seq: u64,
    writes: Vec<KvWrite>,
) {
    let one =
        held.entry(slot.clone()).or_insert_with(|| Held { epoch, seq, state: Arc::default() });
    (one.epoch, one.seq) = (epoch, seq);
    Arc::make_mut(&mut one.state).apply(writes);
}

fn freeze(held: &Held) -> SlotCheckpoint {
    let entries = held.state.iter().map(|(k, v)| (k.to_owned(), hex::encode(v))).collect();
    SlotCheckpoint { epoch: held.epoch.to_string(), seq: held.seq, entries }
}

fn read(path: &Path) -> Result<BTreeMap<SlotName, Held>, StateError> {
    let damaged = |why: String| StateError::Damaged { path: path.to_owned(), why };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(StateError::Io { path: path.to_owned(), source }),
    };
    let checkpoint: Checkpoint =
        serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if checkpoint.version != 1 {
        return Err(damaged(format!("version {}", checkpoint.version)));
    }
    let mut held = BTreeMap::new();
    for (slot, frozen) in checkpoint.slots {
        let epoch = frozen
            .epoch
            .parse()
            .map_err(|e: sentinel_model::ids::IdError| damaged(e.to_string()))?;
        let mut state = KvState::default();
        for (key, value) in frozen.entries {
            let value = hex::decode(value).map_err(|e| damaged(e.to_string()))?;
            state.apply([KvWrite { key, value: Some(value) }]);
        }
        held.insert(slot, Held { epoch, seq: frozen.seq, state: Arc::new(state) });
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{LogRecord, Part};
    use bytes::Bytes;
    use sentinel_wal::Options;

    fn slot() -> SlotName {
        SlotName::new("s").unwrap()
    }

    fn write(n: u8) -> Vec<KvWrite> {
        vec![KvWrite { key: "n".into(), value: Some(vec![n]) }]
    }

    fn append_part(log: &Log, key: &str, number: u16, of: u16) {
        let writes = vec![KvWrite { key: key.into(), value: Some(vec![number as u8]) }];
        let part = Part { number, of };
        let record = LogRecord { slot: slot(), part, writes, batch: Bytes::from_static(b"b") };
        log.append_blocking(&record.encode()).unwrap();
    }

    fn append(log: &Log, n: u8) -> u64 {
        let writes = vec![KvWrite { key: "n".into(), value: Some(vec![n]) }];
        let record =
            LogRecord { slot: slot(), part: Part::WHOLE, writes, batch: Bytes::from_static(b"b") };
        log.append_blocking(&record.encode()).unwrap().seq
    }

    fn value(states: &SlotStates) -> Option<u8> {
        states.load(&slot()).get("n").map(|v| v[0])
    }

    #[test]
    fn the_state_is_the_checkpoint_and_the_records_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.json");
        let folder = dir.path().join("log");
        let open = || Log::open(&folder, Options::default()).unwrap().0;
        let log = open();
        let states = SlotStates::open(&file, &log).unwrap();
        assert_eq!(value(&states), None);
        for n in 1..=3 {
            let seq = append(&log, n);
            let writes = vec![KvWrite { key: "n".into(), value: Some(vec![n]) }];
            states.synced(&slot(), Epoch(log.epoch().0), seq, writes);
        }
        states.checkpoint().unwrap();
        append(&log, 4);
        log.commit(log.epoch(), 2).unwrap();
        log.close().unwrap();

        let log = open();
        let states = SlotStates::open(&file, &log).unwrap();
        assert_eq!(value(&states), Some(4), "the record behind the checkpoint counts");
        append(&log, 5);
        log.close().unwrap();
        let log = open();
        assert_eq!(value(&SlotStates::open(&file, &log).unwrap()), Some(5), "over two epochs");
    }

    #[test]
    fn a_collection_in_several_records_counts_with_its_last() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Log::open(&dir.path().join("log"), Options::default()).unwrap().0;
        let keys = |log: &Log| {
            let states = SlotStates::open(&dir.path().join("state.json"), log).unwrap();
            let keys = states.load(&slot()).iter().map(|(k, v)| format!("{k}{}", v[0])).collect();
            let keys: Vec<String> = keys;
            keys.join(" ")
        };
        let log = open();
        append_part(&log, "a", 1, 2);
        append_part(&log, "b", 2, 2);
        assert_eq!(keys(&log), "a1 b2");
        append_part(&log, "c", 1, 3);
        append_part(&log, "d", 2, 3);
        assert_eq!(keys(&log), "a1 b2", "the last is not there");
        append(&log, 9);
        assert_eq!(keys(&log), "a1 b2 n9", "another record is not the last");
        append_part(&log, "c", 1, 3);
        append_part(&log, "d", 2, 3);
        log.close().unwrap();
        let log = open();
        append_part(&log, "e", 2, 3);
        append_part(&log, "f", 3, 3);
        assert_eq!(
            keys(&log),
            "a1 b2 e2 f3 n9",
            "what a crash cut short is not finished by another"
        );
    }

    #[test]
    fn nothing_is_let_go_of_while_its_state_is_not_added() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&dir.path().join("log"), Options::default()).unwrap().0;
        let states = SlotStates::open(&dir.path().join("state.json"), &log).unwrap();
        assert_eq!(states.floor(), u64::MAX);
        append(&log, 1);
        let first = states.appending(&log);
        let seq = append(&log, 2);
        let second = states.appending(&log);
        assert_eq!((states.floor(), seq), (1, 2));
        states.synced(&slot(), Epoch(log.epoch().0), seq, write(2));
        drop(first);
        assert_eq!(states.floor(), 2);
        drop(second);
        assert_eq!(states.floor(), u64::MAX);
    }

    #[test]
    fn a_damaged_checkpoint_is_said_and_not_taken_for_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.json");
        fs::write(&file, "{").unwrap();
        let log = Log::open(&dir.path().join("log"), Options::default()).unwrap().0;
        assert!(matches!(SlotStates::open(&file, &log), Err(StateError::Damaged { .. })));
    }
}
