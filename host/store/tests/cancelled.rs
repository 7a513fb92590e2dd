//! Work that is given up in the middle, as by a caller who hangs up.

#[path = "server/mod.rs"]
mod server;

use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::Store;
use sentinel_store::ingest::{Commit, Content};
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

const T0: i64 = 1_735_689_600_000;
/// More polls than most of them take.
const POLLS: usize = 40;

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
