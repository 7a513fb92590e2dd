//! What upkeep did, and how much there is.

/// What packing, rollups or retention did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Maintenance {
    /// Batches packed into chunks.
    pub batches_packed: u64,
    /// Samples packed.
    pub samples_packed: u64,
    /// Chunks, rollups, series and whatever else retention dropped.
    pub dropped: u64,
    /// The longest time that writers were kept out, in microseconds.
    pub longest_lock_us: u64,
}

/// Sizes, for `status` and benchmarks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sizes {
    /// Bytes on disk, write-ahead log included.
    pub bytes: u64,
    /// Bytes of it that are free inside the file, to be used again before it grows.
    pub free_bytes: u64,
    /// Series known.
    pub series: u64,
    /// Samples in batches not packed yet.
    pub tail_samples: u64,
    /// Samples in chunks.
    pub packed_samples: u64,
}
