use sentinel_store::fleet::StoredSet;
use sentinel_store::{Store, StoreError};

fn set(number: u64) -> StoredSet {
    StoredSet { number, taken_at: 10 * number as i64, sealed: format!("{{{number}}}") }
}

pub(crate) async fn desired_sets_are_numbered_without_a_gap(store: &dyn Store) {
    assert_eq!(store.fleet_sets(9).await.unwrap(), []);
    store.save_fleet_set(set(1)).await.unwrap();
    store.save_fleet_set(set(2)).await.unwrap();
    for number in [0, 1, 2, 4, u64::MAX] {
        let refused = store.save_fleet_set(set(number)).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{number}: {refused:?}");
    }
    assert_eq!(store.fleet_sets(9).await.unwrap(), [set(2), set(1)]);
    assert_eq!(store.fleet_sets(1).await.unwrap(), [set(2)]);
    assert_eq!(store.fleet_set(1).await.unwrap(), Some(set(1)));
    for number in [0, 3, u64::MAX] {
        assert_eq!(store.fleet_set(number).await.unwrap(), None, "{number}");
    }
}
