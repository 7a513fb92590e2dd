//! The four kinds of plugin, one trait each, and the values that cross in them.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Collected, Diagnostic, Failure, Kind};

pub use crate::bindings::evaluate::exports::sentinel::plugin::evaluate::{
    Condition, Instance, Need, Outcome, Plan,
};
pub use crate::bindings::notify::exports::sentinel::plugin::notify::{
    Alert, DeliveryError, Notification, Receipt, Retry, Status,
};

/// A metric that a plugin makes, for documentation and for checking rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The metric's name: OpenTelemetry semantic conventions in their Prometheus form.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
    /// UCUM unit (`s`, `By`, `1`).
    pub unit: String,
    /// One sentence.
    pub help: String,
}

impl Metric {
    /// A metric of the given name, kind, UCUM unit and one-sentence help.
    pub fn new(name: &str, kind: Kind, unit: &str, help: &str) -> Self {
        Self { name: name.to_owned(), kind, unit: unit.to_owned(), help: help.to_owned() }
    }
}

/// Reads something and returns samples. Export with [`export_collector!`](crate::export_collector).
pub trait Collector: Sized + 'static {
    /// The slot's configuration; its doc comments become the JSON Schema's descriptions.
    type Config: DeserializeOwned + JsonSchema;

    /// Makes the plugin out of its configuration. Called once, before anything else.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the configuration, each with a JSON Pointer into it.
    fn configure(config: Self::Config) -> Result<Self, Vec<Diagnostic>>;

    /// Metrics it makes; empty where they depend on the configuration.
    fn metrics() -> Vec<Metric> {
        Vec::new()
    }

    /// Collects once. Called at the slot's interval.
    ///
    /// # Errors
    ///
    /// [`Failure`] where there is nothing to return; the host calls again at the next interval.
    fn collect(&mut self) -> Result<Collected, Failure>;
}

/// Turns a batch into another. Export with [`export_transform!`](crate::export_transform).
pub trait Transform: Sized + 'static {
    /// The slot's configuration; its doc comments become the JSON Schema's descriptions.
    type Config: DeserializeOwned + JsonSchema;

    /// Makes the plugin out of its configuration. Called once, before anything else.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the configuration, each with a JSON Pointer into it.
    fn configure(config: Self::Config) -> Result<Self, Vec<Diagnostic>>;

    /// Metrics it makes; empty where they depend on input and configuration.
    fn metrics() -> Vec<Metric> {
        Vec::new()
    }

    /// Returns the batch that takes the place of `input`, usually through
    /// [`rows::edit`](crate::rows::edit). Must depend on nothing but `input` and the
    /// configuration: a batch is transformed again after a crash.
    ///
    /// # Errors
    ///
    /// [`Failure::Rejected`] where this input can never be processed.
    fn reshape(&mut self, input: crate::Batch) -> Result<crate::Batch, Failure>;
}

/// Decides which rules hold. Export with [`export_evaluator!`](crate::export_evaluator).
pub trait Evaluator: Sized + 'static {
    /// The slot's configuration; its doc comments become the JSON Schema's descriptions.
    type Config: DeserializeOwned + JsonSchema;

    /// Makes the plugin out of its configuration. Called once, before anything else.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the configuration, each with a JSON Pointer into it.
    fn configure(config: Self::Config) -> Result<Self, Vec<Diagnostic>>;

    /// Checks a condition's text without loading it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text, each with a JSON Pointer into it.
    fn check(&mut self, text: &str) -> Result<Plan, Vec<Diagnostic>>;

    /// Replaces all loaded conditions. Each text has passed [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// What is wrong; the host then keeps the last good set.
    fn load(&mut self, conditions: Vec<Condition>) -> Result<(), Vec<Diagnostic>>;

    /// Evaluates loaded conditions, by their index in `load`, at a time (unix milliseconds).
    /// One result for each index, in order; one's failure must not fail the others.
    fn evaluate(&mut self, indexes: &[u32], at: i64) -> Vec<Result<Outcome, Failure>>;
}

/// Tells somebody. Export with [`export_notifier!`](crate::export_notifier).
pub trait Notifier: Sized + 'static {
    /// The slot's configuration; its doc comments become the JSON Schema's descriptions.
    type Config: DeserializeOwned + JsonSchema;

    /// Makes the plugin out of its configuration. Called once, before anything else.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the configuration, each with a JSON Pointer into it.
    fn configure(config: Self::Config) -> Result<Self, Vec<Diagnostic>>;

    /// Delivers one notification.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`]; the host decides by the case alone whether and when to try again.
    fn notify(&mut self, notification: Notification) -> Result<Receipt, DeliveryError>;
}

/// A collector or evaluator that keeps something in memory from call to call and wants it to
/// outlive a swap of its version or config. Export with
/// [`export_collector!(Type, state)`](crate::export_collector) or
/// [`export_evaluator!(Type, state)`](crate::export_evaluator); without the word the plugin
/// keeps nothing. What must outlive a crash belongs in [`kv`](crate::kv).
pub trait State {
    /// The state, in a form that a later version can read too; at most 1 MiB.
    fn snapshot(&self) -> Vec<u8>;

    /// Takes what a version (semver) of this plugin gave, after `configure` and before any
    /// other call.
    ///
    /// # Errors
    ///
    /// Why it cannot be taken, in words: the version that runs then goes on. Begin anew instead
    /// where that is no harm.
    fn restore(&mut self, version: &str, state: &[u8]) -> Result<(), String>;
}
