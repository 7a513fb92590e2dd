//! Evaluating planned rules on the answers to their questions.

use std::collections::BTreeMap;

use sentinel_sdk::series::{Answer, QueryError};
use sentinel_sdk::{Failure, Instance, Outcome, series};

use crate::groups::{Known, Sum};
use crate::plan::{Catalogue, Compared, Groups, Held, Missed, Node, Question, Rule};
use crate::relation::{self, MAX_ROWS, Row, TooMany};
use crate::words;

/// Questions after which those of further rules are asked in another call: the contract takes
/// 10,000, and answers are held until their rules are done.
const QUESTIONS_AT_ONCE: usize = 4_000;
/// Bytes that the outcomes of one call may have by estimate: far below what the manifest asks
/// for, since passing that would fail every rule of the call.
const MAX_OUTCOME_BYTES: usize = 32 << 20;
/// What an instance or a label costs beside its texts, by estimate.
const OVERHEAD_BYTES: usize = 32;

/// Answers by the number of their question.
type Answers = Vec<Option<Result<Answer, QueryError>>>;

/// Evaluates some of `rules`, asking as few times as the bounds allow.
pub(crate) fn evaluate(
    rules: &[Rule],
    catalogue: &Catalogue,
    known: &mut Known,
    indexes: &[u32],
    at: i64,
    max_instances: usize,
) -> Vec<Result<Outcome, Failure>> {
    let mut outcomes = Vec::with_capacity(indexes.len());
    let mut room = MAX_OUTCOME_BYTES;
    let mut rest = indexes;
    while !rest.is_empty() {
        let (answers, taken) = ask(rules, &catalogue.queries, rest);
        for index in &rest[..taken] {
            let outcome = match rules.get(*index as usize) {
                Some(rule) => {
                    Evaluation { answers: &answers, known, at }.outcome(rule, max_instances)
                }
                None => Err(Failure::Rejected(format!(
                    "no condition of index {index}: {} are loaded",
                    rules.len()
                ))),
            };
            outcomes.push(outcome.and_then(|outcome| within(outcome, &mut room)));
        }
        rest = &rest[taken..];
        known.bound();
    }
    outcomes
}

/// The questions of the first of `indexes`, each once, and how many of the rules they serve.
fn ask(rules: &[Rule], queries: &[Question], indexes: &[u32]) -> (Answers, usize) {
    let mut asked: Vec<usize> = Vec::new();
    let mut answers: Answers = Vec::new();
    answers.resize_with(queries.len(), || None);
    let mut wanted = vec![false; queries.len()];
    let mut taken = 0;
    for index in indexes {
        if asked.len() >= QUESTIONS_AT_ONCE {
            break;
        }
        taken += 1;
        for &query in rules.get(*index as usize).map_or(&[][..], |rule| &rule.queries) {
            if !std::mem::replace(&mut wanted[query], true) {
                asked.push(query);
            }
        }
    }
    let (mut plain, mut estimated) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for at in asked {
        match &queries[at] {
            Question::Ask(query) => {
                plain.0.push(at);
                plain.1.push(query.clone());
            }
            Question::Estimate(query) => {
                estimated.0.push(at);
                estimated.1.push(query.clone());
            }
        }
    }
    let mut put = |places: Vec<usize>, of: Vec<Result<Answer, QueryError>>| {
        for (place, answer) in places.into_iter().zip(of) {
            answers[place] = Some(answer);
        }
    };
    if !plain.0.is_empty() {
        put(plain.0, series::ask(&plain.1));
    }
    if !estimated.0.is_empty() {
        put(estimated.0, series::estimates(&estimated.1));
    }
    (answers, taken)
}

/// Takes the outcome's bytes from what is left for the call.
fn within(outcome: Outcome, room: &mut usize) -> Result<Outcome, Failure> {
    let instance = |instance: &Instance| {
        let label = |(key, value): &(String, String)| key.len() + value.len() + OVERHEAD_BYTES;
        instance.summary.len() + OVERHEAD_BYTES + instance.labels.iter().map(label).sum::<usize>()
    };
    let bytes: usize = outcome.active.iter().map(instance).sum();
    match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            Ok(outcome)
        }
        None => Err(Failure::Unavailable(format!(
            "the instances of the rules evaluated together have more than {} MiB; group with `by`, \
             or have fewer rules evaluated at once",
            MAX_OUTCOME_BYTES >> 20
        ))),
    }
}

/// One rule's evaluation.
pub(crate) struct Evaluation<'e> {
    answers: &'e Answers,
    pub(crate) known: &'e mut Known,
    /// As of when, in unix milliseconds.
    pub(crate) at: i64,
}

impl<'e> Evaluation<'e> {
    fn outcome(mut self, rule: &Rule, max_instances: usize) -> Result<Outcome, Failure> {
        let series_read = self.series_read(rule)?;
        let rows = self.node(&rule.node)?;
        // Only now: inside the condition an empty label that is grouped by differs from none.
        let mut active: Vec<Instance> = rows.into_iter().map(instance).collect();
        active.sort_by(|a, b| a.labels.cmp(&b.labels));
        active.dedup_by(|later, first| later.labels == first.labels);
        if active.len() > max_instances {
            return Err(Failure::Unavailable(format!(
                "it holds for {} sets of labels; at most {max_instances} are allowed: group with \
                 `by`, or raise `max_instances` in the evaluator's config",
                active.len()
            )));
        }
        Ok(Outcome { active, series_read })
    }

    pub(crate) fn answer(&self, query: usize) -> Result<&'e Answer, Failure> {
        match self.answers.get(query).and_then(Option::as_ref) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(QueryError::Unplanned)) | None => Err(Failure::Unavailable(
                "the host keeps no window for this rule yet; it follows the rules that are loaded"
                    .to_owned(),
            )),
            Some(Err(QueryError::Invalid(why))) => {
                Err(Failure::Rejected(format!("the host cannot read a question: {why}")))
            }
            Some(Err(QueryError::TooMany(found))) => Err(Failure::Unavailable(format!(
                "a selector takes {found} series, more than the host answers; narrow `match`"
            ))),
        }
    }

    /// Distinct series over all questions; says so if one of them has no answer.
    fn series_read(&self, rule: &Rule) -> Result<u32, Failure> {
        let count = match rule.queries.as_slice() {
            [only] => self.answer(*only)?.series.len(),
            several => {
                let mut ids = Vec::new();
                for query in several {
                    ids.extend_from_slice(&self.answer(*query)?.series);
                }
                ids.sort_unstable();
                ids.dedup();
                ids.len()
            }
        };
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn node(&mut self, node: &Node) -> Result<Vec<Row>, Failure> {
        match node {
            Node::All(members) => {
                self.members(members, |left, right| relation::join(&left, &right))
            }
            Node::Any(members) => self.members(members, relation::union),
            Node::Threshold(compared) => self.threshold(compared),
            Node::Absent(missed) => self.absent(missed),
            Node::Holds(held) => self.holding(held),
        }
    }

    fn members(
        &mut self,
        members: &[Node],
        put: impl Fn(Vec<Row>, Vec<Row>) -> Result<Vec<Row>, TooMany>,
    ) -> Result<Vec<Row>, Failure> {
        let mut rows: Option<Vec<Row>> = None;
        for member in members {
            let of_member = self.node(member)?;
            let together = match rows {
                None => of_member,
                Some(before) => put(before, of_member).map_err(|TooMany| {
                    Failure::Unavailable(format!(
                        "members of `all` or `any` hold together for more than {MAX_ROWS} sets of \
                         labels; group with `by`"
                    ))
                })?,
            };
            rows = Some(together);
        }
        Ok(rows.unwrap_or_default())
    }

    fn holding(&mut self, held: &Held) -> Result<Vec<Row>, Failure> {
        let row = |(labels, value)| Row {
            labels,
            value,
            summary: words::around(&held.before, value, &held.after),
        };
        Ok(self.held(&held.term, held.negated)?.into_iter().map(row).collect())
    }

    fn threshold(&mut self, compared: &Compared) -> Result<Vec<Row>, Failure> {
        let holds = |value: f64| {
            !value.is_nan() && compared.comparison.holds(value, compared.limit) != compared.negated
        };
        let found = match &compared.groups {
            Some(groups) => self.groups(compared.query, groups, holds)?,
            None => {
                let answer = self.answer(compared.query)?;
                let (ids, values): (Vec<u64>, Vec<f64>) = answer
                    .series
                    .iter()
                    .copied()
                    .zip(answer.value.iter().copied())
                    .filter(|(_, value)| holds(*value))
                    .unzip();
                self.known.labels(&ids).into_iter().zip(values).collect()
            }
        };
        let row = |(labels, value)| Row {
            labels,
            value,
            summary: words::around(&compared.before, value, &compared.after),
        };
        Ok(found.into_iter().map(row).collect())
    }

    fn groups(
        &mut self,
        query: usize,
        groups: &Groups,
        holds: impl Fn(f64) -> bool,
    ) -> Result<Vec<(relation::Labels, f64)>, Failure> {
        let values = self.grouped(query, groups.grouping, groups.combine)?;
        let divisors = match groups.divisor {
            Some((query, combine)) => Some(self.grouped(query, groups.grouping, combine)?),
            None => None,
        };
        let mut found = Vec::new();
        for (group, sum) in values {
            let value = match &divisors {
                None => sum.value(),
                Some(divisors) => match divisors.get(&group) {
                    Some(divisor) => sum.value() / divisor.value(),
                    None => continue,
                },
            };
            if holds(value) {
                found.push((self.known.group_labels(groups.grouping, group), value));
            }
        }
        Ok(found)
    }

    pub(crate) fn grouped(
        &mut self,
        query: usize,
        grouping: usize,
        combine: crate::condition::Combine,
    ) -> Result<BTreeMap<usize, Sum>, Failure> {
        let answer = self.answers.get(query).and_then(Option::as_ref);
        let Some(Ok(answer)) = answer else {
            return self.answer(query).map(|_| BTreeMap::new());
        };
        let mut sums = BTreeMap::<usize, Sum>::new();
        let of_series = self.known.groups(grouping, &answer.series);
        for (group, value) in of_series.into_iter().zip(&answer.value) {
            sums.entry(group)
                .and_modify(|sum| sum.add(*value))
                .or_insert_with(|| Sum::new(combine, *value));
        }
        Ok(sums)
    }

    pub(crate) fn absent(&mut self, missed: &Missed) -> Result<Vec<Row>, Failure> {
        let row = |labels, found: usize| Row {
            labels,
            value: found as f64,
            summary: missed.summary.clone(),
        };
        let Some((grouping, ever)) = missed.known else {
            let found = self.answer(missed.recent)?.series.len();
            let holds = (found == 0) != missed.negated;
            let labels = std::rc::Rc::clone(&missed.labels);
            return Ok(if holds { vec![row(labels, found)] } else { Vec::new() });
        };
        let count = crate::condition::Combine::Count;
        let recent = self.grouped(missed.recent, grouping, count)?;
        let ever = self.grouped(ever, grouping, count)?;
        let mut rows = Vec::new();
        for group in ever.keys() {
            let found = recent.get(group).map_or(0.0, |sum| sum.value());
            if (found == 0.0) != missed.negated {
                let labels = self.known.group_labels(grouping, *group);
                rows.push(Row { labels, value: found, summary: missed.summary.clone() });
            }
        }
        Ok(rows)
    }
}

fn instance(row: Row) -> Instance {
    let labels = row.labels.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
    Instance { labels, value: row.value, summary: row.summary }
}
