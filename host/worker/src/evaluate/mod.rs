//! Evaluating rules: each at its interval, none twice at once, every change stored before
//! anybody is told.
//!
//! One task owns all alerts. Calls to evaluators run beside it, one an evaluator, so that a
//! slow one delays its own rules only; evaluations that it makes impossible are counted as
//! missed. What a call gave becomes one transaction: alerts, history and notifications. If the
//! store refuses it, nothing happened, and the next evaluation decides again.
//!
//! Samples that are committed have the rules evaluated that read them, a moment later, so
//! that those of many commits count as one; the interval is for absence and timers.
//!
//! A new set of rules is checked, and its windows are filled, while the old one goes on; then
//! it takes its place between two evaluations.

pub mod alerts;
mod book;
mod calls;
mod commit;
mod journal;
mod launch;
mod parts;
mod schedule;
mod self_watch;

pub use calls::observation;
pub use parts::{EvaluateParts, RulesStatus, SharedRulesStatus};
pub use schedule::MIN_INTERVAL_MS;

use crate::patience::Patience;
use crate::stages::EvaluatorError;
use crate::stop::stopped;
use alerts::Alerts;
use book::{Book, Preparing};
use calls::{Finished, joined};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use journal::Journal;
use schedule::Schedule;
use sentinel_alerting::evaluation::Observation;
use sentinel_model::ids::SlotName;
use sentinel_model::rule::Rule;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often the store is asked for new rules, besides when it is said that there are some.
const RULES_POLL: Duration = Duration::from_secs(10);
/// How often the store is asked what people decided, besides when it is said that they did.
const DECISIONS_POLL: Duration = Duration::from_secs(1);
/// How often alerts of rules that are gone are looked at, and windows shortened.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// How often a rule set is prepared again that an evaluator could not check or load.
const PREPARE_AGAIN: Duration = Duration::from_secs(5);
/// The most rules whose errors the status lists.
const LISTED_ERRORS: usize = 100;

/// Rules and evaluators as they were asked for: version, and the generation of each slot.
type Requested = (u64, BTreeSet<(SlotName, Option<u64>)>);

/// The task that evaluates.
pub struct Evaluation {
    parts: EvaluateParts,
    patience: Arc<Patience>,
    alerts: Alerts,
    book: Book,
    journal: Journal,
    /// Of each rule, by its index in the book.
    schedules: Vec<Schedule>,
    /// Errors of the last evaluation of each rule.
    errors: BTreeMap<String, String>,
    missed: u64,
    /// When a rule was last not evaluated in time.
    missed_at: BTreeMap<String, i64>,
    /// Rules whose last evaluation took longer than their interval, and how long, in ms.
    slow: BTreeMap<String, u64>,
    /// The rules of the worker's own that are in force.
    watched: BTreeSet<String>,
    /// When samples that came are looked at, if any came since they last were.
    gather_at: Option<i64>,
    /// Rules, by their index in the book, that read samples which came.
    fresh: BTreeSet<usize>,
    in_flight: FuturesUnordered<BoxFuture<'static, Finished>>,
    busy: BTreeSet<SlotName>,
    preparing: Option<JoinHandle<Book>>,
    prepared: Option<Book>,
    requested: Option<Requested>,
    prepare_again_at: i64,
    started: i64,
    /// Whether rules are in force, be they none.
    is_active: bool,
    store_trouble: Option<String>,
    /// Not before then the store is asked again to take what time alone made due.
    tell_again_at: i64,
    /// A write failed, and nobody knows whether it was kept.
    is_stale: bool,
    /// The revision of what people decided that is known.
    decisions: Option<u64>,
    status: SharedRulesStatus,
}

impl Drop for Evaluation {
    fn drop(&mut self) {
        // What it prepares would change the windows of whoever comes next.
        if let Some(preparing) = self.preparing.take() {
            preparing.abort();
        }
    }
}

impl Evaluation {
    /// Starts with the alerts as they were stored; waits for the store.
    pub async fn restore(parts: EvaluateParts) -> Self {
        let patience =
            Patience::new("rules and alerts cannot be read from the store", parts.metrics.clone());
        let store = Arc::clone(&parts.store);
        let stored = patience.until(|| store.alerts(0)).await;
        let groups = patience.until(|| store.alert_groups()).await;
        let mut evaluation = Self {
            patience: Arc::new(patience),
            alerts: Alerts::restore(stored, groups),
            book: Book::default(),
            journal: Journal::new(),
            schedules: Vec::new(),
            errors: BTreeMap::new(),
            missed: 0,
            missed_at: BTreeMap::new(),
            slow: BTreeMap::new(),
            watched: BTreeSet::new(),
            gather_at: None,
            fresh: BTreeSet::new(),
            in_flight: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            preparing: None,
            prepared: None,
            requested: None,
            prepare_again_at: i64::MIN,
            started: parts.clock.now(),
            is_active: false,
            store_trouble: None,
            tell_again_at: i64::MIN,
            is_stale: false,
            decisions: None,
            status: SharedRulesStatus::default(),
            parts,
        };
        evaluation.look_for_decisions().await;
        evaluation
    }

    /// Where the status is read.
    #[must_use]
    pub fn status(&self) -> SharedRulesStatus {
        Arc::clone(&self.status)
    }

    /// Evaluates until `stop` is true; then waits for the calls under way. `changed` says that
    /// there may be other rules or other evaluators.
    pub async fn run(mut self, mut changed: watch::Receiver<u64>, mut stop: watch::Receiver<bool>) {
        let mut poll = tokio::time::interval(RULES_POLL);
        let mut decisions = tokio::time::interval(DECISIONS_POLL);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        decisions.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let came = self.parts.windows.read().came();
        loop {
            self.activate_when_idle().await;
            self.gather();
            self.launch();
            self.tell_what_is_due().await;
            let wait = self.wait();
            tokio::select! {
                () = stopped(&mut stop) => break,
                _ = poll.tick() => self.look_for_rules().await,
                Ok(()) = changed.changed() => {
                    self.look_for_rules().await;
                    self.look_for_decisions().await;
                    self.watch_itself().await;
                }
                _ = decisions.tick() => self.look_for_decisions().await,
                Some(finished) = self.in_flight.next() => self.finish(finished).await,
                book = joined(&mut self.preparing) => {
                    self.preparing = None;
                    if book.is_none() {
                        // It broke off: asked for again at the next look.
                        self.requested = None;
                    }
                    self.prepared = book;
                }
                () = came.notified(), if self.gather_at.is_none() => {
                    self.gather_at = Some(self.parts.clock.now() + launch::GATHER_MS);
                }
                _ = housekeeping.tick() => {
                    self.keep_house().await;
                    self.watch_itself().await;
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
        if let Some(preparing) = self.preparing.take() {
            preparing.abort();
        }
        while let Some(finished) = self.in_flight.next().await {
            self.finish(finished).await;
        }
        self.write_journal().await;
    }

    async fn look_for_rules(&mut self) {
        let set = match self.parts.store.rules().await {
            Ok(set) => set,
            Err(error) => {
                tracing::warn!(%error, "rules cannot be read; those in force go on");
                return;
            }
        };
        let evaluators = self.parts.stages.load().evaluators.clone();
        let of = |slot: &SlotName| evaluators.get(slot).map(|stage| stage.generation);
        let slots = set.rules.iter().map(|r| (r.evaluator.clone(), of(&r.evaluator))).collect();
        let requested = (set.version, slots);
        if self.requested.as_ref() == Some(&requested) && !self.is_worth_another_try() {
            return;
        }
        self.requested = Some(requested);
        if let Some(preparing) = self.preparing.take() {
            preparing.abort();
        }
        self.prepared = None;
        self.prepare_again_at = self.parts.clock.now() + PREPARE_AGAIN.as_millis() as i64;
        let preparing = Preparing {
            store: Arc::clone(&self.parts.store),
            windows: Arc::clone(&self.parts.windows),
            clock: Arc::clone(&self.parts.clock),
            patience: Arc::clone(&self.patience),
            metrics: self.parts.metrics.clone(),
        };
        let in_use = self.book.needs.clone();
        self.preparing = Some(tokio::spawn(preparing.prepare(set, evaluators, in_use)));
    }

    /// Whether an evaluator could not check or load its rules, some time ago.
    fn is_worth_another_try(&self) -> bool {
        let failed = self.book.incomplete || self.book.chapters.values().any(|c| !c.loaded);
        failed && self.preparing.is_none() && self.parts.clock.now() >= self.prepare_again_at
    }

    /// Puts a prepared set of rules in force once no call is under way.
    async fn activate_when_idle(&mut self) {
        if self.prepared.is_none() || !self.in_flight.is_empty() {
            return;
        }
        let Some(mut book) = self.prepared.take() else { return };
        self.parts.windows.write().set_needs(&book.needs);
        let mut chapters = std::mem::take(&mut book.chapters);
        for (slot, chapter) in &mut chapters {
            let conditions = book.conditions(chapter);
            match chapter.evaluator.load(conditions).await {
                Ok(()) => chapter.loaded = true,
                Err(EvaluatorError::Refused(why) | EvaluatorError::Failed(why)) => {
                    tracing::error!(%slot, why, "an evaluator did not load its rules");
                    for &at in &chapter.rules {
                        book.errors.insert(book.rules[at].name.clone(), why.clone());
                    }
                }
            }
        }
        book.chapters = chapters;
        let now = self.parts.clock.now();
        let before = self.book.rules.iter().map(|rule| rule.name.as_str()).zip(&self.schedules);
        let before: BTreeMap<&str, &Schedule> = before.collect();
        let schedule = |rule: &Arc<Rule>| {
            let before = before.get(rule.name.as_str()).map(|schedule| **schedule);
            Schedule::new(rule.interval.0, now).or(before)
        };
        self.schedules = book.rules.iter().map(schedule).collect();
        tracing::info!(
            version = book.version,
            rules = book.rules.len(),
            failing = book.errors.len(),
            "rules are in force"
        );
        self.errors.clear();
        self.slow.clear();
        self.fresh.clear();
        self.is_active = true;
        self.book = book;
        let own = self_watch::rules(&self.parts.watch, &self.book.rules);
        self.watched = own.iter().map(|rule| rule.name.clone()).collect();
        let rules: Vec<Arc<Rule>> = self.book.rules.iter().cloned().chain(own).collect();
        let routing = self.parts.routing.load_full();
        self.alerts.set_rules(now, &rules, self.book.version, routing);
        self.keep_house().await;
    }

    /// Takes what an evaluator's calls gave.
    async fn finish(&mut self, finished: Finished) {
        self.busy.remove(&finished.slot);
        if !self.is_current().await {
            self.report();
            return;
        }
        let settled = self.is_settled();
        let mut decisions = Vec::new();
        let (mut done, mut failed) = (0, 0);
        for answered in finished.answers {
            self.journal.note(&finished.slot, &answered, self.book.version, settled);
            for (rule, outcome) in answered.rules {
                let name = &self.book.rules[rule].name;
                if answered.took_ms > self.book.rules[rule].interval.0 {
                    self.slow.insert(name.clone(), answered.took_ms);
                } else if !self.slow.is_empty() {
                    self.slow.remove(name);
                }
                let observation = match outcome {
                    Ok(outcome) => {
                        done += 1;
                        if !self.errors.is_empty() {
                            self.errors.remove(name);
                        }
                        calls::observation(outcome, settled)
                    }
                    Err(why) => {
                        if self.errors.insert(name.clone(), why.clone()).as_ref() != Some(&why) {
                            tracing::warn!(
                                rule = name,
                                why,
                                "a rule could not be evaluated; its alerts stay as they are"
                            );
                        }
                        failed += 1;
                        Observation::Failed
                    }
                };
                decisions.extend(self.alerts.decide(name, answered.at, &observation));
            }
        }
        for (outcome, count) in [("done", done), ("failed", failed)] {
            self.parts.metrics.evaluations.with_label_values(&[outcome]).inc_by(count);
        }
        self.commit(decisions).await;
        if self.journal.is_long() {
            self.write_journal().await;
        }
        self.report();
    }

    async fn keep_house(&mut self) {
        let now = self.parts.clock.now();
        // Before the first rules are known every alert would be a leftover.
        if self.is_active && self.is_current().await {
            let leftovers = self.alerts.decide_leftovers(now);
            if !leftovers.is_empty() {
                self.commit(leftovers).await;
            }
        }
        self.write_journal().await;
        let (series, samples) = {
            let mut windows = self.parts.windows.write();
            windows.forget(now);
            windows.size()
        };
        self.parts.metrics.window_series.set(series as i64);
        self.parts.metrics.window_samples.set(samples as i64);
        self.report();
    }

    fn report(&self) {
        let all = self.book.errors.iter().chain(&self.errors);
        let failing: BTreeMap<&String, &String> = all.collect();
        let listed = failing.iter().take(LISTED_ERRORS);
        *self.status.write() = RulesStatus {
            as_of: self.parts.clock.now(),
            version: self.book.version,
            rules: self.book.rules.len(),
            evaluated: self
                .book
                .chapters
                .values()
                .filter(|c| c.loaded)
                .map(|c| c.rules.len())
                .sum(),
            errors: listed.map(|(name, why)| ((*name).clone(), (*why).clone())).collect(),
            failing: failing.len(),
            missed: self.missed,
            active_alerts: self.alerts.active(),
            groups: self.alerts.groups(),
            store_trouble: self.store_trouble.clone(),
        };
    }
}
