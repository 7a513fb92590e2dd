//! Damage to files at rest: found, skipped, reported.

mod harness;

use harness::{fill, open, open_with, options, read_all, records, segments, shape};
use sentinel_wal::format::{
    RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, frame_bytes, segment_name,
};
use sentinel_wal::simulation::Simulation;
use sentinel_wal::{AtCap, Epoch, GapReason, Item, Log, Options, Recovery};

const RECORD: u64 = 640;

/// A log of 20 records of 600 bytes in segments of six, closed or killed.
fn log_of_twenty(closed: bool) -> (Simulation, Epoch) {
    assert_eq!(frame_bytes(600), RECORD);
    let disk = Simulation::new();
    let (log, _) = open(&disk);
    fill(&log, 0, 20);
    let epoch = log.epoch();
    if closed {
        log.close().unwrap();
    }
    drop(log);
    (disk.after_kill(), epoch)
}

/// Bit `bit` of record `index` (from 0) of a segment.
fn bit_of(index: u64, bit: u64) -> u64 {
    (SEGMENT_HEADER_BYTES as u64 + index * RECORD) * 8 + bit
}

fn numbers(ranges: &[std::ops::RangeInclusive<u64>]) -> Vec<String> {
    ranges.iter().flat_map(|r| r.clone()).map(|n| n.to_string()).collect()
}

/// Opens the damaged disk twice: what is found must be the same, and nothing may be called clean or stay unsaid.
fn check(disk: &Simulation, expected: &[String]) -> Recovery {
    let (log, recovery) = open(disk);
    assert_eq!(shape(&read_all(&log)), expected);
    drop(log);
    let (log, _) = open(&disk.after_kill());
    assert_eq!(shape(&read_all(&log)), expected, "opened again");
    recovery
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_loses_that_record_only() {
    for closed in [true, false] {
        for bit in (0..RECORD_HEADER_BYTES as u64 * 8 + 64).step_by(5) {
            let (disk, _) = log_of_twenty(closed);
            disk.flip_bit(&segments(&disk)[1], bit_of(2, bit));
            let mut expected = numbers(&[1..=8]);
            expected.push("lost 9-9".to_owned());
            expected.extend(numbers(&[10..=20]));
            check(&disk, &expected);
        }
    }
}

#[test]
fn a_damaged_segment_header_loses_nothing() {
    for segment in 0..4 {
        for bit in [0, 70, 130, 260, 330, 500] {
            let (disk, _) = log_of_twenty(segment % 2 == 0);
            disk.flip_bit(&segments(&disk)[segment], bit);
            let recovery = check(&disk, &numbers(&[1..=20]));
            assert_eq!(recovery.damaged_headers, 1);
            assert!(!recovery.clean);
        }
    }
}

#[test]
fn a_missing_segment_is_a_gap() {
    for closed in [true, false] {
        for (missing, expected) in [
            (
                0,
                vec!["lost 1-6".to_owned()]
                    .into_iter()
                    .chain(numbers(&[7..=20]))
                    .collect::<Vec<_>>(),
            ),
            (
                2,
                numbers(&[1..=12])
                    .into_iter()
                    .chain(["lost 13-18".to_owned()])
                    .chain(numbers(&[19..=20]))
                    .collect(),
            ),
        ] {
            let (disk, _) = log_of_twenty(closed);
            disk.lose_file(&segments(&disk)[missing]);
            let recovery = check(&disk, &expected);
            assert!(!recovery.clean && !recovery.gaps.is_empty(), "{recovery:?}");
        }
    }
}

#[test]
fn the_last_segment_missing_after_a_clean_shutdown_is_a_gap() {
    let (disk, epoch) = log_of_twenty(true);
    disk.lose_file(&segments(&disk)[3]);
    let mut expected = numbers(&[1..=18]);
    expected.push("lost 19-20".to_owned());
    let recovery = check(&disk, &expected);
    assert!(!recovery.clean);
    let gap = recovery.gaps[0];
    assert_eq!((gap.epoch, gap.from, gap.to, gap.reason), (epoch, 19, 20, GapReason::Corrupt));
}

#[test]
fn a_copied_segment_yields_its_records_once() {
    for closed in [true, false] {
        for copied in 0..4 {
            let (disk, _) = log_of_twenty(closed);
            disk.set_contents("00000000000000000077.seg", disk.contents(&segments(&disk)[copied]));
            let recovery = check(&disk, &numbers(&[1..=20]));
            assert_eq!(recovery.set_aside, ["00000000000000000077.seg.aside"]);
        }
    }
}

#[test]
fn of_a_segment_and_its_damaged_copy_the_whole_one_is_read() {
    let (disk, _) = log_of_twenty(true);
    let names = segments(&disk);
    disk.set_contents("00000000000000000077.seg", disk.contents(&names[1]));
    disk.flip_bit(&names[1], bit_of(3, 100));
    let recovery = check(&disk, &numbers(&[1..=20]));
    assert_eq!(recovery.set_aside, [format!("{}.aside", names[1])]);
}

#[test]
fn zeroed_blocks_in_the_middle_are_a_gap_and_reading_goes_on_behind_them() {
    for closed in [true, false] {
        let (disk, _) = log_of_twenty(closed);
        let name = &segments(&disk)[1];
        let mut bytes = disk.contents(name);
        bytes[512..1536].fill(0);
        disk.set_contents(name, bytes);
        let mut expected = numbers(&[1..=6]);
        expected.push("lost 7-9".to_owned());
        expected.extend(numbers(&[10..=20]));
        check(&disk, &expected);
    }
}

#[test]
fn a_segment_without_records_takes_none_from_the_one_before_it() {
    // Its number and first record; the second is one that a log would have begun next.
    for (number, first) in [(77, 9), (5, 20), (5, 21), (77, 1), (77, 7)] {
        for closed in [true, false] {
            let (disk, epoch) = log_of_twenty(closed);
            let header = SegmentHeader { epoch, number, first, reused: false };
            disk.set_contents(&segment_name(number), header.encode().to_vec());
            let recovery = check(&disk, &numbers(&[1..=20]));
            assert!(recovery.gaps.is_empty(), "{number} from {first}: {recovery:?}");
        }
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_reported() {
    let (disk, _) = log_of_twenty(false);
    let name = segments(&disk)[3].clone();
    let mut bytes = disk.contents(&name);
    let end = SEGMENT_HEADER_BYTES + 2 * RECORD as usize;
    let torn: Vec<u8> = bytes[SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + 300].to_vec();
    bytes[end..end + 300].copy_from_slice(&torn);
    disk.set_contents(&name, bytes);
    let recovery = check(&disk, &numbers(&[1..=20]));
    assert!((300..=640).contains(&recovery.truncated_bytes), "{recovery:?}");
    assert!(recovery.gaps.is_empty());
}

#[test]
fn a_file_cut_short_is_a_gap_where_more_was_known_to_be_there() {
    let (disk, _) = log_of_twenty(true);
    let name = segments(&disk)[3].clone();
    let bytes = disk.contents(&name)[..SEGMENT_HEADER_BYTES + RECORD as usize + 100].to_vec();
    disk.set_contents(&name, bytes);
    let mut expected = numbers(&[1..=19]);
    expected.push("lost 20-20".to_owned());
    check(&disk, &expected);
}

#[test]
fn a_segment_of_rubbish_is_set_aside() {
    let (disk, _) = log_of_twenty(true);
    let name = segments(&disk)[1].clone();
    disk.set_contents(&name, (0..4096u32).map(|n| (n * 7 + 1) as u8).collect());
    let mut expected = numbers(&[1..=6]);
    expected.push("lost 7-12".to_owned());
    expected.extend(numbers(&[13..=20]));
    let recovery = check(&disk, &expected);
    assert_eq!(recovery.set_aside, [format!("{name}.aside")]);
}

#[test]
fn a_record_inside_a_payload_is_never_taken_for_one() {
    let (disk, epoch) = log_of_twenty(true);
    let inner =
        disk.contents(&segments(&disk)[0])[SEGMENT_HEADER_BYTES..][..RECORD as usize].to_vec();
    let (log, _) = open(&disk);
    log.append(&inner).unwrap();
    log.append(&inner).unwrap();
    log.sync().unwrap();
    drop(log);
    let disk = disk.after_kill();
    let last = segments(&disk).last().unwrap().clone();
    disk.flip_bit(&last, (SEGMENT_HEADER_BYTES as u64) * 8 + 3);
    let (log, _) = open(&disk);
    let found = records(&read_all(&log));
    assert_eq!(found.iter().filter(|r| r.0 == epoch).count(), 20);
    assert_eq!(found.len(), 21, "the first copy is lost, the second one is there");
}

#[test]
fn damage_under_a_running_log_is_a_gap_to_its_readers() {
    let disk = Simulation::new();
    let (log, _): (Log, Recovery) =
        sentinel_wal::Log::open_on(std::sync::Arc::new(disk.clone()), options()).unwrap();
    fill(&log, 0, 20);
    let names = segments(&disk);
    disk.flip_bit(&names[0], bit_of(1, 900));
    disk.flip_bit(&names[0], bit_of(5, 900));
    disk.lose_file(&names[2]);
    let items = read_all(&log);
    let expected: Vec<String> = ["1", "lost 2-2", "3", "4", "5", "lost 6-6"]
        .into_iter()
        .map(str::to_owned)
        .chain(numbers(&[7..=12]))
        .collect();
    assert_eq!(shape(&items)[..12], expected);
    assert_eq!(shape(&items)[12..], ["lost 13-18", "19", "20"]);
    assert!(matches!(items[1], Item::Gap { reason: GapReason::Corrupt, .. }));
}

#[test]
fn any_single_flipped_bit_in_any_file_is_survived_and_loses_at_most_one_record() {
    for seed in 0..harness::seeds(4) * 50 {
        let (disk, _) = log_of_twenty(seed % 2 == 0);
        let names = disk.names();
        let name = &names[(seed % names.len() as u64) as usize];
        let bits = disk.contents(name).len() as u64 * 8;
        if bits == 0 {
            continue;
        }
        let bit = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) % bits;
        disk.flip_bit(name, bit);
        let (log, recovery) = open(&disk);
        let found = records(&read_all(&log));
        assert!(found.len() >= 19, "seed {seed}, {name} bit {bit}: {recovery:?}");
        assert!(found.iter().all(|(_, seq, tag)| *tag + 1 == *seq));
    }
}

#[test]
fn a_dropped_segment_that_comes_back_alone_is_not_read() {
    let capped = Options { max_bytes: 3 * 4096, at_cap: AtCap::DropOldest, ..options() };
    let disk = Simulation::new();
    let (log, _) = open_with(&disk, capped.clone());
    fill(&log, 0, 6);
    let first = segments(&disk)[0].clone();
    let bytes = disk.contents(&first);
    fill(&log, 6, 24);
    let dropped = log.stats().dropped_records;
    assert!(dropped >= 6, "{dropped}");
    drop(log);
    let disk = disk.after_kill();
    segments(&disk).iter().for_each(|name| disk.lose_file(name));
    disk.set_contents(&first, bytes);
    for _ in 0..2 {
        let (log, _) = open_with(&disk, capped.clone());
        let found = shape(&read_all(&log));
        assert_eq!(found[0], format!("dropped 1-{dropped}"));
        assert!(records(&read_all(&log)).is_empty(), "{found:?}");
        log.close().unwrap();
    }
}
