//! What the server counts of itself.

use crate::crowd::{Full, Place, Service};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

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
    /// Connections that are open, by service.
    pub connections: IntGaugeVec,
    /// Connections refused for want of a place, by service and reason.
    pub connections_refused: IntCounterVec,
}

/// An open connection's place, counted as long as it is taken.
pub(crate) struct Entered {
    _place: Place,
    open: IntGauge,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.open.dec();
    }
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
        let connections = IntGaugeVec::new(
            Opts::new("sentinel_server_connections", "Connections that are open, by service."),
            &["service"],
        )?;
        registry.register(Box::new(connections.clone()))?;
        let connections_refused = IntCounterVec::new(
            Opts::new(
                "sentinel_server_connections_refused_total",
                "Connections refused: the address has as many as it may have, or all places are taken.",
            ),
            &["service", "reason"],
        )?;
        registry.register(Box::new(connections_refused.clone()))?;
        Ok(Self {
            pushes: counter("sentinel_server_pushes_total", "Pushes received.")?,
            envelopes: counter("sentinel_server_envelopes_total", "Envelopes taken.")?,
            bytes: counter("sentinel_server_payload_bytes_total", "Payload bytes taken.")?,
            refused,
            connections,
            connections_refused,
        })
    }

    /// Counts an open connection.
    pub(crate) fn enters(&self, service: Service, place: Place) -> Entered {
        let open = self.connections.with_label_values(&[service.as_str()]);
        open.inc();
        Entered { _place: place, open }
    }

    /// Counts one that was refused.
    pub(crate) fn refused_connection(&self, service: Service, full: Full) {
        self.connections_refused.with_label_values(&[service.as_str(), full.as_str()]).inc();
    }
}
