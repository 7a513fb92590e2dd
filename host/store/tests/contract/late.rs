//! PostgreSQL alone: rows become visible in another order than that of their ids.

use super::{T0, samples, server};
use sentinel_store::Store as _;
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::tail::TailBatch;
use sqlx::Connection as _;

#[tokio::test]
async fn what_becomes_visible_late_is_in_the_tail_all_the_same_and_holds_nothing_up() {
    let server = server::shared();
    let database = server.database().unwrap();
    let url = PostgresUrl::new(&database).unwrap();
    let store = PostgresStore::open(url, PostgresOptions::default()).await.unwrap();
    let commit = async |seq| {
        store.commit(vec![samples("a", seq, &[(0, seq as f64, T0)])], T0).await.unwrap()
    };
    commit(1).await;
    let begin = store.tail_end().await.unwrap();
    // Another worker has its number, and commits after all that come later.
    let mut slow = sqlx::PgConnection::connect(&database).await.unwrap();
    let sql = "BEGIN; INSERT INTO batches (hour, stream, shape, committed_at, first, last, times, values) \
               SELECT hour, stream, shape, committed_at, first, last, times, ARRAY[7.5::float8] \
               FROM batches";
    sqlx::raw_sql(sql).execute(&mut slow).await.unwrap();
    commit(2).await;
    commit(3).await;
    let values =
        |batches: &[TailBatch]| batches.iter().map(|batch| batch.values[0]).collect::<Vec<_>>();
    let first = store.tail(&begin, 1).await.unwrap();
    assert_eq!((values(&first.batches), first.more), (vec![2.0], true));
    // It commits while the rest of a page is still to be read.
    sqlx::raw_sql("COMMIT").execute(&mut slow).await.unwrap();
    let second = store.tail(&first.next, 9).await.unwrap();
    assert_eq!((values(&second.batches), second.more), (vec![3.0], false));
    let third = store.tail(&second.next, 9).await.unwrap();
    assert_eq!(values(&third.batches), [7.5]);
    assert_eq!(store.tail(&third.next, 9).await.unwrap().batches, []);
    let again = store.tail(&begin, 9).await.unwrap();
    assert_eq!(values(&again.batches), [7.5, 2.0, 3.0]);
}
