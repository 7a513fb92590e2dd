//! What a host's collectors return at one time: 300 series, whose values move as such values do.

use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::columns::{BatchError, Kind};

/// Series of a scrape.
pub(crate) const SERIES: usize = 300;
/// From one scrape to the next, milliseconds.
const STEP_MS: i64 = 10_000;
const START: i64 = 1_760_000_400_000;
/// CPUs, and what the time of each goes to: of these most goes to the first.
const CPUS: usize = 16;
const MODES: [&str; 8] = ["idle", "user", "system", "iowait", "irq", "nice", "softirq", "steal"];
const DISKS: [&str; 6] = ["nvme0n1", "nvme0n1p1", "nvme0n1p2", "sda", "sdb", "dm-0"];
const NETWORKS: [&str; 5] = ["eth0", "eth1", "docker0", "br-backend", "veth4f2a91c"];
const MOUNTS: [&str; 6] =
    ["/", "/boot", "/var/lib/docker", "/home", "/srv/data", "/var/lib/postgresql"];
const MEMORY: [&str; 6] = ["used", "free", "cached", "buffered", "slab_reclaimable", "available"];
const ROUTES: [&str; 3] = ["/api/orders", "/api/orders/{id}", "/healthz"];
const BOUNDS: [&str; 11] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "+Inf"];

/// How the values of a series move.
#[derive(Debug, Clone, Copy)]
enum Moves {
    /// A counter in hundredths, up to so many more a scrape.
    Hundredths(u64),
    /// A counter of multiples of a size, up to so many of them more.
    Multiples(u64, u64),
    /// It does not.
    Stands,
    /// A gauge of pages, up and down.
    Pages(u64),
}

#[derive(Debug, Clone)]
struct Series {
    name: &'static str,
    labels: Vec<(&'static str, String)>,
    moves: Moves,
    state: u64,
}

/// A host that is scraped again and again; the same values each run.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    series: Vec<Series>,
    random: u64,
    tick: i64,
}

impl Host {
    pub(crate) fn new() -> Self {
        let mut host = Self { series: Vec::new(), random: 88_172_645_463_325_252, tick: 0 };
        host.processors();
        host.devices();
        host.memory();
        host.requests();
        host.series.truncate(SERIES);
        host
    }

    fn lot(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    fn add(&mut self, name: &'static str, labels: &[(&'static str, &str)], moves: Moves) {
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        // A month and more of counting lies behind it.
        let state = match moves {
            Moves::Hundredths(more) | Moves::Multiples(more, _) => self.lot() % (more * 600_000),
            Moves::Pages(pages) => pages / 2 + self.lot() % (pages / 2),
            Moves::Stands => 0,
        };
        self.series.push(Series { name, labels, moves, state });
    }

    fn processors(&mut self) {
        for cpu in 0..CPUS {
            for (i, mode) in MODES.iter().enumerate() {
                let moves = if i > 6 { Moves::Stands } else { Moves::Hundredths(1000 >> i) };
                let labels = [("cpu", &*cpu.to_string()), ("mode", mode)];
                self.add("system_cpu_time_seconds_total", &labels, moves);
            }
        }
    }

    fn devices(&mut self) {
        for device in DISKS {
            for direction in ["read", "write"] {
                let labels = [("device", device), ("direction", direction)];
                self.add("system_disk_io_bytes_total", &labels, Moves::Multiples(20_000, 512));
                self.add("system_disk_operations_total", &labels, Moves::Multiples(900, 1));
                self.add("system_disk_merged_total", &labels, Moves::Multiples(80, 1));
            }
            self.add(
                "system_disk_io_time_seconds_total",
                &[("device", device)],
                Moves::Hundredths(400),
            );
        }
        for device in NETWORKS {
            for direction in ["receive", "transmit"] {
                let labels = [("device", device), ("direction", direction)];
                self.add("system_network_io_bytes_total", &labels, Moves::Multiples(9_000_000, 1));
                self.add("system_network_packets_total", &labels, Moves::Multiples(9_000, 1));
                self.add("system_network_errors_total", &labels, Moves::Stands);
                self.add("system_network_dropped_total", &labels, Moves::Stands);
            }
        }
        for mount in MOUNTS {
            for state in ["used", "free", "reserved"] {
                let labels = [("mountpoint", mount), ("type", "ext4"), ("state", state)];
                let moves =
                    if state == "reserved" { Moves::Stands } else { Moves::Pages(50_000_000) };
                self.add("system_filesystem_usage_bytes", &labels, moves);
            }
        }
    }

    fn memory(&mut self) {
        for state in MEMORY {
            self.add("system_memory_usage_bytes", &[("state", state)], Moves::Pages(4_000_000));
        }
        for window in ["1m", "5m", "15m"] {
            self.add("system_cpu_load_average", &[("window", window)], Moves::Hundredths(40));
        }
        for state in ["running", "sleeping", "stopped", "zombie", "blocked"] {
            self.add("system_processes_count", &[("status", state)], Moves::Multiples(1, 1));
        }
    }

    fn requests(&mut self) {
        for route in ROUTES {
            for (i, bound) in BOUNDS.iter().enumerate() {
                let labels = [("http_route", route), ("method", "GET"), ("le", bound)];
                let moves = Moves::Multiples(300 * (i as u64 + 1), 1);
                self.add("http_server_request_duration_seconds_bucket", &labels, moves);
            }
            let labels = [("http_route", route), ("method", "GET")];
            self.add("http_server_request_duration_seconds_sum", &labels, Moves::Hundredths(9_000));
            self.add(
                "http_server_request_duration_seconds_count",
                &labels,
                Moves::Multiples(3000, 1),
            );
        }
        for worker in 0..40 {
            let labels = [("worker", &*worker.to_string()), ("pool", "http")];
            self.add("app_worker_busy_seconds_total", &labels, Moves::Hundredths(900));
        }
    }

    fn value(&mut self, at: usize) -> f64 {
        let lot = self.lot();
        let one = &mut self.series[at];
        match one.moves {
            Moves::Hundredths(more) => {
                one.state += lot % more.max(1);
                one.state as f64 / 100.0
            }
            Moves::Multiples(more, size) => {
                one.state += lot % more.max(1);
                (one.state * size) as f64
            }
            Moves::Stands => one.state as f64,
            Moves::Pages(_) => {
                one.state = one.state + lot % 801 - (400).min(one.state);
                (one.state * 4096) as f64
            }
        }
    }

    /// So many scrapes, in the order of their time, as one batch.
    ///
    /// # Errors
    /// More rows than a batch may have.
    pub(crate) fn scrapes(&mut self, count: usize) -> Result<Batch, BatchError> {
        let mut builder = BatchBuilder::new();
        for _ in 0..count {
            let time = START + self.tick * STEP_MS;
            self.tick += 1;
            for at in 0..self.series.len() {
                let value = self.value(at);
                let one = &self.series[at];
                let labels = one.labels.iter().map(|(key, value)| (*key, value.as_str()));
                let kind = match one.moves {
                    Moves::Pages(_) => Kind::Gauge,
                    _ => Kind::Counter,
                };
                builder.push(one.name, labels, kind, value, time);
            }
        }
        builder.build()
    }
}
