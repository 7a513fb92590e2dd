//! A set that was applied is on trial: what undoes it, what proves it, and what it goes back to.

#[path = "../../../registry/trust/tests/fixture/mod.rs"]
mod fixture;
mod scene;

use scene::*;
use sentinel_fleet::Memory;
use sentinel_fleet::machine::{
    Effect, Input, Machine, Outcome, PROBATION_MS, SlotHealth, Task, Work,
};
use sentinel_trust::fleet::Wish;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A host in a box whose work succeeds at once.
struct Box_ {
    machine: Machine,
    disk: Memory,
    now: i64,
    health: SlotHealth,
    /// Versions in the slots.
    runs: BTreeMap<String, u64>,
    tasks: Vec<(Task, u64)>,
}

impl Box_ {
    fn new() -> Self {
        Self::with(Memory::new(operators(1)), 0)
    }

    fn with(disk: Memory, now: i64) -> Self {
        let machine = Machine::new(disk.clone(), web(), now);
        let (health, runs, tasks) = (SlotHealth::default(), BTreeMap::new(), Vec::new());
        let mut host = Self { machine, disk, now, health, runs, tasks };
        host.tell(Input::Woke);
        host
    }

    fn tell(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.step(self.now, 0.5, input) {
                match effect {
                    Effect::Save(memory) => {
                        self.disk = memory;
                        inputs.push_back(Input::Saved(Ok(())));
                    }
                    Effect::Begin(work) => inputs.push_back(self.done(work)),
                    Effect::Look => inputs.push_back(Input::Slots(self.health.clone())),
                    Effect::Stop(_) | Effect::Hurry | Effect::LeaveCarrier => {}
                }
            }
        }
    }

    fn done(&mut self, work: Work) -> Input {
        let version = |wish: Wish| (wish.slot, wish.version.major);
        self.runs = work.wishes.into_iter().map(version).collect();
        self.health = SlotHealth::default();
        self.tasks.push((work.task, work.number));
        let outcome = match work.task {
            Task::Apply => Outcome::Applied,
            Task::Keep | Task::RollBack => Outcome::Kept(BTreeMap::new()),
        };
        Input::Ended { work: work.id, outcome }
    }

    /// Decides that the slots have these versions.
    fn decide(&mut self, number: u64, slots: &[(&str, u64)]) {
        let wishes = slots.iter().map(|(slot, version)| wish(slot, *version)).collect();
        self.tell(Input::Offered(sealed(&set(number, wishes))));
    }

    fn fails(&mut self, slot: &str) {
        let why = format!("slot `{slot}`: acme/{slot} trapped");
        self.health.failed.insert(slot.to_owned(), why);
        self.tell(Input::Slots(self.health.clone()));
    }

    fn wait(&mut self, ms: i64) {
        let until = self.now + ms;
        while let Some(at) = self.machine.wakes_at().filter(|at| *at <= until) {
            assert!(at > self.now, "it does not wake without end");
            self.now = at;
            self.tell(Input::Woke);
        }
        self.now = until;
    }

    fn undone(&self) -> Option<(u64, String)> {
        self.machine.report().refused.map(|it| (it.number, it.why))
    }
}

enum Then {
    Decide(u64, &'static [(&'static str, u64)]),
    Fails(&'static str),
    Wait(i64),
    Restart,
}

#[test]
fn what_becomes_of_a_set_whose_slots_fail() {
    use Then::{Decide, Fails, Restart, Wait};
    const ONE: Then = Decide(1, &[("a", 1), ("b", 1)]);
    const TWO: Then = Decide(2, &[("a", 2), ("b", 2)]);
    const ONLY_A: Then = Decide(2, &[("a", 2), ("b", 1)]);
    const THEN_B: Then = Decide(3, &[("a", 2), ("b", 3)]);
    const PROVEN: Then = Wait(PROBATION_MS);
    // Story, set that runs then, versions of a and b, set that was undone.
    type Row = (&'static str, Vec<Then>, u64, &'static [(&'static str, u64)], Option<u64>);
    let rows: Vec<Row> = vec![
        (
            "all of it goes back",
            vec![ONE, PROVEN, TWO, Fails("b")],
            1,
            &[("a", 1), ("b", 1)],
            Some(2),
        ),
        ("the first goes back to none", vec![ONE, Fails("a")], 0, &[], Some(1)),
        (
            "late on trial",
            vec![ONE, PROVEN, TWO, Wait(PROBATION_MS - 1), Fails("a")],
            1,
            &[("a", 1), ("b", 1)],
            Some(2),
        ),
        (
            "proven, it stays",
            vec![ONE, PROVEN, TWO, PROVEN, Fails("b")],
            2,
            &[("a", 2), ("b", 2)],
            None,
        ),
        (
            "not changed by the set",
            vec![ONE, PROVEN, ONLY_A, Fails("b")],
            2,
            &[("a", 2), ("b", 1)],
            None,
        ),
        (
            "two at once, the second fails",
            vec![ONE, PROVEN, ONLY_A, THEN_B, Fails("b")],
            2,
            &[("a", 2), ("b", 1)],
            Some(3),
        ),
        (
            "two at once, the first fails",
            vec![ONE, PROVEN, ONLY_A, THEN_B, Fails("a")],
            1,
            &[("a", 1), ("b", 1)],
            Some(3),
        ),
        (
            "and then the first too",
            vec![ONE, PROVEN, ONLY_A, THEN_B, Fails("b"), Fails("a"), Wait(10_000_000)],
            1,
            &[("a", 1), ("b", 1)],
            Some(3),
        ),
        (
            "gone back, what is left is on trial anew",
            vec![ONE, PROVEN, ONLY_A, THEN_B, Fails("b"), PROVEN, Fails("a")],
            2,
            &[("a", 2), ("b", 1)],
            Some(3),
        ),
        (
            "gone back late, what is left has its whole time",
            vec![
                ONE,
                PROVEN,
                ONLY_A,
                THEN_B,
                Wait(30_000),
                Fails("b"),
                Wait(PROBATION_MS - 1),
                Fails("a"),
            ],
            1,
            &[("a", 1), ("b", 1)],
            Some(3),
        ),
        (
            "over a restart",
            vec![ONE, PROVEN, TWO, Restart, Fails("b")],
            1,
            &[("a", 1), ("b", 1)],
            Some(2),
        ),
        (
            "a restart begins the time anew",
            vec![ONE, PROVEN, TWO, Wait(50_000), Restart, Wait(50_000), Fails("b")],
            1,
            &[("a", 1), ("b", 1)],
            Some(2),
        ),
        (
            "undone, it stays so over a restart",
            vec![ONE, PROVEN, TWO, Fails("b"), Restart],
            1,
            &[("a", 1), ("b", 1)],
            Some(2),
        ),
        (
            "undone, time brings it not back",
            vec![ONE, PROVEN, TWO, Fails("b"), Wait(10_000_000)],
            1,
            &[("a", 1), ("b", 1)],
            Some(2),
        ),
        (
            "the next is tried",
            vec![ONE, PROVEN, TWO, Fails("b"), THEN_B],
            3,
            &[("a", 2), ("b", 3)],
            None,
        ),
    ];
    for (name, story, number, runs, undone) in rows {
        let mut host = Box_::new();
        for then in story {
            match then {
                Decide(number, slots) => host.decide(number, slots),
                Fails(slot) => host.fails(slot),
                Wait(ms) => host.wait(ms),
                Restart => host = Box_::with(host.disk, host.now),
            }
        }
        let expected: BTreeMap<String, u64> =
            runs.iter().map(|(slot, version)| ((*slot).to_owned(), *version)).collect();
        assert_eq!(host.runs, expected, "{name}: {:?}", host.tasks);
        assert_eq!(host.machine.report().applied, number, "{name}");
        assert_eq!(host.undone().map(|(number, _)| number), undone, "{name}");
    }
}

#[test]
fn a_slot_that_a_set_switched_on_is_one_that_it_changed() {
    let mut host = Box_::new();
    let off = Wish { disabled: true, ..wish("b", 1) };
    host.tell(Input::Offered(sealed(&set(1, vec![wish("a", 1), off]))));
    host.wait(PROBATION_MS);
    host.decide(2, &[("a", 1), ("b", 1)]);
    host.fails("b");
    assert_eq!(host.machine.report().applied, 1);
    assert_eq!(host.undone().map(|(number, _)| number), Some(2));
}

#[test]
fn the_report_says_which_slot_failed_and_what_runs_instead() {
    let mut host = Box_::new();
    host.decide(1, &[("a", 1)]);
    host.fails("a");
    let (number, why) = host.undone().unwrap();
    assert_eq!(number, 1);
    assert_eq!(
        why,
        "slot `a`: acme/a trapped; the set was rolled back as a whole, to none: it was the first"
    );
    host.decide(2, &[("b", 2)]);
    host.wait(PROBATION_MS);
    host.decide(3, &[("b", 3), ("c", 3)]);
    host.fails("c");
    let (_, why) = host.undone().unwrap();
    assert!(why.ends_with("the set was rolled back as a whole, to set 2"), "{why}");
}

#[test]
fn the_report_says_on_trial_as_long_as_a_slot_that_the_set_changed_may_take_it_back() {
    let mut host = Box_::new();
    let trial = |host: &Box_| host.machine.report().trial;
    assert!(!trial(&host), "nothing runs");
    host.decide(1, &[("a", 1)]);
    assert!(trial(&host));
    host.wait(PROBATION_MS - 1);
    assert!(trial(&host));
    host.wait(1);
    assert!(!trial(&host), "proven");
    host.decide(2, &[("a", 1)]);
    assert!(!trial(&host), "it changes nothing here");
    host.decide(3, &[("a", 1), ("b", 1)]);
    assert!(trial(&host));
    host.fails("b");
    assert_eq!((trial(&host), host.machine.report().applied), (false, 2), "gone back");
    host.decide(4, &[]);
    assert!(trial(&host), "a slot went");
}

#[test]
fn a_trial_is_not_over_while_a_slot_fails_and_ends_all_the_same() {
    let mut host = Box_::new();
    host.decide(1, &[("a", 1)]);
    host.health.failing = true;
    host.wait(10 * PROBATION_MS);
    assert!(host.disk.trial.is_some(), "not decided yet");
    host.wait(10 * PROBATION_MS);
    assert!(host.disk.trial.is_none(), "bounded");
    host.decide(2, &[("a", 2)]);
    host.health.failing = true;
    host.wait(2 * PROBATION_MS);
    host.fails("a");
    assert_eq!(host.runs, [("a".to_owned(), 1)].into(), "given up late, undone late");
}

#[test]
fn a_host_that_is_another_tries_once_more_what_was_undone() {
    let mut host = Box_::new();
    host.decide(1, &[("a", 1)]);
    host.fails("a");
    host.tell(Input::PluginsChanged);
    assert_eq!(host.runs, BTreeMap::new(), "no plugin changes what failed");
    let mut place = web();
    place.local.insert("other".to_owned());
    host.tell(Input::Placed(Box::new(place)));
    assert_eq!(host.runs, [("a".to_owned(), 1)].into());
    assert_eq!(host.undone(), None);
}

#[test]
fn sets_that_can_be_gone_back_to_are_bounded_and_the_proven_one_is_never_dropped() {
    let mut host = Box_::new();
    host.decide(1, &[("a", 1)]);
    host.wait(PROBATION_MS);
    for number in 2..=9 {
        host.decide(number, &[("a", number)]);
    }
    let kept: Vec<u64> = host.disk.sets().map(sentinel_fleet::memory::Known::number).collect();
    assert_eq!(kept, [9, 9, 1, 6, 7, 8]);
    for expected in [8, 7, 6, 1] {
        host.fails("a");
        assert_eq!(host.runs, [("a".to_owned(), expected)].into());
    }
    host.fails("a");
    assert_eq!(host.runs, [("a".to_owned(), 1)].into(), "proven");
}

#[tokio::test(start_paused = true)]
async fn a_follower_rolls_a_set_back_when_its_slots_say_that_they_failed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.json");
    let host = Host::start(&file, &Store::of_pairs([1, 2]), &Slots::new());
    host.offer(pair(1));
    host.reports("applied", |report| report.applied == 1).await;
    tokio::time::sleep(Duration::from_millis(PROBATION_MS as u64 + 10)).await;
    host.offer(pair(2));
    host.slots.until(&pair_runs(2)).await;
    let (applied, kept) = (*host.slots.applied.lock(), *host.slots.kept.lock());
    host.slots.fails(&component("b", 2), true);
    host.slots.until(&pair_runs(1)).await;
    let report = host.refuses(2, "slot `b`: it trapped; the set was rolled back as a whole").await;
    assert_eq!(report.applied, 1);
    let now = (*host.slots.applied.lock(), *host.slots.kept.lock());
    assert_eq!(now, (applied + 1, kept), "at one moment, and not slot by slot");
    host.handle.stop().await;
    let slots = Slots::new();
    let host = Host::start(&file, &Store::of_pairs([1, 2]), &slots);
    host.handle.begun().await;
    assert_eq!(*slots.runs.borrow(), pair_runs(1));
    host.refuses(2, "rolled back").await;
    assert_eq!(*slots.applied.lock(), 0, "it is not tried again");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_cannot_go_back_as_a_whole_goes_back_as_far_as_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::of_pairs([1, 2]);
    let host = Host::start(&dir.path().join("fleet.json"), &store, &Slots::new());
    host.offer(pair(1));
    host.reports("applied", |report| report.applied == 1).await;
    tokio::time::sleep(Duration::from_millis(PROBATION_MS as u64 + 10)).await;
    host.offer(pair(2));
    host.slots.until(&pair_runs(2)).await;
    store.there.lock().remove(&component("a", 1).digest());
    host.slots.fails(&component("b", 2), true);
    let mixed = [("a", 2), ("b", 1)];
    let mixed = mixed.map(|(slot, n)| (slot.to_owned(), component(slot, n).digest())).into();
    host.slots.until(&mixed).await;
    host.refuses(2, "rolled back").await;
    store.bring([component("a", 1)]);
    host.slots.until(&pair_runs(1)).await;
}
