//! The only crate that knows wasmtime: it runs plugins, and nothing else.
//!
//! A [`Runtime`] holds what all plugins of a process share: the engine, threads of their own for
//! WebAssembly, the cache of compiled code and the compiler, which is a child process. A
//! [`Slot`] is a named place in which one plugin runs. It is started from a
//! [`VerifiedComponent`](sentinel_trust::VerifiedComponent) and nothing else, with the grants
//! that an operator gave, and what the host lends it: [`Services`].
//!
//! ```text
//! VerifiedComponent + Grants ── imports checked ── compiled (cache) ── instance
//!     ── describe() = manifest? ── configure() ── generation n of the slot
//! call ── permit ── idle or fresh instance ── on a wasm thread, under limits ── result | fault
//! fault ── counted ── backoff ── quarantine ── last good generation
//! ```
//!
//! A program that runs plugins has an internal subcommand that ends in [`compile_child_main`]
//! and names it in its [`CompilerCommand`]; a test program says [`compile_child_hook!`] once and
//! uses [`CompilerCommand::hooked`].
//!
//! Invariants:
//! * a failure of a plugin is a value ([`CallError`], [`LoadError`]) that names slot, plugin,
//!   version, export and cause; it never unwinds, blocks or slows another slot;
//! * after a trap or a dropped call an instance is never used again;
//! * the process never compiles: only the child of [`compile_child_main`] does;
//! * no secret enters a guest;
//! * this crate does not know what a metric, a rule or a receiver means.

pub mod capabilities;

mod admission;
mod bindings;
mod cache;
mod call;
mod compiler;
pub mod confine;
mod describe;
mod engine;
mod error;
pub mod evaluator;
mod generation;
mod health;
mod host;
mod imports;
mod load;
mod mapped;
mod metrics;
pub mod notifier;
mod runtime;
mod sandbox;
mod services;
mod slot;
mod state;
mod status;
mod threads;
mod wasi;

pub use admission::{Admission, Refusal, Withdrawn};
pub use cache::CacheError;
#[doc(hidden)]
pub use compiler::compile_if_hooked;
pub use compiler::{CompileError, CompileLimits, CompilerCommand, compile_child_main};
pub use describe::{DescribeError, Description, Metric, describe};
pub use error::{
    CallError, Cause, Diagnostic, FailureKind, Frames, LoadCause, LoadError, Severity,
};
pub use runtime::{Runtime, RuntimeError, RuntimeOptions};
pub use services::{
    KvSource, KvState, KvWrite, NoKv, NoSecrets, NoSeries, Outside, SecretSource, SeriesSource,
    Services,
};
pub use slot::{Change, Collected, Committed, MAX_SET, Prepared, Slot, SlotSpec};
pub use status::{Emptied, Good, Latency, RolledBack, SlotState, SlotStatus};
