//! What the worker counts, for `/metrics` and for its status.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    exponential_buckets,
};

/// Counters and gauges of one worker.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Records by what became of them: `committed`, `skipped`, `dead`, `duplicate`,
    /// `contradiction`, `gap`, `refused`.
    pub records: IntCounterVec,
    /// Samples committed.
    pub samples: IntCounter,
    /// Seconds from taking messages of the bus until they are verified, transformed, committed and
    /// acknowledged.
    pub processing_seconds: Histogram,
    /// Seconds of each commit.
    pub commit_seconds: Histogram,
    /// Times that the store did not take a write that was then tried again.
    pub store_failures: IntCounter,
    /// Attempts at transforms that failed and were made again.
    pub transform_failures: IntCounter,
    /// Messages that wait on the bus.
    pub bus_depth: IntGauge,
    /// Evaluations of a rule by what became of them: `done`, `failed`, `missed`.
    pub evaluations: IntCounterVec,
    /// Seconds of each call that evaluates the rules that are due.
    pub evaluation_seconds: Histogram,
    /// Attempts to notify by notifier and outcome: `delivered`, `retried`, `dead`.
    pub notifications: IntCounterVec,
    /// Notifications that wait to be delivered.
    pub notifications_open: IntGauge,
    /// 1 while this worker keeps alerts.
    pub keeps_alerts: IntGauge,
    /// Messages acknowledged.
    pub acks: IntCounter,
    /// Times that the bus did not deliver, or did not take an answer.
    pub bus_failures: IntCounter,
    /// Seconds from each decision to tell until it is told.
    pub notification_seconds: Histogram,
    /// Slots that are not as configured.
    pub slots_failed: IntGauge,
    /// Series kept in windows.
    pub window_series: IntGauge,
    /// Samples kept in windows.
    pub window_samples: IntGauge,
    /// Unix time of the last turn in which all windows were kept.
    pub checkpoint_time: IntGauge,
    /// Bytes of windows that were kept in it.
    pub checkpoint_bytes: IntGauge,
    /// Seconds of making and writing some parts of windows.
    pub checkpoint_seconds: Histogram,
    /// Seconds until the windows were there when this worker last began to evaluate.
    pub recovery_seconds: Gauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// Where a worker's metrics are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = |name: &str, help: &str| {
            let buckets = exponential_buckets(0.0005, 2.0, 16)?;
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
        };
        let by = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let all = Self {
            records: by(
                "sentinel_worker_records_total",
                "Records by what became of them.",
                &["outcome"],
            )?,
            samples: IntCounter::new("sentinel_worker_samples_total", "Samples committed.")?,
            processing_seconds: seconds(
                "sentinel_worker_processing_seconds",
                "Time from taking messages of the bus until they are acknowledged.",
            )?,
            commit_seconds: seconds("sentinel_worker_commit_seconds", "Time of each commit.")?,
            store_failures: IntCounter::new(
                "sentinel_worker_store_failures_total",
                "Writes that the store did not take at the first attempt.",
            )?,
            transform_failures: IntCounter::new(
                "sentinel_worker_transform_failures_total",
                "Attempts at transforms that failed.",
            )?,
            bus_depth: IntGauge::new("sentinel_worker_bus_depth", "Messages waiting on the bus.")?,
            evaluations: by(
                "sentinel_worker_evaluations_total",
                "Evaluations of rules by what became of them.",
                &["outcome"],
            )?,
            evaluation_seconds: seconds(
                "sentinel_worker_evaluation_seconds",
                "Time of each call that evaluates what is due.",
            )?,
            notifications: by(
                "sentinel_worker_notifications_total",
                "Attempts to notify by notifier and outcome.",
                &["notifier", "outcome"],
            )?,
            notifications_open: IntGauge::new(
                "sentinel_worker_notifications_open",
                "Notifications waiting to be delivered.",
            )?,
            keeps_alerts: IntGauge::new(
                "sentinel_worker_keeps_alerts",
                "1 while this worker evaluates rules and notifies, 0 while it stands by.",
            )?,
            acks: IntCounter::new("sentinel_worker_acks_total", "Messages acknowledged.")?,
            bus_failures: IntCounter::new(
                "sentinel_worker_bus_failures_total",
                "Times that the bus did not deliver, or did not take an answer.",
            )?,
            notification_seconds: seconds(
                "sentinel_worker_notification_seconds",
                "Time from each decision to tell until it is told.",
            )?,
            slots_failed: IntGauge::new(
                "sentinel_worker_slots_failed",
                "Slots that could not be loaded as they are configured.",
            )?,
            window_series: IntGauge::new("sentinel_worker_window_series", "Series in windows.")?,
            window_samples: IntGauge::new("sentinel_worker_window_samples", "Samples in windows.")?,
            checkpoint_time: IntGauge::new(
                "sentinel_worker_checkpoint_time_seconds",
                "Unix time at which windows were last kept whole in the store, 0 before.",
            )?,
            checkpoint_bytes: IntGauge::new(
                "sentinel_worker_checkpoint_bytes",
                "Bytes of windows kept in the store.",
            )?,
            checkpoint_seconds: seconds(
                "sentinel_worker_checkpoint_seconds",
                "Time of making and writing some parts of windows.",
            )?,
            recovery_seconds: Gauge::new(
                "sentinel_worker_recovery_seconds",
                "Time until windows were there when this worker last began to evaluate.",
            )?,
        };
        registry.register(Box::new(all.records.clone()))?;
        registry.register(Box::new(all.samples.clone()))?;
        registry.register(Box::new(all.processing_seconds.clone()))?;
        registry.register(Box::new(all.commit_seconds.clone()))?;
        registry.register(Box::new(all.store_failures.clone()))?;
        registry.register(Box::new(all.transform_failures.clone()))?;
        registry.register(Box::new(all.bus_depth.clone()))?;
        registry.register(Box::new(all.evaluations.clone()))?;
        registry.register(Box::new(all.evaluation_seconds.clone()))?;
        registry.register(Box::new(all.notifications.clone()))?;
        registry.register(Box::new(all.notifications_open.clone()))?;
        registry.register(Box::new(all.keeps_alerts.clone()))?;
        registry.register(Box::new(all.acks.clone()))?;
        registry.register(Box::new(all.bus_failures.clone()))?;
        registry.register(Box::new(all.notification_seconds.clone()))?;
        registry.register(Box::new(all.slots_failed.clone()))?;
        registry.register(Box::new(all.window_series.clone()))?;
        registry.register(Box::new(all.window_samples.clone()))?;
        registry.register(Box::new(all.checkpoint_time.clone()))?;
        registry.register(Box::new(all.checkpoint_bytes.clone()))?;
        registry.register(Box::new(all.checkpoint_seconds.clone()))?;
        registry.register(Box::new(all.recovery_seconds.clone()))?;
        Ok(all)
    }

    /// Counts records.
    pub(crate) fn record(&self, outcome: &str) {
        self.records.with_label_values(&[outcome]).inc();
    }
}
