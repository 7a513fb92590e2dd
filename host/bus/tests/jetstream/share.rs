//! Several processes that read one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream as js;
use sentinel_bus::Bus;
use sentinel_bus::jetstream::{HOLD_FOR, JetStreamBus};

use crate::rig::{Rig, publish_in_the_end, until};

const AGENTS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// Worker, agent and number of each delivery that was answered, in order.
type Log = Arc<Mutex<Vec<(&'static str, String, u64)>>>;

/// Takes and acknowledges for ever.
async fn work(bus: &JetStreamBus, worker: &'static str, log: &Log) {
    let mut subscription = bus.subscribe().await.unwrap();
    loop {
        for delivery in subscription.next_many(8).await.unwrap() {
            let id = delivery.message.id.clone();
            tokio::time::sleep(Duration::from_millis(1)).await;
            delivery.ack().await.unwrap();
            // Not before: whoever is ended as soon as it is in the log has answered it.
            log.lock().unwrap().push((worker, id.agent.to_string(), id.seq));
        }
    }
}

/// The agents of each worker among the deliveries of some numbers.
fn readers(log: &Log, from: u64) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut readers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (worker, agent, _) in log.lock().unwrap().iter().filter(|entry| entry.2 >= from) {
        readers.entry(*worker).or_default().insert(agent.clone());
    }
    readers
}

async fn publish_for_all(bus: &JetStreamBus, seqs: std::ops::RangeInclusive<u64>) {
    for agent in AGENTS {
        publish_in_the_end(bus, agent, seqs.clone()).await;
    }
}

fn has(log: &Log, agent: &str, seq: u64) -> bool {
    log.lock().unwrap().iter().any(|entry| entry.1 == agent && entry.2 == seq)
}

fn all_came(log: &Log, to: u64) -> bool {
    AGENTS.iter().all(|agent| has(log, agent, to))
}

fn check_each_once_in_order(log: &Log, to: u64) {
    for agent in AGENTS {
        let log = log.lock().unwrap();
        let seqs = log.iter().filter(|entry| entry.1 == agent).map(|entry| entry.2);
        assert_eq!(seqs.collect::<Vec<_>>(), (1..=to).collect::<Vec<_>>(), "{agent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_gets_a_share_and_who_goes_leaves_it_and_each_message_comes_once_in_order() {
    let rig = Rig::start();
    let (server, one, two) = (rig.bus().await, rig.bus().await, rig.bus().await);
    let log = Log::default();
    let mut next = 1;
    // Messages go on coming until both read some, and all of them go to one of the two.
    let shared = async {
        publish_for_all(&server, 1..=10).await;
        until("one reads", async || all_came(&log, 10)).await;
        assert_eq!(readers(&log, 1).into_keys().collect::<Vec<_>>(), ["one"]);
        next = 11;
        let both = async {
            let came = async |next: &mut u64| {
                publish_for_all(&server, *next..=*next).await;
                until("all come", async || all_came(&log, *next)).await;
                *next += 1;
                readers(&log, *next - 1)
            };
            while came(&mut next).await.len() < 2 {}
            let readers = came(&mut next).await;
            assert!(readers["one"].is_disjoint(&readers["two"]), "{readers:?}");
        };
        tokio::select! {
            () = work(&two, "two", &log) => unreachable!(),
            () = both => {}
        }
    };
    tokio::select! {
        () = work(&one, "one", &log) => unreachable!(),
        () = shared => {}
    }
    // Both went. A third has all at once.
    let third = rig.bus().await;
    let rest = async {
        let began = tokio::time::Instant::now();
        publish_for_all(&server, next..=next).await;
        until("the third reads", async || all_came(&log, next)).await;
        assert!(began.elapsed() < HOLD_FOR / 2, "{:?}", began.elapsed());
        publish_for_all(&server, next + 1..=next + 5).await;
        until("the third reads on", async || all_came(&log, next + 5)).await;
    };
    tokio::select! {
        () = work(&third, "three", &log) => unreachable!(),
        () = rest => {}
    }
    check_each_once_in_order(&log, next + 5);
}

/// How many partitions and workers are named as taken.
async fn holds(operator: &js::Context) -> u64 {
    // Whoever comes first makes the stream of them.
    let Ok(mut stream) = operator.get_stream("sentinel_metrics-holds").await else { return 0 };
    stream.info().await.unwrap().state.messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_closed_has_given_everything_back_before() {
    let rig = Rig::start();
    let operator = rig.operator().await;
    for ends_before in [true, false, true, false] {
        let bus = rig.bus().await;
        let subscription = bus.subscribe().await.unwrap();
        // Four partitions, and that it is at work.
        until("it has everything", async || holds(&operator).await == 5).await;
        let subscription = (!ends_before).then_some(subscription);
        bus.close().await.unwrap();
        assert_eq!(holds(&operator).await, 0, "{ends_before}");
        drop(subscription);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_of_who_ends_without_a_word_is_read_by_the_others_soon() {
    let mut rig = Rig::start();
    let (server, one, options) = (rig.bus().await, rig.bus().await, rig.options());
    let (log, dying) = (Log::default(), Log::default());
    let (told, ends) = std::sync::mpsc::channel::<()>();
    let victim = std::thread::spawn({
        let dying = Arc::clone(&dying);
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let bus = JetStreamBus::connect(options).await.unwrap();
                let ends = tokio::task::spawn_blocking(move || ends.recv());
                tokio::select! {
                    () = work(&bus, "victim", &dying) => {}
                    _ = ends => {}
                }
            });
            // With it end all tasks, also those that would say so.
        }
    });
    let rest = async {
        let mut next = 1;
        while readers(&dying, 1).is_empty() || readers(&log, 1).is_empty() {
            publish_for_all(&server, next..=next).await;
            // No faster than both read: what piled up would be read before what is measured below.
            let came = |agent: &&str| has(&log, agent, next) || has(&dying, agent, next);
            until("one of them reads it", async || AGENTS.iter().all(came)).await;
            next += 1;
        }
        // It ends with some of these in its hands.
        publish_for_all(&server, next..=next).await;
        next += 1;
        told.send(()).unwrap();
        victim.join().unwrap();
        let began = tokio::time::Instant::now();
        publish_for_all(&server, next..=next).await;
        until("the other reads all", async || all_came(&log, next)).await;
        assert!(began.elapsed() < 2 * HOLD_FOR, "{:?}", began.elapsed());
        // A NATS that comes back empty does not know who reads what, and is told.
        rig.nats.kill_and_forget().unwrap();
        rig.nats.start_again().unwrap();
        publish_for_all(&server, next + 1..=next + 1).await;
        until("it reads on", async || all_came(&log, next + 1)).await;
    };
    tokio::select! {
        () = work(&one, "one", &log) => unreachable!(),
        () = rest => {}
    }
}
