//! Many agents in one process: each the agent as it is, with its own log, key and connection, and a collector of its own.

use crate::COMPILE_CHILD;
use crate::built::Built;
use anyhow::{Context, Result, ensure};
use prometheus::Registry;
use sentinel_agent::config::AgentConfig;
use sentinel_agent::enrol::GivenToken;
use sentinel_agent::lines::Lines;
use sentinel_agent::{Agent, AgentOptions, LinkTls, ServerAddress};
use sentinel_runtime::{CompilerCommand, NoSecrets, Runtime, RuntimeOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncBufReadExt;
use tokio::task::JoinSet;

/// The hidden argument under which this binary is that process.
pub(crate) const AGENTS_CHILD: &str = "internal-agents";
/// Agents whose collectors share a runtime: it has room for so many instances.
const A_RUNTIME: usize = 200;
/// Bytes of each agent's log.
const LOG_BYTES: u64 = 2 << 20;

/// What the process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Where each agent's folder lies, by its id, with its identity in it.
    pub(crate) folder: PathBuf,
    /// The ids.
    pub(crate) ids: Vec<String>,
    /// Their server, and the certificate that they trust.
    pub(crate) server: String,
    pub(crate) certificate: PathBuf,
    /// How often each collects, and how many samples.
    pub(crate) interval_ms: u64,
    pub(crate) rows: usize,
}

/// What all agents together counted.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Samples that reached the logs.
    pub(crate) samples: f64,
    /// Records sent, those that were sent again included.
    pub(crate) sent: f64,
    /// Times that an agent went back to what is committed.
    pub(crate) rewinds: f64,
    /// Collections that failed, or were left out since the one before still ran.
    pub(crate) failed: f64,
    /// Agents whose server answered last.
    pub(crate) connected: f64,
}

/// The process, which ends with its owner.
pub(crate) struct Agents {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Agents {
    /// Starts it, and waits until every agent was started.
    pub(crate) fn start(told: &Told) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(AGENTS_CHILD).arg(serde_json::to_string(told)?);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let ask = child.stdin.take().context("stdin")?;
        let answers = BufReader::new(child.stdout.take().context("stdout")?);
        let mut agents = Self { child, ask, answers };
        agents.counted()?;
        Ok(agents)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What they counted until now.
    pub(crate) fn counted(&mut self) -> Result<Counted> {
        writeln!(self.ask)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the agents' process ended");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process itself.
pub(crate) fn child(told: &str) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(run(&serde_json::from_str(told)?))
}

async fn run(told: &Told) -> Result<()> {
    let tls = LinkTls { ca: Some(std::fs::read(&told.certificate)?), identity: None };
    let plugins = Arc::new(Built::open()?);
    // At the pace at which they go on to collect, so that nothing comes in waves.
    let mut pace =
        tokio::time::interval(Duration::from_millis(told.interval_ms) / told.ids.len() as u32);
    let (mut agents, mut registries) = (Vec::new(), Vec::new());
    for (number, ids) in told.ids.chunks(A_RUNTIME).enumerate() {
        let runtime = runtime(&told.folder.join(format!("runtime-{number}")))?;
        for id in ids {
            pace.tick().await;
            let registry = Registry::new();
            let options = AgentOptions {
                data: told.folder.join(id),
                config: config(told, id)?,
                servers: ServerAddress::list(std::slice::from_ref(&told.server), &[]),
                tls: tls.clone(),
                enrolment: Arc::new(GivenToken(None)),
                runtime: Arc::clone(&runtime),
                plugins: Arc::clone(&plugins) as Arc<_>,
                operators: None,
                secrets: Arc::new(NoSecrets),
                warnings: Arc::new(Vec::new),
                forbidden: Vec::new(),
                listen: None,
                registry: registry.clone(),
                lines: Lines::default(),
            };
            let agent = Agent::start(options).await?;
            let failed = agent.status().failed;
            ensure!(failed.is_empty(), "{id}: {failed:?}");
            agents.push(agent);
            registries.push(registry);
        }
    }
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        println!("{}", serde_json::to_string(&counted(&registries))?);
    }
    let mut ending: JoinSet<_> = agents.into_iter().map(Agent::shutdown).collect();
    while let Some(ended) = ending.join_next().await {
        ended??;
    }
    Ok(())
}

fn runtime(folder: &Path) -> Result<Arc<Runtime>> {
    std::fs::create_dir_all(folder)?;
    let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
    Ok(Runtime::start(RuntimeOptions::new(folder, compiler, Registry::new()))?)
}

fn config(told: &Told, id: &str) -> Result<AgentConfig> {
    Ok(serde_json::from_value(json!({
        "id": id,
        "interval": format!("{}ms", told.interval_ms),
        "log": { "max_bytes": LOG_BYTES },
        "collectors": [{
            "slot": "counter", "plugin": "sentinel/counter",
            "config": { "slot": "counter", "rows": told.rows, "series": told.rows },
            "grants": { "kv": { "max_bytes": 4096 } },
        }],
    }))?)
}

fn counted(registries: &[Registry]) -> Counted {
    let mut all = Counted::default();
    for family in registries.iter().flat_map(Registry::gather) {
        let into = match family.name() {
            "sentinel_agent_samples_total" => &mut all.samples,
            "sentinel_agent_envelopes_sent_total" => &mut all.sent,
            "sentinel_agent_rewinds_total" => &mut all.rewinds,
            "sentinel_agent_collections_failed_total"
            | "sentinel_agent_collections_overrun_total" => &mut all.failed,
            "sentinel_agent_connected" => &mut all.connected,
            _ => continue,
        };
        let value = |one: &prometheus::proto::Metric| {
            one.get_counter().get_value() + one.get_gauge().get_value()
        };
        *into += family.get_metric().iter().map(value).sum::<f64>();
    }
    all
}
