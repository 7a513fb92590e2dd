use super::*;
use bytes::Bytes;
use sentinel_model::ids::SlotName;
use sentinel_runtime::KvWrite;
use sentinel_wal::simulation::Simulation;
use sentinel_wal::{Log, Options, Position, SyncPolicy};
use std::sync::Arc;
use std::time::Duration;

/// Epoch, sequence number, and (part, of); or from where to where.
enum In {
    Part(u8, u64, u16, u16),
    Gap(u8, u64, u64),
    Dropped(u8, u64, u64),
    Garbage(u8, u64),
}
use In::{Dropped, Gap, Garbage, Part as P};

fn record(part: Part, writes: Vec<KvWrite>) -> LogRecord {
    let slot = SlotName::new("s").unwrap();
    LogRecord { slot, part, writes, batch: Bytes::from_static(b"b") }
}

fn item(one: &In) -> Item {
    let epoch = |e: u8| sentinel_wal::Epoch([e; 16]);
    let position = |e, seq| Position { epoch: epoch(e), seq };
    let gap = |e, from, to, reason| Item::Gap { epoch: epoch(e), from, to, reason };
    match *one {
        P(e, seq, number, of) => {
            let payload = record(Part { number, of }, Vec::new()).encode();
            Item::Record { position: position(e, seq), payload }
        }
        Gap(e, from, to) => gap(e, from, to, GapReason::Corrupt),
        Dropped(e, from, to) => gap(e, from, to, GapReason::DroppedAtCap),
        Garbage(e, seq) => Item::Record { position: position(e, seq), payload: vec![1] },
    }
}

/// `epoch:seq` of what counts, `epoch:from-to` of a skip.
fn said(out: &[Settled]) -> String {
    let one = |one: &Settled| match one {
        Settled::Counted { epoch, seq, .. } => format!("{}:{seq}", epoch.0[0]),
        Settled::Skipped { epoch, from, to } => format!("{}:{from}-{to}", epoch.0[0]),
    };
    out.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_collection_counts_whole_or_is_skipped() {
    let cases: &[(&str, &[In], &str)] = &[
        ("records alone", &[P(1, 1, 1, 1), P(1, 2, 1, 1)], "1:1 1:2"),
        ("a whole collection", &[P(1, 1, 1, 3), P(1, 2, 2, 3), P(1, 3, 3, 3)], "1:1 1:2 1:3"),
        ("its last is awaited", &[P(1, 1, 1, 2)], ""),
        ("another record comes", &[P(1, 1, 1, 3), P(1, 2, 2, 3), P(1, 3, 1, 1)], "1:1-2 1:3"),
        ("of another size", &[P(1, 1, 1, 3), P(1, 2, 2, 3), P(1, 3, 2, 2)], "1:1-2 1:3"),
        ("another comes", &[P(1, 1, 1, 3), P(1, 2, 1, 2), P(1, 3, 2, 2)], "1:1-1 1:2 1:3"),
        ("another epoch comes", &[P(1, 1, 1, 2), P(2, 1, 1, 1)], "1:1-1 2:1"),
        ("the same place in another epoch", &[P(1, 1, 1, 2), P(2, 2, 2, 2)], "1:1-1 2:2"),
        ("read from its middle", &[P(1, 2, 2, 3), P(1, 3, 3, 3)], "1:2 1:3"),
        (
            "a part is damaged",
            &[P(1, 1, 1, 3), Gap(1, 2, 2), P(1, 3, 3, 3), P(1, 4, 1, 1)],
            "1:1-3 1:4",
        ),
        (
            "its first is damaged",
            &[Gap(1, 1, 1), P(1, 2, 2, 3), P(1, 3, 3, 3), P(1, 4, 1, 1)],
            "1:1-3 1:4",
        ),
        ("its last is damaged", &[P(1, 1, 1, 2), Gap(1, 2, 5), P(1, 6, 1, 1)], "1:1-5 1:6"),
        ("cut short behind damage", &[Gap(1, 1, 1), P(1, 2, 2, 3), P(1, 3, 1, 1)], "1:1-2 1:3"),
        ("a part is unreadable", &[P(1, 1, 1, 2), Garbage(1, 2), P(1, 3, 1, 1)], "1:1-2 1:3"),
        ("damage alone", &[Gap(1, 1, 9), Gap(1, 10, 12), P(1, 13, 1, 1)], "1:1-12 1:13"),
        ("damage to the end", &[Gap(1, 1, 9), P(2, 1, 1, 1)], "1:1-9 2:1"),
        (
            "damage before a collection",
            &[Gap(1, 1, 1), P(1, 2, 1, 2), P(1, 3, 2, 2)],
            "1:1-1 1:2 1:3",
        ),
        ("dropped alone", &[Dropped(1, 1, 9)], "1:1-9"),
        ("its first are dropped", &[Dropped(1, 1, 2), P(1, 3, 3, 3)], "1:1-2 1:3"),
        (
            "dropped while it is read",
            &[P(1, 1, 1, 3), Dropped(1, 2, 2), P(1, 3, 3, 3)],
            "1:1 1:2-2 1:3",
        ),
        ("dropped with its last", &[P(1, 1, 1, 2), Dropped(1, 2, 5)], "1:1-1 1:2-5"),
    ];
    for (what, items, expected) in cases {
        let mut groups = Groups::default();
        let out: Vec<Settled> = items.iter().flat_map(|i| groups.take(item(i))).collect();
        assert_eq!(said(&out), *expected, "{what}");
    }
}

const PARTS: u16 = 3;

/// A log that syncs only when it is asked to, with the last part: of what is not synced a power
/// failure takes any part.
fn options() -> Options {
    let sync = SyncPolicy::Interval(Duration::from_secs(3600));
    Options { sync, background: false, segment_bytes: 4096, ..Options::default() }
}

/// Collections of three parts, until the machine goes down; how many were acknowledged.
fn collect(disk: &Simulation, collections: u8) -> u64 {
    let Ok((log, _)) = Log::open_on(Arc::new(disk.clone()), options()) else { return 0 };
    for n in 0..collections {
        for number in 1..=PARTS {
            let part = Part { number, of: PARTS };
            let write = KvWrite { key: number.to_string(), value: Some(vec![n]) };
            let mut one = record(part, vec![write]);
            one.batch = Bytes::from(vec![n; 700]);
            let bytes = one.encode();
            let kept =
                if part.is_last() { log.append_blocking(&bytes) } else { log.append(&bytes) };
            if kept.is_err() {
                return n.into();
            }
        }
    }
    collections.into()
}

/// What a log that is opened after a crash says that counts: which collection each record is of.
fn counted(disk: &Simulation) -> Vec<u8> {
    let (log, _) = Log::open_on(Arc::new(disk.clone()), options()).unwrap();
    // Whatever comes next settles what a crash left open.
    log.append_blocking(&record(Part::WHOLE, Vec::new()).encode()).unwrap();
    let (mut groups, mut reader, mut out) = (Groups::default(), log.reader(), Vec::new());
    while let Some(item) = reader.try_next().unwrap() {
        for one in groups.take(item) {
            if let Settled::Counted { record, .. } = one {
                out.extend(record.writes.iter().map(|w| w.value.as_ref().unwrap()[0]));
            }
        }
    }
    out
}

#[test]
fn a_crash_at_any_moment_leaves_whole_collections_and_all_that_were_acknowledged() {
    let whole = Simulation::new();
    assert_eq!(collect(&whole, 4), 4);
    for at in 1..=whole.operations() {
        for loss in 0..6 {
            let disk = Simulation::new();
            disk.crash_at(at);
            let acknowledged = collect(&disk, 4);
            let after = if loss == 0 { disk.after_kill() } else { disk.after_power_loss(loss) };
            let found = counted(&after);
            let collections = found.len() as u64 / u64::from(PARTS);
            let expected: Vec<u8> =
                (0..collections as u8).flat_map(|n| [n; PARTS as usize]).collect();
            let what = format!("operation {at}, loss {loss}");
            assert_eq!(found, expected, "whole collections, in order: {what}");
            assert!(collections >= acknowledged, "{acknowledged} were acknowledged: {what}");
        }
    }
}
