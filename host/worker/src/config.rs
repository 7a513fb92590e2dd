//! What runs in a worker, as operators write it.

use schemars::JsonSchema;
use sentinel_alerting::delivery::OnUnknown;
use sentinel_alerting::routing::{
    InhibitConfig, Problem, RouteConfig, Routing, RoutingConfig, SpanConfig, StatedRouting,
};
use sentinel_fleet::label_problems;
use sentinel_model::duration::Millis;
use sentinel_model::ids::SlotName;
use sentinel_trust::Grants;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The most slots a worker may have.
pub const MAX_SLOTS: usize = 256;
/// The longest time to settle: a worker that waits longer would leave alerts firing for ever.
pub const MAX_SETTLE: Millis = Millis(3_600_000);

/// What runs in a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// What this worker is to its fleet, beside `worker` (its name), `hostname`, `os` and `arch`.
    pub labels: BTreeMap<String, String>,
    /// The most that the fleet's desired set may grant to any plugin here; without it whatever an
    /// operator of the fleet grants is granted.
    pub ceiling: Option<Grants>,
    /// Transforms, in the order in which they reshape every batch before it is stored. While
    /// one of them cannot be loaded nothing is stored: the agents keep their samples.
    pub transforms: Vec<SlotConfig>,
    /// Evaluators, which rules name by slot.
    pub evaluators: Vec<SlotConfig>,
    /// Notifiers, which rules name by slot.
    pub notifiers: Vec<NotifierConfig>,
    /// Who is told of which alerts, and when. Where absent each rule says whom it tells, at once.
    pub routes: Option<RouteConfig>,
    /// Alerts that nobody needs to hear of while others fire.
    pub inhibit: Vec<InhibitConfig>,
    /// Times of the week, by names that routes give in `mute`.
    pub mute_times: BTreeMap<String, Vec<SpanConfig>>,
    /// Alerts on Sentinel itself; read at the start.
    pub self_watch: SelfWatchConfig,
    /// How long after a start samples may still be on their way: until then no alert ends and
    /// none begins for want of data. Three times the interval of the slowest agent is right;
    /// read at the start, at most an hour.
    pub settle: Millis,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            labels: BTreeMap::new(),
            ceiling: None,
            transforms: Vec::new(),
            evaluators: Vec::new(),
            notifiers: Vec::new(),
            routes: None,
            inhibit: Vec::new(),
            mute_times: BTreeMap::new(),
            self_watch: SelfWatchConfig::default(),
            settle: Millis(30_000),
        }
    }
}

/// Alerts on Sentinel itself: agents that are silent, rules that fail, are slow or are missed,
/// notifiers that are down or have dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfWatchConfig {
    /// Whether there are any.
    pub enabled: bool,
    /// Notifier slots that are told; as for a rule that says nothing where absent.
    pub notify: Option<Vec<SlotName>>,
    /// Their label `severity`.
    pub severity: String,
    /// An agent that was not heard of for so long is silent.
    pub agent_silent: Millis,
    /// Where people read Sentinel's `deploy/RUNBOOK.md`: an address, to which alerts add `#` and their rule.
    pub runbook: String,
}

impl Default for SelfWatchConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            notify: None,
            severity: "warning".to_owned(),
            agent_silent: Millis(90_000),
            runbook: RUNBOOK.to_owned(),
        }
    }
}

/// The runbook as it lies in the checkout.
const RUNBOOK: &str = "deploy/RUNBOOK.md";

/// One slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotConfig {
    /// The slot's name, unique in the worker.
    pub slot: SlotName,
    /// The plugin: `publisher/name`, or `publisher/name@version`.
    pub plugin: String,
    /// The plugin's own configuration, as its schema says.
    #[serde(default = "empty")]
    pub config: serde_json::Value,
    /// What the plugin may do, and its limits.
    #[serde(default)]
    pub grants: Grants,
}

/// One notifier's slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifierConfig {
    /// The slot's name, unique in the worker.
    pub slot: SlotName,
    /// The plugin: `publisher/name`, or `publisher/name@version`.
    pub plugin: String,
    /// The plugin's own configuration, as its schema says.
    #[serde(default = "empty")]
    pub config: serde_json::Value,
    /// What the plugin may do, and its limits.
    #[serde(default)]
    pub grants: Grants,
    /// What is done when nobody knows whether the receiver took a notification: `retry` sends
    /// it again under the same id, `hold` puts it to the dead letters.
    #[serde(default)]
    pub on_unknown: OnUnknown,
}

fn empty() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

impl NotifierConfig {
    /// The slot alone.
    #[must_use]
    pub fn slot_config(&self) -> SlotConfig {
        SlotConfig {
            slot: self.slot.clone(),
            plugin: self.plugin.clone(),
            config: self.config.clone(),
            grants: self.grants.clone(),
        }
    }
}

impl WorkerConfig {
    /// The names of its slots.
    #[must_use]
    pub fn slot_names(&self) -> BTreeSet<SlotName> {
        let plain = self.transforms.iter().chain(&self.evaluators).map(|slot| slot.slot.clone());
        plain.chain(self.notifiers.iter().map(|slot| slot.slot.clone())).collect()
    }

    /// Its routing in words that others can read, with those whom it tells where nobody is named.
    #[must_use]
    pub fn stated_routing(&self, everybody: Vec<SlotName>) -> StatedRouting {
        let Self { routes, inhibit, mute_times, .. } = self.clone();
        StatedRouting { routes, inhibit, mute_times, everybody }
    }

    /// Its routes, inhibitions and mute times.
    ///
    /// # Errors
    /// JSON Pointer and message of everything that is wrong with them.
    pub fn routing(&self) -> Result<Routing, Vec<Problem>> {
        let Self { routes, inhibit, mute_times, .. } = self;
        RoutingConfig { routes: routes.as_ref(), inhibit, mute_times }.read()
    }

    /// What a schema cannot say: JSON Pointer and message of each problem.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let plain = |list: &'static str, slots: &[SlotConfig]| -> Vec<_> {
            let at = |(i, s): (usize, &SlotConfig)| {
                (format!("/{list}/{i}"), s.slot.clone(), s.grants.problems())
            };
            slots.iter().enumerate().map(at).collect()
        };
        let notifiers: Vec<_> = self.notifiers.iter().map(NotifierConfig::slot_config).collect();
        let mut all = plain("transforms", &self.transforms);
        all.extend(plain("evaluators", &self.evaluators));
        all.extend(plain("notifiers", &notifiers));
        let mut problems = Vec::new();
        if all.len() > MAX_SLOTS {
            let message = format!("{} slots are more than the {MAX_SLOTS} of a worker", all.len());
            problems.push((String::new(), message));
        }
        if self.settle > MAX_SETTLE {
            let message = format!("{} is longer than {MAX_SETTLE}", self.settle);
            problems.push(("/settle".to_owned(), message));
        }
        for (key, why) in label_problems(&self.labels) {
            let at = key.map(|key| format!("/{key}")).unwrap_or_default();
            problems.push((format!("/labels{at}"), why));
        }
        problems.extend(self.routing().err().into_iter().flatten());
        let ceiling = self.ceiling.iter().flat_map(Grants::problems);
        problems.extend(ceiling.map(|why| ("/ceiling".to_owned(), why)));
        let mut names = BTreeSet::new();
        for (path, slot, grants) in all {
            if names.contains(&slot) {
                let message = format!("a slot named {:?} is there already", slot.as_str());
                problems.push((format!("{path}/slot"), message));
            }
            names.insert(slot);
            let grants = grants.into_iter();
            problems.extend(grants.map(|message| (format!("{path}/grants"), message)));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_names_of_their_own() {
        let config: WorkerConfig = serde_json::from_value(serde_json::json!({
            "transforms": [{"slot": "a", "plugin": "sentinel/rows"}],
            "evaluators": [{"slot": "b", "plugin": "sentinel/alert-dsl", "grants": {"series": true}}],
            "notifiers": [{"slot": "a", "plugin": "sentinel/webhook", "on_unknown": "hold"}],
        }))
        .unwrap();
        let problems = config.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].0, "/notifiers/0/slot");
        assert_eq!(config.notifiers[0].on_unknown, OnUnknown::Hold);
    }

    #[test]
    fn the_time_to_settle_is_bounded() {
        for (settle, paths) in [("0s", vec![]), ("1h", vec![]), ("61m", vec!["/settle"])] {
            let config: WorkerConfig =
                serde_json::from_value(serde_json::json!({"settle": settle})).unwrap();
            let problems = config.problems();
            assert_eq!(problems.iter().map(|p| p.0.as_str()).collect::<Vec<_>>(), paths);
        }
        assert_eq!(WorkerConfig::default().settle, Millis(30_000));
    }

    #[test]
    fn routes_are_checked_with_everything_else() {
        let config: WorkerConfig = serde_json::from_value(serde_json::json!({
            "settle": "2h",
            "routes": {"routes": [{"match": ["severity"], "mute": ["nights"]}]},
            "mute_times": {"nights": [{"zone": "Nowhere/Land"}]},
        }))
        .unwrap();
        let problems = config.problems();
        let paths: Vec<&str> = problems.iter().map(|p| p.0.as_str()).collect();
        let expected = ["/settle", "/mute_times/nights/0/zone", "/routes/routes/0/match/0"];
        assert_eq!(paths, expected, "{problems:?}");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let slip = serde_json::json!({"transform": []});
        assert!(serde_json::from_value::<WorkerConfig>(slip).is_err());
    }
}
