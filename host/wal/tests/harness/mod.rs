//! What the log's tests share.
#![allow(unreachable_pub, reason = "a module of several test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod promised;

use std::sync::Arc;
use std::time::Duration;

use sentinel_wal::simulation::Simulation;
use sentinel_wal::{AtCap, Epoch, GapReason, Item, Log, Options, Recovery, SyncPolicy};

/// Small segments, no threads: everything happens in the calling thread, in the same order every time.
pub fn options() -> Options {
    Options {
        sync: SyncPolicy::Interval(Duration::from_secs(3600)),
        segment_bytes: 4096,
        max_bytes: 1 << 20,
        at_cap: AtCap::DropOldest,
        max_age: None,
        background: false,
    }
}

pub fn open(disk: &Simulation) -> (Log, Recovery) {
    open_with(disk, options())
}

pub fn open_with(disk: &Simulation, options: Options) -> (Log, Recovery) {
    Log::open_on(Arc::new(disk.clone()), options).expect("the log opens")
}

/// A payload that tells what it is, `len` bytes long.
pub fn payload(tag: u64, len: usize) -> Vec<u8> {
    let mut out = tag.to_le_bytes().to_vec();
    out.resize(len.max(8), tag as u8 ^ 0x5A);
    out
}

pub fn tag_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().expect("8 bytes"))
}

/// All that a reader from the committed offset yields now.
pub fn read_all(log: &Log) -> Vec<Item> {
    let mut reader = log.reader();
    std::iter::from_fn(|| reader.try_next().expect("readable")).collect()
}

/// The numbers of the records, and the gaps, in short form.
pub fn shape(items: &[Item]) -> Vec<String> {
    items.iter().map(short).collect()
}

fn short(item: &Item) -> String {
    match item {
        Item::Record { position, .. } => position.seq.to_string(),
        Item::Gap { from, to, reason: GapReason::Corrupt, .. } => format!("lost {from}-{to}"),
        Item::Gap { from, to, reason: GapReason::DroppedAtCap, .. } => {
            format!("dropped {from}-{to}")
        }
    }
}

/// Epoch and number of each record, and its tag.
pub fn records(items: &[Item]) -> Vec<(Epoch, u64, u64)> {
    let one = |item: &Item| match item {
        Item::Record { position, payload } => Some((position.epoch, position.seq, tag_of(payload))),
        Item::Gap { .. } => None,
    };
    items.iter().filter_map(one).collect()
}

/// Appends `count` records of 600 bytes (six a segment), synced.
pub fn fill(log: &Log, from: u64, count: u64) {
    for n in from..from + count {
        log.append(&payload(n, 600)).expect("append");
    }
    log.sync().expect("sync");
}

/// `SENTINEL_SEEDS` scales how many seeds the random tests try.
pub fn seeds(default: u64) -> u64 {
    let scale = std::env::var("SENTINEL_SEEDS").ok().and_then(|s| s.parse().ok());
    scale.unwrap_or(default)
}

/// How many seeds of `SENTINEL_SEEDS` a sweep counts as one: it tries each at every operation.
const SEEDS_A_SWEEP: u64 = 20;

/// The same for tests that try each seed at every file operation.
pub fn sweeps(default: u64) -> u64 {
    (seeds(0) / SEEDS_A_SWEEP).max(default)
}

/// Segment files that were begun, oldest first.
pub fn segments(disk: &Simulation) -> Vec<String> {
    let files = disk.names().into_iter().filter(|n| n.ends_with(".seg"));
    files.filter(|n| disk.contents(n).iter().any(|b| *b != 0)).collect()
}

/// The segment file that is prepared, if there is one.
pub fn prepared(disk: &Simulation) -> Option<String> {
    let mut files = disk.names().into_iter().filter(|n| n.ends_with(".seg"));
    files.find(|n| disk.contents(n).iter().all(|b| *b == 0))
}
