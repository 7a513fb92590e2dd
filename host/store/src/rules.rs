//! Versions of the rules: each apply makes one, and the newest is in force.

/// A version of the rules that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleVersion {
    /// Its number, from 1.
    pub version: u64,
    /// Unix milliseconds at which it was applied.
    pub applied_at: i64,
    /// How many rules it has.
    pub rules: u64,
}
