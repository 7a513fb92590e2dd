//! Shapes of notifiers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Notifiers, those of the fleet first.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct NotifiersBody {
    /// Number of the desired set in force, which the ETag says too; 0 where there is none.
    pub number: u64,
    /// All, or those of one slot.
    pub notifiers: Vec<NotifierBody>,
}

/// Who decides about a notifier, and so where it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecidedBy {
    /// The fleet's operators, by the desired set.
    Fleet,
    /// The worker's owner, by its configuration file: nobody else may change it.
    Host,
}

/// A notifier.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NotifierBody {
    /// The slot, which routes name.
    pub slot: String,
    /// Who decides about it.
    pub decided_by: DecidedBy,
    /// Of the fleet: on which workers, `role=web,zone=a` or `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Of the fleet: all that was decided, as the set has it. Secrets stand in it by their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub wish: Option<serde_json::Value>,
    /// Where it is, by the workers' names.
    pub workers: Vec<NotifierWorkerBody>,
}

/// A notifier on one worker, as that says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NotifierWorkerBody {
    /// The worker.
    pub worker: String,
    /// When it said so, unix milliseconds.
    pub at: i64,
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// Whether it takes calls.
    pub state: String,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
