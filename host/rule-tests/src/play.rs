//! One run of rules over series in virtual time.
//!
//! A rule is evaluated at each multiple of its interval and, with [`Trigger::Samples`], as of each
//! sample that it reads, as in a worker whose commits take no time. Each evaluation is the
//! worker's own: evaluator, then [`Alerts`], then its transaction, which is accepted at once.
//! Groups, repeats and escalations come when the router says that they are due.

mod telling;

use crate::payload::Sent;
use crate::rig::{Rig, RigError};
use crate::world::{Asked, Stream};
use sentinel_alerting::evaluation::Observation;
use sentinel_alerting::routing::{People, Routing};
use sentinel_model::alert::{Alert, AlertState, Delivery, Fingerprint, Transition};
use sentinel_model::attention::{Acknowledgement, Silence};
use sentinel_model::ids::SlotName;
use sentinel_model::rule::Rule;
use sentinel_model::series::Labels;
use sentinel_runtime::Slot;
use sentinel_runtime::evaluator::{Need, Plan};
use sentinel_worker::evaluate::alerts::{Alerts, Decision};
use sentinel_worker::evaluate::{MIN_INTERVAL_MS, observation};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The most transitions, and the most notifications, that a record holds; beyond they are counted.
const MAX_KEPT: usize = 100_000;

/// What has a rule evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Its interval alone.
    Interval,
    /// Its interval, and each sample that it reads.
    Samples,
}

/// What somebody does in the course of a play.
#[derive(Debug, Clone)]
pub enum Act {
    /// Nobody is to be told of some alerts.
    Silence(Silence),
    /// Somebody has an alert in hand, until a time if one is said.
    Acknowledge {
        /// Which alert.
        fingerprint: Fingerprint,
        /// When it lapses, unix milliseconds.
        until: Option<i64>,
    },
}

/// What a play is made of.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The rules; each has passed its evaluator's check.
    pub rules: Vec<Arc<Rule>>,
    /// The routes.
    pub routing: Arc<Routing>,
    /// Who is told where neither a rule nor a route says.
    pub everybody: Vec<SlotName>,
    /// When the rules come into force, unix milliseconds.
    pub begins: i64,
    /// What has rules evaluated.
    pub trigger: Trigger,
    /// What people do, and when.
    pub acts: Vec<(i64, Act)>,
    /// Times of which the record says what state the alerts were in.
    pub looks: BTreeSet<i64>,
}

/// Somebody was told.
#[derive(Debug, Clone)]
pub struct Told {
    /// What, to whom and when.
    pub delivery: Delivery,
    /// What the notifier sent; nothing where the slot has no plugin here.
    pub sent: Vec<Sent>,
    /// Why it was not delivered, if there is a notifier and it was not.
    pub failure: Option<String>,
    /// Each attempt; none where the slot has no plugin here.
    pub attempts: Vec<Attempted>,
}

/// An attempt to tell somebody.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// When, unix milliseconds.
    pub at: i64,
    /// What the notifier sent.
    pub sent: Vec<Sent>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// What came of a play.
#[derive(Debug, Default)]
pub struct Record {
    /// What happened to alerts, in order of time, each with the alert's labels.
    pub transitions: Vec<(Transition, Labels)>,
    /// Who was told, in order.
    pub told: Vec<Told>,
    /// The alerts at the times that were to be looked at.
    pub looks: BTreeMap<i64, Vec<Alert>>,
    /// Rules that could not be evaluated: when first, why, and how often.
    pub errors: BTreeMap<String, (i64, String, u64)>,
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Transitions and notifications beyond those that are kept.
    pub dropped: u64,
}

struct Due {
    next: i64,
    interval: i64,
    /// Times of samples that it reads, not evaluated yet.
    samples: VecDeque<i64>,
}

/// A play under way.
pub struct Play<'r> {
    rig: &'r Rig,
    scene: Scene,
    plans: Vec<Plan>,
    chapters: Vec<(SlotName, Slot, Vec<usize>)>,
    due: Vec<Due>,
    alerts: Alerts,
    silences: Vec<Silence>,
    acknowledgements: Vec<Acknowledgement>,
    now: i64,
    /// How far it goes on.
    until: i64,
    record: Record,
}

impl<'r> Play<'r> {
    /// Loads the rules into their evaluators. `plans` are what [`Rig::check`] said of each.
    ///
    /// # Errors
    /// An evaluator that is not there or fails.
    pub async fn begin(
        rig: &'r mut Rig,
        mut scene: Scene,
        plans: Vec<Plan>,
    ) -> Result<Self, RigError> {
        let begins = scene.begins;
        rig.world.begin(begins);
        let needs: Vec<Need> = plans.iter().flat_map(|plan| plan.needs.iter().cloned()).collect();
        let loads = rig.world.windows().write().set_needs(&needs);
        loads.iter().for_each(|load| rig.world.windows().write().filled(load));
        let chapters = rig.load(&scene.rules).await?;
        let mut alerts = Alerts::default();
        alerts.set_rules(begins, &scene.rules, 1, Arc::clone(&scene.routing));
        let due = |rule: &Arc<Rule>| {
            let interval = i64::try_from(rule.interval.0).unwrap_or(i64::MAX);
            Due { next: begins, interval: interval.max(MIN_INTERVAL_MS), samples: VecDeque::new() }
        };
        let due = scene.rules.iter().map(due).collect();
        scene.acts.sort_by_key(|(at, _)| *at);
        Ok(Self {
            rig,
            plans,
            chapters,
            due,
            alerts,
            silences: Vec::new(),
            acknowledgements: Vec::new(),
            now: begins.saturating_sub(1),
            until: begins,
            record: Record::default(),
            scene,
        })
    }

    /// Takes samples. They may lie in the future: nothing sees them before their time.
    pub fn feed(&mut self, streams: &[Stream]) {
        self.rig.world.feed(streams);
        if self.scene.trigger == Trigger::Interval {
            return;
        }
        for (due, plan) in self.due.iter_mut().zip(&self.plans) {
            let mut times = BTreeSet::from_iter(due.samples.drain(..));
            for stream in streams {
                if plan.needs.iter().any(|need| need.selector.matches(&stream.key)) {
                    times.extend(stream.points.times.iter().filter(|at| **at > self.now));
                }
            }
            due.samples = times.into_iter().filter(|at| *at >= self.scene.begins).collect();
        }
    }

    /// Goes on to a time and through all that happens at it.
    pub async fn advance(&mut self, until: i64) {
        self.until = until;
        while let Some(at) = self.next().filter(|at| *at <= until) {
            self.now = at;
            self.rig.world.set_now(at);
            self.act(at);
            let decisions = self.evaluate(at).await;
            if !decisions.is_empty() || self.alerts.is_due(at) {
                self.commit(&decisions, at).await;
            }
            if self.scene.looks.contains(&at) {
                self.record.looks.insert(at, self.alerts.iter().cloned().collect());
            }
        }
        self.now = self.now.max(until);
    }

    /// Forgets the samples that nothing reads any more.
    pub fn forget(&mut self) {
        self.rig.world.windows().write().forget(self.now);
    }

    /// From now on the questions of evaluators are kept, with their answers.
    pub fn listen(&self) {
        self.rig.world.listen();
    }

    /// What evaluators asked since [`Play::listen`], and what they were answered.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.rig.world.asked()
    }

    /// The alerts as they are.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.iter()
    }

    /// What came of it.
    #[must_use]
    pub fn end(self) -> Record {
        self.record
    }

    /// When something happens next.
    fn next(&self) -> Option<i64> {
        let rules = self.due.iter().flat_map(|due| [Some(due.next), due.samples.front().copied()]);
        let acts = self.scene.acts.first().map(|(at, _)| *at);
        let look = self.scene.looks.range(self.now.saturating_add(1)..).next().copied();
        let told = self.alerts.next().map(|at| at.max(self.now.saturating_add(1)));
        rules.chain([acts, look, told]).flatten().min()
    }

    fn act(&mut self, now: i64) {
        let count = self.scene.acts.iter().take_while(|(at, _)| *at <= now).count();
        if count == 0 {
            return;
        }
        for (at, act) in self.scene.acts.drain(..count) {
            match act {
                Act::Silence(silence) => self.silences.push(silence),
                Act::Acknowledge { fingerprint, until } => {
                    let alert = self.alerts.iter().find(|alert| alert.fingerprint == fingerprint);
                    let Some(alert) = alert else { continue };
                    self.acknowledgements.push(Acknowledgement {
                        fingerprint,
                        incident: alert.incident,
                        owner: "test".to_owned(),
                        note: String::new(),
                        at,
                        until,
                        before: Vec::new(),
                    });
                }
            }
        }
        self.alerts.heed(now, People::new(self.silences.clone(), self.acknowledgements.clone()));
    }

    /// Evaluates the rules that are due.
    async fn evaluate(&mut self, at: i64) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (_, slot, members) in &self.chapters {
            let (mut indexes, mut rules) = (Vec::new(), Vec::new());
            for (index, &rule) in members.iter().enumerate() {
                let due = &mut self.due[rule];
                let is_due = due.next <= at || due.samples.front().is_some_and(|next| *next <= at);
                if !is_due {
                    continue;
                }
                while due.samples.front().is_some_and(|next| *next <= at) {
                    due.samples.pop_front();
                }
                if due.next <= at {
                    due.next = at.saturating_sub(at.rem_euclid(due.interval)) + due.interval;
                }
                indexes.push(index as u32);
                rules.push(rule);
            }
            if rules.is_empty() {
                continue;
            }
            self.record.evaluations += rules.len() as u64;
            let outcomes = match slot.evaluate(indexes, at).await {
                Ok(outcomes) => {
                    outcomes.into_iter().map(|one| one.map_err(|e| e.to_string())).collect()
                }
                Err(error) => vec![Err(error.to_string()); rules.len()],
            };
            for (rule, outcome) in rules.into_iter().zip(outcomes) {
                let name = &self.scene.rules[rule].name;
                let seen = match outcome {
                    Ok(outcome) => observation(outcome, true),
                    Err(why) => {
                        let error = self.record.errors.entry(name.clone()).or_insert((at, why, 0));
                        error.2 += 1;
                        Observation::Failed
                    }
                };
                decisions.extend(self.alerts.decide(name, at, &seen));
            }
        }
        decisions
    }

    async fn commit(&mut self, decisions: &[Decision], now: i64) {
        let everybody = self.scene.everybody.clone();
        let (change, told) = self.alerts.transaction(decisions, everybody, now);
        let labels: BTreeMap<Fingerprint, Labels> = change
            .transitions
            .iter()
            .filter_map(|one| {
                let stored = change.alerts.iter().chain(self.alerts.iter());
                let alert = stored.into_iter().find(|a| a.fingerprint == one.fingerprint)?;
                Some((one.fingerprint, alert.labels.clone()))
            })
            .collect();
        self.alerts.accept(decisions, told);
        for one in change.transitions {
            if self.record.transitions.len() >= MAX_KEPT {
                self.record.dropped += 1;
                continue;
            }
            let labels = labels.get(&one.fingerprint).cloned().unwrap_or_default();
            self.record.transitions.push((one, labels));
        }
        for delivery in change.decided {
            if self.record.told.len() >= MAX_KEPT {
                self.record.dropped += 1;
                continue;
            }
            let told = self.tell(delivery).await;
            self.record.told.push(told);
        }
    }
}

/// Alerts that are pending or firing.
pub(crate) fn active(alerts: &[Alert]) -> impl Iterator<Item = &Alert> {
    alerts.iter().filter(|alert| alert.state != AlertState::Resolved)
}
