//! Measures synced appends of many writers against a bare loop of write + fdatasync into a preallocated file.
//!
//! `cargo run --release -p sentinel-wal --example group_commit [-- --dir DIR --writers N --bytes N --records N --rounds N]`
//!
//! Prints one JSON object: records/s of the log, of the bare loop writing the same bytes in the log's own batches
//! (`ratio`), of the bare loop writing one record of every writer a batch (`ratio_full_batches`), and of the latter into
//! files of the log's segment size, all preallocated beforehand (`ratio_segments`), and of the bare loop with the log's
//! batches into a file written with zeros beforehand (`ratio_zeroed`: what the log would be measured against if its own
//! zeros cost nothing). A round measures each once, in an order that rotates, and the ratios are medians over rounds, so
//! that a noisy neighbour meets all alike.
//!
//! What each writes to: the bare loop to room reserved with fallocate and synced before the clock starts; the log, opened
//! new in each round, to segments of which the first is reserved only, and the next are written with zeros by its
//! housekeeping thread while the clock runs.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use sentinel_wal::{AtCap, DEFAULT_SEGMENT_BYTES, Log, Options, SyncPolicy, format};

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
    // Also warms the disk up.
    let mut batch = mean_batch(&setup, log_rate(&setup).1);
    for round in 0..setup.rounds {
        let mut rates = [0.0; 5];
        let measured = batch;
        for turn in 0..rates.len() {
            let which = (round + turn) % rates.len();
            rates[which] = match which {
                0 => {
                    let (rate, syncs) = log_rate(&setup);
                    batch = mean_batch(&setup, syncs);
                    rate
                }
                1 => bare_rate(&setup, measured, u64::MAX, Room::Reserved),
                2 => bare_rate(&setup, setup.writers, u64::MAX, Room::Reserved),
                3 => bare_rate(&setup, setup.writers, DEFAULT_SEGMENT_BYTES, Room::Reserved),
                _ => bare_rate(&setup, measured, u64::MAX, Room::Zeroed),
            };
        }
        let [log, same, full, segments, zeroed] = rates;
        rounds.push([
            log,
            same,
            full,
            segments,
            zeroed,
            log / same,
            log / full,
            log / segments,
            log / zeroed,
            measured as f64,
        ]);
    }
    let median = |column: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|r| r[column]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let names = [
        "log_records_per_s",
        "bare_records_per_s",
        "bare_full_batches_records_per_s",
        "bare_segments_records_per_s",
        "bare_zeroed_records_per_s",
        "ratio",
        "ratio_full_batches",
        "ratio_segments",
        "ratio_zeroed",
        "mean_batch",
    ];
    let medians: Vec<String> =
        names.iter().enumerate().map(|(i, name)| format!("\"{name}\":{:.3}", median(i))).collect();
    println!(
        "{{\"writers\":{},\"record_bytes\":{},\"records\":{},\"rounds\":{},\
         \"log_file\":\"segments of 16 MiB, the first reserved, the next zero-filled while the clock runs\",\
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

/// Records a second, and the number of syncs.
fn log_rate(setup: &Setup) -> (f64, u64) {
    let dir = setup.dir.join("log");
    let _ = std::fs::remove_dir_all(&dir);
    let options = Options {
        sync: SyncPolicy::Always,
        max_bytes: 8 << 30,
        at_cap: AtCap::Refuse,
        ..Options::default()
    };
    let (log, _) = Log::open(&dir, options).expect("open the log");
    let log = Arc::new(log);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let each = setup.records / setup.writers;
    let started = Instant::now();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..setup.writers {
            let (log, payload) = (log.clone(), payload(setup.bytes, writer));
            tasks.spawn(async move {
                for _ in 0..each {
                    log.append_synced(&payload).await.expect("append");
                }
            });
        }
        tasks.join_all().await;
    });
    let seconds = started.elapsed().as_secs_f64();
    let syncs = log.stats().syncs;
    log.close().expect("close");
    drop(log);
    let _ = std::fs::remove_dir_all(&dir);
    ((each * setup.writers) as f64 / seconds, syncs)
}

/// What the bare loop's file consists of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Reserved, never written.
    Reserved,
    /// Written with zeros.
    Zeroed,
}

/// Records a second of a loop that writes `batch` records and syncs, going on in the next file after `file_bytes`.
fn bare_rate(setup: &Setup, batch: usize, file_bytes: u64, room: Room) -> f64 {
    let record = format::frame_bytes(setup.bytes) as usize;
    let bytes = payload(record * batch, 7);
    let batches = setup.records / batch;
    let in_file = batches.min((file_bytes / bytes.len() as u64).max(1) as usize);
    let paths: Vec<PathBuf> =
        (0..batches.div_ceil(in_file)).map(|n| setup.dir.join(format!("bare.{n}"))).collect();
    let prepare = |path: &PathBuf| {
        let file = std::fs::File::create(path).expect("create");
        let size = (bytes.len() * in_file) as u64;
        fallocate(&file, FallocateFlags::empty(), 0, size).expect("preallocate");
        if room == Room::Zeroed {
            file.write_all_at(&vec![0; size as usize], 0).expect("write zeros");
        }
        file.sync_all().expect("sync");
        file
    };
    let files: Vec<std::fs::File> = paths.iter().map(prepare).collect();
    let started = Instant::now();
    for index in 0..batches {
        let (file, place) = (&files[index / in_file], index % in_file);
        file.write_all_at(&bytes, (place * bytes.len()) as u64).expect("write");
        fdatasync(file).expect("fdatasync");
    }
    let seconds = started.elapsed().as_secs_f64();
    drop(files);
    for path in paths {
        let _ = std::fs::remove_file(path);
    }
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
