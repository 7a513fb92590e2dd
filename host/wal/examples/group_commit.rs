//! Measures synced appends of many writers against a bare loop of write + fdatasync into a preallocated file.
//!
//! `cargo run --release -p sentinel-wal --example group_commit [-- --dir DIR --writers N --bytes N --records N --rounds N]`
//!
//! Prints one JSON object: records/s of the log, of the bare loop writing the same bytes in the log's own batches
//! (`ratio`), and of the bare loop writing one record of every writer a batch (`ratio_full_batches`). Rounds alternate, and the
//! ratios are medians over rounds, so that a noisy neighbour meets all alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use sentinel_wal::{AtCap, Log, Options, SyncPolicy, format};
use std::os::unix::fs::FileExt;

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
    for _ in 0..setup.rounds {
        let (log, syncs) = log_rate(&setup);
        let batch = (setup.records as f64 / syncs as f64).round().max(1.0) as usize;
        let same = bare_rate(&setup, batch);
        let full = bare_rate(&setup, setup.writers);
        rounds.push([log, same, full, log / same, log / full, batch as f64]);
    }
    let median = |column: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|r| r[column]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "{{\"writers\":{},\"record_bytes\":{},\"records\":{},\"rounds\":{},\"log_records_per_s\":{:.0},\
         \"bare_records_per_s\":{:.0},\"bare_full_batches_records_per_s\":{:.0},\"mean_batch\":{:.1},\
         \"ratio\":{:.3},\"ratio_full_batches\":{:.3}}}",
        setup.writers,
        setup.bytes,
        setup.records,
        setup.rounds,
        median(0),
        median(1),
        median(2),
        median(5),
        median(3),
        median(4),
    );
}

fn setup() -> Setup {
    let mut setup = Setup {
        dir: PathBuf::from("target/group-commit"),
        writers: 64,
        bytes: 4096,
        records: 100_000,
        rounds: 5,
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

/// Records a second of a loop that writes `batch` records and syncs.
fn bare_rate(setup: &Setup, batch: usize) -> f64 {
    let path: &Path = &setup.dir.join("bare");
    let record = format::frame_bytes(setup.bytes) as usize;
    let bytes = payload(record * batch, 7);
    let batches = setup.records / batch;
    let file = std::fs::File::create(path).expect("create");
    fallocate(&file, FallocateFlags::empty(), 0, (bytes.len() * batches) as u64)
        .expect("preallocate");
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
