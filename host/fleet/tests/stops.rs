//! What an operator disables is off at once, whatever becomes of the rest of the set.

#[path = "../../../registry/trust/tests/fixture/mod.rs"]
mod fixture;
mod scene;

use scene::*;
use sentinel_trust::fleet::Wish;
use std::collections::BTreeMap;
use std::path::Path;

/// A host on which pair 1 runs.
async fn at_one(dir: &Path) -> Host {
    let host = Host::start(&dir.join("fleet.json"), &Store::of_pairs([1, 2]), &Slots::new());
    host.offer(pair(1));
    host.reports("set 1 runs", |report| report.applied == 1).await;
    host
}

fn off(slot: &str, version: u64) -> Wish {
    Wish { disabled: true, ..wish(slot, version) }
}

fn only_a(version: u64) -> BTreeMap<String, sentinel_trust::Digest> {
    [("a".to_owned(), component("a", version).digest())].into()
}

#[tokio::test(start_paused = true)]
async fn disabling_counts_in_a_set_that_the_host_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_one(dir.path()).await;
    host.handle.place(|place| place.local = ["mine".to_owned()].into());
    host.offer(sealed(&set(2, vec![wish("a", 2), off("b", 1), wish("mine", 2)])));
    host.slots.until(&only_a(1)).await;
    let report = host.refuses(2, "slot `mine`").await;
    assert_eq!(report.applied, 1, "the rest is as it was");
    let why = report.refused.unwrap().why;
    assert!(why.ends_with("what it disables is stopped all the same: `b`"), "{why}");
    // It stays off over a restart, and until a set has it on again.
    host.handle.stop().await;
    let place = scene::web();
    let place = sentinel_fleet::Place { local: ["mine".to_owned()].into(), ..place };
    let (store, slots) = (Store::of_pairs([1, 2]), Slots::new());
    let host = Host::place(&dir.path().join("fleet.json"), &store, &slots, place).unwrap();
    host.handle.begun().await;
    assert_eq!(*slots.runs.borrow(), only_a(1));
    host.offer(sealed(&set(3, vec![wish("a", 2), wish("b", 1), wish("mine", 2)])));
    host.refuses(3, "slot `mine`").await;
    host.handle.place(|place| place.local = ["other".to_owned()].into());
    host.refuses(3, "acme/mine").await;
    host.slots.until(&pair_runs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn disabling_counts_in_a_set_whose_plugins_never_come_or_do_not_load() {
    for broken in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let host = at_one(dir.path()).await;
        *host.store.hangs.lock() = !broken;
        if broken {
            host.store.bring([component("a", 9)]);
            host.slots.broken.lock().insert(component("a", 9).digest());
        }
        let began = tokio::time::Instant::now();
        host.offer(sealed(&set(2, vec![wish("a", 9), off("b", 1)])));
        host.slots.until(&only_a(1)).await;
        assert!(began.elapsed().as_secs() < 5, "broken: {broken}");
        assert_eq!(host.handle.report().applied, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn disabling_waits_for_no_set_that_is_being_applied_and_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_one(dir.path()).await;
    let loading = host.slots.gate.lock().await;
    host.offer(pair(2));
    host.reports("applying", |report| report.applying == Some(2)).await;
    host.offer(sealed(&set(3, vec![wish("a", 2), off("b", 2), wish("mine", 3)])));
    // While set 2 is still being loaded.
    host.slots.until(&only_a(1)).await;
    assert_eq!(*host.slots.stopped.lock(), ["b"]);
    drop(loading);
    host.refuses(3, "acme/mine").await;
    host.slots.until(&only_a(2)).await;
    assert_eq!(host.handle.report().applied, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_disabled_for_others_goes_on_here() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_one(dir.path()).await;
    // Of a worker's slot of this name, and of hosts of another role.
    let mail = Wish { kind: sentinel_trust::Kind::Notifier, ..off("b", 1) };
    let mut others = set(2, vec![wish("a", 1), wish("mine", 2), mail]);
    let on = labels("role=db");
    others.groups.push(sentinel_trust::fleet::Group { on, slots: vec![off("a", 1)] });
    host.offer(sealed(&others));
    host.refuses(2, "acme/mine").await;
    assert_eq!(*host.slots.runs.borrow(), pair_runs(1));
    assert!(host.slots.stopped.lock().is_empty());
}

#[test]
fn what_runs_is_kept_without_the_slot_before_the_rest_is_tried() {
    use sentinel_fleet::Memory;
    use sentinel_fleet::machine::{Effect, Input, Machine, Outcome, Task};
    let mut machine = Machine::new(Memory::new(operators(1)), web(), 0);
    machine.step(0, 0.5, Input::Offered(pair(1)));
    machine.step(0, 0.5, Input::Saved(Ok(())));
    machine.step(0, 0.5, Input::Ended { work: 1, outcome: Outcome::Applied });
    machine.step(0, 0.5, Input::Saved(Ok(())));
    let next = sealed(&set(2, vec![wish("a", 9), off("b", 1)]));
    let effects = machine.step(0, 0.5, Input::Offered(next));
    let Effect::Stop(slots) = &effects[0] else { panic!("first of all: {effects:?}") };
    assert_eq!(slots.iter().collect::<Vec<_>>(), ["b"]);
    let effects = machine.step(0, 0.5, Input::Saved(Ok(())));
    let [Effect::Begin(work)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((work.task, work.number), (Task::Keep, 1));
    let off: Vec<bool> = work.wishes.iter().map(|wish| wish.disabled).collect();
    assert_eq!(off, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn going_back_does_not_bring_back_what_was_disabled() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_one(dir.path()).await;
    let proven = sentinel_fleet::machine::PROBATION_MS as u64 + 10;
    tokio::time::sleep(std::time::Duration::from_millis(proven)).await;
    host.offer(sealed(&set(2, vec![wish("a", 2), off("b", 1)])));
    host.slots.until(&only_a(2)).await;
    host.slots.fails(&component("a", 2), true);
    host.slots.until(&only_a(1)).await;
    let report = host.refuses(2, "rolled back").await;
    assert_eq!(report.applied, 1);
}
