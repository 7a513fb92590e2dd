//! A host that follows its fleet, with slots, plugins and a carrier that do as they are told.

#[path = "../../../registry/trust/tests/fixture/mod.rs"]
mod fixture;
mod scene;

use scene::*;
use sentinel_fleet::Place;
use std::collections::BTreeMap;

#[tokio::test(start_paused = true)]
async fn a_newer_set_replaces_the_one_before_and_a_restart_begins_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.json");
    let store = Store::of_pairs([1, 2]);
    let host = Host::start(&file, &store, &Slots::new());
    host.handle.begun().await;
    host.offer(pair(1));
    host.slots.until(&pair_runs(1)).await;
    host.offer(pair(2));
    host.slots.until(&pair_runs(2)).await;
    host.reports("applied", |report| report.applied == 2 && report.refused.is_none()).await;
    host.handle.stop().await;

    // Nobody answers, and it runs what it ran.
    let slots = Slots::new();
    let host = Host::start(&file, &store, &slots);
    host.handle.begun().await;
    assert_eq!(*slots.runs.borrow(), pair_runs(2));
    assert_eq!(host.handle.report().applied, 2);
    let mut asked = host.asked.clone();
    assert_eq!(asked.wait_for(|asked| !asked.is_empty()).await.unwrap()[..], [2]);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_does_not_load_leaves_the_last_good_one_running_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.json");
    let store = Store::of_pairs([1, 2, 3]);
    let host = Host::start(&file, &store, &Slots::new());
    host.offer(pair(1));
    host.slots.until(&pair_runs(1)).await;
    host.slots.broken.lock().insert(component("b", 2).digest());
    host.offer(pair(2));
    let report = host.refuses(2, "it panicked").await;
    assert_eq!(report.applied, 1);
    assert_eq!(*host.slots.runs.borrow(), pair_runs(1));
    // It is not tried every second, and it is again when something changed.
    let tries = *host.slots.applied.lock();
    tokio::time::sleep(std::time::Duration::from_secs(14)).await;
    assert_eq!(*host.slots.applied.lock(), tries);
    host.slots.broken.lock().clear();
    host.store.bring([]);
    host.slots.until(&pair_runs(2)).await;
    host.reports("no refusal", |report| report.applied == 2 && report.refused.is_none()).await;
    // And a refused one is still the highest after a restart.
    host.slots.broken.lock().insert(component("a", 3).digest());
    host.offer(pair(3));
    host.refuses(3, "it panicked").await;
    host.handle.stop().await;
    let slots = Slots::new();
    slots.broken.lock().insert(component("a", 3).digest());
    let host = Host::start(&file, &store, &slots);
    host.handle.begun().await;
    assert_eq!(*slots.runs.borrow(), pair_runs(2), "it begins with the last good one");
    host.refuses(3, "it panicked").await;
    host.offer(pair(2));
    host.refuses(3, "it panicked").await;
    assert_eq!(*slots.runs.borrow(), pair_runs(2));
}

#[tokio::test(start_paused = true)]
async fn a_set_waits_for_a_plugin_that_is_not_there_and_comes_when_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::of_pairs([1]);
    let host = Host::start(&dir.path().join("fleet.json"), &store, &Slots::new());
    host.offer(pair(1));
    host.slots.until(&pair_runs(1)).await;
    store.bring([component("a", 2)]);
    host.offer(pair(2));
    host.refuses(2, "knows no publisher `acme`").await;
    assert_eq!(*host.slots.runs.borrow(), pair_runs(1), "half of it is there, and none is applied");
    store.bring([component("b", 2)]);
    host.slots.until(&pair_runs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_never_comes_does_not_hold_up_a_newer_set() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::of_pairs([1, 3]);
    let host = Host::start(&dir.path().join("fleet.json"), &store, &Slots::new());
    host.offer(pair(1));
    host.slots.until(&pair_runs(1)).await;
    *store.hangs.lock() = true;
    host.offer(pair(2));
    host.reports("applying", |report| report.applying == Some(2)).await;
    let before = tokio::time::Instant::now();
    host.offer(sealed(&set(3, vec![wish("a", 3), wish("b", 3)])));
    host.slots.until(&pair_runs(3)).await;
    assert!(before.elapsed() < std::time::Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_plugin_is_missing_at_a_restart_keeps_no_other_from_running() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.json");
    let host = Host::start(&file, &Store::of_pairs([1]), &Slots::new());
    host.offer(pair(1));
    host.slots.until(&pair_runs(1)).await;
    host.reports("applied", |report| report.applied == 1).await;
    host.handle.stop().await;
    let store = Store::with([component("a", 1)]);
    *store.hangs.lock() = true;
    let host = Host::start(&file, &store, &Slots::new());
    host.handle.begun().await;
    let only_a: BTreeMap<_, _> = [("a".to_owned(), component("a", 1).digest())].into();
    assert_eq!(*host.slots.runs.borrow(), only_a);
    host.refuses(1, "acme/b").await;
    store.bring([component("b", 1)]);
    host.slots.until(&pair_runs(1)).await;
    host.reports("whole", |report| report.refused.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_disabled_slot_becomes_empty_and_its_plugin_is_not_needed() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&dir.path().join("f.json"), &Store::of_pairs([1]), &Slots::new());
    host.offer(pair(1));
    host.slots.until(&pair_runs(1)).await;
    host.store.there.lock().remove(&component("b", 1).digest());
    let mut off = wish("b", 1);
    off.disabled = true;
    host.offer(sealed(&set(2, vec![wish("a", 1), off])));
    host.slots.until(&[("a".to_owned(), component("a", 1).digest())].into()).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_hosts_owner_configures_stands_above_the_set() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&dir.path().join("f.json"), &Store::of_pairs([1, 2]), &Slots::new());
    host.offer(pair(1));
    host.slots.until(&pair_runs(1)).await;
    // A slot of the host's own takes the name of one that runs.
    host.handle.place(|place| place.local = ["b".to_owned()].into());
    host.slots.until(&[("a".to_owned(), component("a", 1).digest())].into()).await;
    host.refuses(1, "slot `b`: this host's own configuration").await;
    // A newer set is refused as a whole for it.
    host.offer(pair(2));
    host.refuses(2, "slot `b`").await;
    host.handle.place(|place| place.local.clear());
    host.slots.until(&pair_runs(2)).await;
    // Another role: nothing of it is for this host any more.
    host.handle.place(|place| place.labels = labels("role=db"));
    host.slots.until(&BTreeMap::new()).await;
    assert!(host.handle.report().refused.is_none());
    host.handle.place(|place| *place = Place { ceiling: None, ..web() });
    host.slots.until(&pair_runs(2)).await;
}
