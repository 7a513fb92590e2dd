//! All alerts of one rule, and what an evaluation of the rule does to them.
//!
//! An evaluation gives the instances for which the condition holds. Each becomes an alert,
//! identified by the rule's name, the instance's labels and the rule's labels; where both have
//! a key the rule's label wins. Alerts that the evaluation does not name lapse.
//!
//! | observed | [`NoData::Ok`] | [`NoData::Alert`] | [`NoData::Keep`] |
//! |---|---|---|---|
//! | instances, or none but series were read | they hold, all others lapse | same | same |
//! | no instance and no series read | all lapse | `no_data="true"` holds, all others lapse | what held goes on holding, what is kept firing runs out |
//! | the same, for less than `no_data_for` | what held goes on | `no_data="true"` is pending, what held goes on | what held goes on; after it, all lapse |
//! | the evaluation failed | nothing changes, no timer ends | same | same |
//!
//! After a start the newest samples may still be on their way. Until they are there an
//! evaluation is not `settled`: what holds holds, but an alert that it does not name stays as
//! it is, and one that read no series at all says nothing, as if it had failed. Otherwise every
//! restart would end incidents that go on.
//!
//! Labels and annotations of the rule are templates: a label is filled in with the instance's
//! labels, an annotation with the alert's and the value. A label that becomes empty is none.
//!
//! An alert belongs to a rule if the rule has its name and all labels of the rule are labels
//! of the alert (of those that are templates nothing is asked). One that does not, because the
//! rule was changed or is gone, is withdrawn. This depends on the stored alert and the rule in
//! force alone, hence not on when a worker restarts. A rule whose condition changed keeps its
//! alerts until its next evaluation, which decides, so that a moved threshold does not end and
//! begin an incident that goes on.

mod effects;

pub use effects::{Effects, REFRESH_MS};

use crate::lifecycle::{self, Input, Sight, Timers};
use effects::Step;
use sentinel_model::alert::{Alert, AlertState, Fingerprint};
use sentinel_model::duration::Millis;
use sentinel_model::rule::{NoData, Rule};
use sentinel_model::series::Labels;
use sentinel_model::template::{Filling, fill, is_template};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The most instances of one rule that become alerts; those beyond are not looked at and are
/// counted in [`Effects::ignored`].
pub const MAX_INSTANCES: usize = 100_000;
/// The label of the alert that says that there is no data.
pub const NO_DATA_LABEL: &str = "no_data";

/// One instance for which the condition holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// What tells it from the rule's other instances.
    pub labels: Labels,
    /// The value to show.
    pub value: f64,
    /// What it means in words; may be empty.
    pub summary: String,
}

/// What an evaluation gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// The condition was evaluated.
    Seen {
        /// Instances that hold.
        active: Vec<Instance>,
        /// How many series were read.
        series_read: u32,
        /// Whether all samples that are to be expected are there.
        settled: bool,
    },
    /// There is no evaluator, or it failed.
    Failed,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    alert: Alert,
    /// When its stored form was last brought up to date; not stored itself.
    stored_at: i64,
}

/// The alerts of one rule.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleAlerts(BTreeMap<Fingerprint, Entry>);

impl RuleAlerts {
    /// As they were stored.
    pub fn restore(alerts: impl IntoIterator<Item = Alert>) -> Self {
        let entry =
            |alert: Alert| (alert.fingerprint, Entry { stored_at: alert.last_active, alert });
        Self(alerts.into_iter().map(entry).collect())
    }

    /// In order of fingerprints.
    pub fn iter(&self) -> impl Iterator<Item = &Alert> {
        self.0.values().map(|entry| &entry.alert)
    }

    /// One alert.
    #[must_use]
    pub fn get(&self, fingerprint: Fingerprint) -> Option<&Alert> {
        self.0.get(&fingerprint).map(|entry| &entry.alert)
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What an evaluation of the rule at `now` changes.
    #[must_use]
    pub fn step(
        &self,
        now: i64,
        rule: &Rule,
        rules_version: u64,
        observation: &Observation,
    ) -> Effects {
        let mut step = Step::new(now, rules_version, timers(rule));
        match observation {
            Observation::Failed => self.withdraw_strangers(&mut step, rule),
            Observation::Seen { series_read: 0, settled: false, .. } => {
                self.withdraw_strangers(&mut step, rule);
            }
            Observation::Seen { active, settled: false, .. } => {
                self.hold(&mut step, rule, active);
                self.withdraw_strangers(&mut step, rule);
            }
            Observation::Seen { active, series_read, settled: true } => {
                let silent = active.is_empty() && *series_read == 0;
                if silent {
                    self.miss(&mut step, rule);
                } else {
                    self.observe(&mut step, rule, active);
                }
            }
        }
        step.effects
    }

    /// What the end of the rule changes: everything is withdrawn. Called again it forgets what
    /// has been resolved for long enough.
    #[must_use]
    pub fn withdraw(&self, now: i64, rules_version: u64) -> Effects {
        let mut step = Step::new(now, rules_version, Timers { hold: 0, keep: 0 });
        self.0.values().for_each(|entry| step.take(Some(entry), &Input::Withdrawn));
        step.effects
    }

    /// Puts effects in force: called once they are durable.
    pub fn accept(&mut self, now: i64, effects: &Effects) {
        for alert in &effects.store {
            let entry = Entry { alert: alert.clone(), stored_at: now };
            self.0.insert(alert.fingerprint, entry);
        }
        for alert in &effects.refreshed {
            if let Some(entry) = self.0.get_mut(&alert.fingerprint) {
                entry.alert.clone_from(alert);
            }
        }
        for fingerprint in &effects.forgotten {
            self.0.remove(fingerprint);
        }
    }

    /// There is no data.
    fn miss(&self, step: &mut Step, rule: &Rule) {
        let patience = millis(rule.no_data_for);
        match (rule.no_data, patience) {
            (NoData::Keep, 0) => self.keep(step, rule),
            (NoData::Ok, 0) => self.observe(step, rule, &[]),
            (NoData::Alert, 0) => self.observe(step, rule, &[no_data()]),
            (NoData::Ok | NoData::Keep, patience) => self.outlast(step, rule, &[], patience),
            (NoData::Alert, patience) => {
                step.timers.hold = patience;
                self.outlast(step, rule, &[no_data()], patience);
            }
        }
    }

    /// What held and was seen less than `patience` ago goes on as it is; the rest lapses.
    fn outlast(&self, step: &mut Step, rule: &Rule, active: &[Instance], patience: i64) {
        let holding = self.hold(step, rule, active);
        for (fingerprint, entry) in &self.0 {
            let alert = &entry.alert;
            let seen = step.now.saturating_sub(alert.last_active) < patience;
            let held = match alert.state {
                AlertState::Pending => true,
                AlertState::Firing => !lifecycle::is_kept(alert),
                AlertState::Resolved => false,
            };
            let goes_on = seen && held && belongs(rule, alert);
            if !goes_on && !holding.contains(fingerprint) {
                step.take(Some(entry), &absent(rule, alert));
            }
        }
    }

    fn observe(&self, step: &mut Step, rule: &Rule, active: &[Instance]) {
        let holding = self.hold(step, rule, active);
        for (fingerprint, entry) in &self.0 {
            if !holding.contains(fingerprint) {
                step.take(Some(entry), &absent(rule, &entry.alert));
            }
        }
    }

    /// Takes the instances that hold; says which alerts they are.
    fn hold(&self, step: &mut Step, rule: &Rule, active: &[Instance]) -> BTreeSet<Fingerprint> {
        let mut holding = BTreeSet::new();
        step.effects.ignored = active.len().saturating_sub(MAX_INSTANCES);
        if active.is_empty() {
            return holding;
        }
        let (own_labels, words) = (rule.own_labels(), rule.own_annotations());
        for instance in active.iter().take(MAX_INSTANCES) {
            let labels = identity(&rule.name, &own_labels, &instance.labels);
            let fingerprint = Fingerprint::of(&rule.name, &labels);
            if !holding.insert(fingerprint) {
                step.effects.ignored += 1;
                continue;
            }
            let filling = Filling { rule: &rule.name, labels: &labels, value: instance.value };
            let annotations = filled(&words, filling);
            let sight = Sight {
                rule: &rule.name,
                labels: &labels,
                annotations: &annotations,
                summary: &instance.summary,
                value: instance.value,
            };
            step.take(self.0.get(&fingerprint), &Input::Holds(sight));
        }
        holding
    }

    fn keep(&self, step: &mut Step, rule: &Rule) {
        for entry in self.0.values() {
            let alert = &entry.alert;
            let held = match alert.state {
                AlertState::Pending => true,
                AlertState::Firing => !lifecycle::is_kept(alert),
                AlertState::Resolved => false,
            };
            let input = match absent(rule, alert) {
                Input::Lapses if held => Input::Holds(Sight {
                    rule: &rule.name,
                    labels: &alert.labels,
                    annotations: &alert.annotations,
                    summary: &alert.summary,
                    value: alert.value,
                }),
                other => other,
            };
            step.take(Some(entry), &input);
        }
    }

    fn withdraw_strangers(&self, step: &mut Step, rule: &Rule) {
        for entry in self.0.values() {
            if !belongs(rule, &entry.alert) {
                step.take(Some(entry), &Input::Withdrawn);
            }
        }
    }
}

fn millis(m: Millis) -> i64 {
    i64::try_from(m.0).unwrap_or(i64::MAX)
}

fn timers(rule: &Rule) -> Timers {
    Timers { hold: millis(rule.hold), keep: millis(rule.keep_firing_for) }
}

fn identity(rule: &str, own: &Labels, instance: &Labels) -> Labels {
    let mut labels = instance.clone();
    let filling = Filling { rule, labels: instance, value: f64::NAN };
    for (key, text) in own.iter() {
        let value = fill(text, filling);
        if !(value.is_empty() && is_template(text)) {
            labels.set(key, &value);
        }
    }
    labels
}

/// The texts with everything filled in.
fn filled<'t>(texts: &'t Labels, filling: Filling<'_>) -> Cow<'t, Labels> {
    if texts.iter().all(|(_, text)| !is_template(text)) {
        return Cow::Borrowed(texts);
    }
    Cow::Owned(texts.iter().map(|(key, text)| (key, fill(text, filling))).collect())
}

fn no_data() -> Instance {
    let labels = [(NO_DATA_LABEL, "true")].into_iter().collect();
    Instance { labels, value: 0.0, summary: "the condition reads no series".to_owned() }
}

/// Whether an alert is one of the rule as it stands.
#[must_use]
pub fn belongs(rule: &Rule, alert: &Alert) -> bool {
    rule.name == alert.rule
        && rule.own_labels().iter().all(|(k, v)| is_template(v) || alert.labels.get(k) == Some(v))
}

fn absent(rule: &Rule, alert: &Alert) -> Input<'static> {
    if belongs(rule, alert) { Input::Lapses } else { Input::Withdrawn }
}
