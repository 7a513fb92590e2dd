//! Rules over a past that is given in parts.

mod lab;

use async_trait::async_trait;
use lab::Lab;
use sentinel_model::series::{Labels, Selector, SeriesKey};
use sentinel_rule_tests::{
    History, HistoryError, Outcome, Replay, Stream, check_files, look, outcomes,
};
use sentinel_store::query::{Points, TimeRange};
use std::cell::RefCell;
use std::sync::Arc;

sentinel_runtime::compile_child_hook!();

const MINUTE: i64 = 60_000;
const START: i64 = 1_767_225_600_000;

/// `load` of two machines, a sample a minute: one is hot for ten minutes of each half hour, the
/// other never. No more than so many samples at once.
struct Past {
    most: usize,
    asked: RefCell<Vec<TimeRange>>,
}

#[async_trait(?Send)]
impl History for Past {
    async fn samples(
        &self,
        selector: &Selector,
        range: TimeRange,
    ) -> Result<Vec<Stream>, HistoryError> {
        self.asked.borrow_mut().push(range);
        assert_eq!(selector.name, "load");
        if ((range.end - range.start) / MINUTE) as usize > self.most {
            return Err(HistoryError::TooMuch("too much".into()));
        }
        let first = range.start + MINUTE - range.start.rem_euclid(MINUTE);
        let times: Vec<i64> = (first..=range.end).step_by(MINUTE as usize).collect();
        let stream = |machine: &str, value: &dyn Fn(i64) -> f64| Stream {
            key: SeriesKey {
                name: "load".into(),
                labels: Labels::from_iter([("machine", machine)]),
            },
            points: Points {
                times: times.clone(),
                values: times.iter().map(|at| value(*at)).collect(),
            },
        };
        let hot =
            |at: i64| if (at - START).rem_euclid(30 * MINUTE) < 10 * MINUTE { 9.0 } else { 1.0 };
        Ok(vec![stream("a", &hot), stream("b", &|_| 1.0)])
    }
}

const RULES: &str = "version: 1
rules:
  - {name: hot, interval: 1m, for: 2m, condition: {metric: load, fn: avg, window: 2m, by: [machine], combine: max, above: 5}}
  - {name: back-soon, interval: 1m, condition: {metric: load, by: [machine], combine: max, below: 5}}
";

async fn replayed(lab: &mut Lab, most: usize) -> (Vec<Outcome>, usize) {
    let rules = check_files(&mut lab.rig, &[("r.yaml".into(), RULES.into())]).await.unwrap();
    let past = Past { most, asked: RefCell::default() };
    let until = START + 25 * 60 * MINUTE;
    let replay = Replay {
        rules,
        routing: Arc::default(),
        everybody: vec!["chat".parse().unwrap()],
        from: START + 60 * MINUTE,
        until,
    };
    let mut seen = Vec::new();
    let record = replay.run(&mut lab.rig, &past, |at| seen.push(at)).await.unwrap();
    assert_eq!(seen.last(), Some(&until));
    assert!(seen.is_sorted());
    let asked = past.asked.into_inner();
    assert!(asked.iter().all(|range| range.end - range.start <= 6 * 60 * MINUTE));
    (outcomes(&record, &replay.rules, until), asked.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_says_what_would_have_fired_and_is_the_same_in_small_parts() {
    let mut lab = Lab::new(&["alert-dsl"]);
    lab.rig.set_up(&Default::default()).await.unwrap();
    let (whole, requests) = replayed(&mut lab, usize::MAX).await;
    let (parts, more_requests) = replayed(&mut lab, 100).await;
    assert_eq!(whole, parts);
    assert!(more_requests > 2 * requests, "{more_requests} after {requests}");
    let of = |name: &str| whole.iter().find(|one| one.rule == name).unwrap();
    let hot = of("hot");
    // Once in each of 48 half hours: from the fourth minute on, until the eleventh.
    assert_eq!((hot.fired, hot.alerts, hot.flaps, hot.firing_now), (48, 1, 0, 0), "{hot:?}");
    assert_eq!((hot.longest_ms, hot.firing_ms), (7 * MINUTE, 48 * 7 * MINUTE));
    assert_eq!(hot.pages, 48);
    // One machine all the time, the other again ten minutes after each end.
    let back = of("back-soon");
    assert_eq!((back.fired, back.alerts, back.flaps, back.firing_now), (49, 2, 47, 1), "{back:?}");
    assert_eq!(back.failed, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_look_shows_what_was_asked_and_answered_and_what_holds() {
    let mut lab = Lab::new(&["alert-dsl"]);
    lab.rig.set_up(&Default::default()).await.unwrap();
    let rules = check_files(&mut lab.rig, &[("r.yaml".into(), RULES.into())]).await.unwrap();
    let past = Past { most: usize::MAX, asked: RefCell::default() };
    for (at, holds) in [(START + 5 * MINUTE, 1), (START + 15 * MINUTE, 0)] {
        let seen = look(&mut lab.rig, &rules[0], &past, at).await.unwrap();
        assert_eq!((seen.failed, seen.holds.len()), (None, holds));
        let asked = &seen.asked[0];
        assert_eq!(
            (asked.query.selector.to_string(), asked.query.window_ms),
            ("load".into(), 120_000)
        );
        let answer = asked.answer.as_ref().unwrap();
        assert_eq!(answer.len(), 2);
        assert_eq!(answer[0].0.get("machine"), Some("a"));
        assert_eq!(answer[0].1, if holds == 1 { 9.0 } else { 1.0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_past_that_is_not_to_be_had_ends_the_replay() {
    struct Gone;
    #[async_trait(?Send)]
    impl History for Gone {
        async fn samples(&self, _: &Selector, _: TimeRange) -> Result<Vec<Stream>, HistoryError> {
            Err(HistoryError::Failed("the server went away".into()))
        }
    }
    let mut lab = Lab::new(&["alert-dsl"]);
    lab.rig.set_up(&Default::default()).await.unwrap();
    let rules = check_files(&mut lab.rig, &[("r.yaml".into(), RULES.into())]).await.unwrap();
    let replay = Replay {
        rules,
        routing: Arc::default(),
        everybody: Vec::new(),
        from: START,
        until: START + MINUTE,
    };
    let failed = replay.run(&mut lab.rig, &Gone, |_| {}).await.unwrap_err();
    assert_eq!(failed.to_string(), "the server went away");
}
