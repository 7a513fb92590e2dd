//! 10,000 rules, whole: samples come, rules are evaluated, alerts are stored; beside Prometheus
//! with rules that read an eighth as many series, on the same samples at the same time.
//!
//! 8,000 series of four agents with an hour of samples, a sample every 10 s. Rules select 1 to 20
//! series (mean 8) and look at the last value, or at windows of 5 minutes to an hour; they are
//! evaluated every 15 s, and Sentinel's also when samples come that they read. About one rule of
//! a hundred changes its state a round. Time is real, so the measurement takes as long as its
//! rounds. What is counted is the processor time of everything: taking the samples in too.

mod prometheus;

use crate::cpu;
use crate::row::{Better, Row};
use crate::worker::{AGENTS, Bench, Generator, HOUR_TICKS, ROWS, STAGGER_MS, TICK_MS};
use anyhow::{Result, ensure};
use prometheus::Prometheus;
use sentinel_bus::Message;
use sentinel_model::codec;
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_worker::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const RULES: usize = 10_000;
const ROUND_MS: i64 = 15_000;
/// Rounds before the measured ones: what holds at the start fires in the first.
const WARM_UP: i64 = 2;
const MEASURED: i64 = 6;
/// Prometheus, of Debian's package 2.42, took so many seconds of the processor a round.
const LIMIT_S: f64 = 0.9;
/// Values beyond it fire; others stay far below it. Over long windows only a spike that lasts
/// would: most rules are quiet, and those that are not change soon.
const LIMIT: f64 = 1e14;
const LONG_LIMIT: f64 = 5e17;
const SPIKE: f64 = 1e18;
/// How many ticks a spike lasts, and how many series have one at a time: one of so many.
const SPIKE_TICKS: i64 = 3;
const SPIKE_ONE_OF: u64 = 500;
/// How many series rules select: 8 on average.
const SELECTED: [usize; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20, 1, 5, 8, 6];
/// What rules make of a series: ours, PromQL's, and the window.
const FUNCTIONS: [(&str, &str, &str); 10] = [
    ("last", "", "5m"),
    ("last", "", "5m"),
    ("last", "", "5m"),
    ("last", "", "5m"),
    ("rate", "rate", "5m"),
    ("rate", "rate", "5m"),
    ("rate", "rate", "5m"),
    ("avg", "avg_over_time", "5m"),
    ("avg", "avg_over_time", "15m"),
    ("min", "min_over_time", "1h"),
];
/// Instances of a metric at an agent, and metrics.
const INSTANCES: usize = 40;
const METRICS: usize = 50;

/// Spikes, the same in every run.
fn spike(series: usize, tick: i64) -> Option<f64> {
    let mut lot = (series as u64) << 32 | (tick / SPIKE_TICKS) as u64;
    lot = (lot ^ lot >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    lot = (lot ^ lot >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (lot ^ lot >> 33).is_multiple_of(SPIKE_ONE_OF).then_some(SPIKE)
}

fn function(rule: usize) -> (&'static str, &'static str, &'static str) {
    FUNCTIONS[rule / 11 % FUNCTIONS.len()]
}

fn limit(rule: usize) -> f64 {
    if function(rule).2 == "5m" { LIMIT } else { LONG_LIMIT }
}

/// The metric and the agent that a rule reads, and the first of its instances.
fn place(rule: usize) -> (String, String, usize) {
    let metric = format!("metric_{}", rule % METRICS);
    (metric, format!("agent-{}", rule / METRICS % AGENTS), rule / 200 % INSTANCES)
}

/// One of our rules. Every other one makes one value of its series.
fn rule(at: usize) -> Value {
    let (metric, agent, first) = place(at);
    let count = SELECTED[at / 3 % SELECTED.len()];
    let instances: Vec<String> =
        (0..count).map(|i| format!("instance-{}", (first + 2 * i) % INSTANCES)).collect();
    let instance = match instances.as_slice() {
        [only] => json!(only),
        several => json!({ "regex": several.join("|") }),
    };
    let (function, _, window) = function(at);
    let mut condition = json!({
        "metric": metric, "match": { "agent": agent, "instance": instance },
        "fn": function, "window": window, "above": limit(at),
    });
    if at.is_multiple_of(2) {
        condition["by"] = json!(["agent"]);
        condition["combine"] = json!("avg");
    }
    json!({ "name": format!("rule-{at:05}"), "interval": "15s", "condition": condition })
}

/// Samples of ticks, in the order of time.
struct Feed {
    generator: Generator,
    start: i64,
    next: i64,
    /// What agents send, and when.
    messages: VecDeque<(i64, Message)>,
}

impl Feed {
    fn due(&self, tick: i64, agent: usize) -> i64 {
        self.start + (tick - 1) * TICK_MS + agent as i64 * STAGGER_MS
    }

    /// Makes the next tick: for the worker, and for Prometheus.
    fn make(&mut self, bench: &Bench, prometheus: &Prometheus, is_ready_made: bool) -> Result<()> {
        let tick = self.next;
        self.next += 1;
        let sealed = bench.sealed(&mut self.generator, tick);
        let mut values = Vec::with_capacity(AGENTS * ROWS);
        for (agent, (message, envelope)) in sealed.into_iter().enumerate() {
            values.extend_from_slice(&codec::decode(&envelope.payload)?.value);
            self.messages.push_back((self.due(tick, agent), message));
        }
        let times: Vec<i64> = (0..AGENTS).map(|agent| self.due(tick, agent)).collect();
        prometheus.offer(times, values, is_ready_made);
        Ok(())
    }

    /// Hands over what is due by `until`, each at its time.
    async fn hand_over(&mut self, bench: &Bench, until: i64) -> Result<()> {
        while let Some((due, message)) = self.messages.pop_front() {
            if due > until {
                self.messages.push_front((due, message));
                break;
            }
            sleep_until(due).await;
            bench.hand_over(message).await?;
        }
        sleep_until(until).await;
        Ok(())
    }
}

async fn sleep_until(time: i64) {
    let wait = u64::try_from(time - SystemClock.now()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(wait)).await;
}

/// What was counted by some time.
struct Counts {
    cpu: f64,
    prometheus_cpu: f64,
    done: u64,
    failed: u64,
    missed: u64,
}

fn counts(bench: &Bench, prometheus: &Prometheus) -> Result<Counts> {
    let families = bench.registry.gather();
    let family = families.iter().find(|f| f.name() == "sentinel_worker_evaluations_total");
    let count = |outcome: &str| {
        let of = family.into_iter().flat_map(|family| family.get_metric());
        let found = of.filter(|one| one.get_label().iter().any(|l| l.value() == outcome));
        found.map(|one| one.get_counter().get_value() as u64).sum()
    };
    Ok(Counts {
        cpu: cpu::own(),
        prometheus_cpu: prometheus.cpu()?,
        done: count("done"),
        failed: count("failed"),
        missed: count("missed"),
    })
}

/// Waits, as long as the machine needs, until the rules were evaluated once.
async fn first_round(bench: &Bench) -> Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let status = bench.worker.status().await;
        if status.rules.evaluated == RULES {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(600), "not all rules: {:?}", status.rules);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Rules whose alerts changed from `from` on.
async fn changed(bench: &Bench, from: i64) -> Result<usize> {
    let history = bench.store.history(1_000_000).await?;
    let rules: BTreeSet<(&str, i64)> = history
        .iter()
        .filter(|one| one.at >= from)
        .map(|one| (one.rule.as_str(), one.at / ROUND_MS))
        .collect();
    Ok(rules.len())
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let store = SqliteStore::open(&dir.path().join("bench.db"), StoreOptions::default()).await?;
    let bench = Bench::with(Arc::new(store), json!([]), Arc::new(SystemClock)).await?;
    let now = SystemClock.now();
    let start = now - now.rem_euclid(TICK_MS) - HOUR_TICKS * TICK_MS;
    let generator = Generator::with(start, spike);
    let mut feed = Feed { generator, start, next: 1, messages: VecDeque::new() };
    let prometheus = Prometheus::start(dir.path(), &bench.agents)?;

    // The hour, and what comes while it is taken in.
    while feed.due(feed.next, AGENTS) <= SystemClock.now() {
        feed.make(&bench, &prometheus, false)?;
        let until = feed.due(feed.next - 1, AGENTS);
        feed.hand_over(&bench, until).await?;
        bench.committed(feed.next - 1).await?;
    }
    prometheus.has_taken_all()?;
    // Made beforehand, so that making them is not measured.
    let rules: Vec<Value> = (0..RULES).map(rule).collect();
    let rules = json!({ "version": 1, "applied_at": 0, "rules": rules });
    bench.store.save_rules(&serde_json::from_value(rules)?).await?;
    bench.worker.rules_changed();
    prometheus.load_rules()?;
    first_round(&bench).await?;
    let now = SystemClock.now();
    let from = now - now.rem_euclid(ROUND_MS) + (1 + WARM_UP) * ROUND_MS + ROUND_MS / 3;
    let until = from + MEASURED * ROUND_MS;
    while feed.due(feed.next, 0) <= until {
        feed.make(&bench, &prometheus, true)?;
    }
    feed.hand_over(&bench, from).await?;
    let before = counts(&bench, &prometheus)?;
    feed.hand_over(&bench, until).await?;
    let after = counts(&bench, &prometheus)?;

    let rounds = MEASURED as f64;
    let failed = after.failed - before.failed;
    ensure!(failed == 0, "{failed} evaluations failed: {:?}", bench.worker.status().await.rules);
    let evaluations = (after.done - before.done) as f64 / rounds;
    ensure!(evaluations >= RULES as f64, "only {evaluations} evaluations a round");
    let changes = changed(&bench, from).await? as f64 / rounds;
    ensure!(changes >= RULES as f64 * 0.008, "only {changes} rules changed a round");
    let own = (after.cpu - before.cpu) / rounds;
    let yardstick = (after.prometheus_cpu - before.prometheus_cpu) / rounds;
    let detail = json!({
        "rules": RULES,
        "series_a_rule": 8,
        "evaluations_a_round": evaluations,
        "missed": after.missed - before.missed,
        "rules_changed_a_round": changes,
        "prometheus_cpu_s": yardstick,
        "prometheus": prometheus.said()?,
        "unoptimised": cfg!(debug_assertions),
    });
    bench.worker.shutdown().await;
    bench.store.close().await?;
    Ok(vec![
        Row::new("rules-round-cpu-s", own, (Better::Lower, LIMIT_S), "s", detail.clone()),
        Row::new("rules-cpu-vs-prometheus", own / yardstick, (Better::Lower, 1.0), "×", detail),
    ])
}
