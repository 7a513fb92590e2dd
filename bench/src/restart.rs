//! A worker that ends in the middle of its work and begins again, with windows over a million series.
//!
//! It is a process of its own on PostgreSQL. It is killed once all its windows were kept; then a minute more is
//! committed, and it is started again. What is measured goes from its start to the moment at which all rules are in
//! force over whole windows; beside it stands when each of them was evaluated.

use crate::COMPILE_CHILD;
use crate::built::Built;
use crate::cpu;
use crate::deployed::given;
use crate::row::{Better, Row};
use crate::worker::Keys;
use anyhow::{Context, Result, ensure};
use prometheus::Registry;
use sentinel_bus::{EmbeddedBus, EmbeddedOptions};
use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_runtime::{CompilerCommand, NoSecrets, Runtime, RuntimeOptions};
use sentinel_store::Store;
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_test_services::{Postgres, Services};
use sentinel_wire::key::AgentKey;
use sentinel_worker::clock::{Clock as _, SystemClock};
use sentinel_worker::config::WorkerConfig;
use sentinel_worker::{Worker, WorkerOptions, WorkerParts};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The hidden argument under which this binary is the worker.
pub(crate) const RESTART_CHILD: &str = "internal-restart";

/// How many series; `SENTINEL_RESTART_SERIES` takes fewer, to try it out.
const SERIES: usize = 1_000_000;
/// Of an agent: a batch has each of them once.
const ROWS: usize = 2_000;
/// Series of a metric at an agent.
const INSTANCES: usize = 20;
const METRICS: usize = ROWS / INSTANCES;
/// Rules that read a metric, and so each of its series.
const FUNCTIONS: [&str; 5] = ["last", "avg", "min", "max", "rate"];
const RULES: usize = METRICS * FUNCTIONS.len();
/// Samples of each series that are committed before it is killed: what five minutes have, one every 10 s.
const TICKS: i64 = 30;
/// The same of a minute, committed after.
const TAIL_TICKS: i64 = 6;
/// Between two of them at least.
const PAUSE: Duration = Duration::from_millis(100);
/// Batches committed at once.
const AT_ONCE: usize = 25;
/// How long anything but the measured may take.
const PATIENCE: Duration = Duration::from_secs(1_200);
const LIMIT_S: f64 = 10.0;

/// What the worker is told.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    database: String,
    folder: PathBuf,
}

/// What the worker says, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// The store is open.
    Opened,
    /// All rules are in force.
    InForce { series: usize, samples: usize, recovery_s: f64 },
    /// Each was evaluated.
    Evaluated,
}

fn rules() -> Vec<Value> {
    let names = (0..METRICS).flat_map(|metric| FUNCTIONS.map(|function| (metric, function)));
    let rule = |(metric, function): (usize, &str)| {
        json!({
            "name": format!("{function}-{metric}"), "interval": "1m",
            "condition": {
                "metric": format!("metric_{metric}"), "fn": function, "window": "5m", "above": 1e18,
            },
        })
    };
    names.map(rule).collect()
}

/// The worker itself, until it is killed.
pub(crate) fn child(told: &str) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(work(&serde_json::from_str(told)?))
}

fn say(said: &Said) -> Result<()> {
    println!("{}", serde_json::to_string(said)?);
    Ok(())
}

async fn work(told: &Told) -> Result<()> {
    let url = PostgresUrl::new(&told.database)?;
    let store = Arc::new(PostgresStore::open(url, PostgresOptions::default()).await?);
    say(&Said::Opened)?;
    let registry = Registry::new();
    let bus = told.folder.join("bus");
    std::fs::create_dir_all(&bus)?;
    let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
    let runtime = Runtime::start(RuntimeOptions::new(&told.folder, compiler, registry.clone()))?;
    let config: WorkerConfig = serde_json::from_value(json!({
        "settle": "0s", "self_watch": { "enabled": false },
        "evaluators": [{ "slot": "alert-dsl", "plugin": "sentinel/alert-dsl", "grants": { "series": true } }],
    }))?;
    let parts = WorkerParts {
        store,
        bus: Arc::new(EmbeddedBus::open(&bus, EmbeddedOptions::default())?),
        runtime,
        plugins: Arc::new(Built::open()?),
        keys: Arc::new(Keys(AgentKey::random(1))),
        secrets: Arc::new(NoSecrets),
        clock: Arc::new(SystemClock),
        metrics: registry.clone(),
    };
    let worker = Worker::start(WorkerOptions::new("bench", config), parts).await?;
    let pause = Duration::from_millis(20);
    // A status counts every sample: it is not asked for before there is something to be told.
    while value(&registry, "sentinel_worker_recovery_seconds") == 0.0 {
        tokio::time::sleep(pause).await;
    }
    let status = loop {
        let status = worker.status().await;
        if status.rules.evaluated == RULES {
            break status;
        }
        tokio::time::sleep(pause).await;
    };
    let (series, samples) = (status.windows.series, status.windows.samples);
    let recovery_s = value(&registry, "sentinel_worker_recovery_seconds");
    say(&Said::InForce { series, samples, recovery_s })?;
    while value(&registry, "sentinel_worker_evaluations_total") < RULES as f64 {
        tokio::time::sleep(pause).await;
    }
    say(&Said::Evaluated)?;
    std::future::pending().await
}

/// A metric, summed up.
fn value(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let all = families.iter().filter(|family| family.name() == name);
    let of = |one: &prometheus::proto::Metric| {
        one.get_counter().get_value() + one.get_gauge().get_value()
    };
    all.flat_map(|family| family.get_metric()).map(of).sum()
}

/// The worker's process; killed when it is dropped.
struct Process {
    child: Child,
    says: BufReader<ChildStdout>,
    began: Instant,
}

impl Process {
    fn start(told: &Told) -> Result<Self> {
        let began = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(RESTART_CHILD).arg(serde_json::to_string(told)?);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let says = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self { child, says, began })
    }

    /// The next that it says, and seconds since its start.
    fn next(&mut self) -> Result<(Said, f64)> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the worker ended: {}", self.child.wait()?);
        Ok((serde_json::from_str(&line)?, self.began.elapsed().as_secs_f64()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the agents send.
struct Fleet {
    store: PostgresStore,
    agents: Vec<AgentId>,
    template: Batch,
}

impl Fleet {
    fn new(store: PostgresStore, series: usize) -> Result<Self> {
        let agents = (0..series.div_ceil(ROWS)).map(|n| AgentId::new(&format!("agent-{n:04}")));
        let mut builder = BatchBuilder::new();
        for row in 0..ROWS {
            let instance = (row / METRICS).to_string();
            let labels = [("agent", "?"), ("instance", instance.as_str()), ("job", "node")];
            builder.push(&format!("metric_{}", row % METRICS), labels, Kind::Gauge, 0.0, 0);
        }
        let agents = agents.collect::<Result<_, _>>()?;
        Ok(Self { store, agents, template: builder.build()? })
    }

    /// As the worker has it, which names the agent.
    fn batch(&self, agent: &AgentId, number: usize, tick: i64, time: i64) -> Result<Batch> {
        let mut columns = self.template.clone().into_columns();
        let label = columns.symbols.find('?').context("the agent's label")?;
        columns.symbols.replace_range(label..=label, agent.as_str());
        let longer = u32::try_from(agent.as_str().len() - 1)?;
        for end in columns.symbol_ends.iter_mut().filter(|end| **end as usize > label) {
            *end += longer;
        }
        columns.time.fill(time);
        for (row, value) in columns.value.iter_mut().enumerate() {
            *value = ((number * ROWS + row) as i64 % 977 + tick * (row % 7) as i64) as f64 / 4.0;
        }
        Ok(Batch::new(columns)?)
    }

    /// A sample of each series.
    async fn commit(&self, tick: i64) -> Result<()> {
        tokio::time::sleep(PAUSE).await;
        let now = SystemClock.now();
        for (chunk, agents) in self.agents.chunks(AT_ONCE).enumerate() {
            let commit = |(at, agent): (usize, &AgentId)| -> Result<Commit> {
                let batch = self.batch(agent, chunk * AT_ONCE + at, tick, now)?;
                Ok(Commit {
                    agent: agent.clone(),
                    epoch: Epoch([1; 16]),
                    seq: tick as u64,
                    hash: [tick as u8; 32],
                    content: Content::Samples(Arc::new(batch)),
                })
            };
            let commits = agents.iter().enumerate().map(commit).collect::<Result<_>>()?;
            let outcomes = self.store.commit(commits, now).await?;
            let all = outcomes.iter().all(|one| matches!(one, CommitOutcome::Committed { .. }));
            ensure!(all, "tick {tick}: {outcomes:?}");
        }
        Ok(())
    }
}

/// Waits until all windows were kept in a turn that began after now.
async fn kept(server: &Postgres, database: &str, parts: usize) -> Result<()> {
    let (since, began) = (SystemClock.now(), Instant::now());
    let sql = format!("SELECT count(*) FROM window_parts WHERE made_at >= {since}");
    while server.query(database, &sql)?.parse::<usize>()? < parts {
        ensure!(began.elapsed() < PATIENCE, "the windows were not kept within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let services = Services::read(&given("SENTINEL_SERVICES")?)?;
    let server = Postgres::start(&services, &["shared_buffers=256MB", "max_wal_size=4GB"])?;
    let series = match std::env::var("SENTINEL_RESTART_SERIES") {
        Ok(fewer) => fewer.parse()?,
        Err(_) => SERIES,
    };
    tokio::runtime::Runtime::new()?.block_on(run(&server, series))
}

async fn run(server: &Postgres, series: usize) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let database = server.database()?;
    let told = Told { database: database.clone(), folder: folder.path().to_owned() };
    let url = PostgresUrl::new(&database)?;
    let store = PostgresStore::open(url, PostgresOptions::default()).await?;
    let fleet = Fleet::new(store.clone(), series)?;
    let series = fleet.agents.len() * ROWS;
    let set = json!({ "version": 1, "applied_at": 0, "rules": rules() });
    store.save_rules(&serde_json::from_value(set)?).await?;
    let mut first = Process::start(&told)?;
    while !matches!(first.next()?.0, Said::InForce { .. }) {}
    for tick in 1..=TICKS {
        fleet.commit(tick).await?;
    }
    let highest: usize = server.query(&database, "SELECT max(id) FROM series")?.parse()?;
    let parts = highest / sentinel_worker::windows::parts::SERIES as usize + 1;
    kept(server, &database, parts).await?;
    drop(first);
    for tick in TICKS + 1..=TICKS + TAIL_TICKS {
        fleet.commit(tick).await?;
    }
    let bytes = "SELECT sum(length(data)) FROM window_parts";
    let kept_mib = server.query(&database, bytes)?.parse::<f64>()? / f64::from(1 << 20);

    let mut second = Process::start(&told)?;
    let (_, opened) = second.next()?;
    let (said, in_force) = second.next()?;
    let Said::InForce { series: found, samples, recovery_s } = said else {
        anyhow::bail!("it said {said:?} first");
    };
    let rss = cpu::resident_mib(second.child.id())?;
    let (_, evaluated) = second.next()?;
    ensure!(found == series, "windows of {found} series, not of {series}");
    let detail = json!({
        "series": series, "rules": RULES, "rules_a_series": FUNCTIONS.len(),
        "samples_in_windows": samples, "samples_in_the_tail": series as i64 * TAIL_TICKS,
        "kept_mib": kept_mib, "parts": parts,
        "store_open_s": opened, "windows_s": recovery_s, "all_rules_evaluated_s": evaluated,
        "rss_mib": rss,
    });
    let row = Row::new("worker-restart-s", in_force, (Better::Lower, LIMIT_S), "s", detail);
    drop(second);
    store.close().await?;
    Ok(vec![row.and(series >= SERIES)])
}
