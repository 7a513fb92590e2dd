//! Work that is given up in the middle, as by a caller who hangs up, or that stands still.

#[path = "server/mod.rs"]
mod server;

use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::ingest::{Commit, Content};
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::query::TimeRange;
use sentinel_store::{Store, StoreError};
use sqlx::{Connection, PgConnection};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

const T0: i64 = 1_735_689_600_000;
/// More polls than most of them take.
const POLLS: usize = 40;
const DAY: i64 = 86_400_000;
const HOUR: i64 = 3_600_000;
/// How long PostgreSQL waits for the word of who stands still.
const IDLE: Duration = Duration::from_secs(6);
/// Much longer, and less than it waited once.
const BOUND: Duration = Duration::from_secs(120);
/// Packing waits for this lock where it has locked series.
const HALT: &str = "CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS \
     'BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END'; \
     CREATE TRIGGER halt AFTER UPDATE ON series FOR EACH ROW WHEN (NEW.seen > OLD.seen) \
     EXECUTE FUNCTION halt(); SELECT pg_advisory_lock(77)";

fn record(seq: u64) -> Commit {
    let mut builder = BatchBuilder::new();
    builder.push("m", [("i", "1")], Kind::Gauge, seq as f64, T0 + seq as i64);
    Commit {
        agent: AgentId::new("a").unwrap(),
        epoch: Epoch([1; 16]),
        seq,
        hash: [seq as u8; 32],
        content: Content::Samples(Arc::new(builder.build().unwrap())),
    }
}

/// Drops a future when it is woken for the time after so many; whether it came to its end before.
async fn cut_after<T>(polls: usize, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}

#[tokio::test]
async fn what_is_given_up_at_any_moment_leaves_no_transaction_open_for_who_comes_next() {
    let server = server::shared();
    let url = server.database().unwrap();
    let open = async |connections| {
        let url = PostgresUrl::new(&url).unwrap();
        let options = PostgresOptions { connections, ..PostgresOptions::default() };
        PostgresStore::open(url, options).await.unwrap()
    };
    // Few connections, so that whoever is next has the one that was given up.
    let (store, other) = (open(2).await, open(2).await);
    let mut cut = 0;
    for polls in 1..=POLLS {
        let known = store.stream_state(&AgentId::new("a").unwrap(), Epoch([1; 16])).await.unwrap();
        let commit = store.commit(vec![record(known.committed + 1)], T0 + polls as i64);
        cut += usize::from(!cut_after(polls, commit).await);
        cut += usize::from(!cut_after(polls, store.maintain(T0 + polls as i64)).await);
        // One statement of its own, on whichever connection: done means that all see it.
        for turn in 0..3 {
            let said = format!("{{\"polls\":{polls},\"turn\":{turn}}}");
            store.save_status("worker/a", &said, T0).await.unwrap();
            let seen = other.statuses().await.unwrap();
            assert_eq!(seen[0].1, said, "after {polls} polls");
        }
    }
    assert!(cut > 1, "{cut} were given up");
}

/// A record at a time, of some series.
fn record_of(seq: u64, at: i64, series: &[&str]) -> Commit {
    let mut builder = BatchBuilder::new();
    for i in series {
        builder.push("m", [("i", *i)], Kind::Gauge, seq as f64, at);
    }
    Commit { content: Content::Samples(Arc::new(builder.build().unwrap())), ..record(seq) }
}

/// Waits until the work of another process waits for the lock, or has ended.
async fn halted<T>(
    holder: &mut PgConnection,
    work: &mut (impl Future<Output = T> + Unpin),
) -> Option<T> {
    let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' \
                 AND objid = 77 AND NOT granted)";
    loop {
        let look = sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut *holder);
        let mut look = pin!(look);
        let found = poll_fn(|context| {
            if let Poll::Ready(done) = std::pin::Pin::new(&mut *work).poll(context) {
                return Poll::Ready(Err(done));
            }
            look.as_mut().poll(context).map(|waits| Ok(waits.unwrap()))
        });
        match found.await {
            Err(done) => return Some(done),
            Ok(true) => return None,
            Ok(false) => {}
        }
    }
}

#[tokio::test]
async fn who_stands_still_while_it_packs_keeps_others_from_new_series_for_a_bounded_time() {
    let server = server::shared();
    let url = server.database().unwrap();
    let open = async |options| {
        PostgresStore::open(PostgresUrl::new(&url).unwrap(), options).await.unwrap()
    };
    let patient = PostgresOptions {
        lock_timeout: 2 * BOUND,
        statement_timeout: 2 * BOUND,
        idle_timeout: IDLE,
        ..PostgresOptions::default()
    };
    let (stands, other) = (open(patient).await, open(PostgresOptions::default()).await);
    // Series that have samples of a new day: packing writes that down, and so locks them.
    other.commit(vec![record_of(1, T0, &["1"])], T0).await.unwrap();
    other.commit(vec![record_of(2, T0 + DAY, &["1"])], T0 + DAY).await.unwrap();
    let mut holder = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(HALT).execute(&mut holder).await.unwrap();
    let now = T0 + DAY + 3 * HOUR;
    let mut packing = Box::pin(stands.maintain(now));
    // One that took longer than it may, on a busy machine, begins anew.
    while let Some(done) = halted(&mut holder, &mut packing).await {
        assert!(matches!(done, Err(StoreError::Unavailable(_))), "{done:?}");
        packing = Box::pin(stands.maintain(now));
    }
    // From here on it is not polled, as if its process were stopped.
    sqlx::raw_sql("SELECT pg_advisory_unlock(77)").execute(&mut holder).await.unwrap();
    let start = Instant::now();
    let third = record_of(3, now, &["1", "2"]);
    while let Err(error) = other.commit(vec![third.clone()], now).await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        assert!(start.elapsed() < BOUND, "kept out for {:?}: {error}", start.elapsed());
    }
    // When it goes on it is told, and what it had begun is as if it had not.
    let resumed = packing.await;
    assert!(matches!(resumed, Err(StoreError::Unavailable(_))), "{resumed:?}");
    while other.maintain(now).await.unwrap().1 {}
    let ids = other.series_ids(&"m".parse().unwrap()).await.unwrap();
    let all = TimeRange { start: 0, end: i64::MAX };
    let values: Vec<_> = other.samples(&ids, all).await.unwrap();
    let values: Vec<_> = values.into_iter().map(|points| points.values).collect();
    assert_eq!(values, [vec![1.0, 2.0, 3.0], vec![3.0]]);
    let sizes = other.sizes().await.unwrap();
    assert_eq!((sizes.packed_samples, sizes.tail_samples), (2, 2));
}
