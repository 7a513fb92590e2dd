//! What every bus must do. An implementation runs `check_bus` with a function that makes fresh, empty buses.
#![allow(missing_docs, unreachable_pub, reason = "a module of several test binaries")]

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use sentinel_bus::{Bus, BusError, Delivery, MAX_PAYLOAD_BYTES, Message, MessageId, Subscription};
use sentinel_model::ids::{AgentId, Epoch};

/// No test waits longer for anything; NATS hands out again what got lost long before.
const PATIENCE: Duration = Duration::from_secs(90);
const AT_ONCE: Duration = Duration::ZERO;

pub fn message(agent: &str, seq: u64) -> Message {
    let id =
        MessageId { agent: AgentId::new(agent).unwrap(), epoch: Epoch([9; 16]), seq, attempt: 0 };
    Message { id, payload: Bytes::from(format!("{agent} says {seq}")) }
}

pub async fn publish(bus: &impl Bus, agent: &str, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        bus.publish(message(agent, seq)).await.unwrap();
    }
}

/// The next `count` deliveries.
pub async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    while out.len() < count {
        let more = tokio::time::timeout(PATIENCE, subscription.next_many(count - out.len())).await;
        out.extend(more.expect("a delivery comes").unwrap());
    }
    out
}

/// The deliveries of one agent out of several.
fn of(deliveries: &mut Vec<Delivery>, agent: &str) -> std::vec::IntoIter<Delivery> {
    let all = std::mem::take(deliveries).into_iter();
    let (of, others): (Vec<_>, _) = all.partition(|d| d.message.id.agent.as_str() == agent);
    *deliveries = others;
    of.into_iter()
}

/// Waits until this waits: what was acknowledged may be counted a moment longer.
async fn until_depth(bus: &impl Bus, messages: u64) {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let depth = bus.depth().await.unwrap();
            if depth.messages == messages && (messages > 0 || depth.bytes == 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{messages} messages wait"));
}

/// Publishes as soon as there is room.
async fn publish_when_there_is_room(bus: &impl Bus, message: &Message) {
    let published = tokio::time::timeout(PATIENCE, async {
        loop {
            match bus.publish(message.clone()).await {
                Ok(()) => return,
                Err(BusError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(error) => panic!("{error}"),
            }
        }
    });
    published.await.expect("an acknowledgement makes room");
}

pub fn shape(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|d| format!("{}{} x{}", d.message.id.agent, d.message.id.seq, d.deliveries))
        .collect()
}

/// Runs the whole contract. `make(n)` makes an empty bus on which at most `n` messages may wait.
pub async fn check_bus<B: Bus, F: Future<Output = B>>(make: impl Fn(u64) -> F) {
    messages_arrive_whole_and_in_order(make(100).await).await;
    a_nak_repeats_from_the_oldest_unacknowledged_on_and_leaves_others_alone(make(100).await).await;
    deliveries_are_counted(make(100).await).await;
    what_a_subscription_did_not_acknowledge_goes_to_the_next_one(make(100).await).await;
    at_the_bound_publishing_is_refused_until_there_is_room(make(5).await).await;
    depth_counts_what_is_not_acknowledged(make(100).await).await;
    a_message_too_large_is_refused(make(100).await).await;
    a_cancelled_wait_loses_nothing(make(100).await).await;
    the_same_record_with_a_higher_attempt_is_delivered(make(100).await).await;
    publishers_at_the_same_time_keep_their_own_order(make(1000).await).await;
    the_incarnation_stays_while_nothing_is_lost(make(100).await).await;
    a_second_subscriber_is_refused(make(100).await).await;
    a_closed_bus_does_nothing(make(100).await).await;
}

async fn messages_arrive_whole_and_in_order(bus: impl Bus) {
    let mut subscription = bus.subscribe().await.unwrap();
    publish(&bus, "a", 1..=3).await;
    publish(&bus, "b", 1..=2).await;
    publish(&bus, "a", 4..=4).await;
    let mut seen = Vec::new();
    for delivery in take(&mut *subscription, 6).await {
        assert_eq!(
            delivery.message,
            message(delivery.message.id.agent.as_str(), delivery.message.id.seq)
        );
        assert_eq!(delivery.deliveries, 1);
        seen.push((delivery.message.id.agent.to_string(), delivery.message.id.seq));
        delivery.ack().await.unwrap();
    }
    let of = |agent: &str| seen.iter().filter(|s| s.0 == agent).map(|s| s.1).collect::<Vec<_>>();
    assert_eq!((of("a"), of("b")), (vec![1, 2, 3, 4], vec![1, 2]));
    publish(&bus, "a", 5..=5).await;
    let one = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    assert_eq!(one.message.id.seq, 5);
    one.ack().await.unwrap();
}

async fn a_nak_repeats_from_the_oldest_unacknowledged_on_and_leaves_others_alone(bus: impl Bus) {
    let mut subscription = bus.subscribe().await.unwrap();
    publish(&bus, "a", 1..=4).await;
    publish(&bus, "b", 1..=1).await;
    let mut first = take(&mut *subscription, 5).await;
    let mut a = of(&mut first, "a");
    let [one, two, three, four] = std::array::from_fn(|_| a.next().unwrap());
    one.ack().await.unwrap();
    three.ack().await.unwrap();
    two.nak(Duration::from_millis(20)).await.unwrap();
    publish(&bus, "a", 5..=5).await;
    let again = take(&mut *subscription, 3).await;
    assert_eq!(shape(&again), ["a2 x2", "a4 x2", "a5 x1"]);
    // An acknowledgement of the first delivery counts although there was a second one.
    four.ack().await.unwrap();
    of(&mut first, "b").next().unwrap().ack().await.unwrap();
    for delivery in again {
        delivery.ack().await.unwrap();
    }
    until_depth(&bus, 0).await;
}

async fn deliveries_are_counted(bus: impl Bus) {
    let mut subscription = bus.subscribe().await.unwrap();
    publish(&bus, "a", 1..=1).await;
    for times in 1..=7 {
        let delivery = take(&mut *subscription, 1).await.remove(0);
        assert_eq!(delivery.deliveries, times);
        delivery.nak(AT_ONCE).await.unwrap();
    }
    // Dropped without an answer it comes again too.
    drop(take(&mut *subscription, 1).await);
    take(&mut *subscription, 1).await.remove(0).ack().await.unwrap();
}

async fn what_a_subscription_did_not_acknowledge_goes_to_the_next_one(bus: impl Bus) {
    publish(&bus, "a", 1..=5).await;
    let mut subscription = bus.subscribe().await.unwrap();
    let mut held = take(&mut *subscription, 4).await;
    held.remove(1).ack().await.unwrap();
    drop(subscription);
    let mut subscription = bus.subscribe().await.unwrap();
    let again = take(&mut *subscription, 4).await;
    assert_eq!(shape(&again[..3]), ["a1 x2", "a3 x2", "a4 x2"]);
    // Whether the bus had handed it out already, nobody had asked for it.
    assert!(["a5 x1", "a5 x2"].contains(&shape(&again)[3].as_str()), "{again:?}");
    drop(held);
    for delivery in again {
        delivery.ack().await.unwrap();
    }
}

async fn at_the_bound_publishing_is_refused_until_there_is_room(bus: impl Bus) {
    publish(&bus, "a", 1..=5).await;
    match bus.publish(message("a", 6)).await {
        Err(BusError::Busy { retry_after_ms }) => assert!((1..=60_000).contains(&retry_after_ms)),
        other => panic!("{other:?}"),
    }
    let mut subscription = bus.subscribe().await.unwrap();
    take(&mut *subscription, 1).await.remove(0).ack().await.unwrap();
    publish_when_there_is_room(&bus, &message("a", 6)).await;
    let rest = take(&mut *subscription, 5).await;
    assert_eq!(
        shape(&rest),
        ["a2 x1", "a3 x1", "a4 x1", "a5 x1", "a6 x1"],
        "the refused one is not there twice"
    );
    for delivery in rest {
        delivery.ack().await.unwrap();
    }
}

async fn depth_counts_what_is_not_acknowledged(bus: impl Bus) {
    until_depth(&bus, 0).await;
    publish(&bus, "a", 1..=4).await;
    let depth = bus.depth().await.unwrap();
    assert_eq!(depth.messages, 4);
    assert!(depth.bytes >= 4 * 8);
    let mut subscription = bus.subscribe().await.unwrap();
    let mut taken = take(&mut *subscription, 4).await;
    assert_eq!(bus.depth().await.unwrap().messages, 4, "delivered is not done");
    taken.pop().unwrap().ack().await.unwrap();
    until_depth(&bus, 3).await;
    for delivery in taken {
        delivery.ack().await.unwrap();
    }
    until_depth(&bus, 0).await;
}

async fn a_message_too_large_is_refused(bus: impl Bus) {
    let mut large = message("a", 1);
    large.payload = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
    assert!(matches!(bus.publish(large).await, Err(BusError::TooLarge { .. })));
    assert_eq!(bus.depth().await.unwrap().messages, 0);
    let mut largest = message("a", 1);
    largest.payload = Bytes::from(vec![7; MAX_PAYLOAD_BYTES]);
    bus.publish(largest.clone()).await.unwrap();
    let mut subscription = bus.subscribe().await.unwrap();
    let delivery = take(&mut *subscription, 1).await.remove(0);
    assert!(delivery.message == largest);
    delivery.ack().await.unwrap();
}

async fn a_cancelled_wait_loses_nothing(bus: impl Bus) {
    let mut subscription = bus.subscribe().await.unwrap();
    for seq in 1..=20 {
        // The wait is polled once and dropped; the message comes meanwhile.
        tokio::select! {
            biased;
            early = subscription.next() => panic!("{early:?} although nothing was published"),
            () = std::future::ready(()) => {}
        }
        publish(&bus, "a", seq..=seq).await;
        let delivery = take(&mut *subscription, 1).await.remove(0);
        assert_eq!((delivery.message.id.seq, delivery.deliveries), (seq, 1));
        delivery.ack().await.unwrap();
    }
}

async fn the_same_record_with_a_higher_attempt_is_delivered(bus: impl Bus) {
    let mut subscription = bus.subscribe().await.unwrap();
    for attempt in 0..3 {
        let mut message = message("a", 1);
        message.id.attempt = attempt;
        bus.publish(message).await.unwrap();
        let delivery = take(&mut *subscription, 1).await.remove(0);
        assert_eq!(delivery.message.id.attempt, attempt);
        delivery.ack().await.unwrap();
    }
}

async fn publishers_at_the_same_time_keep_their_own_order(bus: impl Bus) {
    let mut subscription = bus.subscribe().await.unwrap();
    let agents = ["a", "b", "c", "d"];
    let consume = async {
        let mut next = [1; 4];
        for round in 0..200u64 {
            let delivery = take(&mut *subscription, 1).await.remove(0);
            let id = &delivery.message.id;
            let agent = agents.iter().position(|a| *a == id.agent.as_str()).unwrap();
            assert_eq!(id.seq, next[agent]);
            if round.is_multiple_of(7) && delivery.deliveries == 1 {
                delivery.nak(AT_ONCE).await.unwrap();
            } else {
                next[agent] += 1;
                delivery.ack().await.unwrap();
            }
            if next.iter().sum::<u64>() == 4 + 4 * 40 {
                return;
            }
        }
        panic!("not all came: {next:?}");
    };
    tokio::join!(
        publish(&bus, "a", 1..=40),
        publish(&bus, "b", 1..=40),
        publish(&bus, "c", 1..=40),
        publish(&bus, "d", 1..=40),
        consume
    );
    until_depth(&bus, 0).await;
}

async fn the_incarnation_stays_while_nothing_is_lost(bus: impl Bus) {
    let before = bus.incarnation();
    publish(&bus, "a", 1..=3).await;
    let mut subscription = bus.subscribe().await.unwrap();
    for delivery in take(&mut *subscription, 3).await {
        delivery.ack().await.unwrap();
    }
    assert_eq!(bus.incarnation(), before);
}

async fn a_second_subscriber_is_refused(bus: impl Bus) {
    let first = bus.subscribe().await.unwrap();
    assert!(matches!(bus.subscribe().await, Err(BusError::Subscribed)));
    drop(first);
    assert!(bus.subscribe().await.is_ok());
}

async fn a_closed_bus_does_nothing(bus: impl Bus) {
    let mut subscription = bus.subscribe().await.unwrap();
    publish(&bus, "a", 1..=1).await;
    let delivery = take(&mut *subscription, 1).await.remove(0);
    let waits = tokio::time::timeout(PATIENCE, subscription.next());
    let (waited, closed) = tokio::join!(waits, Bus::close(&bus));
    closed.unwrap();
    assert!(matches!(waited.expect("it ends"), Err(BusError::Closed)));
    assert!(matches!(subscription.next().await, Err(BusError::Closed)));
    assert!(matches!(bus.publish(message("a", 2)).await, Err(BusError::Closed)));
    assert!(matches!(bus.subscribe().await, Err(BusError::Closed)));
    assert!(matches!(delivery.ack().await, Err(BusError::Closed)));
    Bus::close(&bus).await.unwrap();
}
