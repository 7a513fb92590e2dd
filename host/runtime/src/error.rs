//! Failures of plugins as values: each names slot, plugin, version, export and cause.

mod load;

use std::fmt;

use sentinel_model::ids::SlotName;
use sentinel_trust::PluginName;
use serde::Serialize;

use crate::status::Emptied;

pub use load::{LoadCause, LoadError};

/// How much a diagnostic weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The text is refused.
    Error,
    /// The text is accepted; a person should look.
    Warning,
}

/// Something to say about a config or a rule, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// JSON Pointer into the text; empty for the whole.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether the text is refused.
    pub severity: Severity,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the whole" } else { &self.path };
        write!(f, "{path}: {}", self.message)
    }
}

/// Diagnostics one a line.
pub(crate) fn lines(diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<_> = diagnostics.iter().map(|one| format!("\n  - {one}")).collect();
    lines.concat()
}

/// Why a call gave no result. The text names slot, plugin, version, export and cause.
#[derive(Debug, Clone, thiserror::Error)]
#[error("slot {slot}: {plugin} {version}: {export}: {cause}")]
pub struct CallError {
    /// The slot.
    pub slot: SlotName,
    /// The plugin.
    pub plugin: PluginName,
    /// Its version.
    pub version: Box<semver::Version>,
    /// The function that was called (`collect`, `reshape`).
    pub export: &'static str,
    /// Why.
    pub cause: Cause,
}

impl CallError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.cause.kind()
    }

    /// Whether the plugin is at fault, so that its instance was dropped and the failure counts
    /// towards backoff and quarantine.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        self.kind().is_fault()
    }

    /// Whether the plugin was called at all; if not, nothing left the host.
    #[must_use]
    pub fn was_called(&self) -> bool {
        !matches!(
            self.cause,
            Cause::BackingOff { .. }
                | Cause::Quarantined { .. }
                | Cause::NotCallable(_)
                | Cause::Empty { .. }
                | Cause::Full { .. }
        )
    }
}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The plugin says that what it talks to did not answer as it should; the next call may
    /// succeed.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The plugin says that its config cannot work against what it found.
    #[error("its config cannot work:{}", lines(.0))]
    Misconfigured(Vec<Diagnostic>),
    /// The plugin says that this input can never be processed.
    #[error("rejected: {0}")]
    Rejected(String),
    /// It panicked.
    #[error("{message}{frames}")]
    Panicked {
        /// What the panic hook said: place and text.
        message: String,
        /// Where.
        frames: Frames,
    },
    /// It trapped.
    #[error("trapped: {trap}{frames}")]
    Trapped {
        /// Which trap.
        trap: String,
        /// Where.
        frames: Frames,
    },
    /// It used up its stack.
    #[error("its stack overflowed{frames}")]
    StackOverflow {
        /// Where.
        frames: Frames,
    },
    /// It asked for more memory than it may have, and stopped.
    #[error("it ran out of memory: its limit is {limit} bytes (`limits.memory_bytes`){frames}")]
    OutOfMemory {
        /// The limit in bytes.
        limit: u64,
        /// Where.
        frames: Frames,
    },
    /// It did not return in time.
    #[error("no result after {limit_ms} ms (`limits.call_ms`), {during}{frames}")]
    TimedOut {
        /// The limit in milliseconds.
        limit_ms: u64,
        /// What it was doing.
        during: String,
        /// Where.
        frames: Frames,
    },
    /// It handed over more bytes than it may.
    #[error("it handed over more than {limit} bytes (`limits.returned_bytes`)")]
    TooMuch {
        /// The limit in bytes.
        limit: u64,
    },
    /// What it returned breaks the contract.
    #[error("it returned something malformed: {0}")]
    Malformed(String),
    /// A host function failed in a way that is not the plugin's to handle.
    #[error("a host function failed: {0}")]
    Host(String),
    /// A fresh instance could not be made.
    #[error("no fresh instance: {0}")]
    Restart(String),
    /// It failed before and waits.
    #[error("not called: it failed {failures} times in a row and waits")]
    BackingOff {
        /// Until when, unix milliseconds.
        until: i64,
        /// Failures in a row.
        failures: u32,
    },
    /// It failed too often.
    #[error("not called: quarantined after: {reason}")]
    Quarantined {
        /// The last failure.
        reason: String,
    },
    /// The slot has no place for another call, or the plugin does not export the function.
    #[error("not called: {0}")]
    NotCallable(String),
    /// The slot holds no plugin.
    #[error("not called: the slot is empty ({emptied}): {reason}")]
    Empty {
        /// Who took the plugin out.
        emptied: Emptied,
        /// Why.
        reason: String,
    },
    /// The plugin was taken out of its slot while the call ran.
    #[error("stopped in the midst of the call: the plugin was taken out of its slot")]
    Withdrawn,
    /// All places for instances are taken.
    #[error("not called: all {places} places for instances in this process are taken")]
    Full {
        /// How many there are.
        places: u32,
    },
}

impl Cause {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Unavailable(_) => FailureKind::Unavailable,
            Self::Misconfigured(_) => FailureKind::Misconfigured,
            Self::Rejected(_) => FailureKind::Rejected,
            Self::Panicked { .. } => FailureKind::Panic,
            Self::Trapped { .. } => FailureKind::Trap,
            Self::StackOverflow { .. } => FailureKind::Stack,
            Self::OutOfMemory { .. } => FailureKind::Memory,
            Self::TimedOut { .. } => FailureKind::Timeout,
            Self::TooMuch { .. } => FailureKind::TooMuch,
            Self::Malformed(_) => FailureKind::Malformed,
            Self::Host(_) => FailureKind::Host,
            Self::Restart(_) => FailureKind::Restart,
            Self::BackingOff { .. }
            | Self::Quarantined { .. }
            | Self::NotCallable(_)
            | Self::Empty { .. }
            | Self::Full { .. } => FailureKind::NotCalled,
            Self::Withdrawn => FailureKind::Withdrawn,
        }
    }
}

/// Kinds of failures, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The plugin said so: what it talks to.
    Unavailable,
    /// The plugin said so: its config.
    Misconfigured,
    /// The plugin said so: this input.
    Rejected,
    /// A panic.
    Panic,
    /// Any other trap.
    Trap,
    /// The stack overflowed.
    Stack,
    /// The memory limit.
    Memory,
    /// The time limit.
    Timeout,
    /// The limit on bytes handed over.
    TooMuch,
    /// A result that breaks the contract.
    Malformed,
    /// A host function.
    Host,
    /// A fresh instance could not be made.
    Restart,
    /// The plugin was taken out of its slot during the call.
    Withdrawn,
    /// The plugin was not called.
    NotCalled,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Unavailable,
        Self::Misconfigured,
        Self::Rejected,
        Self::Panic,
        Self::Trap,
        Self::Stack,
        Self::Memory,
        Self::Timeout,
        Self::TooMuch,
        Self::Malformed,
        Self::Host,
        Self::Restart,
        Self::Withdrawn,
        Self::NotCalled,
    ];

    /// The value of the metrics label `kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
            Self::Rejected => "rejected",
            Self::Panic => "panic",
            Self::Trap => "trap",
            Self::Stack => "stack",
            Self::Memory => "memory",
            Self::Timeout => "timeout",
            Self::TooMuch => "too-much",
            Self::Malformed => "malformed",
            Self::Host => "host",
            Self::Restart => "restart",
            Self::Withdrawn => "withdrawn",
            Self::NotCalled => "not-called",
        }
    }

    /// Whether the instance is dropped and the failure counts towards backoff.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        match self {
            Self::Unavailable
            | Self::Misconfigured
            | Self::Rejected
            | Self::Withdrawn
            | Self::NotCalled => false,
            Self::Panic
            | Self::Trap
            | Self::Stack
            | Self::Memory
            | Self::Timeout
            | Self::TooMuch
            | Self::Malformed
            | Self::Host
            | Self::Restart => true,
        }
    }
}

/// Most lines of a backtrace that are kept.
const MAX_FRAME_LINES: usize = 24;

/// Names of the functions in which a plugin was, innermost first; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frames(String);

impl Frames {
    /// Takes the printed form of a wasm backtrace, cut to a bounded number of lines.
    pub(crate) fn new(printed: &str) -> Self {
        let (mut text, mut kept, mut same, mut last) = (String::new(), 0, 0, "");
        for line in printed.lines().filter(|line| !line.trim().is_empty()) {
            // `  7: plugin.wasm!name`: without its number a frame can be told from the last.
            let name = line.split_once(": ").map_or(line, |(_, name)| name);
            if name == last {
                same += 1;
                continue;
            }
            same_again(&mut text, std::mem::take(&mut same));
            if kept == MAX_FRAME_LINES {
                break;
            }
            text.push('\n');
            text.extend(line.chars().take(200));
            (kept, last) = (kept + 1, name);
        }
        same_again(&mut text, same);
        Self(text)
    }
}

fn same_again(text: &mut String, times: u32) {
    if times > 0 {
        text.push_str(&format!(" ({times} times more)"));
    }
}

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recursion_is_told_in_a_line_and_a_long_trace_is_cut() {
        let trace = Frames::new("wasm backtrace:\n  0: p!f\n  1: p!f\n\n  2: p!f\n  3: p!g\n");
        assert_eq!(trace.to_string(), "\nwasm backtrace:\n  0: p!f (2 times more)\n  3: p!g");
        let long: String = (0..100).map(|n| format!("  {n}: p!f{n}\n")).collect();
        assert_eq!(Frames::new(&long).to_string().lines().count(), MAX_FRAME_LINES + 1);
    }
}
