//! Windows come back from what was kept of them and the tail, whatever a process that ended left behind.

mod support;

use parking_lot::{Mutex, RwLock};
use proptest::collection::vec;
use proptest::prelude::*;
use sentinel_model::alert::AlertState;
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::duration::Millis;
use sentinel_model::ids::AgentId;
use sentinel_model::series::SeriesKey;
use sentinel_runtime::evaluator::{Aggregate, Answer, Need, Plan, Query};
use sentinel_store::Store;
use sentinel_store::format::{Codec, window};
use sentinel_store::ingest::{Commit, Content};
use sentinel_store::query::SeriesInfo;
use sentinel_store::tail::TailPosition;
use sentinel_store::windows::{WindowChange, WindowPart};
use sentinel_worker::checkpoint::{Checkpoint, recover};
use sentinel_worker::feed::{POLL, feed};
use sentinel_worker::keeper::LEASE;
use sentinel_worker::term::Term;
use sentinel_worker::windows::Windows;
use sentinel_worker::windows::load;
use sentinel_worker::windows::progress::until_whole;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::running::{Running, apply, journal, outcome, rule, stage, until_told};
use support::{EvaluatorFn, Rig, START, position, until};
use tokio::task::JoinSet;

/// Series, with ids from 1 on.
const SERIES: u64 = 700;
/// The parts of them.
const PARTS: usize = 3;
/// How far apart samples are, in milliseconds.
const TICK: i64 = 1_000;

/// All series once, at a tick.
async fn commit(rig: &Rig, seq: u64) {
    let mut builder = BatchBuilder::new();
    for number in 0..SERIES {
        let (text, value) = (number.to_string(), (number * seq) as f64);
        let labels = [("agent", "a"), ("number", text.as_str())];
        builder.push("load", labels, Kind::Gauge, value, START + seq as i64 * TICK);
    }
    let content = Content::Samples(Arc::new(builder.build().unwrap()));
    let (agent, epoch) = (AgentId::new("a").unwrap(), position(1).epoch);
    let commit = Commit { agent, epoch, seq, hash: [seq as u8; 32], content };
    rig.store.commit(vec![commit], START).await.unwrap();
}

fn need() -> Need {
    Need { selector: Arc::new("load".parse().unwrap()), window_ms: 60_000 }
}

/// Windows of one process, fed from the tail.
struct Fed {
    windows: Arc<RwLock<Windows>>,
    _feed: JoinSet<()>,
}

impl Fed {
    async fn new(rig: &Rig) -> Self {
        let windows: Arc<RwLock<Windows>> = Arc::default();
        let end = rig.store.tail_end().await.unwrap();
        windows.write().stands_at(end);
        let mut feeding = JoinSet::new();
        feeding.spawn(feed(rig.store.clone() as Arc<dyn Store>, windows.clone(), POLL));
        Self { windows, _feed: feeding }
    }

    /// From history alone.
    async fn of_history(rig: &Rig) -> Self {
        let fed = Self::new(rig).await;
        let loads = fed.windows.write().set_needs(&[need()]);
        load::load(&fed.windows, rig.store.as_ref(), &loads, START).await.unwrap();
        until_whole(&fed.windows).await;
        fed
    }

    /// From what is kept, where it is of use; and how many parts were.
    async fn of_parts(rig: &Rig) -> (Self, usize) {
        let fed = Self::new(rig).await;
        let loads = fed.windows.write().set_needs(&[need()]);
        let kept = load::load_kept(&fed.windows, rig.store.as_ref(), &loads, START).await.unwrap();
        match &kept {
            Some(_) => loads.iter().for_each(|load| fed.windows.write().filled(load)),
            None => load::load(&fed.windows, rig.store.as_ref(), &loads, START).await.unwrap(),
        }
        until_whole(&fed.windows).await;
        (fed, kept.map_or(0, |kept| kept.parts.len()))
    }

    fn answers(&self, at: i64) -> Vec<Answer> {
        let windows = self.windows.read();
        let of = [Aggregate::Last, Aggregate::Count, Aggregate::Sum, Aggregate::Increase];
        of.map(|aggregate| windows.ask(at, &query(aggregate)).unwrap()).into()
    }

    fn checkpoint(&self, rig: &Rig, term: Term) -> Checkpoint {
        checkpoint(rig, &self.windows, term)
    }
}

fn query(aggregate: Aggregate) -> Query {
    Query { aggregate, selector: need().selector, window_ms: 60_000, offset_ms: 0 }
}

fn checkpoint(rig: &Rig, windows: &Arc<RwLock<Windows>>, term: Term) -> Checkpoint {
    Checkpoint {
        store: rig.store.clone(),
        windows: windows.clone(),
        clock: rig.clock.clone(),
        metrics: rig.metrics.clone(),
        term,
    }
}

async fn same(rig: &Rig, what: &str, parts: usize) {
    let (back, found) = Fed::of_parts(rig).await;
    assert_eq!(found, parts, "{what}");
    let now = START + 60_000;
    let history = Fed::of_history(rig).await;
    assert!(history.answers(now)[0].value.len() == SERIES as usize);
    assert_eq!(back.answers(now), history.answers(now), "{what}");
}

#[tokio::test]
async fn windows_come_back_from_parts_and_tail_as_from_history() {
    let rig = Rig::new().await;
    for seq in 1..=5 {
        commit(&rig, seq).await;
    }
    same(&rig, "nothing is kept", 0).await;
    let one = Fed::of_history(&rig).await;
    assert!(one.checkpoint(&rig, Term::default()).turn(Duration::ZERO).await.unwrap());
    same(&rig, "all is kept, and nothing came since", PARTS).await;
    for seq in 6..=9 {
        commit(&rig, seq).await;
    }
    same(&rig, "more came since", PARTS).await;
    // Another version's, and one that is damaged: the rest is of use.
    let parts = rig.store.windows(0).await.unwrap();
    assert_eq!(parts.len(), PARTS);
    for spoil in [
        (|data: &mut Vec<u8>| data[3] = b'9') as fn(&mut Vec<u8>),
        |data| data[100] ^= 1,
        |data| data.truncate(20),
        Vec::clear,
    ] {
        let mut spoilt = parts[1].clone();
        spoil(&mut spoilt.data);
        let change = WindowChange { parts: vec![spoilt], ..WindowChange::default() };
        rig.store.save_windows(change).await.unwrap();
        same(&rig, "one is spoilt", PARTS - 1).await;
    }
    // A part in another one's place.
    let swapped = WindowPart { part: 0, ..parts[1].clone() };
    let change = WindowChange { parts: vec![swapped], ..WindowChange::default() };
    rig.store.save_windows(change).await.unwrap();
    same(&rig, "one is another", PARTS - 2).await;
}

#[tokio::test]
async fn who_ends_at_any_write_of_parts_leaves_what_is_good() {
    let rig = Rig::new().await;
    commit(&rig, 1).await;
    commit(&rig, 2).await;
    let first = Fed::of_history(&rig).await;
    first.checkpoint(&rig, Term::default()).turn(Duration::ZERO).await.unwrap();
    for part in 0..PARTS as u32 {
        // It goes on from where the one before left it, and ends after so many parts of a turn.
        let (next, found) = Fed::of_parts(&rig).await;
        assert_eq!(found, PARTS);
        let seq = 3 + 2 * u64::from(part);
        commit(&rig, seq).await;
        let all = (SERIES * seq) as usize;
        until("it came", async || next.windows.read().size().1 == all).await;
        let checkpoint = next.checkpoint(&rig, Term::default());
        checkpoint.write_parts(part..part + 1, START).await.unwrap().unwrap();
        drop(next);
        commit(&rig, seq + 1).await;
        same(&rig, &format!("it ended after part {part}"), PARTS).await;
    }
}

#[tokio::test]
async fn parts_of_other_rules_or_before_what_is_packed_are_not_used_and_those_that_are_no_more_go()
{
    let rig = Rig::new().await;
    commit(&rig, 1).await;
    let one = Fed::of_history(&rig).await;
    one.checkpoint(&rig, Term::default()).turn(Duration::ZERO).await.unwrap();
    let stale = WindowPart { part: 77, ..rig.store.windows(0).await.unwrap()[0].clone() };
    let change = WindowChange { parts: vec![stale], ..WindowChange::default() };
    rig.store.save_windows(change).await.unwrap();
    rig.clock.advance(1_000);
    one.checkpoint(&rig, Term::default()).turn(Duration::ZERO).await.unwrap();
    let left: Vec<u32> = rig.store.windows(0).await.unwrap().iter().map(|part| part.part).collect();
    assert_eq!(left, [0, 1, 2]);
    // Other rules.
    let other = Fed::new(&rig).await;
    other.windows.write().set_needs(&[Need { window_ms: 61_000, ..need() }]);
    let found = recover(rig.store.as_ref(), &other.windows).await.unwrap();
    assert!(found.is_none());
    // What came after them is packed.
    commit(&rig, 2).await;
    rig.store.maintain(START + 3 * 3_600_000).await.unwrap();
    same(&rig, "the tail is not whole", 0).await;
}

#[tokio::test]
async fn who_lost_the_lease_keeps_no_windows() {
    let rig = Rig::new().await;
    commit(&rig, 1).await;
    let fed = Fed::of_history(&rig).await;
    let lost = rig.store.take_lease(LEASE, "one", Millis(0)).await.unwrap().unwrap();
    rig.store.take_lease(LEASE, "two", Millis(60_000)).await.unwrap().unwrap();
    let term = Term::under(lost);
    assert!(fed.checkpoint(&rig, term.clone()).turn(Duration::ZERO).await.is_err());
    assert!(term.is_over());
    assert_eq!(rig.store.windows(0).await.unwrap(), []);
}

/// An evaluator that counts what it sees, at each call; its rules hold where that is anything.
fn counting(rig: &Rig) -> (Arc<EvaluatorFn>, Arc<Mutex<Vec<f64>>>) {
    let (windows, seen) = (rig.windows.clone(), Arc::<Mutex<Vec<f64>>>::default());
    let plan = |_: &str| Ok(Plan { needs: vec![need()], warnings: Vec::new() });
    let noted = seen.clone();
    let evaluator = EvaluatorFn::new(plan, move |_, at| {
        let answer = windows.read().ask(at, &query(Aggregate::Count)).unwrap();
        let count = answer.value.iter().sum();
        noted.lock().push(count);
        Ok(outcome(count > 0.0))
    });
    (evaluator, seen)
}

#[tokio::test]
async fn who_takes_over_goes_on_with_timers_and_alerts_over_all_that_was_committed() {
    // Whether the tail is packed while it is read: then there is history.
    for is_packed in [false, true] {
        let mut rig = Rig::new().await;
        rig.clock.advance(20_000);
        for seq in 1..=5 {
            commit(&rig, seq).await;
        }
        let (evaluator, _) = counting(&rig);
        stage(&rig, 1, &evaluator);
        let mut held = rule("held");
        held.hold = Millis(30_000);
        apply(&rig, 1, vec![rule("high"), held]).await;
        let one = Running::start(&rig, Duration::ZERO).await;
        until_told(&rig, 1).await;
        let pending = async || {
            let alerts = rig.store.alerts(0).await.unwrap();
            alerts.iter().any(|a| a.rule == "held" && a.state == AlertState::Pending)
        };
        until("one waits", pending).await;
        let checkpoint = checkpoint(&rig, &rig.windows, Term::default());
        assert!(checkpoint.turn(Duration::ZERO).await.unwrap());
        one.kill();
        for seq in 6..=7 {
            commit(&rig, seq).await;
        }
        rig.store = Arc::new(rig.store.reborn(None));
        if is_packed {
            rig.store.good_positions.store(1, Ordering::SeqCst);
        }
        rig.windows = Arc::default();
        let (evaluator, seen) = counting(&rig);
        let notifier = stage(&rig, 1, &evaluator);
        let two = Running::start(&rig, Duration::ZERO).await;
        until("it evaluates", async || evaluator.evaluated.lock().contains_key("held")).await;
        two.advance(&rig, 30_000);
        until_told(&rig, 2).await;
        two.stop().await;
        let rules: Vec<String> = journal(&rig)
            .await
            .iter()
            .map(|told| told.notification.alerts[0].rule.clone())
            .collect();
        assert_eq!(rules, ["high", "held"]);
        assert_eq!(notifier.asked.lock().len(), 1, "what the first told is not told again");
        let seen = std::mem::take(&mut *seen.lock());
        assert!(seen.iter().all(|count| *count == 7.0 * SERIES as f64), "{seen:?}");
        assert_eq!(rig.store.histories.load(Ordering::SeqCst) > 0, is_packed);
    }
}

type Rows = Vec<(u32, i64, f64)>;

fn adopt(windows: &mut Windows, ids: impl Iterator<Item = u32>) {
    let key = |id: u32| SeriesKey {
        name: "load".to_owned(),
        labels: [("number".to_owned(), id.to_string())].into_iter().collect(),
    };
    windows.adopt(ids.map(|id| SeriesInfo { id, key: key(id), kind: 0 }).collect());
}

fn need_of_all() -> Windows {
    let mut windows = Windows::default();
    windows.stands_at(TailPosition::from_text("0").unwrap());
    for load in windows.set_needs(&[need()]) {
        windows.filled(&load);
    }
    windows
}

/// Takes rows as the feed does.
fn push(windows: &mut Windows, rows: &Rows, seq: usize) {
    let ids: Vec<u32> = rows.iter().map(|row| row.0).collect();
    adopt(windows, ids.iter().copied());
    let times: Vec<i64> = rows.iter().map(|row| START + row.1).collect();
    let values: Vec<f64> = rows.iter().map(|row| row.2).collect();
    windows.push_known(&ids, &times, &values);
    windows.stands_at(TailPosition::from_text(&(seq + 1).to_string()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Each part at a moment of its own, samples late, twice, at one time, and forgotten meanwhile.
    #[test]
    fn parts_and_the_tail_from_the_earliest_are_all_that_was_committed(
        tail in vec(vec((1..SERIES as u32, -200_000..50_000_i64, any::<f64>()), 1..60), 1..20),
        few in vec(vec((1..4_u32, 0..20_i64, -5..5_i32), 1..20), 1..20),
        moments in vec(0..40_usize, PARTS),
    ) {
        // Wide batches and narrow ones that hit each other, in turn.
        let few = few.into_iter().map(|rows| {
            rows.into_iter().map(|(id, time, value)| (id * 200, time, f64::from(value))).collect()
        });
        let all: Vec<Rows> = tail.into_iter().chain(few).collect();
        let now = START + 50_000;
        let (mut first, mut history) = (need_of_all(), need_of_all());
        // Parts are of ids that are known from the beginning.
        adopt(&mut first, 1..SERIES as u32);
        let mut parts = Vec::new();
        let mut take = |windows: &mut Windows, moment: usize| {
            windows.forget(now);
            for (part, _) in moments.iter().enumerate().filter(|(_, at)| **at % (all.len() + 1) == moment) {
                let columns = windows.part(part as u32).unwrap().unwrap();
                parts.push(window::encode(&mut Codec::new(), &columns).unwrap());
            }
        };
        take(&mut first, 0);
        for (seq, rows) in all.iter().enumerate() {
            push(&mut first, rows, seq);
            push(&mut history, rows, seq);
            take(&mut first, seq + 1);
        }
        let mut back = need_of_all();
        adopt(&mut back, 1..SERIES as u32);
        let mut earliest = all.len();
        for part in &parts {
            let columns = window::decode(&mut Codec::new(), part).unwrap();
            earliest = earliest.min(columns.position.parse().unwrap());
            prop_assert!(back.restore(columns));
        }
        prop_assert_eq!(parts.len(), PARTS);
        for (seq, rows) in all.iter().enumerate().skip(earliest) {
            push(&mut back, rows, seq);
        }
        for aggregate in [Aggregate::Last, Aggregate::Count, Aggregate::Sum, Aggregate::Increase, Aggregate::Quantile(0.5)] {
            let query = Query { aggregate, selector: need().selector, window_ms: 60_000, offset_ms: 0 };
            let bits = |windows: &Windows| {
                let answer = windows.ask(now, &query).unwrap();
                (answer.series, answer.value.iter().map(|value| value.to_bits()).collect::<Vec<u64>>())
            };
            prop_assert_eq!(bits(&back), bits(&history));
        }
    }
}
