//! Measures the store alone: batches of 2,000 rows of 8,000 series every 10 s of four agents,
//! `synchronous=FULL`, upkeep once a minute of their time, packing included. Prints one line
//! of JSON: samples a second of CPU time (user and system, all threads, without making the
//! batches), bytes stored a sample, commit latency.
//!
//! `cargo run --release -p sentinel-store --example ingest [hours] [directory]`

use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::Store;
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::query::TimeRange;
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

const AGENTS: usize = 4;
const ROWS: usize = 2_000;
const TICK: i64 = 10_000;
const T0: i64 = 1_760_000_400_000;

/// Counters, gauges with decimals, sizes, constants, ratios: the mix that design figures use.
struct Generator {
    state: Vec<i64>,
    random: u64,
    tick: i64,
}

impl Generator {
    fn new() -> Self {
        let state = (0..AGENTS * ROWS).map(|s| 1_000_000 + s as i64 * 7919).collect();
        Self { state, random: 88_172_645_463_325_252, tick: 0 }
    }

    fn random(&mut self) -> u64 {
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        x >> 20
    }

    fn value(&mut self, s: usize) -> f64 {
        let (r, slow, first) = (self.random(), self.tick % 6 == 0, self.tick == 0);
        let state = &mut self.state[s];
        match s % 20 {
            0..=4 => (s % 3) as f64,
            k @ 5..=9 => {
                *state += (r % 1000) as i64 * if k < 7 { 1 } else { 37 };
                *state as f64
            }
            10..=13 => {
                *state = (*state + (r % 101) as i64 - 50).clamp(0, 10_000_000);
                if first {
                    *state = 5000;
                }
                *state as f64 / 100.0
            }
            14..=16 => {
                *state += (r % 401) as i64 - 200;
                *state as f64 * 4096.0
            }
            17 => (r & 0xfff_ffff_ffff) as f64 / (1u64 << 44) as f64,
            _ => {
                if slow {
                    *state += (r % 301) as i64 - 150;
                }
                *state as f64 * 4096.0
            }
        }
    }

    /// One batch an agent, times up to 20 ms off.
    fn tick(&mut self, templates: &[Batch]) -> Vec<(i64, Arc<Batch>)> {
        let batches = templates.iter().enumerate().map(|(agent, template)| {
            let jitter = (self.random() % 20) as i64;
            let time = T0 + self.tick * TICK + agent as i64 * 2_500 + jitter;
            let mut columns = template.clone().into_columns();
            columns.time.fill(time);
            for (row, value) in columns.value.iter_mut().enumerate() {
                *value = self.value(agent * ROWS + row);
            }
            (time, Arc::new(Batch::new(columns).expect("a valid batch")))
        });
        let batches = batches.collect();
        self.tick += 1;
        batches
    }
}

fn template(agent: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    let agent = format!("agent-{agent}");
    for row in 0..ROWS {
        let name = format!("metric_{}", row % 50);
        let instance = format!("instance-{}", row / 50);
        let labels = [
            ("agent", agent.as_str()),
            ("instance", &instance),
            ("job", "node"),
            ("env", "production"),
            ("zone", "eu-1"),
        ];
        builder.push(&name, labels, Kind::Gauge, 0.0, 0);
    }
    builder.build().expect("a valid batch")
}

/// CPU time of the whole process, all threads.
fn cpu() -> Duration {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("/proc").flatten() {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += stat.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    }
    Duration::from_nanos(total)
}

fn percentile(sorted: &[f64], p: f64) -> f64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * p) as usize).copied().unwrap_or(0.0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hours: i64 = std::env::args().nth(1).map_or(Ok(12), |text| text.parse())?;
    let dir = match std::env::args().nth(2) {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let store = SqliteStore::open(dir.path().join("s.db"), StoreOptions::default()).await?;
    let templates: Vec<Batch> = (0..AGENTS).map(template).collect();
    let agents: Vec<AgentId> =
        (0..AGENTS).map(|i| AgentId::new(&format!("agent-{i}"))).collect::<Result<_, _>>()?;
    let mut generator = Generator::new();
    let (mut latencies, mut packing, mut lock) = (Vec::new(), Duration::ZERO, 0);
    let (mut used, mut samples) = (Duration::ZERO, 0u64);
    for tick in 1..=hours * 360 {
        let batches = generator.tick(&templates);
        let before = cpu();
        for (agent, (time, batch)) in agents.iter().zip(batches) {
            samples += batch.len() as u64;
            let commit = Commit {
                agent: agent.clone(),
                epoch: Epoch([1; 16]),
                seq: tick as u64,
                hash: [tick as u8; 32],
                content: Content::Samples(batch),
            };
            let start = Instant::now();
            let outcome = store.commit(vec![commit], time).await?;
            latencies.push(start.elapsed().as_secs_f64() * 1000.0);
            assert!(matches!(outcome[0], CommitOutcome::Committed { .. }));
        }
        if tick % 6 == 0 {
            let start = cpu();
            let (done, _) = store.maintain(T0 + tick * TICK).await?;
            if done.samples_packed > 0 {
                packing += cpu() - start;
            }
            lock = lock.max(done.longest_lock_us);
        }
        used += cpu() - before;
    }
    // The last hour is packed like those before it.
    let before = cpu();
    while store.maintain(T0 + hours * 360 * TICK + 2 * 3_600_000).await?.1 {}
    used += cpu() - before;
    let (one, hundred) = (read(&store, 1, hours).await?, read(&store, 100, hours).await?);
    let sizes = store.sizes().await?;
    assert_eq!(sizes.packed_samples, samples);
    store.close().await?;
    let file = std::fs::metadata(dir.path().join("s.db"))?.len();
    latencies.sort_by(f64::total_cmp);
    println!(
        "{{\"samples\":{samples},\"samples_per_cpu_s\":{:.0},\"bytes_per_sample\":{:.3},\
         \"file_bytes_per_sample\":{:.3},\"commit_p50_ms\":{:.3},\"commit_p99_ms\":{:.3},\
         \"packing_share\":{:.3},\"longest_lock_ms\":{:.1},\"read_1x1h_ms\":{one:.3},\
         \"read_100x1h_ms\":{hundred:.3}}}",
        samples as f64 / used.as_secs_f64(),
        (file - sizes.free_bytes) as f64 / samples as f64,
        file as f64 / samples as f64,
        percentile(&latencies, 0.5),
        percentile(&latencies, 0.99),
        packing.as_secs_f64() / used.as_secs_f64(),
        lock as f64 / 1000.0,
    );
    Ok(())
}

/// The median time to read some series over one packed hour.
async fn read(
    store: &SqliteStore,
    count: u32,
    hours: i64,
) -> Result<f64, Box<dyn std::error::Error>> {
    let mut times = Vec::new();
    for round in 0..50i64 {
        let start = T0 + (round * 3_600_000) % (hours * 3_600_000);
        let series: Vec<u32> =
            (0..count).map(|i| 1 + (i * 79 + round as u32 * 131) % 8_000).collect();
        let begin = Instant::now();
        let found = store.samples(&series, TimeRange { start, end: start + 3_600_000 }).await?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        assert!(found.iter().all(|p| !p.times.is_empty()));
    }
    times.sort_by(f64::total_cmp);
    Ok(percentile(&times, 0.5))
}
