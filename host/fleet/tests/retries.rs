//! When a set that does not run is tried again.

#[path = "../../../registry/trust/tests/fixture/mod.rs"]
mod fixture;
mod scene;

use scene::{operators, pair, web};
use sentinel_fleet::Memory;
use sentinel_fleet::machine::{Effect, Input, Machine, Outcome};

/// Tells it, saving whatever is to be saved; the number of the work it begins.
fn tell(machine: &mut Machine, now: i64, input: Input) -> Option<u64> {
    let mut begun = None;
    let mut effects = machine.step(now, 1.0, input);
    while !effects.is_empty() {
        let mut saves = false;
        for effect in effects {
            match effect {
                Effect::Save(_) => saves = true,
                Effect::Begin(work) => begun = Some(work.id),
                Effect::Hurry | Effect::LeaveCarrier | Effect::Stop(_) | Effect::Look => {}
            }
        }
        effects = if saves { machine.step(now, 1.0, Input::Saved(Ok(()))) } else { Vec::new() };
    }
    begun
}

/// How long after each failure it is tried again, in seconds.
fn waits(outcome: &Outcome, times: usize) -> Vec<i64> {
    let mut machine = Machine::new(Memory::new(operators(1)), web(), 0);
    let mut work = tell(&mut machine, 0, Input::Offered(pair(1))).unwrap();
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..times {
        let ended = Input::Ended { work, outcome: outcome.clone() };
        assert_eq!(tell(&mut machine, now, ended), None, "not at once");
        let at = machine.wakes_at().unwrap();
        assert_eq!(tell(&mut machine, at - 1, Input::Woke), None, "not before");
        work = tell(&mut machine, at, Input::Woke).expect("then it is");
        waits.push((at - now) / 1000);
        now = at;
    }
    waits
}

#[test]
fn a_set_is_tried_again_after_waits_that_double_up_to_a_bound() {
    let fetch = waits(&Outcome::NotFetched("away".to_owned()), 9);
    assert_eq!(fetch, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
    let load = waits(&Outcome::NotApplied("broken".to_owned()), 7);
    assert_eq!(load, [30, 60, 120, 240, 480, 900, 900]);
}

#[test]
fn a_set_that_the_host_refuses_is_judged_again_only_when_the_host_is_another() {
    let mut place = web();
    place.local.insert("b".to_owned());
    let mut machine = Machine::new(Memory::new(operators(1)), place, 0);
    assert_eq!(tell(&mut machine, 0, Input::Offered(pair(1))), None);
    assert!(machine.report().refused.unwrap().why.contains("slot `b`"));
    assert_eq!(machine.wakes_at(), None, "time alone changes nothing");
    assert!(tell(&mut machine, 9, Input::Placed(Box::new(web()))).is_some());
}

#[test]
fn nothing_is_applied_while_its_number_cannot_be_kept() {
    let mut machine = Machine::new(Memory::new(operators(1)), web(), 0);
    let effects = machine.step(0, 0.0, Input::Offered(pair(1)));
    assert!(matches!(effects[..], [Effect::Save(_)]), "{effects:?}");
    let failed = machine.step(0, 0.0, Input::Saved(Err("the disk is full".to_owned())));
    assert!(failed.is_empty(), "{failed:?}");
    let refused = machine.report().refused.unwrap();
    assert!(refused.number == 1 && refused.why.contains("the disk is full"), "{refused:?}");
    assert!(machine.step(1, 0.0, Input::PluginsChanged).is_empty());
    let again = machine.wakes_at().unwrap();
    assert!(tell(&mut machine, again, Input::Woke).is_some(), "saved, and only then begun");
}
