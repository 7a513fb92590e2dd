//! The worker on PostgreSQL, beside psql's own binary COPY of the same samples as rows with a
//! primary key, in the same server: what a sample costs of both processors, client and server,
//! what it takes on the disk, and how long it takes to be read.

use crate::cpu;
use crate::row::{Better, Row};
use crate::victoria;
use crate::worker::{AGENTS, Bench, Generator, HOUR_TICKS, ROWS, START, TICK_MS};
use anyhow::{Context, Result, ensure};
use sentinel_model::ids::Epoch;
use sentinel_store::Store;
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::query::TimeRange;
use sentinel_test_services::{Postgres, Services};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Hours of the agents' time.
const HOURS: i64 = 3;
/// Series of the larger question.
const MANY: usize = 100;
/// How often psql asks; the median counts.
const ASKED: usize = 21;
/// How often the store is asked; the median counts. It has eight connections and uses them in turn, and a server's process
/// takes its time for what it is asked first.
const READS: usize = 201;
/// `COPY`'s first bytes, flags and extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Seconds of this process's children that have ended.
fn children_seconds() -> Result<f64> {
    let fields = cpu::stat(std::process::id())?;
    let ticks: u64 = fields[13..15].iter().sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn number(server: &Postgres, database: &str, sql: &str) -> Result<f64> {
    Ok(server.query(database, sql)?.parse()?)
}

/// What rows by COPY cost: samples a core-second, bytes a sample.
fn copy(server: &Postgres, folder: &Path) -> Result<(f64, f64)> {
    let database = "copied";
    server.query("postgres", "CREATE DATABASE copied")?;
    let table = "CREATE TABLE rows (series int, time bigint, value double precision, \
                 PRIMARY KEY (series, time))";
    server.query(database, table)?;
    let mut generator = Generator::new();
    let mut script = String::new();
    for tick in 1..=HOUR_TICKS {
        for agent in 0..AGENTS {
            let batch = generator.batch(agent, tick);
            let mut rows = HEADER.to_vec();
            for row in 0..ROWS {
                rows.extend_from_slice(&3i16.to_be_bytes());
                rows.extend_from_slice(&4i32.to_be_bytes());
                rows.extend_from_slice(&((agent * ROWS + row) as i32).to_be_bytes());
                rows.extend_from_slice(&8i32.to_be_bytes());
                rows.extend_from_slice(&batch.time[row].to_be_bytes());
                rows.extend_from_slice(&8i32.to_be_bytes());
                rows.extend_from_slice(&batch.value[row].to_be_bytes());
            }
            rows.extend_from_slice(&(-1i16).to_be_bytes());
            let file = folder.join(format!("{tick}-{agent}"));
            std::fs::write(&file, rows)?;
            writeln!(script, "\\copy rows FROM '{}' (FORMAT binary)", file.display())?;
        }
    }
    let file = folder.join("script");
    std::fs::write(&file, script)?;
    let pid = server.pid().context("the server runs")?;
    let before = cpu::family(pid)? + children_seconds()?;
    let status = server.psql(database).arg("--file").arg(&file).status()?;
    let used = cpu::family(pid)? + children_seconds()? - before;
    ensure!(status.success(), "psql failed: {status}");
    let samples = number(server, database, "SELECT count(*) FROM rows")?;
    let bytes = number(server, database, "SELECT pg_total_relation_size('rows')")?;
    Ok((samples / used, bytes / samples))
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Milliseconds of questions to the store: one series and many, an hour each, packed.
async fn reads(store: &dyn Store) -> Result<(f64, f64)> {
    let ids: Vec<u32> =
        store.series(&"metric_7".parse()?).await?.iter().map(|s| s.id).take(MANY).collect();
    ensure!(ids.len() == MANY, "{} series", ids.len());
    let hour = HOUR_TICKS * TICK_MS;
    let range = TimeRange { start: START + hour - 1, end: START + 2 * hour - 1 };
    let mut out = [0.0; 2];
    for (asked, out) in [&ids[..1], &ids[..]].into_iter().zip(&mut out) {
        let mut took = Vec::new();
        for _ in 0..READS {
            let start = Instant::now();
            let points = store.samples(asked, range).await?;
            took.push(start.elapsed().as_secs_f64() * 1000.0);
            ensure!(
                points.iter().all(|p| p.times.len() as i64 == HOUR_TICKS),
                "samples are missing"
            );
        }
        *out = median(took);
    }
    Ok((out[0], out[1]))
}

/// Milliseconds of a SELECT of an hour of many series, as psql takes them.
fn select(server: &Postgres, database: &str) -> Result<f64> {
    let instances: Vec<String> = (0..MANY / AGENTS).map(|i| format!("'instance-{i}'")).collect();
    let hour = (START + HOUR_TICKS * TICK_MS) / 1000;
    let sql = format!(
        "SELECT count(*), sum(value) FROM metrics_time WHERE name = 'metric_7' \
         AND labels->>'instance' IN ({}) AND hour = to_timestamp({hour}) \
         AND time >= to_timestamp({hour}) AND time < to_timestamp({hour} + 3600)",
        instances.join(",")
    );
    let mut script = String::from("\\timing on\n");
    for _ in 0..ASKED {
        writeln!(script, "{sql};")?;
    }
    let said = server.psql(database).arg("--command").arg("SELECT 1").output()?;
    ensure!(said.status.success(), "psql does not run");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    let output = server.psql(database).arg("--file").arg(file.path()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let wanted = format!("{}|", MANY as i64 * HOUR_TICKS);
    ensure!(
        text.lines().filter(|line| line.starts_with(&wanted)).count() == ASKED,
        "not {wanted}: {text}"
    );
    let times = text.lines().filter_map(|line| line.strip_prefix("Time: "));
    let times = times.map(|line| Ok(line.split(' ').next().unwrap_or_default().parse()?));
    Ok(median(times.collect::<Result<_>>()?))
}

/// Milliseconds of a question that the server answers without any work, on a connection of its own: what the machine takes
/// of each question's time.
async fn round_trip(url: &str) -> Result<f64> {
    let mut conn = PgConnection::connect(url).await?;
    let mut took = Vec::new();
    for _ in 0..READS {
        let start = Instant::now();
        sqlx::query("SELECT 1").execute(&mut conn).await?;
        took.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    conn.close().await?;
    Ok(median(took))
}

struct Measured {
    samples: f64,
    used: f64,
    server: f64,
    bytes: f64,
    reads: (f64, f64),
    round_trip: f64,
    select: f64,
}

async fn worker(server: &Postgres) -> Result<Measured> {
    let url = server.database()?;
    let database = "test0";
    let store = PostgresStore::open(PostgresUrl::new(&url)?, PostgresOptions::default()).await?;
    let size = "SELECT pg_database_size(current_database())";
    let empty = number(server, database, size)?;
    let bench = Bench::start(Arc::new(store.clone())).await?;
    let mut generator = Generator::new();
    let pid = server.pid().context("the server runs")?;
    let (mut used, ticks) = (0.0, HOURS * HOUR_TICKS);
    let server_before = cpu::family(pid)?;
    for first in (1..=ticks).step_by(36) {
        let sealed: Vec<_> =
            (first..first + 36).map(|tick| bench.sealed(&mut generator, tick)).collect();
        let before = cpu::own();
        for (tick, sealed) in (first..).zip(sealed) {
            for one in sealed {
                // Alone, so that it is a transaction of its own, as each COPY is.
                bench.publish(tick, std::iter::once(one.0)).await?;
            }
        }
        while store.maintain(START + (first + 35) * TICK_MS).await?.1 {}
        used += cpu::own() - before;
    }
    let before = cpu::own();
    // The last hour is packed like those before it.
    while store.maintain(START + (ticks + 720) * TICK_MS).await?.1 {}
    used += cpu::own() - before;
    let of_server = cpu::family(pid)? - server_before;
    let samples = (ticks * (AGENTS * ROWS) as i64) as f64;
    let packed = store.sizes().await?.packed_samples as f64;
    ensure!(packed == samples, "{packed} of {samples} samples are packed");
    for agent in &bench.agents {
        let committed = store.stream_state(agent, Epoch([1; 16])).await?.committed;
        ensure!(committed == ticks as u64, "{agent}: {committed} of {ticks} are committed");
    }
    server.query(database, "CHECKPOINT")?;
    let bytes = (number(server, database, size)? - empty) / samples;
    let reads = reads(&store).await?;
    let round_trip = round_trip(&url).await?;
    let select = select(server, database)?;
    bench.worker.shutdown().await;
    store.close().await?;
    Ok(Measured {
        samples,
        used: used + of_server,
        server: of_server,
        bytes,
        reads,
        round_trip,
        select,
    })
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let list = std::env::var_os("SENTINEL_SERVICES").context("SENTINEL_SERVICES is not set")?;
    let services = Services::read(Path::new(&list))?;
    let settings = ["shared_buffers=256MB", "max_wal_size=4GB"];
    let server = Postgres::start(&services, &settings)?;
    let folder = tempfile::tempdir()?;
    let ours = tokio::runtime::Runtime::new()?.block_on(worker(&server))?;
    let (copied, copied_bytes) = copy(&server, folder.path())?;
    let victoria = victoria::bytes_per_sample(&services, folder.path(), HOURS * HOUR_TICKS)?;
    let rate = ours.samples / ours.used;
    let detail = json!({
        "samples": ours.samples,
        "samples_per_core_s": rate,
        "copy_samples_per_core_s": copied,
        "server_share_percent": (ours.server / ours.used * 1000.0).round() / 10.0,
    });
    let row = |name, value, limit, unit, detail| Row::new(name, value, limit, unit, detail);
    let most = |limit| (Better::Lower, limit);
    let read = json!({
        "hours": 1, "asked": READS, "of": "chunks", "a_bare_round_trip_ms": ours.round_trip,
    });
    let hour = json!({ "hours": 1, "asked": ASKED, "of": "chunks" });
    Ok(vec![
        row("worker-postgres-vs-copy", rate / copied, (Better::Higher, 3.0), "x", detail),
        row(
            "store-bytes-per-sample-postgres",
            ours.bytes,
            most(9.0),
            "B",
            json!({ "hours": HOURS, "copy_bytes": copied_bytes, "victoria_metrics_bytes": victoria }),
        ),
        row("postgres-bytes-vs-copy", ours.bytes / copied_bytes, most(0.1), "x", json!({})),
        row("postgres-read-1-series-ms", ours.reads.0, most(1.0), "ms", read.clone()),
        row("postgres-read-100-series-ms", ours.reads.1, most(10.0), "ms", read),
        row("postgres-select-100-series-ms", ours.select, most(100.0), "ms", hour),
    ])
}
