//! What nobody may bring a host to do, each test named after the attempt.

#[path = "../../../registry/trust/tests/fixture/mod.rs"]
mod fixture;
mod scene;

use scene::*;
use sentinel_fleet::{MAX_HOST_SLOTS, Memory, MemoryError, Place};
use sentinel_trust::fleet::{FleetId, MAX_SEALED_BYTES, Operators, seal};
use sentinel_trust::{Grants, LimitOverrides};
use std::path::PathBuf;

/// A host on which set 5 runs.
async fn at_five(dir: &tempfile::TempDir) -> Host {
    let host = Host::start(&file(dir), &Store::of_pairs(1..=9), &Slots::new());
    host.offer(pair(5));
    host.reports("set 5 runs", |report| report.applied == 5).await;
    host
}

fn file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("fleet.json")
}

/// The offer changes nothing, is said under `number`, and the next right one is taken.
async fn is_refused(host: &Host, offer: Vec<u8>, number: u64, word: &str) {
    let tries = *host.slots.applied.lock();
    host.offer(offer);
    let report = host.refuses(number, word).await;
    assert_eq!(report.applied, 5);
    assert_eq!(*host.slots.runs.borrow(), pair_runs(5));
    assert_eq!(*host.slots.applied.lock(), tries, "nothing was tried");
    host.offer(pair(6));
    host.slots.until(&pair_runs(6)).await;
    host.reports("it goes on", |report| report.applied == 6 && report.refused.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_forged_by_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    let forged = seal(&set(6, vec![wish("a", 9)]), &key(2)).unwrap().into_bytes();
    is_refused(&host, forged, 0, "no operator of this fleet signed").await;
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_whose_text_was_changed_under_its_signature() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    let text = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    let (mut signed, other) = (text(pair(7)), text(pair(8)));
    signed["set"] = other["set"].clone();
    is_refused(&host, signed.to_string().into_bytes(), 0, "no operator").await;
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_replayed_by_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    is_refused(&host, pair(4), 4, "never comes back").await;
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_replayed_after_a_restart_and_after_one_that_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    host.slots.broken.lock().insert(component("a", 8).digest());
    host.offer(pair(8));
    host.refuses(8, "panicked").await;
    host.handle.stop().await;
    let slots = Slots::new();
    slots.broken.lock().insert(component("a", 8).digest());
    let host = Host::start(&file(&dir), &Store::of_pairs(1..=9), &slots);
    host.handle.begun().await;
    // It was signed once, and is above what runs; but not above what was seen.
    host.offer(pair(7));
    host.offer(pair(9));
    host.slots.until(&pair_runs(9)).await;
    assert_eq!(*slots.applied.lock(), 2, "8 once more, and 9; never 7");
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_downgraded_under_a_number_that_was_used() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    let twin = sealed(&set(5, vec![wish("a", 1)]));
    is_refused(&host, twin, 5, "two desired sets with number 5").await;
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_of_another_fleet_of_the_same_operator() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    let mut other = set(6, vec![wish("a", 6)]);
    other.fleet = FleetId([2; 16]);
    is_refused(&host, sealed(&other), 0, "this host belongs to").await;
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_cut_in_half() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    let mut half = pair(6);
    half.truncate(half.len() / 2);
    is_refused(&host, half, 0, "not a desired set").await;
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_larger_than_any_is() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    is_refused(&host, vec![b' '; MAX_SEALED_BYTES + 1], 0, "at most").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_offers_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    let asked = host.asked.borrow().len();
    for _ in 0..100 {
        host.offer(b"nonsense".to_vec());
    }
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let taken = host.asked.borrow().len() - asked;
    assert!((5..=30).contains(&taken), "{taken} in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_with_more_slots_than_a_host_switches_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    let mut many = set(6, Vec::new());
    let (mut one, all) = (wish("a", 1), MAX_HOST_SLOTS + 1);
    for n in 0..all {
        one.slot = format!("s{n}");
        many.groups[0].slots.push(one.clone());
    }
    host.offer(sealed(&many));
    assert_eq!(host.refuses(6, "65 slots").await.applied, 5);
    host.offer(pair(7));
    host.slots.until(&pair_runs(7)).await;
}

#[tokio::test(start_paused = true)]
async fn a_desired_set_that_grants_more_than_the_hosts_ceiling() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LimitOverrides { memory_bytes: Some(8 << 20), ..LimitOverrides::default() };
    let ceiling = Grants { series: true, limits, ..Grants::default() };
    let place = Place { ceiling: Some(ceiling), ..web() };
    let store = Store::of_pairs(1..=3);
    let host = Host::place(&file(&dir), &store, &Slots::new(), place).unwrap();
    host.offer(pair(1));
    host.slots.until(&pair_runs(1)).await;
    let mut greedy = wish("b", 2);
    greedy.grants.system = true;
    host.offer(sealed(&set(2, vec![wish("a", 2), greedy.clone()])));
    let report = host.refuses(2, "slot `b`: beyond what this host allows").await;
    assert_eq!(report.applied, 1);
    assert_eq!(*host.slots.runs.borrow(), pair_runs(1), "not even the slot that asks for less");
    // The owner allows it, and changes their mind: the slot goes, the rest stays.
    let open = |place: &mut Place| place.ceiling.as_mut().unwrap().system = true;
    host.handle.place(open);
    host.slots.until(&pair_runs(2)).await;
    host.handle.place(|place| place.ceiling.as_mut().unwrap().system = false);
    host.slots.until(&[("a".to_owned(), component("a", 2).digest())].into()).await;
    host.refuses(2, "slot `b`").await;
}

#[test]
fn a_limit_that_a_set_leaves_to_the_plugin_is_that_of_the_hosts_ceiling() {
    let limits = LimitOverrides { memory_bytes: Some(1 << 20), ..LimitOverrides::default() };
    let place = Place { ceiling: Some(Grants { limits, ..Grants::default() }), ..web() };
    let wishes = place.whole(&set(1, vec![wish("a", 1)])).unwrap();
    assert_eq!(wishes[0].grants.limits, limits);
    let mut more = wish("a", 1);
    more.grants.limits.memory_bytes = Some(2 << 20);
    assert!(place.whole(&set(1, vec![more])).unwrap_err().contains("limits.memory_bytes"));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_gives_another_plugin_than_the_set_names() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    let wanted = component("a", 6).digest();
    host.store.there.lock().insert(wanted, component("a", 1));
    host.offer(pair(6));
    let report = host.refuses(6, "was given instead of").await;
    assert_eq!((report.applied, &*host.slots.runs.borrow()), (5, &pair_runs(5)));
}

#[tokio::test(start_paused = true)]
async fn a_state_file_cut_anywhere_fails_closed() {
    let dir = tempfile::tempdir().unwrap();
    at_five(&dir).await.handle.stop().await;
    let whole = std::fs::read(file(&dir)).unwrap();
    for length in (0..whole.len()).step_by(7) {
        std::fs::write(file(&dir), &whole[..length]).unwrap();
        let refused = Memory::load(&file(&dir), &operators(1)).unwrap_err();
        assert!(matches!(refused, MemoryError::Damaged { .. }), "{length}: {refused}");
        assert!(refused.to_string().contains("restore it, or remove it"), "{refused}");
    }
    std::fs::write(file(&dir), &whole).unwrap();
    assert_eq!(Memory::load(&file(&dir), &operators(1)).unwrap().highest(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_state_file_in_which_a_set_was_changed_fails_closed() {
    let dir = tempfile::tempdir().unwrap();
    at_five(&dir).await.handle.stop().await;
    let mut state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file(&dir)).unwrap()).unwrap();
    let forged = seal(&set(4, Vec::new()), &key(2)).unwrap();
    state["newest"] = forged.into();
    std::fs::write(file(&dir), state.to_string()).unwrap();
    let refused = Memory::load(&file(&dir), &operators(1)).unwrap_err();
    assert!(matches!(refused, MemoryError::Damaged { .. }), "{refused}");
    let elsewhere = Operators { fleet: FleetId([2; 16]), keys: operators(1).keys };
    let moved = Memory::load(&file(&dir), &elsewhere).unwrap_err();
    assert!(matches!(moved, MemoryError::OtherFleet { .. }), "{moved}");
}

#[tokio::test(start_paused = true)]
async fn a_number_beyond_all_others_with_a_stolen_key_is_over_when_other_keys_are_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let host = at_five(&dir).await;
    host.offer(sealed(&set(u64::MAX, Vec::new())));
    host.slots.until(&Default::default()).await;
    host.reports("applied", |report| report.applied == u64::MAX).await;
    host.handle.stop().await;
    let memory = Memory::load(&file(&dir), &operators(3)).unwrap();
    assert_eq!((memory.highest(), memory.good.is_none()), (0, true));
}
