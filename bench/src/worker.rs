//! The worker, whole: decode → verify → transform (WASM) → windows → commit, packing included.
//!
//! 8,000 series of four agents, a batch of 2,000 an agent every 10 s of their time, SQLite
//! with `synchronous=FULL`. CPU time of all threads; making and signing the batches is left
//! out, publishing them to the embedded bus is in.

use crate::COMPILE_CHILD;
use crate::built::Built;
use crate::cpu;
use crate::row::{Better, Row};
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use prometheus::Registry;
use prost::Message as _;
use sentinel_bus::{Bus, EmbeddedBus, EmbeddedOptions, Message, MessageId};
use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::codec;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch, Position};
use sentinel_runtime::{CompilerCommand, NoSecrets, Runtime, RuntimeOptions};
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_store::{Store, StoreError};
use sentinel_wire::envelope::{Content, Record, open, seal};
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::Envelope;
use sentinel_worker::clock::Clock;
use sentinel_worker::config::WorkerConfig;
use sentinel_worker::ingest::AgentKeys;
use sentinel_worker::{Worker, WorkerOptions, WorkerParts};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub(crate) const AGENTS: usize = 4;
pub(crate) const ROWS: usize = 2000;
pub(crate) const TICK_MS: i64 = 10_000;
/// How long after each other the agents send.
pub(crate) const STAGGER_MS: i64 = 2_500;
/// Ticks of one hour.
pub(crate) const HOUR_TICKS: i64 = 360;
/// Hours of the agents' time.
const HOURS: i64 = 12;
/// A whole hour.
pub(crate) const START: i64 = 1_760_000_400_000;

/// Knows one key, whoever asks.
pub(crate) struct Keys(pub(crate) AgentKey);

#[async_trait]
impl AgentKeys for Keys {
    async fn keys(&self, _: &AgentId) -> Result<Vec<AgentKey>, StoreError> {
        Ok(vec![self.0.clone()])
    }
}

struct SimulatedClock(AtomicI64);

impl Clock for SimulatedClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters, gauges with decimals, sizes, constants and noise.
pub(crate) struct Generator {
    templates: Vec<Batch>,
    state: Vec<i64>,
    random: u64,
    /// When the first tick is, unix milliseconds.
    start: i64,
    /// What takes the place of a series' value at a tick.
    other: fn(usize, i64) -> Option<f64>,
}

impl Generator {
    pub(crate) fn new() -> Self {
        Self::with(START, |_, _| None)
    }

    /// Begins at a time, with other values for some series at some ticks.
    pub(crate) fn with(start: i64, other: fn(usize, i64) -> Option<f64>) -> Self {
        let templates = (0..AGENTS).map(|_| template()).collect();
        let state = (0..AGENTS * ROWS).map(|s| 1_000_000 + s as i64 * 7919).collect();
        Self { templates, state, random: 88_172_645_463_325_252, start, other }
    }

    fn value(&mut self, series: usize, tick: i64) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let lot = (self.random >> 20) as i64;
        let state = &mut self.state[series];
        match series % 20 {
            0..=4 => (series % 3) as f64,
            k @ 5..=9 => {
                *state += lot.rem_euclid(1000) * if k < 7 { 1 } else { 37 };
                *state as f64
            }
            10..=13 => {
                *state = (*state % 10_000_000 + lot.rem_euclid(101) - 50).clamp(0, 10_000_000);
                *state as f64 / 100.0
            }
            14..=16 => {
                *state += lot.rem_euclid(401) - 200;
                *state as f64 * 4096.0
            }
            17 => (lot & 0xfff_ffff_ffff) as f64 / (1u64 << 44) as f64,
            _ => {
                if tick % 6 == 0 {
                    *state += lot.rem_euclid(301) - 150;
                }
                *state as f64 * 4096.0
            }
        }
    }

    pub(crate) fn batch(&mut self, agent: usize, tick: i64) -> Batch {
        let mut columns = self.templates[agent].clone().into_columns();
        columns.time.fill(self.start + (tick - 1) * TICK_MS + agent as i64 * STAGGER_MS);
        for row in 0..ROWS {
            let value = self.value(agent * ROWS + row, tick);
            columns.value[row] = (self.other)(agent * ROWS + row, tick).unwrap_or(value);
        }
        Batch::new(columns).expect("a valid batch")
    }
}

fn template() -> Batch {
    let mut builder = BatchBuilder::new();
    for row in 0..ROWS {
        let instance = format!("instance-{}", row / 50);
        let labels = [
            ("instance", instance.as_str()),
            ("job", "node"),
            ("env", "production"),
            ("zone", "eu-1"),
        ];
        builder.push(&format!("metric_{}", row % 50), labels, Kind::Gauge, 0.0, 0);
    }
    builder.build().expect("a valid batch")
}

/// A worker on some store.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    bus: Arc<EmbeddedBus>,
    pub(crate) worker: Worker,
    /// Where time is simulated.
    clock: Option<Arc<SimulatedClock>>,
    key: AgentKey,
    pub(crate) agents: Vec<AgentId>,
    pub(crate) registry: Registry,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// Starts it in simulated time, with a transform and a rule that reads one series of fifty, so
    /// that windows have work.
    pub(crate) async fn start(store: Arc<dyn Store>) -> Result<Self> {
        let rules = json!({ "version": 1, "applied_at": 0, "rules": [{
            "name": "window", "interval": "1m",
            "condition": { "metric": "metric_7", "fn": "avg", "window": "10m", "above": 1e18 },
        }] });
        store.save_rules(&serde_json::from_value(rules)?).await?;
        let transforms = json!([{ "slot": "rows", "plugin": "sentinel/rows", "config": { "rules": [
            { "set_label": { "label": "env", "value": "prod" } },
            { "drop": { "select": { "name": "go_*" } } },
        ] } }]);
        let clock = Arc::new(SimulatedClock(AtomicI64::new(START)));
        let bench = Self::with(store, transforms, Arc::clone(&clock) as Arc<_>).await?;
        Ok(Self { clock: Some(clock), ..bench })
    }

    /// Starts it with the rules that the store has.
    pub(crate) async fn with(
        store: Arc<dyn Store>,
        transforms: serde_json::Value,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let registry = Registry::new();
        let bus_folder = dir.path().join("bus");
        std::fs::create_dir(&bus_folder)?;
        let bus = Arc::new(EmbeddedBus::open(&bus_folder, EmbeddedOptions::default())?);
        let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
        let runtime = Runtime::start(RuntimeOptions::new(dir.path(), compiler, registry.clone()))?;
        let config: WorkerConfig = serde_json::from_value(json!({
            "transforms": transforms,
            "evaluators": [{ "slot": "alert-dsl", "plugin": "sentinel/alert-dsl", "grants": { "series": true } }],
        }))?;
        let mut options = WorkerOptions::new("bench", config);
        options.maintain = false;
        let key = AgentKey::random(1);
        let parts = WorkerParts {
            store: Arc::clone(&store),
            bus: Arc::clone(&bus) as Arc<_>,
            runtime,
            plugins: Arc::new(Built::open()?),
            keys: Arc::new(Keys(key.clone())),
            secrets: Arc::new(NoSecrets),
            clock,
            metrics: registry.clone(),
        };
        let worker = Worker::start(options, parts).await?;
        let agents =
            (0..AGENTS).map(|i| AgentId::new(&format!("agent-{i}"))).collect::<Result<_, _>>()?;
        Ok(Self { store, bus, worker, clock: None, key, agents, registry, _dir: dir })
    }

    /// What the agents send at a tick.
    pub(crate) fn sealed(&self, generator: &mut Generator, tick: i64) -> Vec<(Message, Envelope)> {
        let epoch = Epoch([1; 16]);
        let seal_one = |(i, agent): (usize, &AgentId)| {
            let payload = Bytes::from(codec::encode(&generator.batch(i, tick)));
            let position = Position { epoch, seq: tick as u64 };
            let record = Record {
                agent: agent.clone(),
                position,
                attempt: 1,
                content: Content::Batch(payload),
            };
            let envelope = seal(&record, &self.key, START, [0; 16]);
            let id = MessageId { agent: agent.clone(), epoch, seq: tick as u64, attempt: 1 };
            (Message { id, payload: Bytes::from(envelope.encode_to_vec()) }, envelope)
        };
        self.agents.iter().enumerate().map(seal_one).collect()
    }

    /// Publishes what the agents send at a tick, and waits until it is committed.
    pub(crate) async fn publish(
        &self,
        tick: i64,
        messages: impl Iterator<Item = Message>,
    ) -> Result<()> {
        if let Some(clock) = &self.clock {
            clock.0.store(START + tick * TICK_MS, Ordering::Relaxed);
        }
        for message in messages {
            self.hand_over(message).await?;
        }
        // The agents' next batches come 10 s later. The bus is asked, which is here: each question to the store would be
        // work of a database that nobody but the bench gives it.
        while self.bus.depth().messages > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Publishes what one agent sends.
    pub(crate) async fn hand_over(&self, message: Message) -> Result<()> {
        Ok(self.bus.publish(message).await?)
    }

    pub(crate) async fn committed(&self, tick: i64) -> Result<()> {
        for agent in &self.agents {
            while self.store.stream_state(agent, Epoch([1; 16])).await?.committed < tick as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }

    /// A quantile of the commits' times in milliseconds, interpolated in its bucket.
    fn commit_ms(&self, quantile: f64) -> Result<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == "sentinel_worker_commit_seconds");
        let histogram = family.and_then(|f| f.get_metric().first()).context("commit_seconds")?;
        let histogram = histogram.get_histogram();
        let wanted = histogram.get_sample_count() as f64 * quantile;
        let (mut below, mut from) = (0.0, 0.0);
        for bucket in histogram.get_bucket() {
            let count = bucket.cumulative_count() as f64;
            if count >= wanted {
                let share = (wanted - below) / (count - below).max(1.0);
                return Ok((from + (bucket.upper_bound() - from) * share) * 1000.0);
            }
            (below, from) = (count, bucket.upper_bound());
        }
        Ok(from * 1000.0)
    }
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("bench.db");
    let bench =
        Bench::start(Arc::new(SqliteStore::open(&path, StoreOptions::default()).await?)).await?;
    let mut generator = Generator::new();
    let (mut used, mut packing, mut decode, mut verify) = (0.0, 0.0, 0.0, 0.0);
    let ticks = HOURS * HOUR_TICKS;
    for first in (1..=ticks).step_by(36) {
        let chunk: Vec<i64> = (first..first + 36).collect();
        let sealed: Vec<_> =
            chunk.iter().flat_map(|tick| bench.sealed(&mut generator, *tick)).collect();
        let before = cpu::own();
        for (_, envelope) in &sealed {
            open(envelope, &bench.key)?;
        }
        verify += cpu::own() - before;
        let before = cpu::own();
        for (_, envelope) in &sealed {
            codec::decode(&envelope.payload)?;
        }
        decode += cpu::own() - before;

        let last = first + 35;
        let before = cpu::own();
        let mut messages = sealed.into_iter().map(|(message, _)| message);
        for tick in chunk {
            bench.publish(tick, messages.by_ref().take(AGENTS)).await?;
        }
        let now = cpu::own();
        while bench.store.maintain(START + last * TICK_MS).await?.1 {}
        packing += cpu::own() - now;
        used += cpu::own() - before;
    }
    // The last hour is packed like those before it.
    let before = cpu::own();
    while bench.store.maintain(START + (ticks + 720) * TICK_MS).await?.1 {}
    let rest = cpu::own() - before;
    let (used, packing) = (used + rest, packing + rest);

    let samples = (ticks * (AGENTS * ROWS) as i64) as f64;
    let sizes = bench.store.sizes().await?;
    ensure!(
        sizes.packed_samples as f64 == samples,
        "{} of {samples} samples are packed",
        sizes.packed_samples
    );
    let status = bench.worker.status().await;
    let slot = status.slots.iter().find(|s| s.name.as_str() == "rows").context("the slot rows")?;
    let transform = slot.guest_seconds;
    let (p50, p99) = (bench.commit_ms(0.5)?, bench.commit_ms(0.99)?);
    let share = |seconds: f64| (seconds / used * 1000.0).round() / 10.0;
    let detail = json!({
        "samples": samples,
        "cpu_seconds": used,
        "share_percent": {
            "verify": share(verify), "decode": share(decode), "transform (wasm)": share(transform),
            "packing": share(packing),
            "bus, label, windows, commit": share(used - verify - decode - transform - packing),
        },
    });
    bench.worker.shutdown().await;
    bench.store.close().await?;
    // The log of changes, bounded whatever the number of samples, is written back by now.
    let file = std::fs::metadata(path)?.len();
    let bytes = (file - sizes.free_bytes) as f64 / samples;
    Ok(vec![
        Row::new(
            "worker-samples-per-cpu-s",
            samples / used,
            (Better::Higher, 1e6),
            "samples/s",
            detail,
        ),
        Row::new(
            "store-bytes-per-sample",
            bytes,
            (Better::Lower, 2.0),
            "B",
            json!({ "hours": HOURS, "file_bytes": file, "of_it_free": sizes.free_bytes }),
        ),
        Row::new(
            "commit-p99-ms",
            p99,
            (Better::Lower, 5.0),
            "ms",
            json!({ "p50": p50, "packing": "between commits" }),
        ),
    ])
}
