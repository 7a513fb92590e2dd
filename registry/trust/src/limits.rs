//! Limits of one call: what a plugin asks for and the most a host gives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most linear memory of one instance (512 MiB).
pub const MAX_MEMORY_BYTES: u64 = 512 << 20;
/// Least linear memory that is worth asking for (64 KiB, one page).
pub const MIN_MEMORY_BYTES: u64 = 64 << 10;
/// Longest wall-clock time of one call, in milliseconds (2 minutes).
pub const MAX_CALL_MS: u64 = 120_000;
/// Most bytes that one call may hand back (64 MiB).
pub const MAX_RETURNED_BYTES: u64 = 64 << 20;

/// Limits of a plugin's calls. What a manifest leaves out has the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of one instance, in bytes: 64 MiB unless asked otherwise, at most
    /// [`MAX_MEMORY_BYTES`].
    #[schemars(range(min = MIN_MEMORY_BYTES, max = MAX_MEMORY_BYTES))]
    pub memory_bytes: u64,
    /// Wall-clock time of one call, in milliseconds, waiting in host calls included: 10 s
    /// unless asked otherwise, at most [`MAX_CALL_MS`].
    #[schemars(range(min = 1, max = MAX_CALL_MS))]
    pub call_ms: u64,
    /// Bytes that one call may hand back: 16 MiB unless asked otherwise, at most
    /// [`MAX_RETURNED_BYTES`].
    #[schemars(range(min = 1, max = MAX_RETURNED_BYTES))]
    pub returned_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, call_ms: 10_000, returned_bytes: 16 << 20 }
    }
}

/// Limits that an operator sets in place of those that a manifest asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOverrides {
    /// In place of [`Limits::memory_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// In place of [`Limits::call_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_ms: Option<u64>,
    /// In place of [`Limits::returned_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned_bytes: Option<u64>,
}

impl Limits {
    /// These limits with an operator's in place of those it names, within the host's maxima.
    #[must_use]
    pub fn overridden(self, by: &LimitOverrides) -> Self {
        Self {
            memory_bytes: by
                .memory_bytes
                .unwrap_or(self.memory_bytes)
                .clamp(MIN_MEMORY_BYTES, MAX_MEMORY_BYTES),
            call_ms: by.call_ms.unwrap_or(self.call_ms).clamp(1, MAX_CALL_MS),
            returned_bytes: by
                .returned_bytes
                .unwrap_or(self.returned_bytes)
                .clamp(1, MAX_RETURNED_BYTES),
        }
    }

    /// Everything out of bounds, each with its path below `at`.
    pub(crate) fn problems(&self, at: &str, problems: &mut Vec<String>) {
        for (name, value, min, max) in [
            ("memory_bytes", self.memory_bytes, MIN_MEMORY_BYTES, MAX_MEMORY_BYTES),
            ("call_ms", self.call_ms, 1, MAX_CALL_MS),
            ("returned_bytes", self.returned_bytes, 1, MAX_RETURNED_BYTES),
        ] {
            if !(min..=max).contains(&value) {
                problems.push(format!("{at}.{name}: {value} is not within {min} to {max}"));
            }
        }
    }
}

impl LimitOverrides {
    /// Everything out of bounds, each with its path below `at`.
    pub(crate) fn problems(&self, at: &str, problems: &mut Vec<String>) {
        let fill = Limits::default();
        Limits {
            memory_bytes: self.memory_bytes.unwrap_or(fill.memory_bytes),
            call_ms: self.call_ms.unwrap_or(fill.call_ms),
            returned_bytes: self.returned_bytes.unwrap_or(fill.returned_bytes),
        }
        .problems(at, problems);
    }
}
