//! Rules over the stored past, slice by slice, so that no more than a slice and the windows are
//! held: what would have fired, for how long, who would have been told.
//!
//! Rules are evaluated at their intervals alone. Who is told is what routes and rules say;
//! nothing is sent.

use crate::play::{Play, Record, Scene, Trigger};
use crate::rig::{Rig, RigError};
use crate::rules::Checked;
use crate::world::{Asked, Stream};
use async_trait::async_trait;
use sentinel_alerting::routing::Routing;
use sentinel_model::alert::{Alert, AlertState, Fingerprint, NotificationStatus};
use sentinel_model::ids::SlotName;
use sentinel_model::series::Selector;
use sentinel_store::query::TimeRange;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The longest slice, in milliseconds (6 h); a history that finds it too much has it halved.
const SLICE_MS: i64 = 6 * 3_600_000;
/// The shortest slice, in milliseconds.
const LEAST_SLICE_MS: i64 = 60_000;
/// An alert that fires again within so long of its end flaps, in milliseconds (15 min).
pub const FLAP_MS: i64 = 900_000;

/// Why the past is not to be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// It is too much at once; a shorter time may do.
    #[error("{0}")]
    TooMuch(String),
    /// It is not to be had.
    #[error("{0}")]
    Failed(String),
}

/// Where stored samples come from.
#[async_trait(?Send)]
pub trait History {
    /// The samples of the series of a selector, `start < time <= end`.
    ///
    /// # Errors
    /// [`HistoryError`].
    async fn samples(
        &self,
        selector: &Selector,
        range: TimeRange,
    ) -> Result<Vec<Stream>, HistoryError>;
}

/// Why there is no replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The evaluators.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Which past, and who is told.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The rules.
    pub rules: Vec<Checked>,
    /// The routes.
    pub routing: Arc<Routing>,
    /// Who is told where neither a rule nor a route says.
    pub everybody: Vec<SlotName>,
    /// When the rules come into force, unix milliseconds.
    pub from: i64,
    /// Until when.
    pub until: i64,
}

impl Replay {
    /// Runs the rules over it. `progress` is told how far it is, unix milliseconds.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn run(
        &self,
        rig: &mut Rig,
        history: &dyn History,
        mut progress: impl FnMut(i64),
    ) -> Result<Record, ReplayError> {
        let mut reach: BTreeMap<String, (Arc<Selector>, i64)> = BTreeMap::new();
        for need in self.rules.iter().flat_map(|one| &one.plan.needs) {
            let back = i64::try_from(need.window_ms).unwrap_or(i64::MAX);
            let selector = Arc::clone(&need.selector);
            let known = reach.entry(selector.to_string()).or_insert((selector, 0));
            known.1 = back.max(known.1);
        }
        let scene = Scene {
            rules: self.rules.iter().map(|one| Arc::clone(&one.rule)).collect(),
            routing: Arc::clone(&self.routing),
            everybody: self.everybody.clone(),
            begins: self.from,
            trigger: Trigger::Interval,
            acts: Vec::new(),
            looks: BTreeSet::new(),
        };
        let plans = self.rules.iter().map(|one| one.plan.clone()).collect();
        let mut play = Play::begin(rig, scene, plans).await?;
        for (selector, back) in reach.values() {
            let start = self.from.saturating_sub(*back);
            let mut slices = Slices { at: start, until: self.from, length: SLICE_MS };
            while let Some(streams) = slices.next(history, selector).await? {
                play.feed(&streams);
            }
        }
        let mut at = self.from;
        while at < self.until {
            let to = at.saturating_add(SLICE_MS).min(self.until);
            for (selector, _) in reach.values() {
                let mut slices = Slices { at, until: to, length: SLICE_MS };
                while let Some(streams) = slices.next(history, selector).await? {
                    play.feed(&streams);
                }
            }
            play.advance(to).await;
            play.forget();
            progress(to);
            at = to;
        }
        Ok(play.end())
    }
}

/// One evaluation of a rule, and all that it saw.
#[derive(Debug, Clone)]
pub struct Look {
    /// What the evaluator asked, and what it was answered.
    pub asked: Vec<Asked>,
    /// The instances for which the condition holds, as alerts that begin now.
    pub holds: Vec<Alert>,
    /// Why it could not be evaluated.
    pub failed: Option<String>,
}

/// Evaluates a rule as of `now`, on stored samples.
///
/// # Errors
/// [`ReplayError`].
pub async fn look(
    rig: &mut Rig,
    one: &Checked,
    history: &dyn History,
    now: i64,
) -> Result<Look, ReplayError> {
    let scene = Scene {
        rules: vec![Arc::clone(&one.rule)],
        routing: Arc::default(),
        everybody: Vec::new(),
        begins: now,
        trigger: Trigger::Interval,
        acts: Vec::new(),
        looks: BTreeSet::new(),
    };
    let mut play = Play::begin(rig, scene, vec![one.plan.clone()]).await?;
    for need in &one.plan.needs {
        let back = i64::try_from(need.window_ms).unwrap_or(i64::MAX);
        let at = now.saturating_sub(back);
        let mut slices = Slices { at, until: now, length: SLICE_MS };
        while let Some(streams) = slices.next(history, &need.selector).await? {
            play.feed(&streams);
        }
    }
    play.listen();
    play.advance(now).await;
    let (asked, holds) = (play.asked(), play.alerts().cloned().collect());
    let failed = play.end().errors.into_values().next().map(|(_, why, _)| why);
    Ok(Look { asked, holds, failed })
}

/// A time in parts that are not too much at once.
struct Slices {
    at: i64,
    until: i64,
    length: i64,
}

impl Slices {
    async fn next(
        &mut self,
        history: &dyn History,
        selector: &Selector,
    ) -> Result<Option<Vec<Stream>>, HistoryError> {
        while self.at < self.until {
            let end = self.at.saturating_add(self.length).min(self.until);
            match history.samples(selector, TimeRange { start: self.at, end }).await {
                Ok(streams) => {
                    self.at = end;
                    return Ok(Some(streams));
                }
                Err(HistoryError::TooMuch(_)) if self.length / 2 >= LEAST_SLICE_MS => {
                    self.length /= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// What a rule would have done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The rule.
    pub rule: String,
    /// How often an alert of it began to fire.
    pub fired: u64,
    /// How many different alerts did.
    pub alerts: u64,
    /// For how long together, in milliseconds.
    pub firing_ms: i64,
    /// For how long the longest did.
    pub longest_ms: i64,
    /// Notifications that something is wrong, to all receivers together.
    pub pages: u64,
    /// How often one fired again within [`FLAP_MS`] of its end.
    pub flaps: u64,
    /// How many fire at the end.
    pub firing_now: u64,
    /// Evaluations that failed, and what the first said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<(u64, String)>,
}

/// What each rule did, those that told most first.
#[must_use]
pub fn outcomes(record: &Record, rules: &[Checked], until: i64) -> Vec<Outcome> {
    let of = |rule: &str| Outcome { rule: rule.to_owned(), ..Outcome::default() };
    let mut all: BTreeMap<&str, Outcome> =
        rules.iter().map(|one| (one.rule.name.as_str(), of(&one.rule.name))).collect();
    let mut begun: HashMap<Fingerprint, i64> = HashMap::new();
    let mut ended: HashMap<Fingerprint, i64> = HashMap::new();
    for (one, _) in &record.transitions {
        let Some(outcome) = all.get_mut(one.rule.as_str()) else { continue };
        if one.to == Some(AlertState::Firing) {
            outcome.fired += 1;
            begun.insert(one.fingerprint, one.at);
            match ended.get(&one.fingerprint) {
                Some(end) if one.at - end <= FLAP_MS => outcome.flaps += 1,
                Some(_) => {}
                None => outcome.alerts += 1,
            }
        } else if one.from == Some(AlertState::Firing)
            && let Some(since) = begun.remove(&one.fingerprint)
        {
            ended.insert(one.fingerprint, one.at);
            outcome.firing_ms += one.at - since;
            outcome.longest_ms = outcome.longest_ms.max(one.at - since);
        }
    }
    for (one, _) in &record.transitions {
        if let (Some(since), Some(outcome)) =
            (begun.remove(&one.fingerprint), all.get_mut(one.rule.as_str()))
        {
            outcome.firing_now += 1;
            outcome.firing_ms += until - since;
            outcome.longest_ms = outcome.longest_ms.max(until - since);
        }
    }
    for told in &record.told {
        let it = &told.delivery.notification;
        let rules: BTreeSet<&str> = it
            .alerts
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
            .map(|alert| alert.rule.as_str())
            .collect();
        for rule in rules.iter().filter(|_| it.status == NotificationStatus::Firing) {
            if let Some(outcome) = all.get_mut(rule) {
                outcome.pages += 1;
            }
        }
    }
    for (rule, (_, why, times)) in &record.errors {
        if let Some(outcome) = all.get_mut(rule.as_str()) {
            outcome.failed = Some((*times, why.clone()));
        }
    }
    let mut all: Vec<Outcome> = all.into_values().collect();
    all.sort_by(|a, b| (b.pages, b.fired, &a.rule).cmp(&(a.pages, a.fired, &b.rule)));
    all
}
