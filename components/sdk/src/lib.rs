//! Write a Sentinel plugin in Rust: traits, macros, row views, test doubles.
//!
//! A plugin is a type with one of four traits and one line that exports it:
//!
//! ```
//! use sentinel_sdk::{
//!     BatchBuilder, Collected, Collector, Diagnostic, Failure, export_collector, files,
//! };
//!
//! /// Where to read.
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// A file that holds one number.
//!     path: String,
//! }
//!
//! struct Number {
//!     path: String,
//! }
//!
//! impl Collector for Number {
//!     type Config = Config;
//!
//!     fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
//!         if config.path.is_empty() {
//!             return Err(vec![Diagnostic::error("/path", "is empty; name a file")]);
//!         }
//!         Ok(Self { path: config.path })
//!     }
//!
//!     fn collect(&mut self) -> Result<Collected, Failure> {
//!         let text = files::read_text(&self.path, 64)
//!             .map_err(|error| Failure::Unavailable(format!("{}: {error:?}", self.path)))?;
//!         let value = text
//!             .trim()
//!             .parse()
//!             .map_err(|_| Failure::Unavailable(format!("{text:?} is no number")))?;
//!         let mut batch = BatchBuilder::new();
//!         batch.gauge("number", &[("path", &self.path)], value);
//!         Ok(batch.into())
//!     }
//! }
//!
//! export_collector!(Number);
//!
//! // In a test, a host made of values:
//! let _host = sentinel_sdk::testing::Host::new().file("/n", "42\n").install();
//! let mut number = Number::configure(Config { path: "/n".into() }).unwrap();
//! assert_eq!(number.collect().unwrap().parts().next().unwrap().value, [42.0]);
//! ```
//!
//! Built with `cargo build --release --target wasm32-unknown-unknown` as a `cdylib` and packed
//! with `sentinel plugin pack`, it imports what it calls and nothing else. Built natively it is
//! an ordinary library for `cargo test`. This crate's README goes through a first plugin.
//!
//! The host's functions are [`log`], [`clock`], [`system`], [`http`], [`files`], [`mac`], [`kv`]
//! (collectors and, where it makes sense, notifiers), [`mail`] (notifiers) and [`series`]
//! (evaluators). What notifiers share is in [`notify`].

mod batch;
#[doc(hidden)]
pub mod bindings;
mod builder;
pub mod columns;
pub mod config;
mod diagnostics;
#[doc(hidden)]
pub mod exports;
mod glob;
mod host;
mod kinds;
pub mod notify;
mod panics;
pub mod rows;
mod symbol_index;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use batch::{Batch, Failure, Kind, Sample};
pub use builder::{
    BatchBuilder, Collected, MAX_LABELS, MAX_PARTS, MAX_SYMBOL_BYTES, ROWS_PER_PART, is_label_key,
    is_metric_name,
};
pub use diagnostics::{Diagnostic, Severity, pointer_step};
pub use glob::Glob;
pub use host::{clock, files, http, kv, log, mac, mail, series, system};
pub use kinds::{
    Alert, Collector, Condition, DeliveryError, Evaluator, Instance, Metric, Need, Notification,
    Notifier, Outcome, Plan, Receipt, Retry, State, Status, Transform,
};

/// A label: key and value.
pub type Label = (String, String);
