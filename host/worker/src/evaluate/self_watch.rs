//! Sentinel's own health as alerts: what keeps alerts from being seen or told is one itself.
//!
//! The rules below are in force beside those of people, unless one of theirs has the same name or
//! the configuration turns them off. They have no evaluator: what they see is known here.
//!
//! | rule | an alert for each | fires |
//! |---|---|---|
//! | `sentinel-agent-silent` | approved agent that was not heard of for [`SelfWatchConfig::agent_silent`] | at once |
//! | `sentinel-rule-failing` | rule that could not be evaluated | after a minute |
//! | `sentinel-rule-slow` | rule whose evaluation took longer than its interval | after a minute |
//! | `sentinel-evaluation-missed` | rule that was not evaluated in time within the last 5 minutes | at once |
//! | `sentinel-notifier-down` | notifier that is left alone since it does not answer | after a minute |
//! | `sentinel-dead-letters` | notifier with notifications that were given up | until somebody retries or drops them |

use super::Evaluation;
use crate::config::SelfWatchConfig;
use sentinel_alerting::evaluation::{Instance, Observation};
use sentinel_model::alert::DeliveryState;
use sentinel_model::rule::Rule;
use sentinel_store::Store;
use sentinel_store::agents::AgentState;
use sentinel_store::alerting::NotificationFilter;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An evaluation that was missed is told of for so long.
const MISSED_MS: i64 = 300_000;
/// The most dead letters that are counted.
const MAX_LETTERS: u32 = 1_000;
/// The most alerts of one of these rules.
const MAX_INSTANCES: usize = 1_000;
/// Name, `for`, and what it means.
const RULES: [(&str, &str, &str); 6] = [
    (
        SILENT,
        "0",
        "an agent is not heard of: see its machine, or block it with `sentinel agents block`",
    ),
    (
        FAILING,
        "1m",
        "a rule cannot be evaluated: its alerts stay as they are; see `sentinel status`",
    ),
    (SLOW, "1m", "a rule takes longer than its interval: make it cheaper, or its interval longer"),
    (MISSED, "0", "a rule was not evaluated in time: the worker has too much to do"),
    (DOWN, "1m", "a notifier does not answer: try it with `sentinel notify test`"),
    (LETTERS, "0", "notifications were given up: see `sentinel dlq list`"),
];
const SILENT: &str = "sentinel-agent-silent";
const FAILING: &str = "sentinel-rule-failing";
const SLOW: &str = "sentinel-rule-slow";
const MISSED: &str = "sentinel-evaluation-missed";
const DOWN: &str = "sentinel-notifier-down";
const LETTERS: &str = "sentinel-dead-letters";

/// The rules, but for those whose names people use.
pub(super) fn rules(config: &SelfWatchConfig, taken: &[Arc<Rule>]) -> Vec<Arc<Rule>> {
    if !config.enabled {
        return Vec::new();
    }
    let rule = |(name, hold, summary): &(&str, &str, &str)| {
        let mut rule = serde_json::json!({
            "name": name, "for": hold, "condition": {},
            "labels": {"severity": config.severity, "source": "sentinel"},
            "annotations": {"summary": summary},
            "runbook_url": format!("{}#{name}", config.runbook),
        });
        if let Some(notify) = &config.notify {
            rule["notify"] = serde_json::json!(notify);
        }
        Arc::new(serde_json::from_value(rule).expect("a rule that reads"))
    };
    let is_free = |(name, ..): &&(&str, &str, &str)| taken.iter().all(|rule| rule.name != *name);
    RULES.iter().filter(is_free).map(rule).collect()
}

fn instance(label: &str, of: &str, value: f64, summary: String) -> Instance {
    Instance { labels: [(label, of)].into_iter().collect(), value, summary }
}

impl Evaluation {
    /// Looks at everything that the table says.
    pub(super) async fn watch_itself(&mut self) {
        if !self.is_active || !self.parts.watch.enabled {
            return;
        }
        let now = self.parts.clock.now();
        let store = Arc::clone(&self.parts.store);
        let longest = self.parts.watch.agent_silent.0 as i64;
        let mut seen: BTreeMap<&str, Option<Vec<Instance>>> = BTreeMap::new();
        seen.insert(SILENT, silent_agents(store.as_ref(), longest, self.started, now).await);
        seen.insert(LETTERS, dead_letters(store.as_ref()).await);
        let errors = self.book.errors.iter().chain(&self.errors);
        seen.insert(
            FAILING,
            Some(errors.map(|(rule, why)| instance("name", rule, 1.0, why.clone())).collect()),
        );
        let slow = self.slow.iter().map(|(rule, ms)| {
            instance("name", rule, *ms as f64 / 1e3, format!("its evaluation took {ms} ms"))
        });
        seen.insert(SLOW, Some(slow.collect()));
        self.missed_at.retain(|_, at| now.saturating_sub(*at) < MISSED_MS);
        let missed = self
            .missed_at
            .keys()
            .map(|rule| instance("name", rule, 1.0, "it was not evaluated in time".to_owned()));
        seen.insert(MISSED, Some(missed.collect()));
        let lanes = self.parts.notifications.status();
        let down = lanes.iter().filter(|lane| lane.is_down).map(|lane| {
            let why = lane.last_failure.clone().unwrap_or_default();
            instance("notifier", lane.notifier.as_str(), lane.open as f64, why)
        });
        seen.insert(DOWN, Some(down.collect()));
        let mut decisions = Vec::new();
        for (rule, active) in seen {
            let observation = match active {
                Some(mut active) => {
                    active.truncate(MAX_INSTANCES);
                    Observation::Seen { active, series_read: 1, settled: true }
                }
                None => Observation::Failed,
            };
            if self.watched.contains(rule) {
                decisions.extend(self.alerts.decide(rule, now, &observation));
            }
        }
        if !decisions.is_empty() && self.is_current().await {
            self.commit(decisions).await;
        }
    }
}

/// Approved agents that were not heard of; `None` where the store does not say.
async fn silent_agents(
    store: &dyn Store,
    longest: i64,
    started: i64,
    now: i64,
) -> Option<Vec<Instance>> {
    let agents = store.agents().await.ok()?;
    let silent = agents.into_iter().filter(|a| a.state == AgentState::Approved).filter_map(|a| {
        // While this process did not run nobody listened.
        let heard = a.last_seen.unwrap_or(a.registered_at).max(started);
        let silent = now.saturating_sub(heard);
        let summary = format!("{} was not heard of for {} s", a.hostname, silent / 1000);
        (silent >= longest).then(|| instance("agent", a.id.as_str(), silent as f64 / 1e3, summary))
    });
    Some(silent.collect())
}

/// Notifiers with dead letters; `None` where the store does not say.
async fn dead_letters(store: &dyn Store) -> Option<Vec<Instance>> {
    let filter = NotificationFilter::State(DeliveryState::Dead);
    let letters = store.notifications(filter, MAX_LETTERS).await.ok()?;
    let mut counts: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for letter in letters {
        let name = letter.notification.notifier.as_str().to_owned();
        let count = counts.entry(name).or_insert((0, letter.message));
        count.0 += 1;
    }
    let one = |(notifier, (count, last)): (String, (u64, String))| {
        let summary = format!("{count} notifications were given up, the last: {last}");
        instance("notifier", &notifier, count as f64, summary)
    };
    Some(counts.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNBOOK: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/RUNBOOK.md"));

    /// As a reader of Markdown makes the anchor of a heading.
    fn anchors() -> Vec<String> {
        let headings = RUNBOOK.lines().filter_map(|line| line.strip_prefix("### "));
        headings.map(|heading| heading.trim_matches('`').to_owned()).collect()
    }

    #[test]
    fn every_rule_links_to_its_section_of_the_runbook() {
        let config = SelfWatchConfig::default();
        let rules = rules(&config, &[]);
        assert_eq!(rules.len(), RULES.len());
        for rule in rules {
            let link = rule.runbook_url.clone().expect("a link");
            let (file, anchor) = link.split_once('#').expect("a section");
            assert_eq!((file, anchor), ("deploy/RUNBOOK.md", rule.name.as_str()));
            assert!(anchors().iter().any(|one| one == anchor), "{anchor} is not in {file}");
            assert_eq!(rule.problems(), []);
        }
    }

    #[test]
    fn the_runbook_may_lie_elsewhere() {
        let runbook = "https://wiki.example/runbook".to_owned();
        let rules = rules(&SelfWatchConfig { runbook, ..SelfWatchConfig::default() }, &[]);
        let link = "https://wiki.example/runbook#sentinel-agent-silent";
        assert_eq!(rules[0].runbook_url.as_deref(), Some(link));
    }
}
