//! What the store keeps of the fleet: the desired sets, sealed by operators. The store does
//! not read them.

/// A desired set as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSet {
    /// Its number, from 1.
    pub number: u64,
    /// Unix milliseconds at which it was taken.
    pub taken_at: i64,
    /// The sealed text.
    pub sealed: String,
}
