//! What the agent counts of itself.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters and gauges of an agent.
pub(crate) struct Metrics {
    /// Samples that reached the log, by slot.
    pub(crate) samples: IntCounterVec,
    /// Collections that gave nothing, by slot.
    pub(crate) failed: IntCounterVec,
    /// Rows that no record can hold, by slot.
    pub(crate) left_out: IntCounterVec,
    /// Collections that were left out because the one before was still running, by slot.
    pub(crate) overrun: IntCounterVec,
    /// Envelopes sent, again-sent ones included.
    pub(crate) sent: IntCounter,
    /// Times that sending began again from the committed offset.
    pub(crate) rewinds: IntCounter,
    /// Records that are gone and were said to be.
    pub(crate) skipped: IntCounter,
    /// Whether the log takes records.
    pub(crate) log_healthy: IntGauge,
    /// Slots that could not be loaded.
    pub(crate) slots_failed: IntGauge,
    /// Whether the last exchange with the server went well.
    pub(crate) connected: IntGauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_slot = |name: &str, help: &str| -> Result<IntCounterVec, prometheus::Error> {
            let one = IntCounterVec::new(Opts::new(name, help), &["slot"])?;
            registry.register(Box::new(one.clone()))?;
            Ok(one)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let one = IntCounter::new(name, help)?;
            registry.register(Box::new(one.clone()))?;
            Ok(one)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let one = IntGauge::new(name, help)?;
            registry.register(Box::new(one.clone()))?;
            Ok(one)
        };
        let connected = gauge("sentinel_agent_connected", "Whether the server answered last.")?;
        let log_healthy =
            gauge("sentinel_agent_log_healthy", "Whether the agent's log takes records.")?;
        log_healthy.set(1);
        let slots_failed = gauge(
            "sentinel_agent_slots_failed",
            "Slots that could not be loaded as they are configured.",
        )?;
        Ok(Self {
            samples: by_slot("sentinel_agent_samples_total", "Samples that reached the log.")?,
            failed: by_slot(
                "sentinel_agent_collections_failed_total",
                "Collections that gave nothing.",
            )?,
            left_out: by_slot(
                "sentinel_agent_rows_left_out_total",
                "Rows that no record can hold.",
            )?,
            overrun: by_slot(
                "sentinel_agent_collections_overrun_total",
                "Collections left out because the one before still ran.",
            )?,
            sent: counter("sentinel_agent_envelopes_sent_total", "Envelopes sent.")?,
            rewinds: counter(
                "sentinel_agent_rewinds_total",
                "Times that sending began again from the committed offset.",
            )?,
            skipped: counter(
                "sentinel_agent_records_skipped_total",
                "Records lost or dropped, and said to be.",
            )?,
            log_healthy,
            slots_failed,
            connected,
        })
    }
}
