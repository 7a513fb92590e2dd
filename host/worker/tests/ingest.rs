//! From the bus to the store, against the real store and the real bus.

mod support;

use bytes::Bytes;
use sentinel_model::codec;
use sentinel_store::Store as _;
use sentinel_wire::envelope::Content;
use sentinel_wire::key::AgentKey;
use sentinel_worker::ingest::{Incoming, TRANSFORM_ATTEMPTS, consume};
use sentinel_worker::stages::TransformError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use support::{Rig, TransformFn, agent, batch, position, until};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const LABELS: &str = r#"{agent="web-1", code="200"}"#;

#[tokio::test]
async fn what_the_bus_delivers_is_stored_once_in_order_under_the_agents_name() {
    let rig = Rig::new().await;
    for seq in 1..=5 {
        rig.publish(seq, 1, rig.sample(seq, 1)).await;
    }
    // Again, as after a lost answer.
    rig.publish(3, 2, rig.sample(3, 2)).await;
    let (stop, stopping) = watch::channel(false);
    let caught_up = Arc::new(AtomicBool::new(false));
    let (bus, metrics) = (rig.bus.clone(), rig.metrics.clone());
    let task = tokio::spawn(consume(bus, rig.ingest(), metrics, caught_up.clone(), stopping));
    until("everything is acknowledged", async || rig.bus.depth().messages == 0).await;
    until("that is noticed", async || caught_up.load(Ordering::Relaxed)).await;
    stop.send(true).unwrap();
    task.await.unwrap();
    assert_eq!(rig.stored().await, [(LABELS.to_owned(), vec![1.0, 2.0, 3.0, 4.0, 5.0])]);
    assert_eq!((rig.records("committed"), rig.records("duplicate")), (5, 1));
}

#[tokio::test]
async fn a_gap_is_dropped_and_the_agent_asked_until_it_is_closed() {
    let rig = Rig::new().await;
    let mut ingest = rig.ingest();
    ingest.take(&[rig.sample(1, 1), rig.sample(3, 1), rig.sample(4, 1)]).await;
    let state = rig.store.stream_state(&agent(), position(1).epoch).await.unwrap();
    assert_eq!((state.committed, state.rewind_attempt), (1, 2));
    // What was sent before the agent knew is dropped again, without asking for more.
    ingest.take(&[rig.sample(5, 1)]).await;
    let state = rig.store.stream_state(&agent(), position(1).epoch).await.unwrap();
    assert_eq!((state.committed, state.rewind_attempt), (1, 2));
    ingest.take(&[2, 3, 4, 5].map(|seq| rig.sample(seq, 2))).await;
    assert_eq!(rig.stored().await[0].1, [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(rig.records("gap"), 3);
}

#[tokio::test]
async fn a_worker_that_starts_in_the_middle_goes_on_where_the_store_is() {
    let rig = Rig::new().await;
    rig.ingest().take(&[1, 2].map(|seq| rig.sample(seq, 1))).await;
    rig.ingest().take(&[2, 3].map(|seq| rig.sample(seq, 1))).await;
    assert_eq!((rig.committed().await, rig.records("duplicate")), (3, 1));
}

#[tokio::test]
async fn nobody_without_the_key_writes_anything() {
    let rig = Rig::new().await;
    let mut stranger = Rig::new().await;
    stranger.key = AgentKey::random(1);
    let mut bent = rig.sample(1, 1).to_vec();
    *bent.last_mut().unwrap() ^= 1;
    let messages =
        [stranger.sample(1, 1), Bytes::from(bent), Bytes::from_static(b"\xff"), rig.sample(1, 1)];
    rig.ingest().take(&messages).await;
    assert_eq!((rig.records("refused"), rig.records("committed")), (3, 1));
}

#[tokio::test]
async fn a_record_that_comes_again_with_another_content_is_noticed_and_the_first_stays() {
    let rig = Rig::new().await;
    let other = Content::Batch(codec::encode(&batch(9)).into());
    rig.ingest().take(&[rig.sample(1, 1), rig.message(1, 2, other)]).await;
    assert_eq!((rig.stored().await[0].1.clone(), rig.records("contradiction")), (vec![1.0], 1));
}

#[tokio::test]
async fn what_cannot_be_processed_is_kept_as_dead_and_the_rest_goes_on() {
    let rig = Rig::new().await;
    let reject = |batch: Arc<sentinel_model::batch::Batch>| {
        if batch.value[0] == 3.0 {
            return Err(TransformError::Rejected("no threes".into()));
        }
        Ok(batch)
    };
    rig.transforms(vec![Arc::new(TransformFn(reject))]);
    let garbage = Bytes::from_static(b"SNB1 and nothing more");
    let messages = [
        rig.sample(1, 1),
        rig.message(2, 1, Content::Batch(garbage.clone())),
        rig.sample(3, 1),
        rig.sample(4, 1),
    ];
    rig.ingest().take(&messages).await;
    assert_eq!(rig.stored().await[0].1, [1.0, 4.0]);
    assert_eq!((rig.committed().await, rig.records("dead")), (4, 2));
    let mut dead = rig.store.dead_letters(9).await.unwrap();
    dead.sort_by_key(|letter| letter.seq);
    assert_eq!(dead[0].payload, garbage);
    assert_eq!(dead[1].payload, codec::encode(&batch(3)));
    assert!(dead[1].reason.contains("t0") && dead[1].reason.contains("no threes"));
}

#[tokio::test]
async fn a_transform_that_fails_for_a_while_costs_nothing_and_one_that_goes_on_costs_a_record() {
    let rig = Rig::new().await;
    let calls = Arc::new(AtomicU32::new(0));
    let flaky = {
        let calls = calls.clone();
        move |batch: Arc<sentinel_model::batch::Batch>| {
            let fails = match batch.value[0] as u64 {
                1 => calls.fetch_add(1, Ordering::SeqCst) < TRANSFORM_ATTEMPTS - 1,
                value => value == 2,
            };
            if fails { Err(TransformError::Failed("quarantined".into())) } else { Ok(batch) }
        }
    };
    rig.transforms(vec![Arc::new(TransformFn(flaky))]);
    rig.ingest().take(&[1, 2, 3].map(|seq| rig.sample(seq, 1))).await;
    assert_eq!((rig.stored().await[0].1.clone(), rig.records("dead")), (vec![1.0, 3.0], 1));
    assert_eq!(rig.store.dead_letters(9).await.unwrap()[0].seq, 2);
}

#[tokio::test]
async fn nothing_passes_by_a_transform_that_is_not_loaded() {
    let rig = Rig::new().await;
    let missing = |_| Err(TransformError::NotLoaded("no such plugin".into()));
    rig.transforms(vec![Arc::new(TransformFn(missing))]);
    let (mut ingest, messages) = (rig.ingest(), [rig.sample(1, 1)]);
    let task = tokio::spawn(async move { ingest.take(&messages).await });
    let attempts = || rig.metrics.transform_failures.get();
    until("it was tried more often than gives up", async || {
        attempts() > u64::from(TRANSFORM_ATTEMPTS)
    })
    .await;
    assert_eq!(rig.committed().await, 0);
    rig.transforms(vec![Arc::new(TransformFn(Ok))]);
    task.await.unwrap();
    assert_eq!(rig.committed().await, 1);
}

#[tokio::test]
async fn while_the_store_is_full_nothing_is_acknowledged_and_afterwards_all_goes_on() {
    let rig = Rig::new().await;
    rig.store.refuse(true);
    for seq in 1..=3 {
        rig.publish(seq, 1, rig.sample(seq, 1)).await;
    }
    let ingest = rig.ingest();
    let trouble = ingest.trouble();
    let (stop, stopping) = watch::channel(false);
    let (bus, metrics) = (rig.bus.clone(), rig.metrics.clone());
    let task = tokio::spawn(consume(bus, ingest, metrics, Arc::default(), stopping));
    until("the trouble is said", async || trouble.read().is_some()).await;
    assert!(trouble.read().as_ref().unwrap().contains("full"));
    assert_eq!(rig.bus.depth().messages, 3);
    rig.store.refuse(false);
    until("everything is acknowledged", async || rig.bus.depth().messages == 0).await;
    stop.send(true).unwrap();
    task.await.unwrap();
    assert_eq!((rig.committed().await, trouble.read().clone()), (3, None));
}

#[tokio::test]
async fn what_an_agent_says_it_lost_is_passed_over() {
    let rig = Rig::new().await;
    let messages = [rig.sample(1, 1), rig.message(2, 1, Content::SkippedTo(9)), rig.sample(10, 1)];
    rig.ingest().take(&messages).await;
    assert_eq!((rig.committed().await, rig.stored().await[0].1.clone()), (10, vec![1.0, 10.0]));
}

#[tokio::test]
async fn what_no_worker_came_to_an_end_with_is_committed_as_dead_and_not_looked_into() {
    let rig = Rig::new().await;
    let harmful = |batch: Arc<sentinel_model::batch::Batch>| {
        assert!(batch.value[0] != 2.0, "it is looked into");
        Ok(batch)
    };
    rig.transforms(vec![Arc::new(TransformFn(harmful))]);
    let delivered = |seq, deliveries| Incoming { payload: rig.sample(seq, 1), deliveries };
    let most = sentinel_bus::MAX_DELIVERIES;
    let messages = [delivered(1, most), delivered(2, most + 1), delivered(3, 1)];
    rig.ingest().take(&messages).await;
    assert_eq!((rig.committed().await, rig.stored().await[0].1.clone()), (3, vec![1.0, 3.0]));
    assert_eq!((rig.records("committed"), rig.records("dead")), (2, 1));
    let dead = rig.store.dead_letters(9).await.unwrap().remove(0);
    let reason = "delivered 5 times, and no worker came to an end with it";
    assert_eq!((dead.seq, dead.reason.as_str()), (2, reason));
    assert_eq!(dead.payload, codec::encode(&batch(2)));
}

/// A worker's part that takes from the bus, until it is stopped or killed.
fn consuming(rig: &Rig, stopping: &watch::Receiver<bool>) -> JoinHandle<()> {
    let (bus, metrics) = (rig.bus.clone(), rig.metrics.clone());
    tokio::spawn(consume(bus, rig.ingest(), metrics, Arc::default(), stopping.clone()))
}

#[tokio::test]
async fn a_worker_that_ends_in_the_middle_leaves_its_messages_to_the_next() {
    let rig = Rig::new().await;
    rig.store.refuse(true);
    rig.publish(1, 1, rig.sample(1, 1)).await;
    let (_stop, stopping) = watch::channel(false);
    let killed = consuming(&rig, &stopping);
    until("the store was asked", async || rig.metrics.store_failures.get() > 0).await;
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());
    rig.store.refuse(false);
    let next = consuming(&rig, &stopping);
    until("it is acknowledged", async || rig.bus.depth().messages == 0).await;
    next.abort();
    assert_eq!(rig.committed().await, 1);
}

#[tokio::test]
async fn what_waits_on_the_bus_is_seen_while_the_store_takes_nothing() {
    let rig = Rig::new().await;
    rig.store.refuse(true);
    rig.publish(1, 1, rig.sample(1, 1)).await;
    let (_stop, stopping) = watch::channel(false);
    let task = consuming(&rig, &stopping);
    until("the store was asked", async || rig.metrics.store_failures.get() > 0).await;
    for seq in 2..=4 {
        rig.publish(seq, 1, rig.sample(seq, 1)).await;
    }
    until("all that waits is seen", async || rig.metrics.bus_depth.get() == 4).await;
    rig.store.refuse(false);
    until("nothing waits", async || rig.metrics.bus_depth.get() == 0).await;
    task.abort();
    assert_eq!(rig.committed().await, 4);
}

#[tokio::test]
async fn a_transform_that_is_left_alone_after_failures_costs_no_record_that_it_was_not_called_with()
{
    let rig = Rig::new().await;
    let calls = Arc::new(AtomicU32::new(0));
    let resting = {
        let calls = calls.clone();
        move |batch: Arc<sentinel_model::batch::Batch>| {
            // As long as a quarantine of it all goes: many more times than a record is tried.
            if calls.fetch_add(1, Ordering::SeqCst) < 10 * TRANSFORM_ATTEMPTS {
                return Err(TransformError::NotCalled("quarantined".into()));
            }
            Ok(batch)
        }
    };
    rig.transforms(vec![Arc::new(TransformFn(resting))]);
    let (mut ingest, messages) = (rig.ingest(), [rig.sample(1, 1)]);
    let task = tokio::spawn(async move { ingest.take(&messages).await });
    until("it was asked often", async || calls.load(Ordering::SeqCst) > TRANSFORM_ATTEMPTS).await;
    task.abort();
    assert_eq!((rig.committed().await, rig.records("dead")), (0, 0));
}

/// Adds a label with its name, so that it shows who reshaped a batch, and how often.
fn marking(name: &'static str) -> Arc<dyn sentinel_worker::stages::Transform> {
    Arc::new(TransformFn(move |batch: Arc<sentinel_model::batch::Batch>| {
        let mut builder = sentinel_model::batch::BatchBuilder::new();
        for row in batch.rows() {
            let mut labels: std::collections::BTreeMap<_, _> = row.labels().collect();
            let marks = format!("{}{name}", labels.get("marks").unwrap_or(&""));
            labels.insert("marks", &marks);
            builder.push(row.name(), labels, row.kind(), row.value(), row.time());
        }
        Ok(Arc::new(builder.build().unwrap()))
    }))
}

#[tokio::test]
async fn a_batch_passes_each_transform_once_however_they_are_replaced_meanwhile() {
    for (after, expected) in [(&["a", "c"][..], "ac"), (&["c"], "c"), (&["x", "a", "c"], "xac")] {
        let rig = Rig::new().await;
        let fails = Arc::new(TransformFn(|_| Err(TransformError::NotLoaded("not yet".into()))));
        rig.transforms(vec![marking("a"), fails]);
        let (mut ingest, messages) = (rig.ingest(), [rig.sample(1, 1)]);
        let task = tokio::spawn(async move { ingest.take(&messages).await });
        until("it waits", async || rig.metrics.transform_failures.get() > 1).await;
        rig.transforms(after.iter().map(|name| marking(name)).collect());
        task.await.unwrap();
        let stored = rig.stored().await;
        assert!(stored[0].0.contains(&format!("marks=\"{expected}\"")), "{stored:?}");
    }
}
