//! The shapes of the REST API: what handlers answer and what the CLI reads.

mod access;
mod attention;
mod batches;
mod notifiers;
mod plugins;
mod rules;

pub use access::{
    ApiTokenBody, ApiTokenRequest, AuditBody, DoneBody, EnrolmentTokenBody, MadeApiTokenBody,
};
pub use attention::{
    AcknowledgeBody, AcknowledgedBody, ByBody, NotificationBody, PreviewBody, SilenceBody,
    SilencedBody, SilencesBody, TestBody, WayBody, WaysBody,
};
pub use batches::{BatchBody, BatchesBody, DeadBody, SampleBody, SamplesBody, StreamBody};
pub use notifiers::{DecidedBy, NotifierBody, NotifierWorkerBody, NotifiersBody};
pub use plugins::{PluginBody, PluginSlotBody, PluginWishBody, PluginsBody};
pub use rules::{
    AppliedBody, ApplyBody, ChangeBody, CheckBody, CheckedBody, CostBody, FieldBody, FileBody,
    ReadBody, RuleVersionBody, RulesBody,
};
pub use sentinel_alerting::routing::{Held, Way};
use sentinel_model::alert::{Alert, Delivery, Transition};
use sentinel_model::attention::Acknowledgement;
use sentinel_model::number::Number;
use sentinel_store::Sizes;
use sentinel_store::agents::AgentRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Why a request was refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What failed, with which value, and what to do.
    pub error: String,
    /// Every problem of a document, with file and line; empty for other errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemBody>,
}

/// One problem of a document.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProblemBody {
    /// The document.
    pub file: String,
    /// Line from 1.
    pub line: usize,
    /// Column from 1; 0 of a server that does not say.
    #[serde(default)]
    pub column: usize,
    /// JSON Pointer.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// Everything at a glance.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusBody {
    /// The server's version.
    pub version: String,
    /// Unix milliseconds.
    pub now: i64,
    /// Unix milliseconds of its start.
    pub started_at: i64,
    /// Agents with offsets and slots as they last said.
    pub agents: Vec<AgentBody>,
    /// Workers as they last said.
    pub workers: Vec<RoleBody>,
    /// Messages waiting on the bus.
    pub bus_messages: u64,
    /// Bytes waiting on the bus.
    pub bus_bytes: u64,
    /// Why it is not known what waits on the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_trouble: Option<String>,
    /// The store's sizes.
    #[schema(value_type = Object)]
    pub store: SizesBody,
    /// The version of the rules in force; 0 before the first.
    pub rules_version: u64,
    /// How many rules.
    pub rules: usize,
    /// Alerts by state.
    pub alerts: BTreeMap<String, usize>,
}

/// The store's sizes.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SizesBody {
    /// The engine with its version, in a few words; empty from servers that do not say it.
    #[serde(default)]
    pub engine: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Series known.
    pub series: u64,
    /// Samples not packed yet.
    pub tail_samples: u64,
    /// Samples packed.
    pub packed_samples: u64,
}

impl SizesBody {
    /// What a store says of itself.
    #[must_use]
    pub fn new(engine: String, s: Sizes) -> Self {
        Self {
            engine,
            bytes: s.bytes,
            series: s.series,
            tail_samples: s.tail_samples,
            packed_samples: s.packed_samples,
        }
    }
}

/// One agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentBody {
    /// Its id.
    pub id: String,
    /// The machine's name.
    pub hostname: String,
    /// Version of its binary.
    pub version: String,
    /// `approved`, `waiting` or `blocked`.
    pub state: String,
    /// Operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Unix milliseconds.
    pub registered_at: i64,
    /// Unix milliseconds of the last heartbeat.
    pub last_seen: Option<i64>,
    /// Offsets, slots and warnings of the last heartbeat.
    #[schema(value_type = Object)]
    pub report: serde_json::Value,
    /// The enrolment under this id that waits for an operator; approving the agent lets it in, in
    /// the place of what went on until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newcomer: Option<NewcomerBody>,
}

/// A new key of an agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyBody {
    /// Whose.
    pub agent: String,
    /// Its number.
    pub key_id: u32,
    /// How long the key before is good, once the agent has this one.
    pub grace: String,
}

/// An enrolment that waits for an operator.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NewcomerBody {
    /// The machine's name.
    pub hostname: String,
    /// Hash of the machine's identity.
    pub hw_id: String,
    /// Whether it is the machine that had this id before.
    pub same_machine: bool,
    /// Version of the agent's binary.
    pub version: String,
    /// Operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Unix milliseconds of its enrolment.
    pub registered_at: i64,
}

impl From<AgentRecord> for AgentBody {
    fn from(a: AgentRecord) -> Self {
        let report = a.report.as_deref().and_then(|r| serde_json::from_str(r).ok());
        let state = serde_json::to_value(a.state).ok();
        let newcomer = a.newcomer.map(|it| NewcomerBody {
            same_machine: it.hw_id == a.hw_id,
            hostname: it.hostname,
            hw_id: it.hw_id,
            version: it.version,
            labels: it.labels,
            registered_at: it.registered_at,
        });
        Self {
            id: a.id.to_string(),
            hostname: a.hostname,
            version: a.version,
            state: state.and_then(|s| s.as_str().map(str::to_owned)).unwrap_or_default(),
            labels: a.labels,
            registered_at: a.registered_at,
            last_seen: a.last_seen,
            report: report.unwrap_or(serde_json::Value::Null),
            newcomer,
        }
    }
}

/// What a role last said of itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RoleBody {
    /// Its name, `worker/NAME`.
    pub name: String,
    /// Unix milliseconds of when it said so.
    pub at: i64,
    /// Its status.
    #[schema(value_type = Object)]
    pub status: serde_json::Value,
}

/// Series with samples.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct QueryBody {
    /// In order of names and labels.
    pub series: Vec<SeriesBody>,
    /// Whether there were more than the limit.
    pub truncated: bool,
}

/// A number, or one of the texts `"NaN"`, `"+Inf"` and `"-Inf"`, for which JSON has none.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum NumberBody {
    /// A finite number.
    Finite(f64),
    /// `NaN`, `+Inf` or `-Inf`.
    Text(String),
}

/// One series with its samples.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SeriesBody {
    /// The metric's name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// As in the batch's `kind`.
    pub kind: u8,
    /// Unix milliseconds, increasing.
    pub times: Vec<i64>,
    /// As many values: a number, or `"NaN"`, `"+Inf"` or `"-Inf"`, for which JSON has none.
    #[schema(value_type = Vec<NumberBody>)]
    pub values: Vec<Number>,
}

/// Alerts, newest history and open notifications.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AlertsBody {
    /// Pending, firing, and lately resolved ones. Their `value` is a number, `"NaN"`, `"+Inf"` or
    /// `"-Inf"`.
    #[schema(value_type = Vec<Object>)]
    pub alerts: Vec<Alert>,
    /// Who has which of them in hand.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub acknowledgements: Vec<Acknowledgement>,
    /// Silences of those that are silenced, by fingerprint.
    #[serde(default)]
    pub silenced: BTreeMap<String, Vec<String>>,
}

/// Transitions, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryBody {
    /// What happened. `value` is as in an alert.
    #[schema(value_type = Vec<Object>)]
    pub transitions: Vec<Transition>,
}

/// Notifications with their delivery, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NotificationsBody {
    /// What was, or is to be, told.
    #[schema(value_type = Vec<Object>)]
    pub notifications: Vec<Delivery>,
}

/// A token to make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// How many agents it may enrol.
    pub uses: u32,
    /// How long, such as `1h`.
    pub valid_for: String,
}

/// A token, shown once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenBody {
    /// The token.
    pub token: String,
    /// Unix milliseconds.
    pub expires_at: i64,
}

/// A desired set was taken.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FleetTakenBody {
    /// Its number.
    pub number: u64,
}

/// The desired set in force as its operator sealed it.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SealedBody {
    /// Its number; 0 before the first.
    pub number: u64,
    /// The sealed text; absent before the first.
    pub sealed: Option<String>,
    /// Which fleet; absent where this server belongs to none.
    pub fleet: Option<String>,
    /// Public keys of those who may decide.
    pub operators: Vec<String>,
}

/// A desired set in the history.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FleetSetBody {
    /// Its number.
    pub number: u64,
    /// Unix milliseconds at which the server took it.
    pub taken_at: i64,
    /// Who decided it, in its own words.
    pub by: String,
    /// The id of the key that signed it.
    pub key: String,
    /// Why.
    pub note: String,
    /// The set.
    #[schema(value_type = Object)]
    pub set: serde_json::Value,
    /// The set as it was sealed: whoever does not believe this server opens it.
    pub sealed: String,
}

/// Desired against actual.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct FleetStatusBody {
    /// The number of the set in force; 0 before the first.
    pub number: u64,
    /// Who decided it.
    pub by: String,
    /// Unix milliseconds of the decision.
    pub made_at: i64,
    /// Why.
    pub note: String,
    /// Every agent and worker.
    pub hosts: Vec<FleetHostBody>,
}

/// One host of the fleet.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FleetHostBody {
    /// The agent's id or the worker's name.
    pub host: String,
    /// `agent` or `worker`.
    pub role: String,
    /// What selectors look at.
    pub labels: BTreeMap<String, String>,
    /// The set that runs there; absent for a host outside the fleet.
    pub number: Option<u64>,
    /// The newer set that it refused, if it did.
    pub refused: Option<u64>,
    /// The newer set that it is fetching or preparing.
    pub applying: Option<u64>,
    /// Whether the set that runs is on trial: a slot that is given up takes it back.
    #[serde(default)]
    pub trial: bool,
    /// `current`, `behind`, `refused`, `silent`, `outside`, `unapproved` or `blocked`.
    pub state: String,
    /// Why it does not run what it should.
    pub problem: Option<String>,
    /// What the set wants there, `slot: plugin@version`.
    pub wanted: Vec<String>,
    /// Its slots as it last said.
    #[schema(value_type = Object)]
    pub slots: serde_json::Value,
}
