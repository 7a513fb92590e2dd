//! Measures synced appends of many writers against a bare loop of write + fdatasync into a preallocated file.
//!
//! `cargo run --release -p sentinel-wal --example group_commit [-- --dir DIR --writers N --bytes N --records N --rounds N]`
//!
//! Prints one JSON object: records/s of the log in use, of the bare loop writing the same bytes in the log's own batches
//! (`ratio`), of the bare loop writing one record of every writer a batch (`ratio_full_batches`), of the bare loop with
//! the log's batches into a file written with zeros beforehand (`ratio_zeroed`), and of a log opened anew, of which nothing
//! is committed, against the bare loop (`ratio_fresh`). A round measures each once, in an order that rotates, and the
//! ratios are medians over rounds, so that a noisy neighbour meets all alike.
//!
//! What each writes to: the bare loop to room reserved with fallocate and synced before the clock starts. The log in use
//! is one log for all rounds, commits what is synced as it goes, as a log's owner does, and has gone round in its
//! segments before the clock starts: it writes to files of segments whose records are committed. The log opened anew reserves
//! its segments, all but the first while the clock runs.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use sentinel_wal::{AtCap, Log, Options, SyncPolicy, format};

struct Setup {
    dir: PathBuf,
    writers: usize,
    bytes: usize,
    records: usize,
    rounds: usize,
}

fn main() {
    let setup = setup();
    let mut rounds = Vec::new();
    let used = open(&setup, "used");
    // Also warms the disk up.
    let mut batch = mean_batch(&setup, log_rate(&setup, &used, true).1);
    for round in 0..setup.rounds {
        let mut rates = [0.0; 5];
        let measured = batch;
        for turn in 0..rates.len() {
            let which = (round + turn) % rates.len();
            rates[which] = match which {
                0 => {
                    let (rate, syncs) = log_rate(&setup, &used, true);
                    batch = mean_batch(&setup, syncs);
                    rate
                }
                1 => bare_rate(&setup, measured, Room::Reserved),
                2 => bare_rate(&setup, setup.writers, Room::Reserved),
                3 => fresh_rate(&setup),
                _ => bare_rate(&setup, measured, Room::Zeroed),
            };
        }
        let [log, same, full, fresh, zeroed] = rates;
        rounds.push([
            log,
            same,
            full,
            fresh,
            zeroed,
            log / same,
            log / full,
            fresh / same,
            log / zeroed,
            measured as f64,
        ]);
    }
    used.close().expect("close");
    let median = |column: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|r| r[column]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let names = [
        "log_records_per_s",
        "bare_records_per_s",
        "bare_full_batches_records_per_s",
        "fresh_log_records_per_s",
        "bare_zeroed_records_per_s",
        "ratio",
        "ratio_full_batches",
        "ratio_fresh",
        "ratio_zeroed",
        "mean_batch",
    ];
    let medians: Vec<String> =
        names.iter().enumerate().map(|(i, name)| format!("\"{name}\":{:.3}", median(i))).collect();
    println!(
        "{{\"writers\":{},\"record_bytes\":{},\"records\":{},\"rounds\":{},\
         \"log_file\":\"segments of 16 MiB, in files of committed ones; of the fresh log reserved with fallocate while the clock runs\",\
         \"bare_file\":\"reserved with fallocate before the clock starts\",{}}}",
        setup.writers,
        setup.bytes,
        setup.records,
        setup.rounds,
        medians.join(",")
    );
}

fn setup() -> Setup {
    let mut setup = Setup {
        dir: PathBuf::from("target/group-commit"),
        writers: 64,
        bytes: 4096,
        records: 12_800,
        rounds: 31,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_default();
        let number =
            || value.parse().unwrap_or_else(|_| panic!("{name} needs a number, not {value:?}"));
        match name.as_str() {
            "--dir" => setup.dir = PathBuf::from(&value),
            "--writers" => setup.writers = number(),
            "--bytes" => setup.bytes = number(),
            "--records" => setup.records = number(),
            "--rounds" => setup.rounds = number(),
            other => panic!("unknown argument {other}; see the head of this file"),
        }
    }
    setup
}

fn mean_batch(setup: &Setup, syncs: u64) -> usize {
    (setup.records as f64 / syncs as f64).round().max(1.0) as usize
}

fn open(setup: &Setup, name: &str) -> Arc<Log> {
    let dir = setup.dir.join(name);
    let _ = std::fs::remove_dir_all(&dir);
    let options = Options {
        sync: SyncPolicy::Always,
        max_bytes: 8 << 30,
        at_cap: AtCap::Refuse,
        ..Options::default()
    };
    Arc::new(Log::open(&dir, options).expect("open the log").0)
}

fn fresh_rate(setup: &Setup) -> f64 {
    let log = open(setup, "fresh");
    let (rate, _) = log_rate(setup, &log, false);
    log.close().expect("close");
    rate
}

/// Records a second, and the number of syncs. One of the writers commits what is synced, if asked.
fn log_rate(setup: &Setup, log: &Arc<Log>, commit: bool) -> (f64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let each = setup.records / setup.writers;
    let (syncs, started) = (log.stats().syncs, Instant::now());
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..setup.writers {
            let (log, payload) = (log.clone(), payload(setup.bytes, writer));
            tasks.spawn(async move {
                for _ in 0..each {
                    let at = log.append_synced(&payload).await.expect("append");
                    if commit && writer == 0 {
                        log.commit(at.epoch, at.seq).expect("commit");
                    }
                }
            });
        }
        tasks.join_all().await;
    });
    let seconds = started.elapsed().as_secs_f64();
    ((each * setup.writers) as f64 / seconds, log.stats().syncs - syncs)
}

/// What the bare loop's file consists of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Reserved, never written.
    Reserved,
    /// Written with zeros.
    Zeroed,
}

/// Records a second of a loop that writes `batch` records and syncs.
fn bare_rate(setup: &Setup, batch: usize, room: Room) -> f64 {
    let record = format::frame_bytes(setup.bytes) as usize;
    let bytes = payload(record * batch, 7);
    let batches = setup.records / batch;
    let path = setup.dir.join("bare");
    let file = std::fs::File::create(&path).expect("create");
    let size = (bytes.len() * batches) as u64;
    fallocate(&file, FallocateFlags::empty(), 0, size).expect("preallocate");
    if room == Room::Zeroed {
        file.write_all_at(&vec![0; size as usize], 0).expect("write zeros");
    }
    file.sync_all().expect("sync");
    let started = Instant::now();
    for index in 0..batches {
        file.write_all_at(&bytes, (index * bytes.len()) as u64).expect("write");
        fdatasync(&file).expect("fdatasync");
    }
    let seconds = started.elapsed().as_secs_f64();
    drop(file);
    let _ = std::fs::remove_file(path);
    (batches * batch) as f64 / seconds
}

/// Bytes that do not compress to nothing.
fn payload(len: usize, seed: usize) -> Vec<u8> {
    let mut x = seed as u64 + 1;
    let next = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
