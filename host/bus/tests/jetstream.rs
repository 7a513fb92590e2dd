//! The bus on JetStream against a real nats-server: the contract, and what is its own.
#![allow(missing_docs)]

mod contract;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_nats::jetstream as js;
use contract::{check_bus, message, publish, shape, take};
use sentinel_bus::jetstream::{JetStreamBus, JetStreamOptions, StreamOptions, set_up};
use sentinel_bus::{Bus, BusError, Delivery, Incarnation, MAX_DELIVERIES, MAX_UNANSWERED};
use sentinel_test_services::{Nats, Services};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);

struct Rig {
    nats: Nats,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn start() -> Rig {
        Rig::with("", "")
    }

    fn with(top: &str, jetstream: &str) -> Rig {
        let list = std::env::var_os("SENTINEL_SERVICES").map_or_else(
            || {
                PathBuf::from(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/../../target/services/services.json"
                ))
            },
            PathBuf::from,
        );
        let folder = tempfile::tempdir().unwrap();
        let services = Services::read(&list).unwrap();
        let nats = Nats::with(&services, &folder.path().join("nats"), top, jetstream).unwrap();
        Rig { nats, _folder: folder }
    }

    fn options(&self) -> JetStreamOptions {
        let mut options = JetStreamOptions::new(self.nats.url().parse().unwrap());
        options.stream.partitions = 4;
        options.stream.max_bytes = 64 << 20;
        options
    }

    async fn bus(&self) -> JetStreamBus {
        JetStreamBus::connect(self.options()).await.unwrap()
    }

    /// A client of its own, for what an operator does.
    async fn operator(&self) -> js::Context {
        js::new(async_nats::connect(self.nats.url()).await.unwrap())
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}

async fn until_another_incarnation(bus: &JetStreamBus, before: Incarnation) -> Incarnation {
    until("another incarnation", async || bus.incarnation() != before).await;
    bus.incarnation()
}

/// Publishes as agents do: again until it is taken.
async fn publish_in_the_end(bus: &JetStreamBus, agent: &str, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        until("it is published", async || bus.publish(message(agent, seq)).await.is_ok()).await;
    }
}

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
    let refused = bus.publish(message("a", 6)).await.unwrap_err();
    assert!(matches!(refused, BusError::Failed { operation: "publish", .. }), "{refused}");
    until_another_incarnation(&bus, before).await;
    publish_in_the_end(&bus, "a", 1..=6).await;
    let again = take(&mut *subscription, 6).await;
    assert_eq!(shape(&again)[..2], ["a1 x1", "a2 x1"]);
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
    operator.create_stream(config).await.unwrap();
    assert_ne!(until_another_incarnation(&bus, before).await, before);
    publish_in_the_end(&bus, "a", 1..=5).await;
    assert_eq!(bus.depth().await.unwrap().messages, 5);
}

#[tokio::test]
async fn a_stream_that_somebody_made_by_hand_is_marked_or_refused() {
    let rig = Rig::start();
    let operator = rig.operator().await;
    let by_hand = |retention| js::stream::Config {
        name: "sentinel_metrics".into(),
        subjects: vec!["sentinel.metrics.*".into()],
        discard: js::stream::DiscardPolicy::New,
        retention,
        ..Default::default()
    };
    operator.create_stream(by_hand(js::stream::RetentionPolicy::Limits)).await.unwrap();
    let Err(refused) = JetStreamBus::connect(rig.options()).await else { panic!("it is used") };
    assert!(refused.to_string().contains("its retention is Limits, not WorkQueue"), "{refused}");
    operator.delete_stream("sentinel_metrics").await.unwrap();
    operator.create_stream(by_hand(js::stream::RetentionPolicy::WorkQueue)).await.unwrap();
    let (one, two) = (rig.bus().await, rig.bus().await);
    assert_eq!(one.incarnation(), two.incarnation());
    publish(&one, "a", 1..=1).await;
    assert_eq!(two.depth().await.unwrap().messages, 1);
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
    let most = MAX_UNANSWERED + sentinel_bus::jetstream::PULL_MESSAGES;
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

#[tokio::test]
async fn the_stream_is_set_up_checked_and_changed_by_hand() {
    let rig = Rig::start();
    let made = set_up(rig.options(), false).await.unwrap();
    assert_eq!((made.stream.as_str(), made.partitions, made.messages), ("sentinel_metrics", 4, 0));
    assert_eq!((made.differences.len(), made.partitions_differ), (0, None));
    let mut other = rig.options();
    other.stream.max_messages = 7;
    other.stream.partitions = 9;
    let said = ["max_messages: 1000000 instead of 7"];
    for check in [true, false] {
        let found = set_up(other.clone(), check).await.unwrap();
        assert_eq!(
            (found.incarnation, &found.differences[..]),
            (made.incarnation, &said.map(String::from)[..])
        );
        assert!(found.partitions_differ.unwrap().contains("4 partitions instead of 9"));
    }
    assert_eq!(set_up(other, true).await.unwrap().differences, Vec::<String>::new());
    publish(&rig.bus().await, "a", 1..=7).await;
    assert!(matches!(rig.bus().await.publish(message("a", 8)).await, Err(BusError::Busy { .. })));
}

#[tokio::test]
async fn who_is_not_let_in_is_told_without_the_password() {
    let rig = Rig::with("authorization { user: anna, password: \"s/cret\" }", "");
    let connect = async |login: &str| {
        let address = format!("nats://{login}127.0.0.1:{}", rig.nats.port());
        JetStreamBus::connect(JetStreamOptions::new(address.parse().unwrap())).await
    };
    let bus = connect("anna:s%2Fcret@").await.unwrap();
    publish(&bus, "a", 1..=1).await;
    for login in ["anna:wr%6Fng@", ""] {
        let Err(error) = connect(login).await else { panic!("{login} is let in") };
        let error = error.to_string();
        assert!(error.contains("authorization violation") && !error.contains("wrong"), "{error}");
    }
}

#[tokio::test]
async fn a_nats_that_is_not_fit_is_refused_with_what_to_do() {
    let refused = async |options: JetStreamOptions| match JetStreamBus::connect(options).await {
        Ok(_) => panic!("it is used"),
        Err(error) => error.to_string(),
    };
    let nobody = sentinel_test_services::free_port().unwrap();
    let address = format!("nats://127.0.0.1:{nobody}");
    let said = refused(JetStreamOptions::new(address.parse().unwrap())).await;
    assert!(said.contains(&address), "{said}");
    let mut rig = Rig::start();
    let mut missing = rig.options();
    missing.credentials = Some("/nowhere/user.creds".into());
    assert!(refused(missing).await.contains("credentials /nowhere/user.creds"));
    rig = Rig::with("max_payload: 1MB", "");
    let said = refused(rig.options()).await;
    assert!(said.contains("set max_payload: 8MB"), "{said}");
}
