//! A log that is looked at is told as it is, whoever has it open, and nothing of it changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sentinel_wal::inspect::inspect;
use sentinel_wal::{GapReason, Item, Log, MetaFile, Options, SyncPolicy};

fn options() -> Options {
    Options { segment_bytes: 4096, max_bytes: 1 << 20, ..Options::default() }
}

fn open(folder: &Path) -> Log {
    Log::open(folder, options()).unwrap().0
}

/// So many records of 1,000 bytes: four to a segment.
fn fill(log: &Log, records: u64) {
    for n in 0..records {
        log.append_blocking(&[n as u8; 900]).unwrap();
    }
}

/// All files, their bytes and times.
fn state(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let one = |entry: fs::DirEntry| {
        let modified = entry.metadata().unwrap().modified().unwrap();
        (entry.file_name().into_string().unwrap(), (fs::read(entry.path()).unwrap(), modified))
    };
    entries.map(one).collect()
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|p| p.extension().is_some_and(|e| e == "seg")).collect();
    paths.sort();
    paths
}

#[test]
fn a_closed_log_is_told_whole_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let epoch = log.epoch();
    fill(&log, 10);
    log.accept(epoch, 7).unwrap();
    log.commit(epoch, 2).unwrap();
    log.close().unwrap();
    let before = state(dir.path());
    let found = inspect(dir.path()).unwrap();
    assert_eq!(state(dir.path()), before, "looking changes nothing");
    assert_eq!((found.holder, found.closed, found.meta), (None, true, MetaFile::Intact));
    let [one] = &*found.epochs else { panic!("{found:?}") };
    assert_eq!((one.epoch, one.written, one.synced), (epoch, 10, 10));
    assert_eq!((one.accepted, one.committed, one.waiting()), (7, 2, 8));
    assert_eq!(one.gaps, []);
    let ranges: Vec<_> = one.segments.iter().map(|s| (s.first, s.last, s.records)).collect();
    assert_eq!(ranges.last().unwrap().1, 10);
    assert_eq!(ranges.iter().map(|r| r.2).sum::<u64>(), 10 - (ranges[0].0 - 1), "{ranges:?}");
    assert!(one.segments.iter().all(|s| !s.active && s.trailing_bytes == 0 && s.written_at > 0));
    let (log, recovery) = Log::open(dir.path(), options()).unwrap();
    assert!(recovery.clean, "the marker of the shutdown is still there: {recovery:?}");
    drop(log);
}

#[test]
fn a_log_in_use_is_told_who_holds_it_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 6);
    let found = inspect(dir.path()).unwrap();
    assert_eq!((found.holder, found.closed), (Some(std::process::id()), false));
    let [one] = &*found.epochs else { panic!("{found:?}") };
    assert_eq!((one.written, one.segments.last().unwrap().active), (6, true));
    assert!(one.segments.iter().all(|s| s.trailing_bytes == 0), "{one:?}");
    // Files of committed segments are used again meanwhile.
    let writer = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 7..400 {
                log.append_blocking(&[n as u8; 900]).unwrap();
                log.commit(log.epoch(), n - 3).unwrap();
            }
        });
        while !writer.is_finished() {
            let found = inspect(dir.path()).unwrap();
            let [one] = &*found.epochs else { continue };
            let corrupt = one.gaps.iter().find(|gap| gap.to <= one.synced.saturating_sub(12));
            assert_eq!(corrupt, None, "{found:?}");
        }
        writer.join()
    });
    writer.unwrap();
    log.close().unwrap();
    assert_eq!(inspect(dir.path()).unwrap().epochs[0].gaps, []);
}

#[test]
fn damage_is_found_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 12);
    log.close().unwrap();
    let files = segments(dir.path());
    assert_eq!(files.len(), 3);
    let mut bytes = fs::read(&files[0]).unwrap();
    bytes[64 + 944 + 100] ^= 1;
    fs::write(&files[0], &bytes).unwrap();
    let mut bytes = fs::read(&files[1]).unwrap();
    bytes[20] ^= 1;
    fs::write(&files[1], &bytes).unwrap();
    let bytes = fs::read(&files[2]).unwrap();
    fs::write(&files[2], &bytes[..bytes.len() - 8]).unwrap();
    fs::write(dir.path().join("00000000000000000099.seg"), [7; 300]).unwrap();
    fs::write(dir.path().join("00000000000000000009.seg.aside"), [7; 30]).unwrap();
    let found = inspect(dir.path()).unwrap();
    let [one] = &*found.epochs else { panic!("{found:?}") };
    let gaps: Vec<_> = one.gaps.iter().map(|g| (g.from, g.to, g.reason)).collect();
    assert_eq!(gaps, [(2, 2, GapReason::Corrupt), (12, 12, GapReason::Corrupt)]);
    assert_eq!(one.waiting(), 10);
    let damaged: Vec<bool> = one.segments.iter().map(|s| s.damaged_header).collect();
    assert_eq!(damaged, [false, true, false]);
    assert_eq!(one.segments[0].missing, [(2, 2)]);
    assert!(one.segments[2].trailing_bytes > 0);
    assert_eq!(found.unreadable[0].name, "00000000000000000099.seg");
    assert_eq!(found.aside[0].bytes, 30);
    // What opening the log finds is the same.
    let (log, _) = Log::open(dir.path(), options()).unwrap();
    let mut reader = log.reader();
    let mut missing = Vec::new();
    while let Some(item) = reader.try_next().unwrap() {
        if let Item::Gap { from, to, reason, .. } = item {
            missing.push((from, to, reason));
        }
    }
    assert_eq!(missing, gaps);
}

#[test]
fn a_lost_meta_file_and_a_folder_without_a_log_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let empty = inspect(dir.path()).unwrap();
    assert_eq!((empty.meta, empty.closed, empty.epochs.len()), (MetaFile::Missing, true, 0));
    let log = open(dir.path());
    fill(&log, 3);
    log.close().unwrap();
    fs::write(dir.path().join("meta"), "no meta file").unwrap();
    let found = inspect(dir.path()).unwrap();
    assert_eq!(found.meta, MetaFile::Damaged);
    assert_eq!((found.epochs[0].written, found.epochs[0].committed), (3, 0));
    assert!(inspect(&dir.path().join("nowhere")).is_err());
    assert!(!dir.path().join("nowhere").exists(), "nothing is made");
}

#[test]
fn records_that_are_too_old_are_dropped_and_counted_and_younger_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let epoch = log.epoch();
    fill(&log, 9);
    log.close().unwrap();
    let files = segments(dir.path());
    let aged = SystemTime::now() - Duration::from_secs(7200);
    for file in &files[..2] {
        fs::File::options().write(true).open(file).unwrap().set_modified(aged).unwrap();
    }
    let max_age = Some(Duration::from_secs(3600));
    let (log, _) = Log::open(dir.path(), Options { max_age, ..options() }).unwrap();
    assert_eq!(log.stats().dropped_records, 8);
    let mut reader = log.reader();
    let gap = reader.try_next().unwrap().unwrap();
    assert_eq!(gap, Item::Gap { epoch, from: 1, to: 8, reason: GapReason::DroppedAtCap });
    assert!(
        matches!(reader.try_next().unwrap(), Some(Item::Record { position, .. }) if position.seq == 9)
    );
    log.close().unwrap();
    let found = inspect(dir.path()).unwrap();
    assert_eq!((found.dropped_records, found.epochs[0].waiting()), (8, 1));
}

#[test]
fn records_are_as_old_after_a_crash_as_before_it() {
    let dir = tempfile::tempdir().unwrap();
    // Where no offsets are left each segment is read, and what it has beyond its records is cut off.
    let log = open(dir.path());
    fill(&log, 9);
    drop(log);
    for name in ["meta", "meta.next"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    let files = segments(dir.path());
    let aged = SystemTime::now() - Duration::from_secs(7200);
    for file in &files[..2] {
        fs::File::options().write(true).open(file).unwrap().set_modified(aged).unwrap();
    }
    drop(open(dir.path()));
    for file in &files[..2] {
        let found = fs::metadata(file).unwrap();
        assert!(found.len() < 4096, "it was cut");
        assert_eq!(found.modified().unwrap(), aged, "{}", file.display());
    }
    let max_age = Some(Duration::from_secs(3600));
    let (log, _) = Log::open(dir.path(), Options { max_age, ..options() }).unwrap();
    assert_eq!(log.stats().dropped_records, 8);
}

#[test]
fn a_segment_is_left_in_time_for_its_records_to_go_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let max_age = Some(Duration::from_secs(1));
    let sync = SyncPolicy::Always;
    let (log, _) = Log::open(dir.path(), Options { max_age, sync, ..options() }).unwrap();
    log.append_blocking(&[1; 10]).unwrap();
    // One record a segment is not what its size asks for: the age does.
    let began = std::time::Instant::now();
    let mut last = 1;
    while log.stats().dropped_records == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", log.stats());
        std::thread::sleep(Duration::from_millis(20));
        last = log.append_blocking(&[2; 10]).unwrap().seq;
    }
    assert!(log.stats().dropped_records < last, "what is young stays");
    log.close().unwrap();
}
