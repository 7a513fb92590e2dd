//! How an embedded bus is opened.

use sentinel_wal::{DEFAULT_SEGMENT_BYTES, SyncPolicy};

#[cfg(doc)]
use crate::BusError;

/// How an embedded bus is opened.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Messages that may wait. At the bound: [`BusError::Busy`].
    pub max_messages: u64,
    /// Bytes of messages that may wait. At the bound: [`BusError::Busy`]. On disk there are up to four segments more.
    pub max_bytes: u64,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// When the log syncs. [`SyncPolicy::Never`] by default: a message is delivered once it is written, and after anything
    /// but a clean close a new incarnation makes agents send again. Under any other policy a message is delivered
    /// only when it is synced, so that each waits up to the interval.
    pub sync: SyncPolicy,
}

impl Default for EmbeddedOptions {
    fn default() -> EmbeddedOptions {
        EmbeddedOptions {
            max_messages: 100_000,
            max_bytes: 256 << 20,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            sync: SyncPolicy::Never,
        }
    }
}
