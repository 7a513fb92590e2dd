//! What a worker's rules hold after any course of events is what they hold when everything is
//! read anew: random rules of sentinel/alert-dsl, as it is built, on the worker's own windows.
//!
//! The one that lives takes samples as they come, forgets the old ones, keeps what its evaluator
//! remembers; its rules change, its evaluator is replaced, it starts again. The other has empty
//! windows each time, takes all samples from the store and loads its rules into the evaluator.
//! Both must give the same outcomes to the last bit.

mod conditions;
#[path = "../lab/mod.rs"]
mod lab;
mod random;
mod streams;

use parking_lot::RwLock;
use random::Random;
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::series::Labels;
use sentinel_registry_client::PluginSource as _;
use sentinel_runtime::evaluator::{
    Answer, Condition, Need, Outcome, Query, QueryError, SeriesSource,
};
use sentinel_runtime::{Services, Slot, SlotSpec};
use sentinel_store::query::SeriesInfo;
use sentinel_worker::windows::{MARGIN_MS, Windows};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streams::{Arrival, LASTS_MS, Streams, streams};

sentinel_runtime::compile_child_hook!();

/// Rules that read the same series.
const RULES_A_WORLD: usize = 20;
/// One world of so many has more samples than windows are made of one by one.
const DENSE_ONE_OF: usize = 6;
/// Evaluations of a world.
const STEPS: i64 = 7;

#[derive(Default)]
struct World {
    windows: RwLock<Windows>,
}

impl SeriesSource for World {
    fn ask(&self, at: i64, queries: &[Query]) -> Vec<Result<Answer, QueryError>> {
        let windows = self.windows.read();
        queries.iter().map(|query| windows.ask(at, query)).collect()
    }

    fn labels_of(&self, ids: &[u64]) -> Vec<Labels> {
        let windows = self.windows.read();
        ids.iter().map(|id| windows.labels(*id).cloned().unwrap_or_default()).collect()
    }
}

/// Rules that passed the check, and what they read.
#[derive(Clone, Default)]
struct Rules {
    texts: Vec<String>,
    needs: Vec<Need>,
}

impl Rules {
    async fn random(random: &mut Random, slot: &Slot, count: usize) -> Self {
        let mut rules = Self::default();
        while rules.texts.len() < count {
            let text = conditions::condition(random).to_string();
            // Some are no conditions: two numbers compared, or nothing that is measured.
            if let Ok(plan) = slot.check(&text).await {
                rules.texts.push(text);
                rules.needs.extend(plan.needs);
            }
        }
        rules
    }

    fn conditions(&self) -> Vec<Condition> {
        let condition =
            |(at, text): (usize, &String)| Condition { rule: format!("r{at}"), text: text.clone() };
        self.texts.iter().enumerate().map(condition).collect()
    }
}

/// Everything that came by some time, as a store has it.
#[derive(Default)]
struct Stored(BTreeMap<usize, BTreeMap<i64, f64>>);

impl Stored {
    fn fill(&self, streams: &Streams, windows: &mut Windows) {
        for (&series, samples) in &self.0 {
            let (id, key) = (series as u32 + 1, streams.keys[series].clone());
            windows.adopt(vec![SeriesInfo { id, key, kind: 0 }]);
            let (times, values): (Vec<i64>, Vec<f64>) =
                samples.iter().map(|(time, value)| (*time, *value)).unzip();
            windows.merge(id, &times, &values);
        }
    }

    /// Windows for what rules read, filled.
    fn windows(&self, streams: &Streams, needs: &[Need]) -> Windows {
        let mut windows = Windows::default();
        for load in windows.set_needs(needs) {
            windows.filled(&load);
        }
        self.fill(streams, &mut windows);
        windows
    }
}

/// A worker's windows and its evaluator.
struct Side {
    world: Arc<World>,
    slot: Slot,
    spec: SlotSpec,
}

impl Side {
    async fn new(lab: &lab::Lab, name: &str) -> Self {
        let world = Arc::new(World::default());
        let plugin = "sentinel/alert-dsl".parse().unwrap();
        let spec = SlotSpec {
            name: name.parse().unwrap(),
            component: lab.plugins.resolve(&plugin).await.unwrap(),
            config: json!({}),
            grants: serde_json::from_value(json!({ "series": true })).unwrap(),
        };
        let series = Arc::clone(&world) as Arc<dyn SeriesSource>;
        let services = Services { series, ..Services::none() };
        let slot = Slot::start(&lab.runtime, spec.clone(), services).await.unwrap();
        Self { world, slot, spec }
    }

    async fn load(&self, rules: &Rules) {
        self.slot.load_conditions(rules.conditions()).await.unwrap();
    }

    async fn evaluate(&self, indexes: &[u32], at: i64) -> Vec<Result<Outcome, String>> {
        let outcomes = self.slot.evaluate(indexes.to_vec(), at).await.unwrap();
        outcomes.into_iter().map(|one| one.map_err(|why| why.to_string())).collect()
    }
}

/// Takes samples as they were committed, some at a time.
fn push(windows: &mut Windows, streams: &Streams, arrivals: &[Arrival]) {
    for part in arrivals.chunks(50) {
        let mut builder = BatchBuilder::new();
        for one in part {
            let key = &streams.keys[one.series];
            builder.push(&key.name, key.labels.iter(), Kind::Gauge, one.value, one.time);
        }
        let ids: Vec<u32> = part.iter().map(|one| one.series as u32 + 1).collect();
        windows.push(&builder.build().unwrap(), &ids);
    }
}

/// What was compared.
#[derive(Debug, Default)]
struct Compared {
    pairs: usize,
    evaluations: usize,
    /// Rules that held for something at some time.
    held: usize,
    /// Rules whose outcome was not always the same.
    changed: usize,
    failed: usize,
}

struct Course<'c> {
    random: Random,
    streams: Streams,
    stored: Stored,
    rules: Rules,
    living: &'c Side,
    fresh: &'c Side,
}

impl Course<'_> {
    /// What may happen to a worker between two evaluations.
    async fn happen(&mut self) {
        match self.random.below(8) {
            // It starts again.
            0 => {
                let windows = self.stored.windows(&self.streams, &self.rules.needs);
                *self.living.world.windows.write() = windows;
                self.living.load(&self.rules).await;
            }
            // Its evaluator is replaced.
            1 => {
                self.living.slot.swap(self.living.spec.clone()).await.unwrap();
            }
            // The rules are others, of which it knew some.
            2 => {
                let more = RULES_A_WORLD / 2;
                let others = Rules::random(&mut self.random, &self.living.slot, more).await;
                let before = self.rules.needs.clone();
                self.rules.texts.truncate(more);
                self.rules.texts.extend(others.texts);
                self.rules.needs.extend(others.needs);
                {
                    let mut windows = self.living.world.windows.write();
                    let both: Vec<Need> =
                        before.into_iter().chain(self.rules.needs.iter().cloned()).collect();
                    let loads = windows.set_needs(&both);
                    self.stored.fill(&self.streams, &mut windows);
                    loads.iter().for_each(|load| windows.filled(load));
                    windows.set_needs(&self.rules.needs);
                }
                self.living.load(&self.rules).await;
            }
            _ => {}
        }
    }

    async fn run(mut self, compared: &mut Compared) {
        *self.living.world.windows.write() = self.stored.windows(&self.streams, &self.rules.needs);
        self.living.load(&self.rules).await;
        let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut held = BTreeSet::new();
        let mut taken = 0;
        for step in 0..STEPS {
            let now = (step + 1) * LASTS_MS / STEPS - self.random.below(20_000) as i64;
            let until = self.streams.arrivals.partition_point(|one| one.comes <= now);
            let came = &self.streams.arrivals[taken..until];
            taken = until;
            for one in came {
                self.stored.0.entry(one.series).or_default().insert(one.time, one.value);
            }
            {
                let mut windows = self.living.world.windows.write();
                push(&mut windows, &self.streams, came);
                windows.forget(now);
            }
            self.happen().await;
            let late = if self.random.one_in(3) { self.random.below(MARGIN_MS as u64) } else { 0 };
            let at = now - late as i64;
            let all = 0..self.rules.texts.len() as u32;
            let some: Vec<u32> = all.filter(|_| !self.random.one_in(4)).collect();
            let living = self.living.evaluate(&some, at).await;
            *self.fresh.world.windows.write() =
                self.stored.windows(&self.streams, &self.rules.needs);
            self.fresh.load(&self.rules).await;
            let fresh = self.fresh.evaluate(&some, at).await;
            for ((index, living), fresh) in some.iter().zip(&living).zip(&fresh) {
                let text = &self.rules.texts[*index as usize];
                // NaN is not the same as itself, hence the text: it tells all other values apart.
                let (living, fresh) = (format!("{living:?}"), format!("{fresh:?}"));
                assert_eq!(living, fresh, "at {at} (now {now}), step {step}: {text}");
                compared.evaluations += 1;
                compared.failed += usize::from(living.starts_with("Err"));
                if !living.contains("active: []") && living.starts_with("Ok") {
                    held.insert(text.clone());
                }
                seen.entry(text.clone()).or_default().insert(living);
            }
        }
        compared.pairs += seen.len();
        compared.held += held.len();
        compared.changed += seen.values().filter(|outcomes| outcomes.len() > 1).count();
    }
}

/// Compares at least so many pairs of a rule and the streams that it reads.
async fn compare(pairs: usize, seed: u64) -> Compared {
    let lab = lab::Lab::new(&["alert-dsl"]);
    let (living, fresh) = (Side::new(&lab, "living").await, Side::new(&lab, "fresh").await);
    let mut compared = Compared::default();
    let mut number = 0;
    while compared.pairs < pairs {
        println!("world {number} of seed {seed}");
        let mut random = Random::new((seed << 20) | (number as u64 + 1));
        let streams = streams(&mut random, number % DENSE_ONE_OF == 1);
        let rules = Rules::random(&mut random, &living.slot, RULES_A_WORLD).await;
        let stored = Stored::default();
        let course = Course { random, streams, stored, rules, living: &living, fresh: &fresh };
        course.run(&mut compared).await;
        number += 1;
    }
    println!("{compared:?}");
    // Rules that never hold and never change would agree without saying anything.
    assert!(compared.held * 3 > compared.pairs, "{compared:?}");
    assert!(compared.changed * 3 > compared.pairs, "{compared:?}");
    assert!(compared.failed * 2 < compared.evaluations, "{compared:?}");
    compared
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_live_on_hold_as_if_everything_were_read_anew() {
    compare(300, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_ten_thousand_rules_that_live_on_hold_as_if_everything_were_read_anew() {
    let seed = std::env::var("SENTINEL_SEED").ok().and_then(|said| said.parse().ok());
    compare(10_000, seed.unwrap_or(2)).await;
}
