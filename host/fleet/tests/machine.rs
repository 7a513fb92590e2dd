//! Whatever happens in whatever order: numbers never go back, sets are never mixed, and a
//! restart at any moment runs a whole set.

#[path = "../../../registry/trust/tests/fixture/mod.rs"]
mod fixture;
mod scene;

use proptest::prelude::*;
use scene::{operators, sealed, set, web, wish};
use sentinel_fleet::machine::{Effect, Input, Machine, Outcome, SlotHealth, Task, Work};
use sentinel_fleet::{Memory, Place};
use sentinel_trust::Grants;
use sentinel_trust::fleet::{DesiredSet, seal};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Debug, Clone)]
enum Happens {
    Offer(u64),
    Twin(u64),
    Forged(u64),
    Nonsense,
    Done,
    NotFetched,
    NotApplied,
    Partly,
    SavesFail(bool),
    Crash,
    CrashWhileSaving { before: bool },
    Ceiling(bool),
    Disable(u64),
    SlotFails,
    Plugins,
    Wait(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    use Happens::*;
    prop_oneof![
        4 => (1..9_u64).prop_map(Offer),
        1 => (1..9_u64).prop_map(Twin),
        1 => (1..9_u64).prop_map(Forged),
        1 => Just(Nonsense),
        6 => Just(Done),
        1 => Just(NotFetched),
        1 => Just(NotApplied),
        1 => Just(Partly),
        1 => any::<bool>().prop_map(SavesFail),
        2 => Just(Crash),
        1 => any::<bool>().prop_map(|before| CrashWhileSaving { before }),
        1 => any::<bool>().prop_map(Ceiling),
        1 => (1..9_u64).prop_map(Disable),
        2 => Just(SlotFails),
        1 => Just(Plugins),
        2 => (0..400_000_i64).prop_map(Wait),
    ]
}

/// The set of a number; even ones ask for something that a ceiling may forbid.
fn the_set(number: u64) -> DesiredSet {
    let mut first = wish("a", 1);
    first.config = serde_json::json!({ "of": number });
    first.grants.system = number.is_multiple_of(2);
    let mut second = wish("b", 1);
    second.config = serde_json::json!({ "of": number });
    set(number, vec![first, second])
}

/// The same, with its second slot off.
fn disabling(number: u64) -> DesiredSet {
    let mut set = the_set(number);
    set.groups[0].slots[1].disabled = true;
    set
}

fn twin(number: u64) -> DesiredSet {
    let mut twin = the_set(number);
    twin.note = "another".to_owned();
    twin
}

/// A host in a box, and the obvious reference beside it.
struct Host {
    machine: Machine,
    disk: Memory,
    place: Place,
    now: i64,
    saves_fail: bool,
    crash_at_save: Option<bool>,
    work: Option<Work>,
    /// Number of the set in the slots.
    slots: u64,
    /// Whether slot `b` of it is on.
    b_runs: bool,
    /// Whether a slot of what runs was given up.
    fails: bool,
    /// Whether one was since a set was applied.
    failed: bool,
    /// Sets that were undone since the place was another, and never run again.
    undone: BTreeSet<u64>,
    /// Which set was believed first under each number, and the highest number believed.
    believed: BTreeMap<u64, DesiredSet>,
    highest: u64,
}

impl Host {
    fn new() -> Self {
        let disk = Memory::new(operators(1));
        let machine = Machine::new(disk.clone(), web(), 0);
        Self {
            machine,
            disk,
            place: web(),
            now: 0,
            saves_fail: false,
            crash_at_save: None,
            work: None,
            slots: 0,
            b_runs: false,
            fails: false,
            failed: false,
            undone: BTreeSet::new(),
            believed: BTreeMap::new(),
            highest: 0,
        }
    }

    fn good(&self) -> u64 {
        self.disk.good.as_ref().map_or(0, |set| set.number())
    }

    fn crash(&mut self) {
        (self.work, self.slots, self.b_runs, self.fails) = (None, 0, false, false);
        self.highest = self.disk.highest();
        let highest = self.highest;
        self.believed.retain(|number, _| *number <= highest);
        self.machine = Machine::new(self.disk.clone(), self.place.clone(), self.now);
        self.tell(Input::Woke);
    }

    fn tell(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.step(self.now, 0.5, input) {
                match effect {
                    Effect::Save(memory) => match self.crash_at_save.take() {
                        Some(before) => {
                            if !before {
                                self.write(memory);
                            }
                            return self.crash();
                        }
                        None if self.saves_fail => {
                            inputs.push_back(Input::Saved(Err("the disk is full".to_owned())));
                        }
                        None => {
                            self.write(memory);
                            inputs.push_back(Input::Saved(Ok(())));
                        }
                    },
                    Effect::Begin(work) => self.begins(work),
                    Effect::Look => inputs.push_back(Input::Slots(self.health())),
                    Effect::Stop(slots) => {
                        assert_eq!(slots, BTreeSet::from(["b".to_owned()]));
                        self.b_runs = false;
                    }
                    Effect::Hurry | Effect::LeaveCarrier => {}
                }
            }
        }
        if let Some(at) = self.machine.wakes_at() {
            assert!(at > self.now, "it does not wake without end");
        }
    }

    fn write(&mut self, memory: Memory) {
        assert!(memory.highest() >= self.disk.highest(), "the highest number went back");
        let number = |memory: &Memory| memory.good.as_ref().map_or(0, |set| set.number());
        if number(&memory) < number(&self.disk) {
            assert!(self.failed, "it was undone and nothing failed");
            self.undone.extend(memory.undone.as_ref().map(|undone| undone.number));
        }
        assert!(memory.trial.is_none() || memory.good.is_some(), "what is on trial?");
        self.disk = memory;
    }

    fn health(&self) -> SlotHealth {
        let failed = self.fails.then(|| ("a".to_owned(), "slot `a` trapped".to_owned()));
        SlotHealth { failed: failed.into_iter().collect(), failing: false }
    }

    /// Slots that the newest set disables.
    fn stops(&self) -> bool {
        self.believed.get(&self.highest).is_some_and(|set| set.groups[0].slots[1].disabled)
    }

    fn begins(&mut self, work: Work) {
        assert!(self.work.is_none(), "one piece of work at a time");
        assert!(work.number <= self.disk.highest(), "not durable before it is begun");
        if work.task == Task::Apply {
            assert_eq!(work.number, self.highest, "what is applied is the newest");
            assert!(work.number > self.good());
            assert!(!self.undone.contains(&work.number), "what was undone does not come again");
        } else {
            assert_eq!(work.number, self.good(), "what is kept is the last good one");
        }
        if work.number == 0 {
            assert!(work.wishes.is_empty() && work.task == Task::RollBack);
        } else {
            let share = self.place.share(&self.believed[&work.number]).unwrap();
            let whole = share.left_out.is_empty();
            assert!(work.task != Task::Apply || whole, "a whole set or none");
            let mut wishes = share.wishes;
            for wish in wishes.iter_mut().filter(|wish| wish.slot == "b") {
                wish.disabled |= self.stops();
            }
            assert_eq!(work.wishes, wishes, "of one set, and all of it but what is off");
        }
        self.work = Some(work);
    }

    fn ends(&mut self, outcome: impl FnOnce(&Work) -> Outcome) {
        let Some(work) = self.work.take() else { return };
        let outcome = outcome(&work);
        if matches!(outcome, Outcome::Applied | Outcome::Kept(_)) {
            let back = work.number < self.slots;
            assert!(!back || work.task != Task::Apply, "what runs went back");
            self.fails &= work.task == Task::Keep && work.number == self.slots;
            self.failed &= work.task != Task::Apply;
            self.slots = work.number;
            self.b_runs = work.wishes.iter().any(|wish| wish.slot == "b" && !wish.disabled);
        }
        self.tell(Input::Ended { work: work.id, outcome });
    }

    fn good_end(work: &Work) -> Outcome {
        if work.task == Task::Keep { Outcome::Kept(BTreeMap::new()) } else { Outcome::Applied }
    }

    fn offer(&mut self, set: &DesiredSet) {
        if set.number > self.highest {
            self.highest = set.number;
            self.believed.insert(set.number, set.clone());
        }
        self.tell(Input::Offered(sealed(set)));
    }

    fn happen(&mut self, what: Happens) {
        match what {
            Happens::Offer(number) => self.offer(&the_set(number)),
            Happens::Twin(number) => self.offer(&twin(number)),
            Happens::Forged(number) => {
                let forged = seal(&the_set(number), &scene::key(2)).unwrap();
                self.tell(Input::Offered(forged.into_bytes()));
            }
            Happens::Nonsense => self.tell(Input::Offered(b"{}".to_vec())),
            Happens::Done => self.ends(Self::good_end),
            Happens::NotFetched => self.ends(|work| match work.task {
                Task::Keep | Task::RollBack => {
                    Outcome::Kept([("a".to_owned(), "gone".to_owned())].into())
                }
                Task::Apply => Outcome::NotFetched("gone".to_owned()),
            }),
            Happens::NotApplied => self.ends(|work| match work.task {
                Task::Keep | Task::RollBack => Outcome::Overtaken,
                Task::Apply => Outcome::NotApplied("broken".to_owned()),
            }),
            Happens::Partly => self.ends(|work| match work.task {
                Task::Keep | Task::RollBack => {
                    Outcome::Kept([("b".to_owned(), "gone".to_owned())].into())
                }
                Task::Apply => Outcome::Overtaken,
            }),
            Happens::SavesFail(fail) => self.saves_fail = fail,
            Happens::Crash => self.crash(),
            Happens::CrashWhileSaving { before } => self.crash_at_save = Some(before),
            Happens::Disable(number) => self.offer(&disabling(number)),
            Happens::SlotFails => {
                self.fails = self.slots > 0;
                self.failed |= self.fails;
                self.tell(Input::Slots(self.health()));
            }
            Happens::Ceiling(tight) => {
                if self.place.ceiling.is_some() != tight {
                    self.undone.retain(|undone| *undone != self.highest);
                }
                self.place.ceiling = tight.then(Grants::default);
                self.tell(Input::Placed(Box::new(self.place.clone())));
            }
            Happens::Plugins => self.tell(Input::PluginsChanged),
            Happens::Wait(ms) => {
                self.now += ms;
                self.tell(Input::Woke);
            }
        }
        let report = self.machine.report();
        assert_eq!(report.applied, self.slots, "it says what runs");
        assert_eq!(self.machine.highest(), self.highest, "what is believed is the reference's");
        let waits = self.saves_fail || self.work.is_some();
        assert!(waits || !(self.b_runs && self.stops()), "what is disabled is off");
    }

    /// Nothing goes wrong any more.
    fn settle(&mut self) {
        (self.saves_fail, self.crash_at_save, self.fails) = (false, None, false);
        // As another host: what was undone here is tried once more.
        self.undone.clear();
        self.place.ceiling = None;
        self.place.local.insert("other".to_owned());
        self.tell(Input::Placed(Box::new(self.place.clone())));
        for _ in 0..20 {
            self.ends(Self::good_end);
            self.now += 1_000_000;
            self.tell(Input::Woke);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn numbers_never_go_back_and_sets_are_never_mixed_whatever_happens(
        story in prop::collection::vec(happens(), 1..60)
    ) {
        let mut host = Host::new();
        for what in story {
            host.happen(what);
        }
        host.settle();
        prop_assert_eq!(host.slots, host.highest, "in the end the newest runs");
        prop_assert_eq!(host.good(), host.highest);
        let report = host.machine.report();
        prop_assert_eq!(report.applied, host.highest);
        prop_assert_eq!(report.applying, None);
        // A restart now begins with it, without anybody's help.
        host.crash();
        host.ends(Host::good_end);
        prop_assert_eq!(host.slots, host.highest);
    }
}
