//! From a collector to the database: 1,000 agents that collect 300 samples every 10 s, a server with TLS, NATS, two workers,
//! PostgreSQL, each a process of its own.
//!
//! A sample's time is that at which its collector was called, a moment before it returned; when its row was committed is what
//! PostgreSQL itself says of the transaction (`track_commit_timestamp`). All clocks are one.

use crate::agents::{Agents, Told};
use crate::cpu;
use crate::deployed::Installation;
use crate::row::{Better, Row};
use anyhow::{Context, Result, ensure};
use sentinel_agent::IDENTITY;
use sentinel_agent::enrol::Identity;
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const AGENTS: usize = 1000;
const INTERVAL: Duration = Duration::from_secs(10);
const ROWS: usize = 300;
/// How long collections count, once every agent's first are in the database: those make the series, 300,000 of them.
const MEASURED: Duration = Duration::from_secs(60);
/// How long that, and the last commits, may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// What an operator of so many agents writes, who enrols them all at once.
const SERVER: &str = "limits: {enrolments: {per_second: 10000, burst: 10000}}\n";
/// Workers keep alerts from the first moment on, and transform nothing.
const WORKER: &str = "worker: {settle: 0s}\n";
/// Lines of the logs that say what kept something from coming.
const LAST_LINES: usize = 30;
/// The longest that all but one of a hundred may take, milliseconds.
const LIMIT_MS: f64 = 1000.0;
/// Records that are sent again, of a thousand: what a worker that starts or a slow moment asks for. A storm is more.
const MAX_RESENT: f64 = 10.0;

fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let place = Installation::with(&["track_commit_timestamp=on"])?;
    let server = place.server("server", true, SERVER)?;
    let workers = [place.worker("one", WORKER)?, place.worker("two", WORKER)?];
    let folder = place.path("agents");
    let ids = enrol(&place, &server, &folder)?;
    let mut agents = Agents::start(&Told {
        folder,
        ids,
        server: server.url.clone(),
        certificate: place.certificate_file(),
        interval_ms: INTERVAL.as_millis() as u64,
        rows: ROWS,
    })?;
    let come = until(&place, "every agent's samples are in the database", |place| {
        let committed = place.number("SELECT coalesce(sum(committed), 0) FROM streams")?;
        let begun = place.number("SELECT count(*) FROM streams WHERE committed > 0")?;
        // What is on its way at any moment is less than a hundredth of what is collected at once.
        let behind = agents.counted()?.samples / ROWS as f64 - committed;
        Ok(begun >= AGENTS as f64 && behind <= (AGENTS as f64 / 100.0).max(1.0))
    });
    come.with_context(|| {
        let logs = ["server", "one", "two"].map(|name| place.log(name)).join("\n");
        let lines: Vec<&str> = logs.lines().rev().take(LAST_LINES).collect();
        format!("{:?}, the last lines first: {}", agents.counted(), lines.join("\n"))
    })?;
    let (from, before) = (now()?, agents.counted()?);
    let busy = || -> Result<[f64; 4]> {
        let [one, two] = [cpu::process(workers[0].pid())?, cpu::process(workers[1].pid())?];
        let nats = cpu::process(place.nats.pid().context("NATS runs")?)?;
        Ok([cpu::process(server.pid())?, one + two, place.postgres_seconds()?, nats])
    };
    let used = busy()?;
    std::thread::sleep(MEASURED);
    let (to, after, used_then) = (now()?, agents.counted()?, busy()?);
    let records = (after.samples - before.samples) / ROWS as f64;
    let counted = format!("first >= {from} AND first < {to}");
    // Each agent's records are committed in their order: with a later one all that count are there, the slowest too.
    until(&place, "what was collected is in the database", |place| {
        let sql = format!("SELECT count(DISTINCT stream) FROM batches WHERE first >= {to}");
        Ok(place.number(&sql)? >= AGENTS as f64)
    })?;
    let memory = json!({
        "server": cpu::resident_mib(server.pid())?,
        "workers": [cpu::resident_mib(workers[0].pid())?, cpu::resident_mib(workers[1].pid())?],
        "nats": cpu::resident_mib(place.nats.pid().context("NATS runs")?)?,
        "postgres": place.postgres_mib()?,
        "all agents": cpu::resident_mib(agents.pid())?,
    });
    let took = latencies(&place, &counted)?;
    let first = latencies(&place, &format!("first < {from}"))?;
    let resent = (after.sent - before.sent) - records;
    let connected = after.connected;
    drop(agents);
    let p99 = quantile(&took, 0.99);
    let seconds = MEASURED.as_secs_f64();
    let share = |at: usize| (used_then[at] - used[at]) / seconds;
    let detail = json!({
        "agents": AGENTS, "connected": connected, "interval_s": INTERVAL.as_secs(),
        "samples_a_collection": ROWS, "collections": took.len(),
        "p50_ms": quantile(&took, 0.5), "max_ms": quantile(&took, 1.0),
        "max_ms_while_series_are_made": quantile(&first, 1.0),
        "sent": after.sent - before.sent, "sent_again": resent.max(0.0),
        "rewinds": after.rewinds - before.rewinds,
        "collections_failed_or_left_out": after.failed - before.failed,
        "rss_mib": memory,
        "cores": { "server": share(0), "workers": share(1), "postgres": share(2), "nats": share(3) },
    });
    let row = Row::new("e2e-p99-ms", p99, (Better::Lower, LIMIT_MS), "ms", detail);
    Ok(vec![row.and(resent <= records * MAX_RESENT / 1000.0 && connected == AGENTS as f64)])
}

/// Enrols the agents; each has its identity in its folder then.
fn enrol(
    place: &Installation,
    server: &crate::deployed::Deployed,
    folder: &std::path::Path,
) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let enrolled = runtime.block_on(place.enrol(server, AGENTS))?;
    let keep = |agent: crate::deployed::Enrolled| -> Result<String> {
        let own = folder.join(agent.id.as_str());
        std::fs::create_dir_all(&own)?;
        let identity = Identity { id: agent.id.clone(), key: agent.key, before: None };
        identity.save(&own.join(IDENTITY))?;
        Ok(agent.id.to_string())
    };
    enrolled.into_iter().map(keep).collect()
}

/// Waits until something is so.
fn until(
    place: &Installation,
    what: &str,
    mut is_so: impl FnMut(&Installation) -> Result<bool>,
) -> Result<()> {
    let began = Instant::now();
    while !is_so(place)? {
        ensure!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Milliseconds from each collection to its commit, sorted.
fn latencies(place: &Installation, counted: &str) -> Result<Vec<f64>> {
    let sql = format!(
        "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000 - first FROM batches WHERE {counted}"
    );
    let said = place.postgres.query(&place.database, &sql)?;
    let took = said.lines().map(|line| line.trim().parse().context("a number of milliseconds"));
    let mut took = took.collect::<Result<Vec<f64>>>()?;
    ensure!(!took.is_empty(), "nothing was committed");
    took.sort_by(f64::total_cmp);
    Ok(took)
}

fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let at = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}
