//! Routes as operators write them, and everything that can be wrong with them.

use super::times::{Span, SpanConfig};
use super::tree::{Escalation, GroupBy, Inhibition, Pace, Route, Routing};
use crate::matching::Matchers;
use schemars::JsonSchema;
use sentinel_model::duration::Millis;
use sentinel_model::ids::SlotName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The most routes of a tree.
pub const MAX_ROUTES: usize = 1_000;
/// The deepest that routes are nested.
pub const MAX_DEPTH: usize = 16;
/// The most steps of an escalation.
pub const MAX_ESCALATIONS: usize = 16;
/// The most inhibitions.
pub const MAX_INHIBITIONS: usize = 1_000;
/// In `group_by`: each alert is a group of its own.
pub const EACH: &str = "...";

/// One route: which alerts it takes, whom it tells, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// Conditions on an alert's labels, such as `severity="page"`; all must hold. The first route
    /// has none.
    #[serde(rename = "match")]
    pub matches: Vec<String>,
    /// Notifier slots that are told; those of the route above where absent, and all of the
    /// worker's where no route above says.
    pub notify: Option<Vec<SlotName>>,
    /// Labels by whose values alerts are told together; `["..."]` tells each by itself. As the
    /// route above where absent; all together where no route above says.
    pub group_by: Option<Vec<String>>,
    /// How long a new group waits for more alerts. As above; else 30s.
    pub group_wait: Option<Millis>,
    /// The least time between two notifications of a group. As above; else 5m.
    pub group_interval: Option<Millis>,
    /// When what still fires is told again; 0 is never. As above; else 4h.
    pub repeat_interval: Option<Millis>,
    /// Whether the routes beside it are looked at too once this one took an alert.
    #[serde(rename = "continue")]
    pub continues: bool,
    /// Names of `mute_times` at which it tells nobody. As above; else none.
    pub mute: Option<Vec<String>>,
    /// Who is told of what nobody acknowledged. As above; else nobody.
    pub escalate: Option<Vec<EscalationConfig>>,
    /// Routes below it: the first that matches takes the alert. Where none does, this one does.
    pub routes: Vec<RouteConfig>,
}

/// One step of an escalation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscalationConfig {
    /// How long after an alert was first told, while it fires and nobody acknowledged it.
    pub after: Millis,
    /// Notifier slots that are told then.
    pub notify: Vec<SlotName>,
}

/// Alerts that nobody needs to hear of while others fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InhibitConfig {
    /// Conditions on the alerts that tell enough.
    pub source: Vec<String>,
    /// Conditions on those that are not told meanwhile.
    pub target: Vec<String>,
    /// Labels that both must have with the same value.
    #[serde(default)]
    pub equal: Vec<String>,
}

/// All that is configured of routing.
#[derive(Debug, Clone, Copy)]
pub struct RoutingConfig<'a> {
    /// The first route; where absent each rule says whom it tells.
    pub routes: Option<&'a RouteConfig>,
    /// Inhibitions.
    pub inhibit: &'a [InhibitConfig],
    /// Times by their names.
    pub mute_times: &'a BTreeMap<String, Vec<SpanConfig>>,
}

/// A JSON Pointer, and what is wrong there.
pub type Problem = (String, String);

/// What a route has from those above it.
#[derive(Clone)]
struct Inherited {
    notify: Option<Vec<SlotName>>,
    group_by: GroupBy,
    pace: Pace,
    mute: Vec<String>,
    escalate: Vec<Escalation>,
}

#[derive(Default)]
struct Reading {
    routes: Vec<Route>,
    ids: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl RoutingConfig<'_> {
    /// Checks all of it.
    ///
    /// # Errors
    /// Every problem at once, with its path below the worker's configuration.
    pub fn read(&self) -> Result<Routing, Vec<Problem>> {
        let mut reading = Reading::default();
        let mut times = BTreeMap::new();
        for (name, spans) in self.mute_times {
            let mut read = Vec::new();
            for (i, span) in spans.iter().enumerate() {
                let path = format!("/mute_times/{}/{i}", escaped(name));
                match Span::new(span) {
                    Ok(span) => read.push(span),
                    Err(found) => reading.say(&path, found),
                }
            }
            times.insert(name.clone(), read);
        }
        if let Some(root) = self.routes {
            if !root.matches.is_empty() {
                let text =
                    "the first route takes every alert: move the conditions to a route below it";
                reading.problem("/routes/match", text);
            }
            if root.continues {
                reading.problem("/routes/continue", "there is no route beside the first one");
            }
            reading.route(root, "/routes", "", &Inherited::default(), 1, &times);
            if reading.routes.len() > MAX_ROUTES {
                let text = format!("{} routes are more than {MAX_ROUTES}", reading.routes.len());
                reading.problem("/routes", &text);
            }
        }
        let inhibit = reading.inhibitions(self.inhibit);
        if reading.problems.is_empty() {
            Ok(Routing::new(reading.routes, inhibit, times))
        } else {
            Err(reading.problems)
        }
    }
}

impl Default for Inherited {
    fn default() -> Self {
        Self {
            notify: None,
            group_by: GroupBy::Labels(Vec::new()),
            pace: Pace::default(),
            mute: Vec::new(),
            escalate: Vec::new(),
        }
    }
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn millis(value: Millis) -> i64 {
    i64::try_from(value.0).unwrap_or(i64::MAX)
}

impl Reading {
    fn problem(&mut self, path: &str, message: &str) {
        self.problems.push((path.to_owned(), message.to_owned()));
    }

    fn say(&mut self, path: &str, found: Vec<(String, String)>) {
        self.problems.extend(found.into_iter().map(|(at, text)| (format!("{path}{at}"), text)));
    }

    fn matchers(&mut self, path: &str, texts: &[String]) -> Matchers {
        Matchers::parse(texts).unwrap_or_else(|wrong| {
            self.say(path, wrong.into_iter().map(|(i, text)| (format!("/{i}"), text)).collect());
            Matchers::default()
        })
    }

    /// Reads a route and those below it; its index.
    fn route(
        &mut self,
        config: &RouteConfig,
        path: &str,
        above: &str,
        inherited: &Inherited,
        depth: usize,
        times: &BTreeMap<String, Vec<Span>>,
    ) -> usize {
        let matchers = self.matchers(&format!("{path}/match"), &config.matches);
        if depth > 1 && config.matches.is_empty() {
            let text = "without a condition it takes every alert that comes to it: say which, as in match: ['severity=\"page\"']";
            self.problem(&format!("{path}/match"), text);
        }
        let of = self.settings(config, path, inherited, times);
        let index = self.routes.len();
        let id = self.id(above, &matchers);
        self.routes.push(Route {
            id: id.clone(),
            matchers,
            notify: of.notify.clone(),
            group_by: of.group_by.clone(),
            pace: of.pace,
            mute: of.mute.clone(),
            escalate: of.escalate.clone(),
            continues: config.continues,
            below: Vec::new(),
        });
        if depth == MAX_DEPTH && !config.routes.is_empty() {
            self.problem(&format!("{path}/routes"), "nested too deep");
            return index;
        }
        for (i, below) in config.routes.iter().enumerate() {
            let path = format!("{path}/routes/{i}");
            let child = self.route(below, &path, &id, &of, depth + 1, times);
            self.routes[index].below.push(child);
        }
        index
    }

    /// The identity of a route: the conditions on the way to it, so that it stays the same
    /// wherever it stands. Routes with the same conditions are numbered.
    fn id(&mut self, above: &str, matchers: &Matchers) -> String {
        let plain = format!("{above}/{matchers}");
        let numbered = (1..).map(|n| if n == 1 { plain.clone() } else { format!("{plain}#{n}") });
        let id = numbered.into_iter().find(|id| !self.ids.contains(id)).expect("numbers go on");
        self.ids.insert(id.clone());
        id
    }

    fn settings(
        &mut self,
        config: &RouteConfig,
        path: &str,
        inherited: &Inherited,
        times: &BTreeMap<String, Vec<Span>>,
    ) -> Inherited {
        let mut of = inherited.clone();
        if let Some(notify) = &config.notify {
            of.notify = Some(notify.clone());
        }
        if let Some(labels) = &config.group_by {
            of.group_by = match labels.as_slice() {
                [each] if each == EACH => GroupBy::Each,
                labels if labels.iter().any(|label| label == EACH) => {
                    self.problem(&format!("{path}/group_by"), "\"...\" stands alone");
                    GroupBy::Each
                }
                labels => {
                    let sorted: BTreeSet<String> = labels.iter().cloned().collect();
                    GroupBy::Labels(sorted.into_iter().collect())
                }
            };
        }
        let Pace { wait, interval, repeat } = of.pace;
        of.pace = Pace {
            wait: config.group_wait.map_or(wait, millis),
            interval: config.group_interval.map_or(interval, millis),
            repeat: config.repeat_interval.map_or(repeat, millis),
        };
        if let Some(mute) = &config.mute {
            for (i, name) in mute.iter().enumerate() {
                if !times.contains_key(name) {
                    let known: Vec<&str> = times.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    let text =
                        format!("there are no `mute_times` named {name:?}; there are: {known}");
                    self.problem(&format!("{path}/mute/{i}"), &text);
                }
            }
            of.mute.clone_from(mute);
        }
        if let Some(steps) = &config.escalate {
            of.escalate = self.escalation(steps, &format!("{path}/escalate"));
        }
        of
    }

    fn escalation(&mut self, steps: &[EscalationConfig], path: &str) -> Vec<Escalation> {
        if steps.len() > MAX_ESCALATIONS {
            self.problem(path, &format!("{} steps are more than {MAX_ESCALATIONS}", steps.len()));
        }
        let mut before = Millis(0);
        for (i, step) in steps.iter().enumerate() {
            if step.after <= before {
                let text =
                    format!("{} is not longer than {before}, the step before it", step.after);
                self.problem(&format!("{path}/{i}/after"), &text);
            }
            if step.notify.is_empty() {
                self.problem(&format!("{path}/{i}/notify"), "name at least one notifier");
            }
            before = step.after;
        }
        let read =
            |s: &EscalationConfig| Escalation { after: millis(s.after), notify: s.notify.clone() };
        steps.iter().map(read).collect()
    }

    fn inhibitions(&mut self, configs: &[InhibitConfig]) -> Vec<Inhibition> {
        if configs.len() > MAX_INHIBITIONS {
            let text = format!("{} inhibitions are more than {MAX_INHIBITIONS}", configs.len());
            self.problem("/inhibit", &text);
        }
        let mut all = Vec::new();
        for (i, config) in configs.iter().enumerate() {
            let path = format!("/inhibit/{i}");
            for (side, texts) in [("source", &config.source), ("target", &config.target)] {
                if texts.is_empty() {
                    let text = "without a condition it means every alert: say which";
                    self.problem(&format!("{path}/{side}"), text);
                }
            }
            all.push(Inhibition {
                source: self.matchers(&format!("{path}/source"), &config.source),
                target: self.matchers(&format!("{path}/target"), &config.target),
                equal: config.equal.clone(),
            });
        }
        all
    }
}

#[cfg(test)]
mod tests;
