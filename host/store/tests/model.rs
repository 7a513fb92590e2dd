//! The whole store against an obvious reference: maps of what was committed. Random commits
//! (repeated, with gaps, skips, new epochs, late and future times, shared series), packing and
//! reopening at random moments, questions in between.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch, Position};
use sentinel_store::Store;
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::query::TimeRange;
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_store::tail::PACKED_AFTER_MS;
use std::collections::BTreeMap;
use std::sync::Arc;

const T0: i64 = 1_735_689_600_000;
const MINUTE: i64 = 60_000;

/// Times are minutes from T0; agent 2 sends the series of the others.
#[derive(Debug, Clone)]
enum Op {
    Samples { agent: u8, epoch: u8, ahead: i8, hash: u8, shape: u8, time: i64, spread: i64 },
    Skip { agent: u8, epoch: u8, ahead: i8, count: u8 },
    Dead { agent: u8, epoch: u8 },
    Together(Vec<Op>),
    Wait(i64),
    Pack,
    Reopen,
    Ask { start: i64, length: i64 },
}

fn ahead() -> impl Strategy<Value = i8> {
    prop_oneof![12 => Just(1i8), 2 => -3i8..=0, 1 => 2i8..4]
}

fn record() -> impl Strategy<Value = Op> {
    let samples = (0u8..3, 0u8..2, ahead(), 0u8..8, 0u8..6, -90i64..120, 0i64..3).prop_map(
        |(agent, epoch, ahead, hash, shape, time, spread)| Op::Samples {
            agent,
            epoch,
            ahead,
            // Mostly the hash that belongs to the number.
            hash: hash.saturating_sub(6),
            shape,
            // Mostly now.
            time: if time > 20 { 0 } else { time },
            spread,
        },
    );
    let skip = (0u8..3, 0u8..2, ahead(), 0u8..4)
        .prop_map(|(agent, epoch, ahead, count)| Op::Skip { agent, epoch, ahead, count });
    prop_oneof![
        10 => samples,
        1 => skip,
        1 => (0u8..3, 0u8..2).prop_map(|(agent, epoch)| Op::Dead { agent, epoch }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => record(),
        3 => proptest::collection::vec(record(), 1..5).prop_map(Op::Together),
        4 => (1i64..90).prop_map(Op::Wait),
        3 => Just(Op::Pack),
        1 => Just(Op::Reopen),
        3 => (-200i64..200, 0i64..400).prop_map(|(start, length)| Op::Ask { start, length }),
    ]
}

/// What is in the ledger of a number: nothing (samples), or that it was skipped.
type Ledger = BTreeMap<u64, Option<[u8; 32]>>;

/// The rows of a committed record, and when that was.
type Brought = (i64, Vec<(String, i64, f64)>);

#[derive(Default)]
struct Model {
    brought: BTreeMap<(u8, u8, u64), Brought>,
    streams: BTreeMap<(u8, u8), (u64, Ledger)>,
    samples: BTreeMap<(String, i64), f64>,
    ids: BTreeMap<String, u32>,
    now: i64,
    counter: u32,
}

fn labels(shape: u8, agent: u8, row: u8) -> String {
    // Agents 0 and 1 have series of their own; agent 2 those of both.
    format!("{}-{}", if agent == 2 { row % 2 } else { agent }, (shape % 3) * 4 + row)
}

impl Model {
    fn commit(&mut self, op: &Op) -> (Commit, CommitOutcome) {
        let (agent, epoch, ahead) = match op {
            Op::Samples { agent, epoch, ahead, .. } | Op::Skip { agent, epoch, ahead, .. } => {
                (*agent, *epoch, *ahead)
            }
            Op::Dead { agent, epoch } => (*agent, *epoch, 1),
            other => unreachable!("{other:?} is no record"),
        };
        let committed = self.streams.entry((agent, epoch)).or_default().0;
        let seq = (committed as i64 + i64::from(ahead)).max(1) as u64;
        let mut hash = [seq as u8; 32];
        let (content, rows) = match op {
            Op::Samples { hash: salt, shape, time, spread, .. } => {
                hash[1] ^= salt;
                self.batch(agent, *shape, *time, *spread)
            }
            Op::Skip { count, .. } => (Content::Skipped { to: seq + u64::from(*count) }, vec![]),
            _ => (Content::Dead { payload: vec![1], reason: "dead".into() }, vec![]),
        };
        let last = if let Content::Skipped { to } = content { to } else { seq };
        let is_skip = matches!(content, Content::Skipped { .. });
        let commit = Commit {
            agent: AgentId::new(&format!("agent-{agent}")).unwrap(),
            epoch: Epoch([epoch; 16]),
            seq,
            hash,
            content,
        };
        let (committed, ledger) = self.streams.get_mut(&(agent, epoch)).unwrap();
        let outcome = if last <= *committed {
            match ledger[&seq] {
                _ if is_skip => CommitOutcome::Duplicate,
                Some(known) if known == hash => CommitOutcome::Duplicate,
                _ => CommitOutcome::Contradiction,
            }
        } else if seq > *committed + 1 {
            CommitOutcome::Gap { committed: *committed }
        } else {
            self.brought.insert((agent, epoch, *committed + 1), (self.now, rows.clone()));
            for n in *committed + 1..=last {
                ledger.insert(n, (!is_skip).then_some(hash));
            }
            *committed = last;
            let mut series = Vec::new();
            for (key, time, value) in rows {
                let next = self.ids.len() as u32 + 1;
                series.push(*self.ids.entry(key.clone()).or_insert(next));
                self.samples.insert((key, time), value);
            }
            CommitOutcome::Committed { series }
        };
        (commit, outcome)
    }

    fn batch(
        &mut self,
        agent: u8,
        shape: u8,
        time: i64,
        spread: i64,
    ) -> (Content, Vec<(String, i64, f64)>) {
        let mut builder = BatchBuilder::new();
        let mut rows = Vec::new();
        for row in 0..=shape {
            self.counter += 1;
            let value = match self.counter % 5 {
                0 => f64::from(self.counter) / 7.0,
                1 => 1.0,
                2 => f64::from(self.counter) / 10.0,
                _ => f64::from(self.counter),
            };
            let at = self.now + time * MINUTE + i64::from(row) * spread * MINUTE;
            let key = labels(shape, agent, row);
            builder.push("m", [("key", key.as_str())], Kind::Gauge, value, at);
            rows.push((key, at, value));
        }
        (Content::Samples(Arc::new(builder.build().unwrap())), rows)
    }

    fn ask(&self, range: TimeRange) -> BTreeMap<String, Vec<(i64, u64)>> {
        let mut out: BTreeMap<String, Vec<(i64, u64)>> =
            self.ids.keys().map(|key| (key.clone(), vec![])).collect();
        for ((key, time), value) in &self.samples {
            if *time > range.start && *time <= range.end {
                out.get_mut(key).unwrap().push((*time, value.to_bits()));
            }
        }
        out
    }
}

async fn ask(store: &SqliteStore, range: TimeRange) -> BTreeMap<String, Vec<(i64, u64)>> {
    let found = store.range(&"m".parse().unwrap(), range, None).await.unwrap();
    let ids: Vec<u32> = found.iter().map(|f| f.info.id).collect();
    let samples = store.samples(&ids, range).await.unwrap();
    let points = |p: &sentinel_store::query::Points| {
        p.times.iter().copied().zip(p.values.iter().map(|v| v.to_bits())).collect()
    };
    let pairs = found.iter().zip(&samples);
    pairs
        .map(|(found, samples)| {
            assert_eq!(&found.points, samples);
            (found.info.key.labels.get("key").unwrap().to_owned(), points(samples))
        })
        .collect()
}

/// A record is told as it came, or not at all, and for some minutes it is.
async fn check_records(store: &SqliteStore, model: &Model) {
    for ((name, epoch, seq), (at, rows)) in &model.brought {
        let agent = AgentId::new(&format!("agent-{name}")).unwrap();
        let position = Position { epoch: Epoch([*epoch; 16]), seq: *seq };
        let found = store.brought(&agent, position).await.unwrap();
        let Some(found) = found else {
            let is_new = model.now - at <= PACKED_AFTER_MS;
            assert!(rows.is_empty() || !is_new, "{name} {epoch} {seq} is gone");
            continue;
        };
        let bits = found.values.iter().map(|value| value.to_bits());
        let found: Vec<_> = found.series.iter().zip(&found.times).zip(bits).collect();
        let sent: Vec<_> = rows
            .iter()
            .map(|(key, time, value)| ((&model.ids[key], time), value.to_bits()))
            .collect();
        assert_eq!(found, sent, "{name} {epoch} {seq}");
    }
}

async fn run(ops: Vec<Op>, options: StoreOptions) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let open = || SqliteStore::open(&path, options.clone());
    let mut store = open().await.unwrap();
    let mut model = Model { now: T0, ..Model::default() };
    let all = TimeRange { start: T0 - (1 << 40), end: T0 + (1 << 40) };
    for op in ops {
        match op {
            Op::Together(records) => {
                let both: Vec<_> = records.iter().map(|r| model.commit(r)).collect();
                let (commits, expected): (Vec<_>, Vec<_>) = both.into_iter().unzip();
                assert_eq!(store.commit(commits, model.now).await.unwrap(), expected);
            }
            Op::Wait(minutes) => model.now += minutes * MINUTE,
            Op::Pack => {
                store.maintain(model.now).await.unwrap();
            }
            Op::Reopen => {
                store.close().await.unwrap();
                store = open().await.unwrap();
                check_records(&store, &model).await;
            }
            Op::Ask { start, length } => {
                let start = model.now + start * MINUTE;
                let range = TimeRange { start, end: start + length * MINUTE };
                assert_eq!(ask(&store, range).await, model.ask(range));
                check_records(&store, &model).await;
            }
            record => {
                let (commit, expected) = model.commit(&record);
                let found = store.commit(vec![commit], model.now).await.unwrap();
                assert_eq!(found, [expected], "{record:?}");
            }
        }
    }
    assert_eq!(ask(&store, all).await, model.ask(all));
    check_records(&store, &model).await;
    model.now += 300 * MINUTE;
    while store.maintain(model.now).await.unwrap().1 {}
    assert_eq!(ask(&store, all).await, model.ask(all));
    let sizes = store.sizes().await.unwrap();
    assert_eq!((sizes.tail_samples, sizes.packed_samples), (0, model.samples.len() as u64));
    for ((agent, epoch), (committed, _)) in &model.streams {
        let agent = AgentId::new(&format!("agent-{agent}")).unwrap();
        let state = store.stream_state(&agent, Epoch([*epoch; 16])).await.unwrap();
        assert_eq!(state.committed, *committed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        max_shrink_iters: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_answers_as_maps_would(
        ops in proptest::collection::vec(op(), 1..60),
        small_tail in any::<bool>(),
    ) {
        let tail_samples = if small_tail { 10 } else { 1 << 20 };
        let options = StoreOptions {
            keep_raw: sentinel_model::duration::Millis(1 << 42),
            tail_samples,
            readers: 1,
            ..StoreOptions::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(ops, options));
    }
}
