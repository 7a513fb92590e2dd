//! Composition root of everything behind the bus: consume, verify, reshape, commit, evaluate,
//! notify.
//!
//! ```text
//! bus ── ingest: verify, order, label, transforms ── store (one transaction)
//!          └── windows of the series that rules read
//! rules ── evaluate: evaluators ── life cycle ── store (one transaction: alerts, history, journal)
//!          └── notify: a lane a notifier ── attempt stored ── notifier ── outcome stored
//! ```
//!
//! Invariants: a message is acknowledged after its commit; nobody is told of anything before it
//! is stored; whatever a crash interrupts is found again at the next start. This crate knows no
//! SQL, no wasmtime and no subject; the pipelines see plugins as [`stages`].

mod checker;
pub mod checkpoint;
pub mod clock;
pub mod config;
pub mod evaluate;
pub mod feed;
pub mod fleet;
pub mod ingest;
pub mod keeper;
pub mod kv;
pub mod label;
pub mod metrics;
pub mod notify;
mod parts;
pub mod patience;
pub mod slots;
pub mod stages;
pub mod status;
mod stop;
pub mod term;
mod upkeep;
pub mod windows;
mod worker;

pub use checker::ConditionChecker;
pub use fleet::FleetOptions;
pub use parts::{WorkerError, WorkerOptions, WorkerParts};
pub use worker::Worker;
