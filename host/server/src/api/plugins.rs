//! Shapes of plugins.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Plugins that are wanted or that run, in order of names.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PluginsBody {
    /// Number of the desired set in force; 0 where there is none.
    pub number: u64,
    /// All, or those of one name.
    pub plugins: Vec<PluginBody>,
}

/// One release of a plugin.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginBody {
    /// `publisher/name`.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// What it is: the hash of its component, `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// `collector`, `transform`, `evaluator` or `notifier`.
    pub kind: String,
    /// Where the fleet's operators want it.
    pub wanted: Vec<PluginWishBody>,
    /// Where it is, as hosts said last: wanted by the fleet or put there by the host's owner.
    pub slots: Vec<PluginSlotBody>,
}

/// A slot of the desired set with a plugin.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginWishBody {
    /// The slot.
    pub slot: String,
    /// On which hosts, `role=web,zone=a` or `*`.
    pub on: String,
    /// Whether it is switched off.
    pub disabled: bool,
}

/// A slot of a host with a plugin.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginSlotBody {
    /// The agent's id or the worker's name.
    pub host: String,
    /// `agent` or `worker`.
    pub role: String,
    /// When the host said so, unix milliseconds; absent where it said nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// The slot.
    pub slot: String,
    /// Whether it takes calls.
    pub state: String,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
