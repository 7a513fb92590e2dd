//! The file of a committed segment holds a later one: what it held before is never taken for what it holds now.

mod harness;

use std::sync::Arc;

use harness::promised::{Promised, check};
use harness::{fill, open, open_with, options, payload, read_all, records, seeds, shape, sweeps};
use sentinel_wal::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use sentinel_wal::simulation::Simulation;
use sentinel_wal::{Error, Log, LogState, Options, Result, SyncPolicy};

/// Segment files whose header says that they held another segment before, oldest first.
fn reused(disk: &Simulation) -> Vec<String> {
    let files = disk.names().into_iter().filter(|n| n.ends_with(".seg"));
    let header = |name: &String| SegmentHeader::decode(&disk.contents(name));
    files.filter(|name| header(name).is_ok_and(|h| h.reused)).collect()
}

/// A log that was written and committed for a while, with `kept` records not committed: it lives in used files.
fn in_used_files(disk: &Simulation, kept: u64) -> (Log, u64) {
    let (log, _) = open(disk);
    let mut last = 0;
    while last < 40 || reused(disk).len() < 2 {
        fill(&log, last, 4);
        last += 4;
        log.commit(log.epoch(), last.saturating_sub(kept)).unwrap();
        assert!(last < 400, "no file is used again");
    }
    (log, last)
}

#[test]
fn a_log_whose_records_are_committed_goes_round_in_the_same_files() {
    let disk = Simulation::new();
    let (log, mut last) = in_used_files(&disk, 3);
    let bytes = log.stats().disk_bytes;
    for _ in 0..50 {
        fill(&log, last, 4);
        last += 4;
        log.commit(log.epoch(), last - 3).unwrap();
        assert!(log.stats().disk_bytes <= bytes.max(4 * 4096), "{:?}", log.stats());
    }
    let files = disk.names().into_iter().filter(|n| n.ends_with(".seg"));
    let held: usize = files.map(|n| disk.contents(&n).len()).sum();
    assert_eq!(log.stats().disk_bytes, held as u64, "the file that is kept counts");
    let expected: Vec<String> = (last - 2..=last).map(|n| n.to_string()).collect();
    assert_eq!(shape(&read_all(&log)), expected);
    log.close().unwrap();
    let held = disk.names().into_iter().filter(|n| n.ends_with(".seg")).count();
    assert_eq!(held as u64, log.stats().segments, "nothing is kept for a log that is closed");
    let (log, recovery) = open(&disk);
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!(shape(&read_all(&log)), expected);
}

#[test]
fn where_nothing_is_synced_no_file_is_used_again() {
    let disk = Simulation::new();
    let (log, _) = open_with(&disk, Options { sync: SyncPolicy::Never, ..options() });
    for n in 0..60 {
        let position = log.append(&payload(n, 600)).unwrap();
        log.commit(position.epoch, position.seq).unwrap();
        assert_eq!(reused(&disk), Vec::<String>::new());
    }
}

#[test]
fn what_a_file_held_before_is_neither_read_nor_reported_as_damage() {
    let disk = Simulation::new();
    let (log, last) = in_used_files(&disk, 3);
    let expected: Vec<String> = (last - 2..=last).map(|n| n.to_string()).collect();
    drop(log);
    let (log, recovery) = open(&disk.after_kill());
    assert_eq!(shape(&read_all(&log)), expected);
    assert_eq!((recovery.gaps.len(), recovery.truncated_bytes), (0, 0), "{recovery:?}");
}

#[test]
fn a_torn_record_in_front_of_what_a_file_held_before_is_reported() {
    let disk = Simulation::new();
    let (log, last) = in_used_files(&disk, 8);
    drop(log);
    let disk = disk.after_kill();
    let name = reused(&disk).pop().expect("a file that was used again");
    let bytes = disk.contents(&name);
    let header = SegmentHeader::decode(&bytes).unwrap();
    let newest = last - header.first;
    let frame = sentinel_wal::format::frame_bytes(600);
    let payload_at = SEGMENT_HEADER_BYTES as u64 + newest * frame + 100;
    disk.flip_bit(&name, payload_at * 8);
    let (log, recovery) = open(&disk);
    let expected: Vec<String> = (last - 7..last).map(|n| n.to_string()).collect();
    assert_eq!(shape(&read_all(&log))[..7], expected);
    assert_eq!(recovery.truncated_bytes, frame, "{recovery:?}");
}

#[test]
fn damage_to_a_used_file_never_brings_old_records_back() {
    let disk = Simulation::new();
    let (log, last) = in_used_files(&disk, 10);
    let epoch = log.epoch();
    drop(log);
    let disk = disk.after_kill();
    let kept = last - 9..=last;
    for name in disk.names().into_iter().filter(|n| n.ends_with(".seg")) {
        let len = disk.contents(&name).len();
        for at in (0..len).step_by(64) {
            for zeroed in [1, 64, 512] {
                let damaged = disk.after_kill();
                let mut bytes = disk.contents(&name);
                bytes[at..(at + zeroed).min(len)].iter_mut().for_each(|b| *b ^= 0xFF);
                damaged.set_contents(&name, bytes);
                let (log, _) = open(&damaged);
                let mut before = 0;
                for (found, seq, tag) in records(&read_all(&log)) {
                    let sound = found == epoch && kept.contains(&seq) && tag + 1 == seq;
                    assert!(sound && seq > before, "{name} at {at}: {seq} {tag}");
                    before = seq;
                }
            }
        }
    }
}

#[test]
fn losing_the_meta_file_brings_old_records_back_at_most_once_and_as_they_were() {
    let disk = Simulation::new();
    let (log, last) = in_used_files(&disk, 3);
    drop(log);
    let disk = disk.after_kill();
    disk.lose_file("meta");
    let (log, _) = open(&disk);
    let found = records(&read_all(&log));
    assert!(found.iter().all(|(_, seq, tag)| tag + 1 == *seq), "{found:?}");
    let numbers: Vec<u64> = found.iter().map(|r| r.1).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert_eq!(numbers[numbers.len() - 3..], [last - 2, last - 1, last]);
}

#[test]
fn a_reader_in_a_file_that_is_used_again_goes_on_behind_what_was_committed() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    fill(&log, 0, 12);
    let mut reader = log.reader();
    reader.try_next().unwrap().expect("the first record");
    let mut last = 12;
    while reused(&disk).is_empty() {
        log.commit(log.epoch(), last).unwrap();
        fill(&log, last, 6);
        last += 6;
        assert!(last < 400, "no file is used again");
    }
    log.commit(log.epoch(), last - 5).unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| reader.try_next().unwrap()).collect();
    let expected: Vec<String> = (last - 4..=last).map(|n| n.to_string()).collect();
    let shape = shape(&rest);
    assert_eq!(shape[shape.len() - 5..], expected);
    assert!(records(&rest).iter().all(|(_, seq, tag)| tag + 1 == *seq));
    assert!(shape.iter().all(|s| !s.starts_with("lost")), "{shape:?}");
}

#[test]
fn the_file_that_is_kept_makes_room_on_a_full_disk_and_at_the_cap() {
    let big = payload(7, 6000);
    for capped in [false, true] {
        let disk = Simulation::new();
        let max_bytes = if capped { 4 * 4096 } else { 1 << 20 };
        let (log, _) = open_with(&disk, Options { max_bytes, ..options() });
        let mut last = 0;
        // Until a file is kept: one more than those that hold records or are prepared.
        while last < 40 || log.stats().disk_bytes < 3 * 4096 {
            fill(&log, last, 4);
            last += 4;
            log.commit(log.epoch(), last).unwrap();
            assert!(last < 400, "no file is kept");
        }
        if !capped {
            disk.set_capacity(Some(log.stats().disk_bytes + 2 * 4096));
        }
        // It does not fit into a used file.
        let position = log.append_blocking(&big).unwrap();
        assert_eq!((position.seq, log.state()), (last + 1, LogState::Working));
    }
}

#[test]
fn a_file_whose_sync_failed_is_not_used_again() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    fill(&log, 0, 3);
    log.append(&payload(3, 600)).unwrap();
    disk.fail_syncs(1);
    let _ = log.sync();
    let broken = disk.names().into_iter().find(|n| n.ends_with(".seg")).expect("the first");
    fill(&log, 4, 20);
    log.commit(log.epoch(), 24).unwrap();
    assert!(!disk.names().contains(&broken));
    fill(&log, 24, 30);
    assert_eq!(records(&read_all(&log)).len(), 30);
}

/// Appends, syncs and commits close behind, so that files are used again and again, until the machine goes down.
fn busy(disk: &Simulation, promised: &mut Promised, seed: u64) -> Result<()> {
    for round in 0..2 {
        let (log, _) = Log::open_on(Arc::new(disk.clone()), options())?;
        let epoch = log.epoch();
        let mut last = 0;
        for step in 0..30 {
            let tag = promised.next_tag;
            promised.next_tag += 1;
            let len = [600, 1200, 200, 1900][(seed.wrapping_add(step * 5 + round) % 4) as usize];
            promised.possible.insert((epoch, last + 1), tag);
            last = log.append(&payload(tag, len))?.seq;
            if !(step + seed).is_multiple_of(3) {
                continue;
            }
            log.sync()?;
            let synced = promised.possible.range((epoch, 1)..=(epoch, last));
            promised.synced.extend(synced.map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            let committed = last.saturating_sub((step + seed) % 4);
            promised.committed.insert(epoch, committed);
            log.commit(epoch, committed)?;
        }
        if (round + seed).is_multiple_of(2) {
            log.close()?;
            let all = promised.possible.range((epoch, 1)..=(epoch, last));
            promised.synced.extend(all.map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
        }
    }
    Ok(())
}

#[test]
fn a_crash_or_a_power_failure_at_any_file_operation_among_used_files_loses_nothing() {
    for seed in 0..sweeps(3) {
        let disk = Simulation::new();
        let mut promised = Promised::default();
        busy(&disk, &mut promised, seed).expect("without faults nothing fails");
        check(&disk.after_power_loss(seed), &promised, "no crash");
        for operation in 1..=disk.operations() {
            for loss in 0..3 {
                let disk = Simulation::new();
                disk.crash_at(operation);
                let mut promised = Promised::default();
                let _ = busy(&disk, &mut promised, seed);
                let what = format!("seed {seed}, loss {loss} at operation {operation}");
                let after = match loss {
                    0 => disk.after_kill(),
                    _ => disk.after_power_loss(seed * 1000 + operation * 3 + loss),
                };
                check(&after, &promised, &what);
            }
        }
    }
}

#[test]
fn failed_syncs_and_writes_among_used_files_lose_nothing_that_was_acknowledged() {
    for seed in 0..seeds(60) {
        let disk = Simulation::new();
        let (log, _) = open(&disk);
        let epoch = log.epoch();
        let mut promised = Promised::default();
        let mut last = 0;
        for step in 0..60 {
            let chance = seed.wrapping_mul(31).wrapping_add(step * 17) % 13;
            match chance {
                0 => disk.fail_syncs(1),
                1 => disk.fail_writes(1),
                _ => {}
            }
            let tag = 1000 + step;
            match log.append(&payload(tag, 500)) {
                Ok(position) => {
                    last = position.seq;
                    promised.possible.insert((epoch, last), tag);
                }
                Err(Error::Io { .. } | Error::Suspended { .. }) => {}
                Err(other) => panic!("seed {seed}: {other}"),
            }
            if log.sync().is_ok() {
                let synced = promised.possible.range((epoch, 1)..=(epoch, last));
                promised.synced.extend(synced.map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
                promised.committed.insert(epoch, last.saturating_sub(2));
                log.commit(epoch, last.saturating_sub(2)).unwrap();
            }
        }
        drop(log);
        check(&disk.after_power_loss(seed), &promised, &format!("seed {seed}"));
    }
}
