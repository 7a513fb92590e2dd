//! What the server counts of itself.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counters of the ingest path.
pub struct Metrics {
    /// Pushes received.
    pub pushes: IntCounter,
    /// Envelopes taken.
    pub envelopes: IntCounter,
    /// Payload bytes taken.
    pub bytes: IntCounter,
    /// Envelopes refused, by reason.
    pub refused: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// Where a name is taken: two servers in one registry.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let refused = IntCounterVec::new(
            Opts::new("sentinel_server_envelopes_refused_total", "Envelopes refused, by reason."),
            &["reason"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self {
            pushes: counter("sentinel_server_pushes_total", "Pushes received.")?,
            envelopes: counter("sentinel_server_envelopes_total", "Envelopes taken.")?,
            bytes: counter("sentinel_server_payload_bytes_total", "Payload bytes taken.")?,
            refused,
        })
    }
}
