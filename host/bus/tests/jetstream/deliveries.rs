//! The contract, bounds, and how often a message is delivered.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_nats::jetstream as js;
use futures::TryStreamExt as _;
use sentinel_bus::jetstream::{JetStreamBus, PULL_MESSAGES, StreamOptions};
use sentinel_bus::{Bus, BusError, Delivery, MAX_DELIVERIES, MAX_UNANSWERED};

use crate::contract::{check_bus, message, publish, take};
use crate::rig::{PATIENCE, Rig, until};

#[tokio::test]
async fn the_contract_holds() {
    let rig = Rig::start();
    let count = AtomicU32::new(0);
    check_bus(|max_messages| {
        let mut options = rig.options();
        let n = count.fetch_add(1, Ordering::Relaxed);
        options.stream =
            StreamOptions { name: format!("contract.{n}"), max_messages, ..options.stream };
        async move { JetStreamBus::connect(options).await.unwrap() }
    })
    .await;
}

#[tokio::test]
async fn at_the_quota_of_the_account_publishing_is_refused_until_there_is_room() {
    let rig = Rig::with("", "max_file_store: 1MB");
    let bus = {
        let mut options = rig.options();
        options.stream.max_bytes = 1 << 20;
        options.stream.max_messages = 1_000_000;
        JetStreamBus::connect(options).await.unwrap()
    };
    let sized = |seq| {
        let mut message = message("a", seq);
        message.payload = vec![1; 64 << 10].into();
        message
    };
    let mut published = 0;
    let error = loop {
        match bus.publish(sized(published + 1)).await {
            Ok(()) => published += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BusError::Busy { .. }), "{error}");
    assert!((4..=16).contains(&published), "{published}");
    let mut subscription = bus.subscribe().await.unwrap();
    for delivery in take(&mut *subscription, 3).await {
        delivery.ack().await.unwrap();
    }
    until("there is room", async || bus.publish(sized(published + 1)).await.is_ok()).await;
    assert_eq!(take(&mut *subscription, 1).await[0].message.id.seq, 4);
}

#[tokio::test]
async fn the_same_id_is_taken_once_by_whichever_server() {
    let rig = Rig::start();
    let (one, two) = (rig.bus().await, rig.bus().await);
    for bus in [&one, &two, &one] {
        publish(bus, "a", 1..=3).await;
    }
    assert_eq!(one.depth().await.unwrap().messages, 3);
}

#[tokio::test]
async fn what_killed_its_worker_twice_is_delivered_alone_so_that_it_alone_is_counted() {
    let rig = Rig::start();
    let server = rig.bus().await;
    publish(&server, "a", 1..=20).await;
    publish(&server, "b", 1..=20).await;
    let (mut of_the_bad, mut most_of_others) = (Vec::new(), 0);
    while of_the_bad.last() <= Some(&MAX_DELIVERIES) {
        // A worker that dies of a5, up to the delivery at which it does not try any more.
        let worker = rig.bus().await;
        let mut subscription = worker.subscribe().await.unwrap();
        while of_the_bad.last() <= Some(&MAX_DELIVERIES) {
            let taken = tokio::time::timeout(PATIENCE, subscription.next_many(64)).await;
            let taken = taken.expect("something comes").unwrap();
            let is_bad =
                |d: &&Delivery| (d.message.id.agent.as_str(), d.message.id.seq) == ("a", 5);
            let bad = taken.iter().find(is_bad).map(|d| d.deliveries);
            let others = taken.iter().filter(|d| !is_bad(d)).map(|d| d.deliveries);
            most_of_others = others.max().unwrap_or(0).max(most_of_others);
            of_the_bad.extend(bad);
            if bad.is_some_and(|deliveries| deliveries <= MAX_DELIVERIES) {
                break;
            }
            for delivery in taken {
                delivery.ack().await.unwrap();
            }
        }
        // NATS has its answers, and gives it nothing more: what is on its way to the dead is counted too.
        drop(subscription);
        worker.close().await.unwrap();
    }
    assert_eq!(of_the_bad, (1..=MAX_DELIVERIES + 1).collect::<Vec<_>>());
    assert!(most_of_others <= 3, "{most_of_others}");
}

#[tokio::test]
async fn unanswered_deliveries_are_bounded_and_an_answer_lets_more_through() {
    let rig = Rig::start();
    let bus = rig.bus().await;
    let all = MAX_UNANSWERED as u64 + 200;
    for some in (1..=all).collect::<Vec<_>>().chunks(200) {
        let publishing = some.iter().map(|seq| bus.publish(message("a", *seq)));
        futures::future::try_join_all(publishing).await.unwrap();
    }
    let mut subscription = bus.subscribe().await.unwrap();
    let mut taken = take(&mut *subscription, MAX_UNANSWERED).await;
    let most = MAX_UNANSWERED + PULL_MESSAGES;
    while taken.len() <= most {
        tokio::select! {
            biased;
            more = subscription.next_many(1) => taken.extend(more.unwrap()),
            () = tokio::time::sleep(Duration::from_millis(300)) => break,
        }
    }
    assert!(taken.len() <= most, "{}", taken.len());
    let had = taken.len();
    for delivery in taken {
        delivery.ack().await.unwrap();
    }
    assert_eq!(take(&mut *subscription, all as usize - had).await.len(), all as usize - had);
}

/// Whether nobody waits for messages at NATS any more.
async fn nobody_asks(operator: &js::Context, stream: &str) -> bool {
    let stream = operator.get_stream(stream).await.unwrap();
    let consumers: Vec<_> = stream.consumers().try_collect().await.unwrap();
    consumers.iter().all(|consumer| consumer.num_waiting == 0)
}

#[tokio::test]
async fn what_was_handed_out_to_who_is_gone_comes_first_and_in_order() {
    let rig = Rig::start();
    let operator = rig.operator().await;
    // It was a matter of moments: tried a few times.
    for round in 0..10 {
        let mut options = rig.options();
        options.stream = StreamOptions { name: format!("gone.{round}"), ..options.stream };
        let server = JetStreamBus::connect(options.clone()).await.unwrap();
        let one = JetStreamBus::connect(options.clone()).await.unwrap();
        publish(&server, "a", 1..=8).await;
        let mut subscription = one.subscribe().await.unwrap();
        drop(take(&mut *subscription, 8).await);
        drop((subscription, one));
        // What is on its way to who is gone has no order in NATS.
        let stream = format!("gone_{round}");
        until("it is gone", async || nobody_asks(&operator, &stream).await).await;
        publish(&server, "a", 9..=40).await;
        let two = JetStreamBus::connect(options).await.unwrap();
        let mut subscription = two.subscribe().await.unwrap();
        let came = take(&mut *subscription, 40).await;
        let seqs: Vec<u64> = came.iter().map(|delivery| delivery.message.id.seq).collect();
        assert_eq!(seqs, (1..=40).collect::<Vec<_>>(), "round {round}");
    }
}
