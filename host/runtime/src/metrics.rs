//! What is counted of slots: for `/metrics`, and for [`SlotStatus`](crate::SlotStatus).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{
    CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use crate::error::FailureKind;
use crate::status::Latency;

/// Bounds of the histogram of calls, in seconds.
const SECONDS: [f64; 12] =
    [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Metrics of all slots of a process.
#[derive(Clone)]
pub(crate) struct Metrics {
    calls: IntCounterVec,
    failures: IntCounterVec,
    restarts: IntCounterVec,
    seconds: HistogramVec,
    guest: CounterVec,
    host: CounterVec,
    memory: IntGaugeVec,
    generation: IntGaugeVec,
    running: IntGaugeVec,
    /// How many slots of each name there are.
    holders: Arc<Mutex<HashMap<String, usize>>>,
    pub(crate) cache_hits: IntCounter,
    pub(crate) cache_misses: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let slot = |name: &str, help: &str| Opts::new(name, help);
        let metrics = Self {
            calls: IntCounterVec::new(
                slot("sentinel_slot_calls_total", "Calls of a slot's plugin."),
                &["slot", "export"],
            )?,
            failures: IntCounterVec::new(
                slot("sentinel_slot_failures_total", "Calls that failed, by kind of failure."),
                &["slot", "kind"],
            )?,
            restarts: IntCounterVec::new(
                slot("sentinel_slot_restarts_total", "Fresh instances in place of failed ones."),
                &["slot"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "sentinel_slot_call_duration_seconds",
                    "Wall-clock time of calls, waiting in host functions included.",
                )
                .buckets(SECONDS.to_vec()),
                &["slot"],
            )?,
            guest: CounterVec::new(
                slot("sentinel_slot_guest_seconds_total", "Time spent in the plugin's own code."),
                &["slot"],
            )?,
            host: CounterVec::new(
                slot(
                    "sentinel_slot_host_seconds_total",
                    "Time that calls waited in host functions.",
                ),
                &["slot"],
            )?,
            memory: IntGaugeVec::new(
                slot("sentinel_slot_memory_bytes", "Linear memory of a slot's instances."),
                &["slot"],
            )?,
            generation: IntGaugeVec::new(
                slot("sentinel_slot_generation", "The slot's generation, from 1."),
                &["slot"],
            )?,
            running: IntGaugeVec::new(
                slot("sentinel_slot_running", "1 while the slot takes calls, else 0."),
                &["slot"],
            )?,
            holders: Arc::default(),
            cache_hits: IntCounter::new(
                "sentinel_compiled_cache_hits_total",
                "Plugins loaded from compiled code on disk.",
            )?,
            cache_misses: IntCounter::new(
                "sentinel_compiled_cache_misses_total",
                "Plugins that had to be compiled.",
            )?,
        };
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.restarts.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.guest.clone()))?;
        registry.register(Box::new(metrics.host.clone()))?;
        registry.register(Box::new(metrics.memory.clone()))?;
        registry.register(Box::new(metrics.generation.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        registry.register(Box::new(metrics.cache_hits.clone()))?;
        registry.register(Box::new(metrics.cache_misses.clone()))?;
        registry.register(Box::new(confinement()?))?;
        Ok(metrics)
    }

    /// Two slots of one name at a time share their metrics; the last of them takes them away.
    pub(crate) fn of_slot(&self, slot: &str) -> SlotMetrics {
        let mut holders = self.holders.lock();
        *holders.entry(slot.to_owned()).or_default() += 1;
        SlotMetrics {
            all: self.clone(),
            slot: slot.to_owned(),
            seconds: self.seconds.with_label_values(&[slot]),
            memory: self.memory.with_label_values(&[slot]),
            calls: AtomicU64::new(0),
            failures: std::array::from_fn(|_| AtomicU64::new(0)),
            restarts: AtomicU64::new(0),
            memory_bytes: AtomicI64::new(0),
            guest_nanos: AtomicU64::new(0),
            host_nanos: AtomicU64::new(0),
            latency: LatencySteps::default(),
        }
    }
}

/// How this process confined itself, which it does once and before all else.
fn confinement() -> Result<IntGaugeVec, prometheus::Error> {
    let walls = IntGaugeVec::new(
        Opts::new(
            "sentinel_sandbox_info",
            "Always 1: how much of each wall around this process the kernel holds (full, partial, none, off).",
        ),
        &["landlock", "seccomp"],
    )?;
    let held = crate::confine::confined();
    walls.with_label_values(&[held.landlock.as_str(), held.seccomp.as_str()]).set(1);
    Ok(walls)
}

/// Metrics of one slot.
pub(crate) struct SlotMetrics {
    all: Metrics,
    slot: String,
    seconds: Histogram,
    memory: IntGauge,
    calls: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
    restarts: AtomicU64,
    memory_bytes: AtomicI64,
    guest_nanos: AtomicU64,
    host_nanos: AtomicU64,
    latency: LatencySteps,
}

impl SlotMetrics {
    pub(crate) fn called(
        &self,
        export: &str,
        took: Duration,
        guest: Duration,
        host: Duration,
        failure: Option<FailureKind>,
    ) {
        let slot = self.slot.as_str();
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.all.calls.with_label_values(&[slot, export]).inc();
        self.guest_nanos.fetch_add(guest.as_nanos() as u64, Ordering::Relaxed);
        self.host_nanos.fetch_add(host.as_nanos() as u64, Ordering::Relaxed);
        self.all.guest.with_label_values(&[slot]).inc_by(guest.as_secs_f64());
        self.all.host.with_label_values(&[slot]).inc_by(host.as_secs_f64());
        self.seconds.observe(took.as_secs_f64());
        match failure {
            Some(kind) => self.failed(kind),
            None => self.latency.observe(took),
        }
    }

    pub(crate) fn failed(&self, kind: FailureKind) {
        self.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.all.failures.with_label_values(&[self.slot.as_str(), kind.as_str()]).inc();
    }

    pub(crate) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.all.restarts.with_label_values(&[self.slot.as_str()]).inc();
    }

    pub(crate) fn memory_changed(&self, by: i64) {
        self.memory_bytes.fetch_add(by, Ordering::Relaxed);
        self.memory.add(by);
    }

    pub(crate) fn generation(&self, generation: u64) {
        self.all.generation.with_label_values(&[self.slot.as_str()]).set(generation as i64);
    }

    pub(crate) fn running(&self, running: bool) {
        self.all.running.with_label_values(&[self.slot.as_str()]).set(running.into());
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed).max(0) as u64
    }

    /// Seconds in the guest, and waiting in host functions.
    pub(crate) fn spent(&self) -> (f64, f64) {
        let seconds = |nanos: &AtomicU64| nanos.load(Ordering::Relaxed) as f64 / 1e9;
        (seconds(&self.guest_nanos), seconds(&self.host_nanos))
    }

    pub(crate) fn failures(&self) -> BTreeMap<&'static str, u64> {
        let counted = FailureKind::ALL
            .into_iter()
            .map(|kind| (kind.as_str(), self.failures[kind as usize].load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn latency(&self) -> Latency {
        self.latency.read()
    }
}

impl Drop for SlotMetrics {
    fn drop(&mut self) {
        let slot = self.slot.as_str();
        let mut holders = self.all.holders.lock();
        if let Some(count) = holders.get_mut(slot).filter(|count| **count > 1) {
            *count -= 1;
            return;
        }
        holders.remove(slot);
        // A label set that was never used is not there; that is all these can say.
        for kind in FailureKind::ALL {
            let _ = self.all.failures.remove_label_values(&[slot, kind.as_str()]);
        }
        for export in crate::call::EXPORTS {
            let _ = self.all.calls.remove_label_values(&[slot, export]);
        }
        let _ = self.all.restarts.remove_label_values(&[slot]);
        let _ = self.all.seconds.remove_label_values(&[slot]);
        let _ = self.all.guest.remove_label_values(&[slot]);
        let _ = self.all.host.remove_label_values(&[slot]);
        let _ = self.all.memory.remove_label_values(&[slot]);
        let _ = self.all.generation.remove_label_values(&[slot]);
        let _ = self.all.running.remove_label_values(&[slot]);
    }
}

/// Steps for each doubling of a time.
const STEPS_PER_DOUBLING: f64 = 4.0;
/// Steps from a microsecond to more than an hour.
const STEPS: usize = 132;

/// Counts of times in steps of 2^(1/4), from a microsecond.
struct LatencySteps {
    counts: [AtomicU64; STEPS],
    max_nanos: AtomicU64,
}

impl Default for LatencySteps {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), max_nanos: AtomicU64::new(0) }
    }
}

impl LatencySteps {
    fn observe(&self, took: Duration) {
        let micros = took.as_secs_f64() * 1e6;
        let step = (micros.max(1.0).log2() * STEPS_PER_DOUBLING).ceil() as usize;
        self.counts[step.min(STEPS - 1)].fetch_add(1, Ordering::Relaxed);
        self.max_nanos.fetch_max(took.as_nanos() as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Latency {
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let total: u64 = counts.iter().sum();
        let max = self.max_nanos.load(Ordering::Relaxed) as f64 / 1e6;
        let quantile = |q: f64| {
            let rank = (total as f64 * q).ceil().max(1.0) as u64;
            let mut seen = 0;
            let step = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            step.map_or(0.0, |step| ((step as f64 / STEPS_PER_DOUBLING).exp2() / 1e3).min(max))
        };
        Latency { p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99), max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_step_above_the_truth() {
        let steps = LatencySteps::default();
        for micros in 1..=10_000 {
            steps.observe(Duration::from_micros(micros));
        }
        let latency = steps.read();
        for (read, truth) in
            [(latency.p50, 5.0), (latency.p90, 9.0), (latency.p99, 9.9), (latency.max, 10.0)]
        {
            assert!((truth..=truth * 1.19).contains(&read), "{read} for {truth}");
        }
        assert_eq!(LatencySteps::default().read(), Latency::default());
    }

    #[test]
    fn a_slot_that_is_gone_leaves_no_metrics() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let slot = metrics.of_slot("a");
        let ms = Duration::from_millis(1);
        slot.called("collect", ms, ms, ms, Some(FailureKind::Panic));
        slot.called("collect", ms, ms, ms, None);
        slot.restarted();
        slot.generation(1);
        slot.running(true);
        slot.memory_changed(10);
        assert_eq!((slot.calls(), slot.failures()), (2, [("panic", 1)].into()));
        assert_eq!(registry.gather().len(), 12);
        let successor = metrics.of_slot("a");
        drop(slot);
        assert_eq!(registry.gather().len(), 12, "another slot of the name goes on");
        drop(successor);
        assert_eq!(registry.gather().len(), 3);
    }
}
