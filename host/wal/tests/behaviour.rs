//! What the log does when nothing is broken, and at its bounds.

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::{fill, open, open_with, options, payload, read_all, records, segments, shape};
use sentinel_wal::simulation::Simulation;
use sentinel_wal::{
    AtCap, Error, Item, Log, MAX_RECORD_BYTES, MAX_TAG_BYTES, MAX_UNSYNCED_BYTES, Options,
    Position, SyncPolicy,
};

#[test]
fn a_record_is_read_only_once_it_is_synced() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    let mut reader = log.reader();
    let position = log.append(b"payload").unwrap();
    assert_eq!(position, Position { epoch: log.epoch(), seq: 1 });
    assert_eq!(reader.try_next().unwrap(), None);
    log.sync().unwrap();
    assert_eq!(
        reader.try_next().unwrap(),
        Some(Item::Record { position, payload: b"payload".to_vec() })
    );
    assert_eq!(reader.try_next().unwrap(), None);
}

#[test]
fn under_always_and_never_an_appended_record_can_be_read_at_once() {
    for sync in [SyncPolicy::Always, SyncPolicy::Never] {
        let (log, _) = open_with(&Simulation::new(), Options { sync, ..options() });
        for n in 0..20 {
            log.append(&payload(n, 600)).unwrap();
            assert_eq!(read_all(&log).len() as u64, n + 1, "{sync:?}");
        }
        log.close().unwrap();
    }
}

#[test]
fn unsynced_records_beyond_the_bound_are_synced_by_the_writer_that_crosses_it() {
    let segment_bytes = 4 << 20;
    let (log, _) =
        open_with(&Simulation::new(), Options { segment_bytes, max_bytes: 64 << 20, ..options() });
    let each = 1 << 20;
    for n in 0..=(MAX_UNSYNCED_BYTES / each) as u64 {
        log.append(&payload(n, each)).unwrap();
    }
    assert!(log.offsets()[0].synced >= (MAX_UNSYNCED_BYTES / each) as u64, "{:?}", log.offsets());
}

#[test]
fn several_readers_read_all_segments_in_order_while_records_are_appended() {
    let (log, _) = open(&Simulation::new());
    let mut readers = [log.reader(), log.reader()];
    for round in 0..10 {
        fill(&log, round * 7, 7);
        for reader in &mut readers {
            for n in 0..7 {
                match reader.try_next().unwrap() {
                    Some(Item::Record { position, payload }) => {
                        assert_eq!(position.seq, round * 7 + n + 1);
                        assert_eq!(harness::tag_of(&payload), round * 7 + n);
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(reader.try_next().unwrap(), None);
        }
    }
}

#[test]
fn a_reader_can_start_at_any_position_that_is_kept() {
    let (log, _) = open(&Simulation::new());
    fill(&log, 0, 30);
    for seq in [1, 6, 7, 8, 30, 31] {
        let mut reader = log.reader_from(Position { epoch: log.epoch(), seq }).unwrap();
        let first = reader.try_next().unwrap();
        match first {
            Some(Item::Record { position, .. }) => assert_eq!(position.seq, seq),
            None => assert_eq!(seq, 31),
            gap => panic!("{gap:?}"),
        }
    }
    let nowhere = Position { epoch: sentinel_wal::Epoch([9; 16]), seq: 1 };
    assert!(matches!(log.reader_from(nowhere), Err(Error::UnknownEpoch(_))));
}

#[test]
fn earlier_epochs_are_read_before_the_current_one_until_they_are_committed() {
    let disk = Simulation::new();
    let mut epochs = Vec::new();
    for round in 0..3 {
        let (log, recovery) = open(&disk);
        assert!(recovery.clean);
        assert_eq!((recovery.epochs, recovery.records), (round, round * 8));
        fill(&log, round * 100, 8);
        epochs.push(log.epoch());
        log.close().unwrap();
    }
    let (log, _) = open(&disk);
    let tags: Vec<_> = records(&read_all(&log)).iter().map(|r| r.2).collect();
    assert_eq!(tags, (0..3).flat_map(|r| r * 100..r * 100 + 8).collect::<Vec<u64>>());
    assert!(log.commit(epochs[0], 8).unwrap());
    assert!(matches!(log.commit(epochs[0], 8), Err(Error::UnknownEpoch(_))), "it is forgotten");
    assert!(log.commit(epochs[1], 3).unwrap());
    assert!(!log.commit(epochs[1], 2).unwrap(), "offsets never move back");
    let seqs: Vec<_> = records(&read_all(&log)).iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(seqs[0], (epochs[1], 4));
    assert_eq!(seqs.len(), 5 + 8);
    let offsets = log.offsets();
    assert_eq!(
        offsets.iter().map(|o| o.epoch).collect::<Vec<_>>(),
        [epochs[1], epochs[2], log.epoch()]
    );
    assert_eq!((offsets[0].committed, offsets[0].accepted, offsets[0].synced), (3, 3, 8));
}

#[test]
fn offsets_and_tag_survive_a_clean_close_and_segments_that_are_committed_are_removed() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    let epoch = log.epoch();
    fill(&log, 0, 60);
    let before = segments(&disk).len();
    log.accept(epoch, 50).unwrap();
    log.commit(epoch, 40).unwrap();
    assert!(segments(&disk).len() < before - 4);
    log.set_tag(b"of the owner").unwrap();
    log.close().unwrap();
    let (log, recovery) = open(&disk);
    assert!(recovery.clean, "{recovery:?}");
    let at = log.offsets()[0];
    assert_eq!(
        (at.epoch, at.written, at.synced, at.accepted, at.committed),
        (epoch, 60, 60, 50, 40)
    );
    assert_eq!(shape(&read_all(&log)), (41..=60).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(log.tag(), b"of the owner");
    log.commit(epoch, 60).unwrap();
    assert!(segments(&disk).is_empty());
}

#[test]
fn offsets_beyond_what_is_synced_are_refused() {
    let (log, _) = open(&Simulation::new());
    log.append(b"one").unwrap();
    let result = log.commit(log.epoch(), 1);
    assert!(
        matches!(result, Err(Error::BeyondSynced { what: "committed", seq: 1, synced: 0, .. })),
        "{result:?}"
    );
    log.sync().unwrap();
    assert!(log.accept(log.epoch(), 1).unwrap());
    assert!(log.accept(log.epoch(), 2).is_err());
}

#[test]
fn sizes_out_of_bounds_are_refused_with_the_bound_in_the_message() {
    let (log, _) = open(&Simulation::new());
    assert!(matches!(log.append(b""), Err(Error::RecordSize { bytes: 0, .. })));
    let error = log.append(&vec![0; MAX_RECORD_BYTES + 1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a record of 4194305 bytes cannot be appended: 1 to 4194304 are allowed"
    );
    assert!(matches!(log.set_tag(&[0; MAX_TAG_BYTES + 1]), Err(Error::TagSize { .. })));
    let small = Options { max_bytes: 8192, ..options() };
    let Err(error) = Log::open_on(Arc::new(Simulation::new()), small) else { panic!("opened") };
    assert_eq!(
        error.to_string(),
        "log option max_bytes = 8192: must hold 3 segments, so at least 12288"
    );
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    for (n, len) in [600, 100_000, 600, 5_000, 8].into_iter().enumerate() {
        log.append(&payload(n as u64, len)).unwrap();
    }
    log.close().unwrap();
    let (log, recovery) = open(&disk);
    assert!(recovery.clean);
    assert_eq!(shape(&read_all(&log)), ["1", "2", "3", "4", "5"]);
}

#[test]
fn at_the_cap_the_oldest_records_are_dropped_counted_and_reported_as_a_gap() {
    let disk = Simulation::new();
    let capped = Options { max_bytes: 4 * 4096, ..options() };
    let (log, _) = open_with(&disk, capped.clone());
    fill(&log, 0, 60);
    assert!(log.stats().disk_bytes <= 4 * 4096, "{:?}", log.stats());
    let dropped = log.stats().dropped_records;
    assert!(dropped >= 30, "{dropped}");
    let expected = std::iter::once(format!("dropped 1-{dropped}"))
        .chain((dropped + 1..=60).map(|n| n.to_string()));
    let expected: Vec<_> = expected.collect();
    assert_eq!(shape(&read_all(&log)), expected);
    drop(log);
    let (log, recovery) = open_with(&disk.after_power_loss(3), capped);
    assert_eq!(shape(&read_all(&log)), expected, "the reason is durable");
    assert_eq!(recovery.gaps.len(), 1);
    assert_eq!(log.stats().dropped_records, dropped);
    log.commit(log.offsets()[0].epoch, dropped).unwrap();
    assert_eq!(shape(&read_all(&log)), expected[1..]);
}

#[test]
fn a_log_that_refuses_at_its_cap_goes_on_without_a_hole_when_records_are_committed() {
    let (log, _) = open_with(
        &Simulation::new(),
        Options { max_bytes: 3 * 4096, at_cap: AtCap::Refuse, ..options() },
    );
    let mut last = 0;
    let error = loop {
        match log.append(&payload(last, 600)) {
            Ok(position) => last = position.seq,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }) && error.is_temporary(), "{error}");
    log.sync().unwrap();
    assert_eq!(read_all(&log).len() as u64, last);
    log.commit(log.epoch(), last - 1).unwrap();
    assert_eq!(log.append(&payload(last, 600)).unwrap().seq, last + 1);
}

#[test]
fn a_second_opener_is_told_who_has_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), options()).unwrap();
    let Err(error) = Log::open(dir.path(), options()) else { panic!("opened twice") };
    assert!(
        error.to_string().contains(&format!("already open in process {}", std::process::id())),
        "{error}"
    );
    log.close().unwrap();
    assert!(Log::open(dir.path(), options()).is_ok());
}

#[test]
fn after_close_appends_fail_and_readers_end() {
    let (log, _) = open(&Simulation::new());
    log.append(b"one").unwrap();
    let mut reader = log.reader();
    log.close().unwrap();
    log.close().unwrap();
    assert!(matches!(log.append(b"two"), Err(Error::Closed)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(runtime.block_on(reader.next()), Ok(Item::Record { .. })));
    assert!(matches!(runtime.block_on(reader.next()), Err(Error::Closed)));
}

#[test]
fn opening_without_closing_is_unclean_and_a_new_or_closed_log_is_clean() {
    let disk = Simulation::new();
    let (log, recovery) = open(&disk);
    assert!(recovery.clean, "new");
    drop(log);
    let (log, recovery) = open(&disk);
    assert!(recovery.clean, "nothing was ever appended");
    fill(&log, 0, 2);
    drop(log);
    let (log, recovery) = open(&disk);
    assert!(!recovery.clean, "not closed");
    log.close().unwrap();
    let (_log, recovery) = open(&disk);
    assert!(recovery.clean, "closed");
}

#[tokio::test]
async fn tasks_that_wait_for_a_sync_share_it_and_a_waiting_reader_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    for sync in
        [SyncPolicy::Always, SyncPolicy::Interval(Duration::from_millis(2)), SyncPolicy::Never]
    {
        let options = Options { sync, segment_bytes: 64 << 10, ..Options::default() };
        let (log, _) = Log::open(&dir.path().join(format!("{sync:?}")), options).unwrap();
        let log = Arc::new(log);
        let mut reader = log.reader();
        let reading = tokio::spawn(async move {
            for n in 1..=16 * 20 {
                match reader.next().await.unwrap() {
                    Item::Record { position, .. } => assert_eq!(position.seq, n),
                    gap => panic!("{gap:?}"),
                }
            }
        });
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..16 {
            let log = log.clone();
            writers.spawn(async move {
                for n in 0..20 {
                    let position = match n % 2 {
                        0 => log.append_synced(&payload(writer, 700)).await.unwrap(),
                        _ => log.append_written(&payload(writer, 700)).await.unwrap(),
                    };
                    let at = log.offsets()[0];
                    assert!(
                        at.written >= position.seq && (n % 2 == 1 || at.synced >= position.seq)
                    );
                }
            });
        }
        writers.join_all().await;
        reading.await.unwrap();
        log.close().unwrap();
    }
}

#[test]
fn threads_that_wait_for_a_sync_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) =
        Log::open(dir.path(), Options { segment_bytes: 64 << 10, ..Options::default() }).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for _ in 0..50 {
                    log.append_blocking(&payload(writer, 900)).unwrap();
                }
            });
        }
    });
    assert_eq!(log.offsets()[0].synced, 400);
    let positions: Vec<_> = records(&read_all(&log)).iter().map(|r| r.1).collect();
    assert_eq!(positions, (1..=400).collect::<Vec<_>>());
    log.close().unwrap();
}
