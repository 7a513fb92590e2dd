//! What a record brought, as long as it is told apart from what came before and after it.

use super::{DAY, EPOCH, HOUR, T0, agent, one, record, samples};
use sentinel_model::ids::{Epoch, Position};
use sentinel_store::Store;
use sentinel_store::ingest::{Commit, Content};
use std::collections::BTreeMap;

const MINUTE: i64 = 60_000;

/// Rows: the label `i`, the bits of the value, the time.
type Rows = Vec<(u32, u64, i64)>;

fn rows(of: &[(u32, f64, i64)]) -> Rows {
    of.iter().map(|(i, value, time)| (*i, value.to_bits(), *time)).collect()
}

async fn brought(store: &dyn Store, name: &str, epoch: Epoch, seq: u64) -> Option<Rows> {
    let found = store.brought(&agent(name), Position { epoch, seq }).await.unwrap()?;
    let known = store.known_series(&found.series).await.unwrap();
    let known: BTreeMap<u32, u32> = known
        .into_iter()
        .map(|one| (one.id, one.key.labels.get("i").unwrap().parse().unwrap()))
        .collect();
    let columns = found.series.iter().zip(&found.values).zip(&found.times);
    Some(columns.map(|((id, value), time)| (known[id], value.to_bits(), *time)).collect())
}

pub(crate) async fn what_a_record_brought_is_told_by_its_number(store: &dyn Store) {
    let two = [(0, f64::NAN, T0), (1, -0.0, T0 - 5)];
    // The same series twice in one record, and again in the next.
    let three = [(1, 2.0, T0), (1, 3.0, T0 + 1), (0, f64::INFINITY, T0)];
    let other = Epoch([8; 16]);
    let of_other = |seq, at| Commit { epoch: other, ..samples("a", seq, &[(0, 7.0, at)]) };
    let together = vec![
        samples("a", 1, &two),
        samples("b", 1, &[(5, 1.0, T0)]),
        record("a", 2, Content::Skipped { to: 1_000_000 }),
        of_other(1, T0),
        samples("a", 1_000_001, &[]),
        samples("b", 2, &[(5, 2.0, T0 + 1)]),
        record("a", 1_000_002, Content::Dead { payload: vec![1], reason: "no batch".into() }),
        samples("a", 1_000_003, &three),
        of_other(2, T0 + 1),
    ];
    store.commit(together, T0).await.unwrap();
    one(store, samples("a", 1_000_004, &two), T0).await;
    one(store, of_other(3, T0 + 2), T0).await;
    for (name, epoch, seq, expected) in [
        ("a", EPOCH, 1, Some(rows(&two))),
        ("a", EPOCH, 1_000_003, Some(rows(&three))),
        ("a", EPOCH, 1_000_004, Some(rows(&two))),
        ("a", other, 1, Some(rows(&[(0, 7.0, T0)]))),
        ("a", other, 2, Some(rows(&[(0, 7.0, T0 + 1)]))),
        ("a", other, 3, Some(rows(&[(0, 7.0, T0 + 2)]))),
        ("b", EPOCH, 1, Some(rows(&[(5, 1.0, T0)]))),
        ("b", EPOCH, 2, Some(rows(&[(5, 2.0, T0 + 1)]))),
        // Skipped, within a skip, empty, dead, not there yet, of nobody.
        ("a", EPOCH, 2, None),
        ("a", EPOCH, 3, None),
        ("a", EPOCH, 1_000_001, None),
        ("a", EPOCH, 1_000_002, None),
        ("a", EPOCH, 1_000_005, None),
        ("a", EPOCH, 0, None),
        ("a", EPOCH, u64::MAX, None),
        ("a", Epoch([9; 16]), 1, None),
        ("c", EPOCH, 1, None),
    ] {
        assert_eq!(brought(store, name, epoch, seq).await, expected, "{name} {epoch:?} {seq}");
    }
}

pub(crate) async fn what_is_packed_is_told_no_more_and_nothing_else_in_its_place(
    store: &dyn Store,
) {
    let next = T0 + HOUR;
    let commits: [(i64, Vec<Commit>); 5] = [
        (T0, vec![samples("a", 1, &[(0, 1.0, T0)]), samples("a", 2, &[(0, 2.0, T0 + 1)])]),
        // Of this a part stays.
        (next - 1, vec![samples("a", 3, &[(0, 3.0, next - 2), (0, 4.0, next + 1)])]),
        // This stays, and the one after it goes, being late.
        (next + MINUTE, vec![samples("a", 4, &[(0, 5.0, next + 5)])]),
        (next + 2 * MINUTE, vec![samples("a", 5, &[(0, 6.0, T0 + 9)])]),
        (next + 7 * MINUTE, vec![samples("a", 6, &[(0, 7.0, next + 6)]), samples("a", 7, &[])]),
    ];
    for (now, together) in commits {
        store.commit(together, now).await.unwrap();
    }
    let seventh = rows(&[(0, 7.0, next + 6)]);
    assert_eq!(brought(store, "a", EPOCH, 6).await, Some(seventh.clone()));
    while store.maintain(next + 10 * MINUTE).await.unwrap().1 {}
    let sizes = store.sizes().await.unwrap();
    assert_eq!((sizes.packed_samples, sizes.tail_samples), (4, 3));
    for gone in [1, 2, 3, 5, 7] {
        assert_eq!(brought(store, "a", EPOCH, gone).await, None, "{gone}");
    }
    // Not every engine is sure of this one.
    let fourth = brought(store, "a", EPOCH, 4).await;
    assert!([None, Some(rows(&[(0, 5.0, next + 5)]))].contains(&fourth), "{fourth:?}");
    assert_eq!(brought(store, "a", EPOCH, 6).await, Some(seventh));
    one(store, samples("a", 8, &[(0, 8.0, next + 7)]), next + 11 * MINUTE).await;
    assert_eq!(brought(store, "a", EPOCH, 8).await, Some(rows(&[(0, 8.0, next + 7)])));
    while store.maintain(next + DAY).await.unwrap().1 {}
    for seq in 1..=8 {
        assert_eq!(brought(store, "a", EPOCH, seq).await, None, "{seq}");
    }
}
