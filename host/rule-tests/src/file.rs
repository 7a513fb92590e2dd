//! Files of tests as people write them.

use crate::world::Answers;
use schemars::JsonSchema;
use sentinel_model::duration::Millis;
use sentinel_model::ids::SlotName;
use sentinel_worker::config::WorkerConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most tests of one file.
pub(crate) const MAX_TESTS: usize = 10_000;
/// The longest that a test may last, in milliseconds (35 days).
pub(crate) const MAX_SPAN_MS: i64 = 35 * 86_400_000;

/// A file of tests: what `sentinel rules test` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    /// Version of the format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub(crate) version: u32,
    /// Files of rules, beside this file.
    pub(crate) rules: Vec<String>,
    /// Evaluators, notifiers and routes, as under `worker:` in the configuration. A receiver that
    /// is no notifier here is told all the same, and sends nothing. Without any notifier all are
    /// one, named `everybody`.
    #[serde(default)]
    pub(crate) worker: WorkerConfig,
    /// What receivers answer, by slot; 200 where nothing is said. A list is answered in turn, and
    /// what failed is tried again.
    #[serde(default)]
    pub(crate) answers: BTreeMap<SlotName, Answers>,
    /// The tests.
    pub(crate) tests: Vec<TestCase>,
}

/// One test: series in; states, notifications and payloads out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestCase {
    /// What it shows, as a sentence.
    pub(crate) name: String,
    /// Names of the rules that are in force; all of the files' where absent.
    #[serde(default)]
    pub(crate) only: Vec<String>,
    /// When it begins, such as `2026-01-01T00:00:00Z`; that where absent. All other times count
    /// from here.
    #[serde(default)]
    pub(crate) start: Option<String>,
    /// From one value of a series to the next; 1m where absent.
    #[serde(default)]
    pub(crate) step: Option<Millis>,
    /// The series, and all that there are.
    #[serde(default)]
    pub(crate) series: Vec<SeriesCase>,
    /// When the rules come into force.
    #[serde(default)]
    pub(crate) from: Millis,
    /// When it ends; where absent with the last sample or expectation.
    #[serde(default)]
    pub(crate) until: Option<Millis>,
    /// What people do meanwhile.
    #[serde(default)]
    pub(crate) acts: Vec<ActCase>,
    /// The alerts at times.
    #[serde(default)]
    pub(crate) expect: Vec<LookCase>,
    /// Everything that somebody is told; not looked at where absent.
    #[serde(default)]
    pub(crate) notifications: Option<Vec<ToldCase>>,
}

/// A series with its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesCase {
    /// Name and labels: `name{label="value"}`.
    pub(crate) series: String,
    /// Its values, a step apart: `1 2 _ 5x3 0+10x20`. A text: in quotes where YAML would see a
    /// number, as it does in `0x20`.
    pub(crate) values: String,
    /// From one value to the next; the test's where absent.
    #[serde(default)]
    pub(crate) step: Option<Millis>,
    /// When the first value is.
    #[serde(default)]
    pub(crate) from: Millis,
}

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActCase {
    /// When.
    pub(crate) at: Millis,
    /// Conditions on the labels of alerts that nobody is to be told of.
    #[serde(default)]
    pub(crate) silence: Vec<String>,
    /// An alert that somebody has in hand.
    #[serde(default)]
    pub(crate) acknowledge: Option<AlertName>,
    /// For how long; a silence needs it, an acknowledgement counts for ever without.
    #[serde(default, rename = "for")]
    pub(crate) lasts: Option<Millis>,
}

/// Which alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertName {
    /// The rule's name.
    pub(crate) rule: String,
    /// All of its labels, those of the rule included.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// The alerts at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookCase {
    /// When; what happens at that time has happened.
    pub(crate) at: Millis,
    /// Everything that is pending or fires then.
    pub(crate) alerts: Vec<AlertCase>,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertCase {
    /// The rule's name.
    pub(crate) rule: String,
    /// The state it is in.
    pub(crate) state: StateCase,
    /// All of its labels, those of the rule included.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Its value; not looked at where absent.
    #[serde(default)]
    pub(crate) value: Option<f64>,
    /// Some of its annotations, filled in.
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Since when its condition holds; not looked at where absent.
    #[serde(default)]
    pub(crate) since: Option<Millis>,
}

/// A state of an alert that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StateCase {
    /// The condition holds, not yet for long enough.
    Pending,
    /// It held for long enough.
    Firing,
}

/// What an alert of a notification is told as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StatusCase {
    /// Something is wrong.
    Firing,
    /// It is over.
    Resolved,
}

/// One notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToldCase {
    /// When.
    pub(crate) at: Millis,
    /// The notifier's slot.
    pub(crate) to: SlotName,
    /// Whether something is wrong or over.
    pub(crate) status: StatusCase,
    /// The labels by which its alerts are grouped; not looked at where absent.
    #[serde(default)]
    pub(crate) group: Option<BTreeMap<String, String>>,
    /// Its alerts.
    pub(crate) alerts: Vec<ToldAlert>,
    /// What the notifier sends, over all attempts, each in turn: `method`, `url`, `headers` (those that are named)
    /// and `body`, or of a mail `from`, `to`, `cc`, `subject`, `text` and `html`. What is not
    /// named is not looked at, what is is compared exactly.
    #[serde(default)]
    pub(crate) sends: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
    /// Part of what is said where it is not delivered; that it is delivered where absent.
    #[serde(default)]
    pub(crate) fails: Option<String>,
    /// Each attempt in turn; not looked at where absent.
    #[serde(default)]
    pub(crate) attempts: Option<Vec<AttemptCase>>,
}

/// One attempt at a notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttemptCase {
    /// When.
    pub(crate) at: Millis,
    /// What the notifier sends then, as in a notification.
    #[serde(default)]
    pub(crate) sends: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
    /// Part of what is said where it failed; that it was taken where absent.
    #[serde(default)]
    pub(crate) fails: Option<String>,
}

/// One alert of a notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToldAlert {
    /// The rule's name.
    pub(crate) rule: String,
    /// What it is told as; as the notification where absent.
    #[serde(default)]
    pub(crate) status: Option<StatusCase>,
    /// All of its labels; not looked at where absent.
    #[serde(default)]
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// The JSON Schema (2020-12) of a file of tests.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(TestFile).to_value()
}
