//! What one process has at a time, and how a write says that it still has it.
//!
//! A lease lasts until a time of the database's clock. Each taking gives it a higher token; a write that carries a
//! [`Fence`] is made only while its token is the lease's, in the same transaction: who was paused, and lost the lease
//! without knowing, changes nothing any more.

/// The right to write under a lease, as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The lease.
    pub lease: String,
    /// Counts its takings and releases, from 1.
    pub token: u64,
}

/// The longest time for which a lease may be taken or kept, in milliseconds.
pub const MAX_LEASE_MS: u64 = 3_600_000;

/// A duration of a lease as the databases have it.
pub(crate) fn lasting(lasts: sentinel_model::duration::Millis) -> i64 {
    lasts.0.min(MAX_LEASE_MS) as i64
}
