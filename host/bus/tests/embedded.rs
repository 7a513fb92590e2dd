//! The embedded bus: the contract, and what is its own.
#![allow(missing_docs, reason = "a test binary is nobody's library")]

mod contract;

use std::sync::Arc;
use std::time::Duration;

use contract::{check_bus, message, publish, shape, take};
use sentinel_bus::{Bus, BusError, EmbeddedBus, EmbeddedOptions, SyncPolicy};
use sentinel_wal::simulation::Simulation;

fn options() -> EmbeddedOptions {
    EmbeddedOptions { segment_bytes: 4096, ..EmbeddedOptions::default() }
}

fn open(disk: &Simulation) -> EmbeddedBus {
    EmbeddedBus::open_on(Arc::new(disk.clone()), options()).unwrap()
}

/// Damages the message with this payload, wherever it lies.
fn flip_in(disk: &Simulation, payload: &str) {
    let place = |name: &String| {
        let bytes = disk.contents(name);
        bytes.windows(payload.len()).position(|part| part == payload.as_bytes())
    };
    let found = disk.names().into_iter().find_map(|name| place(&name).map(|at| (name, at)));
    let (name, at) = found.expect("it is written");
    disk.flip_bit(&name, at as u64 * 8);
}

/// Acknowledges all up to a message of this agent.
async fn drain_to(bus: &EmbeddedBus, agent: &str) {
    let mut subscription = bus.subscribe().await.unwrap();
    loop {
        let delivery = take(&mut *subscription, 1).await.remove(0);
        let last = delivery.message.id.agent.as_str() == agent;
        delivery.ack().await.unwrap();
        if last {
            return;
        }
    }
}

#[tokio::test]
async fn the_contract_holds_on_files_whenever_they_are_synced() {
    for sync in
        [SyncPolicy::Never, SyncPolicy::Interval(Duration::from_millis(1)), SyncPolicy::Always]
    {
        let dir = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        check_bus(|max_messages| {
            let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let folder = dir.path().join(n.to_string());
            let options = EmbeddedOptions {
                max_messages,
                sync,
                segment_bytes: 64 << 10,
                ..EmbeddedOptions::default()
            };
            async move { EmbeddedBus::open(&folder, options).unwrap() }
        })
        .await;
    }
}

#[tokio::test]
async fn after_a_clean_close_the_incarnation_is_the_same_and_what_waited_comes_first() {
    let disk = Simulation::new();
    let bus = open(&disk);
    let incarnation = bus.incarnation();
    publish(&bus, "a", 1..=30).await;
    let mut subscription = bus.subscribe().await.unwrap();
    let mut taken = take(&mut *subscription, 10).await;
    taken.drain(..4).map(|d| d.ack()).collect::<tokio::task::JoinSet<_>>().join_all().await;
    bus.close().unwrap();
    assert!(matches!(subscription.next().await, Err(BusError::Closed)));
    assert!(matches!(bus.publish(message("a", 31)).await, Err(BusError::Closed)));
    assert!(matches!(bus.subscribe().await, Err(BusError::Closed)));
    drop((subscription, taken, bus));

    let bus = open(&disk);
    assert_eq!(bus.incarnation(), incarnation);
    assert_eq!(bus.depth().messages, 26);
    publish(&bus, "a", 31..=31).await;
    let mut subscription = bus.subscribe().await.unwrap();
    let taken = take(&mut *subscription, 27).await;
    assert_eq!(shape(&taken), (5..=31).map(|n| format!("a{n} x1")).collect::<Vec<_>>());
    for delivery in taken {
        delivery.ack().await.unwrap();
    }
    assert_eq!((bus.depth().messages, bus.depth().bytes), (0, 0));
}

#[tokio::test]
async fn after_anything_but_a_clean_close_the_incarnation_is_new() {
    let disk = Simulation::new();
    let bus = open(&disk);
    publish(&bus, "a", 1..=30).await;
    let mut seen = vec![bus.incarnation()];
    drop(bus);
    for seed in 0..6 {
        let disk =
            if seed == 0 { disk.after_kill() } else { disk.after_kill().after_power_loss(seed) };
        let bus = open(&disk);
        assert!(!seen.contains(&bus.incarnation()));
        publish(&bus, "b", 1..=1).await;
        drain_to(&bus, "b").await;
        assert_eq!(bus.depth().messages, 0);
        seen.push(bus.incarnation());
        bus.close().unwrap();
        drop(bus);
        assert_eq!(open(&disk).incarnation(), *seen.last().unwrap(), "it is kept from then on");
    }
}

#[tokio::test]
async fn damage_found_while_reading_ends_the_incarnation_and_the_rest_is_delivered() {
    let disk = Simulation::new();
    let bus = open(&disk);
    let incarnation = bus.incarnation();
    publish(&bus, "a", 1..=100).await;
    let segment = disk.names().into_iter().find(|n| n.ends_with(".seg")).unwrap();
    disk.flip_bit(&segment, (64 + 200) * 8);
    let mut subscription = bus.subscribe().await.unwrap();
    let taken = take(&mut *subscription, 99).await;
    assert_ne!(bus.incarnation(), incarnation);
    assert_eq!(taken.last().unwrap().message.id.seq, 100);
    let ended = bus.incarnation();
    bus.close().unwrap();
    drop((taken, subscription, bus));
    // All of it waits still, and the damaged record is read again at each opening.
    for _ in 0..2 {
        let bus = open(&disk);
        let mut subscription = bus.subscribe().await.unwrap();
        assert_eq!(take(&mut *subscription, 99).await.len(), 99);
        assert_eq!(bus.incarnation(), ended, "it was told once");
        bus.close().unwrap();
    }
    // What is damaged of what was accepted since is told.
    let bus = open(&disk);
    publish(&bus, "a", 101..=150).await;
    flip_in(&disk, "a says 120");
    let mut subscription = bus.subscribe().await.unwrap();
    assert_eq!(take(&mut *subscription, 148).await.len(), 148);
    assert_ne!(bus.incarnation(), ended);
}

#[tokio::test]
async fn after_an_end_that_was_not_clean_one_new_incarnation_tells_of_everything() {
    let disk = Simulation::new();
    let bus = open(&disk);
    publish(&bus, "a", 1..=100).await;
    let segment = disk.names().into_iter().find(|n| n.ends_with(".seg")).unwrap();
    drop(bus);
    let disk = disk.after_kill();
    disk.flip_bit(&segment, (64 + 200) * 8);
    let bus = open(&disk);
    let incarnation = bus.incarnation();
    publish(&bus, "b", 1..=1).await;
    drain_to(&bus, "b").await;
    assert_eq!(bus.incarnation(), incarnation);
}

#[tokio::test]
async fn on_a_full_disk_publishing_is_refused_until_there_is_room() {
    let disk = Simulation::new();
    let bus = open(&disk);
    disk.set_capacity(Some(40 << 10));
    let mut published = 0;
    let error = loop {
        match bus.publish(message("a", published + 1)).await {
            Ok(()) => published += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BusError::Busy { .. }), "{error}");
    assert_eq!(bus.depth().messages, published);
    disk.set_capacity(None);
    publish(&bus, "a", published + 1..=published + 50).await;
    let mut subscription = bus.subscribe().await.unwrap();
    for seq in 1..=published + 50 {
        let delivery = take(&mut *subscription, 1).await.remove(0);
        assert_eq!(delivery.message.id.seq, seq);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_and_a_single_message_always_fits() {
    let options = EmbeddedOptions { max_bytes: 1000, ..options() };
    let bus = EmbeddedBus::open_on(Arc::new(Simulation::new()), options).unwrap();
    let sized = |seq, len| {
        let mut message = message("a", seq);
        message.payload = vec![1; len].into();
        message
    };
    bus.publish(sized(1, 3000)).await.unwrap();
    assert!(matches!(bus.publish(sized(2, 1)).await, Err(BusError::Busy { .. })));
    let mut subscription = bus.subscribe().await.unwrap();
    take(&mut *subscription, 1).await.remove(0).ack().await.unwrap();
    bus.publish(sized(2, 600)).await.unwrap();
    bus.publish(sized(3, 400)).await.unwrap();
    assert!(matches!(bus.publish(sized(4, 1)).await, Err(BusError::Busy { .. })));
}

#[tokio::test]
async fn unanswered_deliveries_are_bounded_and_an_answer_lets_the_next_one_through() {
    let bus = open(&Simulation::new());
    let bound = sentinel_bus::MAX_UNANSWERED;
    publish(&bus, "a", 1..=bound as u64 + 1).await;
    let mut subscription = bus.subscribe().await.unwrap();
    let mut taken = take(&mut *subscription, bound).await;
    let first = taken.remove(0);
    let (next, ()) = tokio::join!(take(&mut *subscription, 1), async {
        first.ack().await.unwrap();
    });
    assert_eq!(next[0].message.id.seq, bound as u64 + 1);
}
