//! What the agent counts of itself.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters and gauges of an agent.
pub(crate) struct Metrics {
    /// Samples that reached the log, by slot.
    pub(crate) samples: IntCounterVec,
    /// Collections that gave nothing, by slot.
    pub(crate) failed: IntCounterVec,
    /// Collections that were left out because the one before was still running, by slot.
    pub(crate) overrun: IntCounterVec,
    /// Envelopes sent, again-sent ones included.
    pub(crate) sent: IntCounter,
    /// Times that sending began again from the committed offset.
    pub(crate) rewinds: IntCounter,
    /// Records that are gone and were said to be.
    pub(crate) skipped: IntCounter,
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
        let connected =
            IntGauge::new("sentinel_agent_connected", "Whether the server answered last.")?;
        registry.register(Box::new(connected.clone()))?;
        Ok(Self {
            samples: by_slot("sentinel_agent_samples_total", "Samples that reached the log.")?,
            failed: by_slot(
                "sentinel_agent_collections_failed_total",
                "Collections that gave nothing.",
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
            connected,
        })
    }
}
