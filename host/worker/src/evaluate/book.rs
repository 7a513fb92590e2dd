//! The rules in force, checked by their evaluators, with windows for what they read.

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::patience::Patience;
use crate::stages::{Evaluator, EvaluatorError, EvaluatorStage};
use crate::windows::progress::until_whole;
use crate::windows::{Load, Windows, load};
use futures::StreamExt as _;
use parking_lot::RwLock;
use sentinel_model::ids::SlotName;
use sentinel_model::rule::{Rule, RuleSet};
use sentinel_model::series::Selector;
use sentinel_runtime::evaluator::{Condition, Need, Plan};
use sentinel_store::Store;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// Conditions that are checked at once.
const CHECKED_AT_ONCE: usize = 8;

/// The rules of one evaluator.
pub(super) struct Chapter {
    pub(super) evaluator: Arc<dyn Evaluator>,
    /// Indexes into the book's rules, ascending: the order in which conditions are loaded.
    pub(super) rules: Vec<usize>,
    /// Whether the conditions are loaded.
    pub(super) loaded: bool,
    /// None of its rules is due before, unless the clock is set back before `looked_at`.
    pub(super) next: i64,
    /// When `next` was found.
    pub(super) looked_at: i64,
}

impl Chapter {
    /// Whether a rule of it may be due.
    pub(super) fn is_time(&self, now: i64) -> bool {
        now >= self.next || now < self.looked_at
    }
}

/// Rules that were checked, by evaluator.
#[derive(Default)]
pub(super) struct Book {
    pub(super) version: u64,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) chapters: BTreeMap<SlotName, Chapter>,
    pub(super) needs: Vec<Need>,
    /// Which rules, by their index, read the series of a selector.
    pub(super) readers: HashMap<Arc<Selector>, Vec<usize>>,
    /// Rules that are not evaluated, and why.
    pub(super) errors: BTreeMap<String, String>,
    /// Whether an evaluator failed while it checked: worth preparing again.
    pub(super) incomplete: bool,
}

impl Book {
    /// The conditions of a chapter.
    pub(super) fn conditions(&self, chapter: &Chapter) -> Vec<Condition> {
        let condition = |&at: &usize| Condition {
            rule: self.rules[at].name.clone(),
            text: self.rules[at].condition.to_string(),
        };
        chapter.rules.iter().map(condition).collect()
    }
}

/// What preparing works with.
#[derive(Clone)]
pub(super) struct Preparing {
    pub(super) store: Arc<dyn Store>,
    pub(super) windows: Arc<RwLock<Windows>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) patience: Arc<Patience>,
    pub(super) metrics: Metrics,
}

impl Preparing {
    /// Checks rules and fills the windows that they need, beside those that are in use. Goes
    /// on until the store has given what is needed; dropping it is safe.
    pub(super) async fn prepare(
        self,
        set: RuleSet,
        evaluators: BTreeMap<SlotName, EvaluatorStage>,
        in_use: Vec<Need>,
    ) -> Book {
        let rules: Vec<Arc<Rule>> = set.rules.into_iter().map(Arc::new).collect();
        let mut book = Book { version: set.version, rules, ..Book::default() };
        let checks = futures::stream::iter(book.rules.clone())
            .map(|rule| check(rule, &evaluators))
            .buffered(CHECKED_AT_ONCE);
        let checked: Vec<Result<Plan, EvaluatorError>> = checks.collect().await;
        for (at, plan) in checked.into_iter().enumerate() {
            let rule = Arc::clone(&book.rules[at]);
            match plan {
                Ok(plan) => {
                    for need in &plan.needs {
                        let readers = book.readers.entry(Arc::clone(&need.selector)).or_default();
                        readers.push(at);
                    }
                    book.needs.extend(plan.needs);
                    let stage = &evaluators[&rule.evaluator];
                    let chapter =
                        book.chapters.entry(rule.evaluator.clone()).or_insert_with(|| Chapter {
                            evaluator: Arc::clone(&stage.evaluator),
                            rules: Vec::new(),
                            loaded: false,
                            next: i64::MIN,
                            looked_at: i64::MIN,
                        });
                    chapter.rules.push(at);
                }
                Err(error) => {
                    let (EvaluatorError::Refused(why) | EvaluatorError::Failed(why)) = &error;
                    tracing::error!(rule = rule.name, why, "a rule is not evaluated");
                    book.errors.insert(rule.name.clone(), why.clone());
                    book.incomplete |= matches!(error, EvaluatorError::Failed(_));
                }
            }
        }
        let is_first = in_use.is_empty();
        let all: Vec<Need> = in_use.into_iter().chain(book.needs.iter().cloned()).collect();
        self.fill(&all, is_first).await;
        book
    }

    /// Fills windows; those of whoever begins from what is kept, where it is of use.
    async fn fill(&self, needs: &[Need], is_first: bool) {
        let began = Instant::now();
        let loads = self.windows.write().set_needs(needs);
        let kept = match is_first && !loads.is_empty() {
            true => self.fill_from_kept(&loads).await,
            false => None,
        };
        if kept.is_none() {
            let store = self.store.as_ref();
            let history = || load::load(&self.windows, store, &loads, self.clock.now());
            self.patience.until(history).await;
            until_whole(&self.windows).await;
        }
        if is_first && !loads.is_empty() {
            let (series, samples) = self.windows.read().size();
            let seconds = began.elapsed().as_secs_f64();
            let parts = kept.unwrap_or_default();
            tracing::info!(
                seconds,
                series,
                samples,
                parts,
                "windows are there, from so many kept parts and the tail, or from history"
            );
            self.metrics.recovery_seconds.set(seconds);
        }
    }

    /// The parts out of which it was done; `None` where windows have to be read from history.
    async fn fill_from_kept(&self, loads: &[Load]) -> Option<usize> {
        let store = self.store.as_ref();
        let kept = || load::load_kept(&self.windows, store, loads, self.clock.now());
        let kept = self.patience.until(kept).await?;
        until_whole(&self.windows).await;
        if !self.patience.until(|| store.tail_reaches(&kept.earliest)).await {
            tracing::warn!("the tail was packed while it was read; windows are read from history");
            self.windows.write().clear();
            return None;
        }
        let mut windows = self.windows.write();
        loads.iter().for_each(|load| windows.filled(load));
        Some(kept.parts.len())
    }
}

async fn check(
    rule: Arc<Rule>,
    evaluators: &BTreeMap<SlotName, EvaluatorStage>,
) -> Result<Plan, EvaluatorError> {
    let Some(stage) = evaluators.get(&rule.evaluator) else {
        let why = format!(
            "there is no evaluator slot {:?}; configure it at the worker or change the rule's `evaluator`",
            rule.evaluator.as_str()
        );
        return Err(EvaluatorError::Refused(why));
    };
    stage.evaluator.check(&rule.condition.to_string()).await
}
