use super::{HOUR, T0, one, samples};
use sentinel_model::duration::Millis;
use sentinel_model::ids::SlotName;
use sentinel_store::alerting::{AlertingChange, StoredGroup};
use sentinel_store::evaluations::{Evaluation, KEPT_MS};
use sentinel_store::tail::TailPosition;
use sentinel_store::windows::{MAX_PART_BYTES, PARTS_AT_ONCE, WindowChange, WindowPart};
use sentinel_store::{Store, StoreError};

fn evaluation(number: i64, at: i64, position: &TailPosition) -> Evaluation {
    Evaluation {
        term: -7,
        number,
        evaluator: SlotName::new("eval").unwrap(),
        at,
        rules_version: 3,
        rules: "0-4,7".to_owned(),
        failed: String::new(),
        settled: number > 0,
        position: position.clone(),
        until: None,
    }
}

async fn stored(store: &dyn Store) -> Vec<Evaluation> {
    let found = store.evaluations(0, 100).await.unwrap();
    assert!(found.is_sorted_by_key(|(id, _)| *id));
    if let Some((id, _)) = found.first() {
        assert_eq!(
            store.evaluations(*id, 1).await.unwrap(),
            found[1..].iter().take(1).cloned().collect::<Vec<_>>()
        );
    }
    found.into_iter().map(|(_, one)| one).collect()
}

pub(crate) async fn what_was_evaluated_is_written_once_with_what_it_decided_and_kept_for_two_hours(
    store: &dyn Store,
) {
    let position = store.tail_end().await.unwrap();
    one(store, samples("a", 1, &[(0, 0.5, T0)]), T0).await;
    let until = Some(store.tail_end().await.unwrap());
    let first = evaluation(0, T0, &position);
    let torn = Evaluation { until, failed: "3".into(), ..evaluation(1, T0 + HOUR, &position) };
    let lost = store.take_lease("alerting", "one", Millis(0)).await.unwrap();
    let fence = store.take_lease("alerting", "two", Millis(60_000)).await.unwrap();
    let group = |key: &str| StoredGroup { key: key.to_owned(), body: "{}".to_owned() };
    let change = |key, evaluations: &[&Evaluation], fence: &Option<_>| AlertingChange {
        groups: vec![group(key)],
        evaluations: evaluations.iter().copied().cloned().collect(),
        fence: fence.clone(),
        ..AlertingChange::default()
    };
    let refused = store.save_alerting(change("x", &[&first], &lost)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })));
    assert_eq!(stored(store).await, []);
    store.save_alerting(change("a", &[&first], &fence)).await.unwrap();
    // It was not heard that it was kept; the same again is no other.
    store.save_alerting(change("b", &[&first, &torn], &fence)).await.unwrap();
    let alone = AlertingChange {
        evaluations: vec![evaluation(2, T0, &position)],
        ..AlertingChange::default()
    };
    store.save_alerting(alone).await.unwrap();
    assert_eq!(stored(store).await, [first, torn.clone(), evaluation(2, T0, &position)]);
    assert_eq!(store.alert_groups().await.unwrap(), [group("a"), group("b")]);
    store.maintain(T0 + KEPT_MS + HOUR).await.unwrap();
    assert_eq!(stored(store).await, [torn], "what is older than that is gone");
}

pub(crate) async fn parts_of_windows_are_written_under_the_lease_and_read_in_order(
    store: &dyn Store,
) {
    let part = |part: u32, data: &[u8]| WindowPart {
        part,
        made_at: T0 + i64::from(part),
        data: data.to_vec(),
    };
    let change = |parts: &[WindowPart], older, fence: &Option<_>| WindowChange {
        parts: parts.to_vec(),
        older,
        fence: Option::clone(fence),
    };
    let lost = store.take_lease("alerting", "one", Millis(0)).await.unwrap();
    let fence = store.take_lease("alerting", "two", Millis(60_000)).await.unwrap();
    let refused = store.save_windows(change(&[part(0, b"x")], None, &lost)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })));
    assert_eq!(store.windows(0).await.unwrap(), []);
    let many: Vec<WindowPart> = (0..PARTS_AT_ONCE + 2).map(|n| part(n * 3, &[n as u8])).collect();
    store.save_windows(change(&many, None, &fence)).await.unwrap();
    let first = store.windows(0).await.unwrap();
    assert_eq!(first, many[..PARTS_AT_ONCE as usize]);
    let next = first.last().unwrap().part + 1;
    assert_eq!(store.windows(next).await.unwrap(), many[PARTS_AT_ONCE as usize..]);
    let large =
        change(&[part(1, b"new"), part(2, &vec![0; MAX_PART_BYTES + 1])], Some(i64::MAX), &fence);
    assert!(matches!(store.save_windows(large).await, Err(StoreError::TooMuch { .. })));
    store.save_windows(change(&[part(3, b"new")], None, &None)).await.unwrap();
    assert_eq!(store.windows(1).await.unwrap()[0], part(3, b"new"));
    store.save_windows(change(&[], Some(T0 + i64::from(next)), &fence)).await.unwrap();
    assert_eq!(store.windows(0).await.unwrap(), many[PARTS_AT_ONCE as usize..]);
}

/// A position with no transaction under way that began before now: other tests make some in the same server, and of
/// such a one nobody knows whether it is to come.
async fn settled(store: &dyn Store) -> TailPosition {
    // An id of a batch, or the first that is under way, the next to come, and what is between.
    let number = |position: &TailPosition, at: usize| {
        let all = position.as_str().split(':').map(str::parse::<u64>);
        all.take(at + 1).last().unwrap().unwrap()
    };
    let now = store.tail_end().await.unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(90);
    loop {
        let position = store.tail_end().await.unwrap();
        if number(&position, 0) >= number(&now, 1) {
            return position;
        }
        assert!(std::time::Instant::now() < deadline, "{now:?} is under way still: {position:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub(crate) async fn a_position_is_good_until_something_behind_it_is_packed(store: &dyn Store) {
    const MINUTE: i64 = 60_000;
    let reaches = async |position: &TailPosition| store.tail_reaches(position).await.unwrap();
    let begin = store.tail_end().await.unwrap();
    one(store, samples("a", 1, &[(0, 1.0, T0)]), T0).await;
    let middle = settled(store).await;
    assert!(reaches(&begin).await && reaches(&middle).await);
    let again = TailPosition::from_text(begin.as_str()).unwrap();
    assert_eq!(again, begin);
    store.maintain(T0 + HOUR + 10 * MINUTE).await.unwrap();
    assert!(!reaches(&begin).await, "the first batch is packed");
    assert!(reaches(&middle).await);
    let late = T0 + 2 * HOUR;
    one(store, samples("a", 2, &[(0, 2.0, late)]), late).await;
    assert_eq!(store.tail(&middle, 9).await.unwrap().batches.len(), 1);
    // Of another database, or none at all.
    for text in
        ["", "x", "9'", "7:x:", "7", "7:3:", "1:2:3:4", "9223372036854775807", "1:99999999999:"]
    {
        if let Some(other) = TailPosition::from_text(text).filter(|other| *other != middle) {
            assert!(!reaches(&other).await, "{text:?}");
        }
    }
}
