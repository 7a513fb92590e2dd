use super::{EPOCH, T0, agent, gauges, one, record, samples};
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::Epoch;
use sentinel_store::Store;
use sentinel_store::ingest::{Commit, CommitOutcome, Content, RecordState, StreamState};
use sentinel_store::query::TimeRange;
use std::sync::Arc;

const ALL: TimeRange = TimeRange { start: i64::MIN, end: i64::MAX };

fn committed(series: &[u32]) -> CommitOutcome {
    CommitOutcome::Committed { series: series.to_vec() }
}

async fn state(store: &dyn Store, name: &str) -> (u64, u32) {
    let state = store.stream_state(&agent(name), EPOCH).await.unwrap();
    (state.committed, state.rewind_attempt)
}

pub(crate) async fn records_are_committed_once_and_in_order(store: &dyn Store) {
    assert_eq!(store.stream_state(&agent("a"), EPOCH).await.unwrap(), StreamState::default());
    let first = samples("a", 1, &[(0, 1.0, T0), (1, 2.0, T0)]);
    assert_eq!(one(store, samples("a", 2, &[]), T0).await, CommitOutcome::Gap { committed: 0 });
    assert_eq!(one(store, first.clone(), T0).await, committed(&[1, 2]));
    assert_eq!(one(store, first.clone(), T0).await, CommitOutcome::Duplicate);
    let outcomes = store
        .commit(
            vec![
                samples("a", 4, &[(0, 9.0, T0)]),
                first,
                samples("a", 2, &[(1, 3.0, T0 + 1), (2, 4.0, T0 + 1)]),
                samples("a", 3, &[]),
                samples("a", 2, &[(1, 3.0, T0 + 1)]),
                samples("a", 4, &[(2, 5.0, T0 + 2)]),
            ],
            T0,
        )
        .await
        .unwrap();
    let expected = vec![
        CommitOutcome::Gap { committed: 1 },
        CommitOutcome::Duplicate,
        committed(&[2, 3]),
        committed(&[]),
        CommitOutcome::Duplicate,
        committed(&[3]),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(state(store, "a").await, (4, 0));
    let points = store.samples(&[3, 1, 3], ALL).await.unwrap();
    assert_eq!(points[0].values, [4.0, 5.0]);
    assert_eq!(points[0], points[2]);
    assert_eq!(points[1].times, [T0]);
}

pub(crate) async fn where_several_streams_stand_is_told_in_the_order_of_the_question(
    store: &dyn Store,
) {
    one(store, samples("a", 1, &[(0, 1.0, T0)]), T0).await;
    one(store, samples("b", 1, &[(1, 1.0, T0)]), T0).await;
    one(store, samples("b", 2, &[(1, 2.0, T0 + 1)]), T0).await;
    store.request_rewind(&agent("a"), EPOCH, 3).await.unwrap();
    let other = Epoch([9; 16]);
    let keys = [("b", EPOCH), ("none", EPOCH), ("a", EPOCH), ("a", other), ("b", EPOCH)];
    let keys = keys.map(|(name, epoch)| (agent(name), epoch));
    let states = store.stream_states(&keys).await.unwrap();
    let states: Vec<_> = states.iter().map(|it| (it.committed, it.rewind_attempt)).collect();
    assert_eq!(states, [(2, 0), (0, 0), (1, 3), (0, 0), (2, 0)]);
    assert_eq!(store.stream_states(&[]).await.unwrap(), []);
}

pub(crate) async fn the_same_number_with_another_hash_is_refused_and_harms_no_other(
    store: &dyn Store,
) {
    one(store, samples("a", 1, &[(0, 1.0, T0)]), T0).await;
    let mut other = samples("a", 1, &[(0, 2.0, T0)]);
    other.hash = [99; 32];
    let mut twice = samples("a", 2, &[(0, 4.0, T0 + 1)]);
    twice.hash = [98; 32];
    let outcomes =
        store.commit(vec![other, samples("a", 2, &[(0, 3.0, T0 + 1)]), twice], T0).await.unwrap();
    let expected =
        vec![CommitOutcome::Contradiction, committed(&[1]), CommitOutcome::Contradiction];
    assert_eq!(outcomes, expected);
    assert_eq!(store.samples(&[1], ALL).await.unwrap()[0].values, [1.0, 3.0]);
}

pub(crate) async fn skipped_ranges_commit_what_was_not_committed(store: &dyn Store) {
    let skip = |from, to| record("a", from, Content::Skipped { to });
    one(store, samples("a", 1, &[(0, 1.0, T0)]), T0).await;
    assert_eq!(one(store, skip(3, 5), T0).await, CommitOutcome::Gap { committed: 1 });
    assert_eq!(one(store, skip(1, 5), T0).await, committed(&[]));
    assert_eq!(state(store, "a").await.0, 5);
    assert_eq!(one(store, skip(1, 5), T0).await, CommitOutcome::Duplicate);
    assert_eq!(one(store, skip(2, 4), T0).await, CommitOutcome::Duplicate);
    assert_eq!(one(store, skip(4, 6), T0).await, committed(&[]));
    assert_eq!(one(store, skip(7, 7), T0).await, committed(&[]));
    // What was said to be lost does not come back.
    let back = samples("a", 3, &[(0, 1.0, T0)]);
    assert_eq!(one(store, back, T0).await, CommitOutcome::Contradiction);
    for (from, to) in [(9, 8), (8, u64::MAX)] {
        assert_eq!(one(store, skip(from, to), T0).await, CommitOutcome::Contradiction);
    }
    assert_eq!(one(store, samples("a", 8, &[(0, 2.0, T0 + 1)]), T0).await, committed(&[1]));
}

pub(crate) async fn dead_records_advance_the_stream(store: &dyn Store) {
    let dead = Content::Dead { payload: vec![1, 2, 3], reason: "not a batch".into() };
    let outcomes = store
        .commit(vec![record("a", 1, dead.clone()), samples("a", 2, &[(0, 1.0, T0)])], T0 + 5)
        .await
        .unwrap();
    assert_eq!(outcomes, [committed(&[]), committed(&[1])]);
    assert_eq!(one(store, record("a", 1, dead), T0).await, CommitOutcome::Duplicate);
    let letters = store.dead_letters(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.agent.as_str(), letter.epoch, letter.seq), ("a", EPOCH, 1));
    assert_eq!((letter.at, letter.reason.as_str()), (T0 + 5, "not a batch"));
    assert_eq!(letter.payload, [1, 2, 3]);
}

pub(crate) async fn committed_records_are_found_by_their_numbers(store: &dyn Store) {
    let dead = Content::Dead { payload: vec![1, 2, 3], reason: "not a batch".into() };
    let mut other_epoch = samples("a", 1, &[(0, 2.0, T0 + 1)]);
    other_epoch.epoch = Epoch([8; 16]);
    let records = vec![
        samples("a", 1, &[(0, 1.0, T0), (1, 2.0, T0)]),
        record("a", 2, Content::Skipped { to: 4 }),
        record("a", 5, dead),
        samples("b", 1, &[(0, 3.0, T0)]),
    ];
    store.commit(records, T0).await.unwrap();
    one(store, other_epoch, T0 + 9).await;
    let ledger = async |name: &str, epoch: Epoch, from: u64, limit: u32| {
        let found = store.ledger(&agent(name), epoch, from, limit).await.unwrap();
        found.into_iter().map(|it| (it.seq, it.last, it.rows, it.state)).collect::<Vec<_>>()
    };
    let all = [
        (1, 1, 2, RecordState::Samples),
        (2, 4, 0, RecordState::Skipped),
        (5, 5, 0, RecordState::Dead),
    ];
    assert_eq!(ledger("a", EPOCH, 0, 9).await, all);
    assert_eq!(ledger("a", EPOCH, 2, 1).await, all[1..2]);
    assert_eq!(ledger("a", EPOCH, u64::MAX, 9).await, []);
    assert_eq!(ledger("a", Epoch([9; 16]), 0, 9).await, []);
    assert_eq!(ledger("c", EPOCH, 0, 9).await, []);
    let signed = store.ledger(&agent("a"), EPOCH, 1, 1).await.unwrap().remove(0).hash;
    assert_eq!(signed, samples("a", 1, &[(0, 1.0, T0), (1, 2.0, T0)]).hash);
    let streams = store.streams(&agent("a"), 9).await.unwrap();
    let streams: Vec<_> =
        streams.iter().map(|it| (it.epoch, it.committed, it.last_commit)).collect();
    assert_eq!(streams, [(Epoch([8; 16]), 1, T0 + 9), (EPOCH, 5, T0)]);
    assert_eq!(store.streams(&agent("a"), 1).await.unwrap().len(), 1);
    let letter = store.dead_letter(&agent("a"), EPOCH, 5).await.unwrap().unwrap();
    assert_eq!((letter.seq, letter.payload), (5, vec![1, 2, 3]));
    for (name, epoch, seq) in [("a", EPOCH, 1), ("b", EPOCH, 5), ("a", Epoch([8; 16]), 5)] {
        assert_eq!(store.dead_letter(&agent(name), epoch, seq).await.unwrap(), None);
    }
}

pub(crate) async fn epochs_and_agents_are_apart(store: &dyn Store) {
    let mut other_epoch = samples("a", 1, &[(0, 2.0, T0 + 1)]);
    other_epoch.epoch = Epoch([8; 16]);
    let outcomes = store
        .commit(
            vec![
                samples("a", 1, &[(0, 1.0, T0)]),
                other_epoch,
                samples("b", 1, &[(0, 3.0, T0 + 2)]),
                samples("b", 2, &[(0, 4.0, T0 + 3)]),
            ],
            T0,
        )
        .await
        .unwrap();
    assert!(outcomes.iter().all(|o| *o == committed(&[1])), "{outcomes:?}");
    assert_eq!((state(store, "a").await.0, state(store, "b").await.0), (1, 2));
    assert_eq!(store.samples(&[1], ALL).await.unwrap()[0].values, [1.0, 2.0, 3.0, 4.0]);
}

pub(crate) async fn a_rewind_is_kept_and_only_grows(store: &dyn Store) {
    store.request_rewind(&agent("a"), EPOCH, 2).await.unwrap();
    assert_eq!(state(store, "a").await, (0, 2));
    one(store, samples("a", 1, &[(0, 1.0, T0)]), T0).await;
    store.request_rewind(&agent("a"), EPOCH, 1).await.unwrap();
    assert_eq!(state(store, "a").await, (1, 2));
    store.request_rewind(&agent("a"), EPOCH, 3).await.unwrap();
    one(store, samples("a", 2, &[(0, 1.0, T0)]), T0).await;
    assert_eq!(state(store, "a").await, (2, 3));
}

pub(crate) async fn a_series_keeps_its_id_whatever_the_order_of_labels(store: &dyn Store) {
    let make = |labels: &[(&str, &str)]| {
        let mut builder = BatchBuilder::new();
        for name in ["m", "n"] {
            builder.push(name, labels.iter().copied(), Kind::Gauge, 1.0, T0);
        }
        Content::Samples(Arc::new(builder.build().unwrap()))
    };
    let orders: [&[(&str, &str)]; 4] = [
        &[("a", "1"), ("b", "2")],
        &[("b", "2"), ("a", "1")],
        &[("a", "2"), ("b", "1")],
        &[("a", "1"), ("b", "2"), ("c", "")],
    ];
    let commits: Vec<Commit> =
        (1..).zip(orders).map(|(seq, labels)| record("a", seq, make(labels))).collect();
    let outcomes = store.commit(commits, T0).await.unwrap();
    assert_eq!(
        outcomes,
        [committed(&[1, 2]), committed(&[1, 2]), committed(&[3, 4]), committed(&[5, 6])]
    );
    let again = record("a", 5, make(orders[2]));
    assert_eq!(one(store, again, T0).await, committed(&[3, 4]));
}

pub(crate) async fn the_kind_of_a_series_is_the_last_one_sent(store: &dyn Store) {
    one(store, record("a", 1, Content::Samples(gauges(&[(0, 1.0, T0)]))), T0).await;
    let mut builder = BatchBuilder::new();
    builder.push("g", [("i", "0"), ("agent", "a")], Kind::Counter, 2.0, T0);
    let counter = Content::Samples(Arc::new(builder.build().unwrap()));
    assert_eq!(one(store, record("a", 2, counter), T0).await, committed(&[1]));
    let found = store.series(&"g".parse().unwrap()).await.unwrap();
    assert_eq!((found.len(), found[0].kind), (1, Kind::Counter as u8));
}

pub(crate) async fn a_series_that_is_new_has_the_last_kind_of_its_first_commit(store: &dyn Store) {
    let of = |kind| {
        let mut builder = BatchBuilder::new();
        builder.push("g", [("i", "0")], kind, 1.0, T0);
        Content::Samples(Arc::new(builder.build().unwrap()))
    };
    let commits = (1..).zip([Kind::Gauge, Kind::Counter]).map(|(n, kind)| record("a", n, of(kind)));
    let outcomes = store.commit(commits.collect(), T0).await.unwrap();
    assert_eq!(outcomes, [committed(&[1]), committed(&[1])]);
    let found = store.series(&"g".parse().unwrap()).await.unwrap();
    assert_eq!((found.len(), found[0].kind), (1, Kind::Counter as u8));
}

pub(crate) async fn agents_that_begin_together_are_kept_apart(store: &dyn Store) {
    const AGENTS: usize = 64;
    const ROWS: u32 = 5;
    let names: Vec<String> = (0..AGENTS).map(|n| format!("agent-{n}")).collect();
    let batch = |of: usize, seq: u64| {
        let mut builder = BatchBuilder::new();
        for row in 0..ROWS {
            let (label, value) = (row.to_string(), f64::from(row) + of as f64);
            let labels = [("i", label.as_str()), ("agent", names[of].as_str())];
            builder.push("g", labels, Kind::Gauge, value, T0);
        }
        record(&names[of], seq, Content::Samples(Arc::new(builder.build().unwrap())))
    };
    // Every second agent's first record is on its way still; others have sent two.
    let begin = (0..AGENTS).map(|of| batch(of, if of % 2 == 0 { 1 } else { 2 }));
    let more = (0..AGENTS).filter(|of| of % 4 == 0).map(|of| batch(of, 2));
    let outcomes = store.commit(begin.chain(more).collect(), T0).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for (of, outcome) in (0..AGENTS).zip(&outcomes) {
        if of % 2 == 1 {
            assert_eq!(*outcome, CommitOutcome::Gap { committed: 0 });
            assert_eq!(state(store, &names[of]).await, (0, 0));
            continue;
        }
        let CommitOutcome::Committed { series } = outcome else { panic!("{outcome:?}") };
        assert_eq!(series.len(), ROWS as usize);
        assert!(series.iter().all(|id| seen.insert(*id)), "{series:?} are of others too");
        let points = store.samples(series, ALL).await.unwrap();
        let values: Vec<f64> =
            points.iter().filter_map(|one| one.values.first()).copied().collect();
        let sent: Vec<f64> = (0..ROWS).map(|row| f64::from(row) + of as f64).collect();
        assert_eq!(values, sent);
        let seq = if of % 4 == 0 { 2 } else { 1 };
        assert_eq!(state(store, &names[of]).await, (seq, 0));
    }
    // The second record of an agent has the series of its first.
    for (at, of) in (0..AGENTS).filter(|of| of % 4 == 0).enumerate() {
        assert_eq!(outcomes[AGENTS + at], outcomes[of]);
    }
    let late = (0..AGENTS).filter(|of| of % 2 == 1).flat_map(|of| [batch(of, 1), batch(of, 2)]);
    for outcome in store.commit(late.collect(), T0).await.unwrap() {
        assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    }
}
