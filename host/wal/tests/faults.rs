//! Crashes and power failures at every file operation, full disks, failed syncs and writes.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::promised::{Promised, check};
use harness::{
    fill, open, open_with, options, payload, prepared, read_all, records, seeds, segments, shape,
    sweeps, tag_of,
};
use sentinel_wal::simulation::Simulation;
use sentinel_wal::{
    AtCap, Error, GapReason, Item, LockFailure, Log, LogState, Options, Result, Storage,
    StorageFile, StorageLock,
};

/// Appends, syncs, commits, closes and opens, until the machine goes down or the script ends.
fn script(disk: &Simulation, promised: &mut Promised, seed: u64) {
    let _ = try_script(disk, promised, seed);
}

fn try_script(disk: &Simulation, promised: &mut Promised, seed: u64) -> Result<()> {
    for round in 0..3 {
        let (log, _) = Log::open_on(Arc::new(disk.clone()), options())?;
        let epoch = log.epoch();
        let mut last = 0;
        for step in 0..12 {
            let tag = promised.next_tag;
            promised.next_tag += 1;
            let len = [600, 40, 1500, 9000][(seed.wrapping_add(step * 7 + round) % 4) as usize];
            promised.possible.insert((epoch, last + 1), tag);
            last = log.append(&payload(tag, len))?.seq;
            if (step + seed).is_multiple_of(4) {
                log.sync()?;
                let synced =
                    promised.possible.range((epoch, 1)..=(epoch, last)).map(|(k, v)| (*k, *v));
                promised.synced.extend(synced.collect::<Vec<_>>());
                if (step + seed).is_multiple_of(3) {
                    promised.committed.insert(epoch, last - 1);
                    log.commit(epoch, last - 1)?;
                }
            }
        }
        if round != 1 {
            log.close()?;
            let all = promised.possible.range((epoch, 1)..=(epoch, last)).map(|(k, v)| (*k, *v));
            promised.synced.extend(all.collect::<Vec<_>>());
        }
    }
    Ok(())
}

fn operations_of(seed: u64) -> u64 {
    let disk = Simulation::new();
    let mut promised = Promised::default();
    try_script(&disk, &mut promised, seed).expect("without faults nothing fails");
    check(&disk.after_power_loss(seed), &promised, "no crash");
    disk.operations()
}

#[test]
fn after_a_crash_at_any_file_operation_everything_synced_is_there() {
    for seed in 0..sweeps(2) {
        for operation in 1..=operations_of(seed) {
            let disk = Simulation::new();
            disk.crash_at(operation);
            let mut promised = Promised::default();
            script(&disk, &mut promised, seed);
            check(
                &disk.after_kill(),
                &promised,
                &format!("seed {seed}, crash at operation {operation}"),
            );
        }
    }
}

#[test]
fn after_a_power_failure_at_any_file_operation_everything_synced_is_there() {
    for seed in 0..sweeps(2) {
        for operation in 1..=operations_of(seed) {
            for loss in 0..2 {
                let disk = Simulation::new();
                disk.crash_at(operation);
                let mut promised = Promised::default();
                script(&disk, &mut promised, seed);
                let what = format!("seed {seed}, power loss {loss} at operation {operation}");
                check(&disk.after_power_loss(seed * 1000 + loss), &promised, &what);
            }
        }
    }
}

/// A disk on which offsets cannot be written: nothing but the records' own way to the disk syncs the folder.
struct WithoutMeta(Simulation, AtomicBool);

impl Storage for WithoutMeta {
    fn open(&self, name: &str) -> std::io::Result<Arc<dyn StorageFile>> {
        if name.starts_with("meta") && self.1.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        self.0.open(name)
    }
    fn create(&self, name: &str) -> std::io::Result<Arc<dyn StorageFile>> {
        self.0.create(name)
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }
    fn sync_dir(&self) -> std::io::Result<()> {
        self.0.sync_dir()
    }
    fn lock(&self) -> std::result::Result<Box<dyn StorageLock>, LockFailure> {
        self.0.lock()
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[test]
fn a_record_that_is_synced_needs_no_offsets_to_survive_a_power_failure() {
    for seed in 0..seeds(4) {
        for count in 1..=14 {
            let disk = Simulation::new();
            let storage = Arc::new(WithoutMeta(disk.clone(), AtomicBool::new(false)));
            let log = Log::open_on(storage.clone(), options()).expect("it opens").0;
            storage.1.store(true, Ordering::SeqCst);
            for n in 1..=count {
                log.append_blocking(&payload(n, 600)).expect("append");
            }
            let after = disk.after_power_loss(seed);
            drop(log);
            let found = records(&read_all(&open(&after).0));
            let found: Vec<u64> = found.iter().map(|(_, _, tag)| *tag).collect();
            assert_eq!(
                found,
                (1..=count).collect::<Vec<_>>(),
                "seed {seed}, after {count} records"
            );
        }
    }
}

#[test]
fn a_power_failure_while_recovering_from_one_loses_nothing_either() {
    for seed in 0..seeds(2) {
        let total = operations_of(seed);
        let disk = Simulation::new();
        disk.crash_at(total * 2 / 3 + seed);
        let mut promised = Promised::default();
        script(&disk, &mut promised, seed);
        let first = disk.after_power_loss(seed);
        for operation in 1..40 {
            let disk = first.after_kill();
            disk.crash_at(operation);
            let opened = Log::open_on(Arc::new(disk.clone()), options());
            drop(opened);
            let what = format!("seed {seed}, recovery crashed at {operation}");
            check(&disk.after_power_loss(seed + operation), &promised, &what);
        }
    }
}

#[test]
fn a_full_disk_fails_the_append_and_leaves_no_hole_when_there_is_room_again() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    disk.set_capacity(Some(5 * 4096 + 8192));
    let (mut appended, mut refused) = (Vec::new(), 0);
    for n in 0..80 {
        match log.append(&payload(n, 600)) {
            Ok(position) => appended.push((log.epoch(), position.seq, n)),
            Err(error) => {
                assert!(matches!(error, Error::NoSpace { .. }) && error.is_temporary(), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10);
    let LogState::Refusing { cause } = log.state() else { panic!("{}", log.state()) };
    assert!(cause.contains("no space left on the device"), "{cause}");
    log.sync().unwrap();
    assert_eq!(records(&read_all(&log)), appended);
    // Commits free room on a disk that is still full.
    log.commit(log.epoch(), 20).unwrap();
    let position = log.append(&payload(1000, 600)).unwrap();
    assert_eq!(position.seq, appended.len() as u64 + 1);
    assert_eq!(log.state(), LogState::Working);
    disk.set_capacity(None);
    fill(&log, 2000, 30);
    let expected: Vec<_> = (21..=position.seq + 30).map(|n| n.to_string()).collect();
    assert_eq!(shape(&read_all(&log)), expected);
    drop(log);
    assert_eq!(shape(&read_all(&open(&disk.after_power_loss(5)).0)), expected);
}

#[test]
fn a_log_opens_and_is_read_on_a_full_disk() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    fill(&log, 0, 20);
    drop(log);
    let disk = disk.after_kill();
    disk.set_capacity(Some(0));
    let (log, recovery) = open(&disk);
    assert_eq!(recovery.records, 20);
    assert_eq!(read_all(&log).len(), 20);
    assert!(matches!(log.append(b"no"), Err(Error::NoSpace { .. })));
}

#[test]
fn a_write_that_fails_half_way_leaves_nothing_that_can_be_read() {
    for power in [false, true] {
        let disk = Simulation::new();
        let (log, _) = open(&disk);
        fill(&log, 0, 3);
        disk.fail_writes(1);
        assert!(matches!(
            log.append(&payload(77, 1000)),
            Err(Error::Io { operation: "write", .. })
        ));
        fill(&log, 3, 3);
        let expected: Vec<_> = (0..6).map(|n| (log.epoch(), n + 1, n)).collect();
        assert_eq!(records(&read_all(&log)), expected);
        drop(log);
        let disk = if power { disk.after_power_loss(2) } else { disk.after_kill() };
        let (log, recovery) = open(&disk);
        assert_eq!(records(&read_all(&log)), expected);
        assert_eq!((recovery.gaps.len(), recovery.truncated_bytes), (0, 0), "{recovery:?}");
    }
}

#[test]
fn losing_the_meta_file_only_makes_records_be_sent_again() {
    for damage in [false, true] {
        let disk = Simulation::new();
        let (log, _) = open(&disk);
        fill(&log, 0, 20);
        log.commit(log.epoch(), 9).unwrap();
        let epoch = log.epoch();
        log.close().unwrap();
        if damage {
            disk.flip_bit("meta", 300)
        } else {
            disk.lose_file("meta")
        }
        let (log, recovery) = open(&disk);
        assert!(!recovery.clean);
        let found: Vec<_> = records(&read_all(&log)).iter().map(|r| (r.0, r.1)).collect();
        let first = found[0].1;
        assert!(first <= 10, "{first}");
        assert_eq!(found, (first..=20).map(|n| (epoch, n)).collect::<Vec<_>>());
        assert_ne!(log.epoch(), epoch);
    }
}

#[test]
fn dropping_at_the_cap_survives_a_crash_at_any_operation() {
    let capped = Options { max_bytes: 3 * 4096, at_cap: AtCap::DropOldest, ..options() };
    let run = |disk: &Simulation| -> Result<()> {
        let (log, _) = Log::open_on(Arc::new(disk.clone()), capped.clone())?;
        for n in 0..40 {
            log.append_blocking(&payload(n, 600))?;
        }
        Ok(())
    };
    let disk = Simulation::new();
    run(&disk).unwrap();
    for operation in 1..=disk.operations() {
        let disk = Simulation::new();
        disk.crash_at(operation);
        let _ = run(&disk);
        let (log, _) = open_with(&disk.after_power_loss(operation), capped.clone());
        let mut expected = 1;
        for item in read_all(&log) {
            match item {
                Item::Record { position, payload } => {
                    assert_eq!(
                        (position.seq, tag_of(&payload)),
                        (expected, expected - 1),
                        "operation {operation}"
                    );
                    expected += 1;
                }
                Item::Gap { from, to, reason: GapReason::DroppedAtCap, .. } => {
                    assert_eq!(from, expected);
                    expected = to + 1;
                }
                Item::Gap { from, to, reason: GapReason::Corrupt, .. } => {
                    assert!(
                        from == expected && to - from < 7,
                        "operation {operation}: {from}-{to}"
                    );
                    expected = to + 1;
                }
            }
        }
    }
}

#[test]
fn segments_prepared_and_never_used_are_removed() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    fill(&log, 0, 2);
    log.close().unwrap();
    disk.set_contents("00000000000000000009.seg", vec![0; 4096]);
    let (_log, recovery) = open(&disk);
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!(segments(&disk).len(), 1);
}

#[test]
fn the_next_segment_is_reserved_as_soon_as_one_is_begun() {
    let disk = Simulation::new();
    let (log, _) = open_with(&disk, Options { segment_bytes: 64 << 10, ..options() });
    log.append(&payload(0, 600)).unwrap();
    let next = prepared(&disk).expect("prepared");
    assert_eq!(disk.contents(&next).len(), 64 << 10);
    assert_eq!(log.stats().disk_bytes, 128 << 10, "it counts");
    fill(&log, 1, 109);
    assert!(segments(&disk).contains(&next));
    assert_eq!(records(&read_all(&log)).len(), 110);
}
