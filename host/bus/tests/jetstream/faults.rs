//! NATS that is gone, comes back with or without its data, or loses its stream.

use std::time::Duration;

use async_nats::jetstream as js;
use async_nats::jetstream::context::CreateStreamErrorKind;
use sentinel_bus::{Bus, BusError, Incarnation};

use crate::contract::{message, publish, shape, take};
use crate::rig::{Rig, publish_in_the_end, until, until_another_incarnation};

#[tokio::test]
async fn a_nats_that_starts_again_with_its_data_goes_on_where_it_was() {
    let mut rig = Rig::start();
    let bus = rig.bus().await;
    let incarnation = bus.incarnation();
    let mut subscription = bus.subscribe().await.unwrap();
    publish(&bus, "a", 1..=3).await;
    let taken = take(&mut *subscription, 2).await;
    rig.nats.kill();
    until("publishing fails", async || bus.publish(message("a", 4)).await.is_err()).await;
    rig.nats.start_again().unwrap();
    publish_in_the_end(&bus, "a", 4..=5).await;
    for delivery in taken {
        delivery.ack().await.unwrap();
    }
    // What was answered may come once more, where NATS had not written that down.
    let mut first_time = Vec::new();
    while first_time.last() != Some(&5) {
        let delivery = take(&mut *subscription, 1).await.remove(0);
        let seq = delivery.message.id.seq;
        if seq > *first_time.last().unwrap_or(&2) {
            first_time.push(seq);
        }
        delivery.ack().await.unwrap();
    }
    assert_eq!(first_time, [3, 4, 5]);
    until("all is acknowledged", async || bus.depth().await.is_ok_and(|d| d.messages == 0)).await;
    assert_eq!(bus.incarnation(), incarnation);
}

#[tokio::test]
async fn a_nats_that_starts_again_empty_is_a_new_incarnation_for_everybody() {
    let mut rig = Rig::start();
    let (server, other, worker) = (rig.bus().await, rig.bus().await, rig.bus().await);
    let before = server.incarnation();
    assert_eq!((other.incarnation(), worker.incarnation()), (before, before));
    let mut subscription = worker.subscribe().await.unwrap();
    publish(&server, "a", 1..=5).await;
    let held = take(&mut *subscription, 2).await;
    rig.nats.kill_and_forget().unwrap();
    rig.nats.start_again().unwrap();
    let after = until_another_incarnation(&server, before).await;
    assert_eq!(until_another_incarnation(&other, before).await, after);
    assert_eq!(until_another_incarnation(&worker, before).await, after);

    // What was handed out in the life before and is answered in this one answers nothing in it,
    // although the numbers in the stream are the same.
    publish_in_the_end(&server, "a", 1..=5).await;
    for delivery in held {
        delivery.ack().await.unwrap();
    }
    let again = take(&mut *subscription, 5).await;
    assert_eq!(shape(&again), ["a1 x1", "a2 x1", "a3 x1", "a4 x1", "a5 x1"]);
    assert_eq!(server.depth().await.unwrap().messages, 5);
}

#[tokio::test]
async fn a_stream_that_is_deleted_is_made_anew() {
    let rig = Rig::start();
    let bus = rig.bus().await;
    let before = bus.incarnation();
    let mut subscription = bus.subscribe().await.unwrap();
    publish(&bus, "a", 1..=5).await;
    take(&mut *subscription, 5).await.remove(0).ack().await.unwrap();
    rig.operator().await.delete_stream("sentinel_metrics").await.unwrap();
    // Whoever reads it may have noticed already and made it anew: this is the first message then.
    if let Err(refused) = bus.publish(message("a", 1)).await {
        assert!(matches!(refused, BusError::Failed { operation: "publish", .. }), "{refused}");
    }
    until_another_incarnation(&bus, before).await;
    publish_in_the_end(&bus, "a", 1..=6).await;
    let again = take(&mut *subscription, 6).await;
    assert_eq!(shape(&again), ["a1 x1", "a2 x1", "a3 x1", "a4 x1", "a5 x1", "a6 x1"]);
}

#[tokio::test]
async fn a_consumer_that_is_deleted_is_made_anew_and_begins_with_the_oldest() {
    let rig = Rig::start();
    let bus = rig.bus().await;
    let mut subscription = bus.subscribe().await.unwrap();
    publish(&bus, "a", 1..=3).await;
    let mut taken = take(&mut *subscription, 3).await;
    taken.remove(0).ack().await.unwrap();
    until("one is done", async || bus.depth().await.unwrap().messages == 2).await;
    let stream = rig.operator().await.get_stream("sentinel_metrics").await.unwrap();
    let names = futures::TryStreamExt::try_collect::<Vec<_>>(stream.consumer_names());
    for name in names.await.unwrap() {
        stream.delete_consumer(&name).await.unwrap();
    }
    publish(&bus, "a", 4..=4).await;
    let next = take(&mut *subscription, 1).await;
    assert_eq!(next[0].message.id.seq, 4, "those in hand do not come twice");
    drop((taken, next, subscription));
    let mut subscription = bus.subscribe().await.unwrap();
    let seqs: Vec<u64> =
        take(&mut *subscription, 3).await.iter().map(|d| d.message.id.seq).collect();
    assert_eq!(seqs, [2, 3, 4]);
}

#[tokio::test]
async fn a_consumer_of_a_life_before_keeps_no_partition_from_being_read() {
    let rig = Rig::start();
    let bus = rig.bus().await;
    // As a worker leaves them that had not heard of the new stream when it asked anew: NATS lets
    // only one consumer of a work queue have a subject.
    let stream = rig.operator().await.get_stream("sentinel_metrics").await.unwrap();
    for partition in 0..rig.options().stream.partitions {
        let config = js::consumer::pull::Config {
            durable_name: Some(format!("workers-{partition}-{}", Incarnation([7; 16]))),
            filter_subject: format!("sentinel.metrics.{partition}"),
            ..Default::default()
        };
        stream.create_consumer(config).await.unwrap();
    }
    let mut subscription = bus.subscribe().await.unwrap();
    publish(&bus, "a", 1..=3).await;
    assert_eq!(shape(&take(&mut *subscription, 3).await), ["a1 x1", "a2 x1", "a3 x1"]);
}

#[tokio::test]
async fn a_stream_that_lost_what_it_had_acknowledged_is_made_anew() {
    let rig = Rig::start();
    let bus = rig.bus().await;
    let before = bus.incarnation();
    publish(&bus, "a", 1..=5).await;
    // As it looks when NATS lost what was not on its disk: the same stream, with lower numbers.
    let operator = rig.operator().await;
    let config =
        operator.get_stream("sentinel_metrics").await.unwrap().cached_info().config.clone();
    operator.delete_stream("sentinel_metrics").await.unwrap();
    if let Err(error) = operator.create_stream(config).await {
        // The bus looked between the two, and made it anew by itself.
        let is_there = matches!(error.kind(), CreateStreamErrorKind::JetStream(e)
            if e.error_code() == js::ErrorCode::STREAM_NAME_EXIST);
        assert!(is_there, "{error}");
    }
    assert_ne!(until_another_incarnation(&bus, before).await, before);
    publish_in_the_end(&bus, "a", 1..=5).await;
    assert_eq!(bus.depth().await.unwrap().messages, 5);
}

#[tokio::test]
async fn without_a_connection_publishing_fails_at_once_and_nothing_queues_up() {
    let mut rig = Rig::start();
    let bus = rig.bus().await;
    rig.nats.kill();
    until("the loss is noticed", async || {
        bus.publish(message("a", 1))
            .await
            .is_err_and(|error| error.to_string().contains("there is no connection to nats://"))
    })
    .await;
    let began = tokio::time::Instant::now();
    for seq in 1..=10_000 {
        bus.publish(message("a", seq)).await.unwrap_err();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(bus.depth().await.is_err());
    rig.nats.start_again().unwrap();
    publish_in_the_end(&bus, "a", 1..=1).await;
    assert_eq!(bus.depth().await.unwrap().messages, 1, "what was refused was not kept");
}
