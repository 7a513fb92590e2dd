//! Syncs that fail once, for a while, or for good.

mod harness;

use std::sync::Arc;

use harness::promised::{Promised, check};
use harness::{fill, open, open_with, options, payload, read_all, records, seeds, shape, sweeps};
use sentinel_wal::simulation::Simulation;
use sentinel_wal::{Error, Log, LogState, Options, Result, SyncPolicy};

#[test]
fn after_a_failed_sync_the_records_are_synced_in_another_segment() {
    for seed in 0..seeds(4) * 4 {
        let disk = Simulation::new();
        let (log, _) = open(&disk);
        fill(&log, 0, 4);
        for n in 4..16 {
            log.append(&payload(n, 600)).unwrap();
        }
        disk.fail_syncs(1);
        log.sync().unwrap();
        assert_eq!(log.stats().sync_failures, 1);
        let expected: Vec<_> = (0..16).map(|n| (log.epoch(), n + 1, n)).collect();
        assert_eq!(records(&read_all(&log)), expected);
        drop(log);
        assert_eq!(
            records(&read_all(&open(&disk.after_power_loss(seed)).0)),
            expected,
            "seed {seed}"
        );
    }
}

#[test]
fn while_syncs_fail_the_log_keeps_its_records_takes_no_more_and_then_goes_on() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    fill(&log, 0, 4);
    let before = log.stats().disk_bytes;
    log.append(&payload(4, 600)).unwrap();
    disk.fail_syncs(4);
    assert!(matches!(log.sync(), Err(Error::SyncFailed { .. })));
    let LogState::SyncFailing { cause, attempts: 1, records: 1 } = log.state() else {
        panic!("{}", log.state())
    };
    assert!(cause.contains("simulated sync error"), "{cause}");
    let refused = log.append_blocking(b"more").unwrap_err();
    assert!(matches!(refused, Error::Suspended { .. }) && refused.is_temporary(), "{refused}");
    assert!(matches!(log.sync(), Err(Error::SyncFailed { .. })));
    assert!(matches!(log.state(), LogState::SyncFailing { attempts: 3, .. }), "{}", log.state());
    assert_eq!(shape(&read_all(&log)), ["1", "2", "3", "4"], "what was synced stays readable");
    log.sync().unwrap();
    assert_eq!(log.state(), LogState::Working);
    assert_eq!(log.append_blocking(&payload(5, 600)).unwrap().seq, 6, "no hole, no number twice");
    assert_eq!(log.stats().sync_failures, 1);
    assert_eq!(log.stats().disk_bytes, before + 4096, "nothing is left of the attempts");
    let expected: Vec<_> = (0..6).map(|n| (log.epoch(), n + 1, n)).collect();
    assert_eq!(records(&read_all(&log)), expected);
    drop(log);
    assert_eq!(records(&read_all(&open(&disk.after_power_loss(1)).0)), expected);
}

#[test]
fn an_append_without_threads_tries_again_by_itself() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    log.append(&payload(0, 600)).unwrap();
    disk.fail_syncs(3);
    assert!(log.sync().is_err());
    assert!(matches!(log.append(b"more"), Err(Error::Suspended { .. })));
    assert_eq!(log.append(&payload(1, 600)).unwrap().seq, 2);
}

#[test]
fn segments_given_up_count_until_they_are_removed() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    for n in 0..14 {
        log.append(&payload(n, 600)).unwrap();
    }
    disk.fail_syncs(2);
    assert!(log.sync().is_err());
    let files = disk.names().into_iter().filter(|n| n.ends_with(".seg"));
    let bytes: usize = files.map(|n| disk.contents(&n).len()).sum();
    assert_eq!(log.stats().disk_bytes, bytes as u64);
    assert_eq!(
        bytes,
        3 * 4096,
        "the failed ones are all that is left of the records should the process die"
    );
    drop(log);
    assert_eq!(read_all(&open(&disk.after_kill()).0).len(), 14);
}

#[test]
fn a_full_disk_that_meets_a_failed_sync_is_survived_too() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    fill(&log, 0, 3);
    log.append(&payload(3, 600)).unwrap();
    disk.set_capacity(Some(0));
    disk.fail_syncs(1);
    assert!(matches!(log.sync(), Err(Error::SyncFailed { .. })));
    let LogState::SyncFailing { cause, .. } = log.state() else { panic!("{}", log.state()) };
    assert!(cause.contains("no space left on the device"), "{cause}");
    assert!(log.sync().is_err());
    disk.set_capacity(None);
    log.sync().unwrap();
    assert_eq!(shape(&read_all(&log)), ["1", "2", "3", "4"]);
}

#[test]
fn under_never_a_failed_sync_is_told_and_the_log_goes_on_in_another_segment() {
    let disk = Simulation::new();
    let (log, _) = open_with(&disk, Options { sync: SyncPolicy::Never, ..options() });
    log.append(&payload(0, 600)).unwrap();
    disk.fail_syncs(1);
    assert!(matches!(log.sync(), Err(Error::SyncFailed { .. })));
    assert_eq!(log.state(), LogState::Working);
    fill(&log, 1, 20);
    assert_eq!(read_all(&log).len(), 21);
    assert_eq!(log.stats().sync_failures, 1);
    // The sync of a segment that is full fails: the append goes on in the next one.
    disk.fail_syncs(1);
    for n in 21..40 {
        log.append(&payload(n, 600)).unwrap();
    }
    assert_eq!(log.stats().sync_failures, 2);
    assert_eq!(read_all(&log).len(), 40);
}

/// Appends and syncs while `failing` syncs fail, until the machine goes down or the script ends.
fn script(disk: &Simulation, promised: &mut Promised, failing: u64) -> Result<()> {
    let (log, _) = Log::open_on(Arc::new(disk.clone()), options())?;
    for round in 0..4 {
        for step in 0..4 {
            let tag = promised.next_tag;
            let seq = log.offsets().last().map_or(0, |o| o.synced);
            let payload = payload(tag, [600, 40, 1500, 3000][(round + step) as usize % 4]);
            match log.append(&payload) {
                Ok(position) => {
                    promised.possible.insert((position.epoch, position.seq), tag);
                    promised.next_tag += 1;
                }
                Err(Error::Suspended { .. }) => {}
                Err(other) => {
                    // It was under way when the machine went down: its number is one of the next.
                    let last = promised.possible.keys().next_back().map_or(seq, |k| k.1);
                    promised.possible.insert((log.epoch(), last + 1), tag);
                    return Err(other);
                }
            }
        }
        if round == 1 {
            disk.fail_syncs(failing);
        }
        match log.sync() {
            Ok(()) => promised.synced.extend(promised.possible.iter().map(|(k, v)| (*k, *v))),
            Err(Error::SyncFailed { .. }) if !disk.crashed() => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

#[test]
fn after_a_crash_at_any_operation_while_syncs_fail_everything_synced_is_there() {
    for failing in 1..=4 {
        let disk = Simulation::new();
        let mut promised = Promised::default();
        script(&disk, &mut promised, failing).expect("without a crash the script ends");
        assert_eq!(promised.synced.len(), promised.possible.len());
        for operation in 1..=disk.operations() {
            for loss in 0..=sweeps(2) {
                let disk = Simulation::new();
                disk.crash_at(operation);
                let mut promised = Promised::default();
                let _ = script(&disk, &mut promised, failing);
                let what = format!("{failing} failing, crash at {operation}, loss {loss}");
                let after = if loss == 0 { disk.after_kill() } else { disk.after_power_loss(loss) };
                after.fail_syncs(0);
                check(&after, &promised, &what);
            }
        }
    }
}

fn with_threads() -> Options {
    Options { sync: SyncPolicy::Always, background: true, ..options() }
}

#[test]
fn writers_that_wait_while_syncs_fail_are_served_once_one_succeeds() {
    let disk = Simulation::new();
    let (log, _) = open_with(&disk, with_threads());
    log.append_blocking(&payload(0, 600)).unwrap();
    disk.fail_syncs(5);
    std::thread::scope(|scope| {
        for writer in 1..=4u64 {
            let log = &log;
            scope.spawn(move || {
                while let Err(error) = log.append_blocking(&payload(writer, 600)) {
                    assert!(matches!(error, Error::Suspended { .. }), "{error}");
                    std::thread::yield_now();
                }
            });
        }
    });
    assert_eq!(log.state(), LogState::Working);
    let mut tags: Vec<u64> = records(&read_all(&log)).iter().map(|r| r.2).collect();
    tags.sort_unstable();
    assert_eq!(tags, [0, 1, 2, 3, 4]);
    log.close().unwrap();
    assert_eq!(read_all(&open(&disk.after_power_loss(3)).0).len(), 5);
}

#[test]
fn a_writer_that_waits_when_the_log_is_closed_learns_that_its_record_is_not_synced() {
    let disk = Simulation::new();
    let (log, _) = open_with(&disk, with_threads());
    log.append_blocking(&payload(0, 600)).unwrap();
    disk.fail_syncs(u64::MAX);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| log.append_blocking(&payload(1, 600)));
        while !matches!(log.state(), LogState::SyncFailing { .. }) {
            std::thread::yield_now();
        }
        assert!(matches!(log.close(), Err(Error::SyncFailed { .. })));
        assert!(matches!(waiting.join().unwrap(), Err(Error::SyncFailed { .. })));
    });
    assert_eq!(log.state(), LogState::Closed);
    let after = disk.after_power_loss(1);
    after.fail_syncs(0);
    let (log, recovery) = open(&after);
    assert!(!recovery.clean);
    assert_eq!(records(&read_all(&log))[0].2, 0);
    log.append_blocking(b"goes on").unwrap();
}
