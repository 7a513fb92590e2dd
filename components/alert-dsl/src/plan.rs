//! From a [`Condition`] to what is evaluated: `not` pushed down to the leaves, and every
//! question that a leaf asks numbered among those of all loaded rules.
//!
//! `not` of `all` is `any` of `not`, `not` of `any` is `all` of `not`, and two `not` are none.
//! So only leaves are negated, and only where they have data: what is not known neither holds
//! nor fails.

use std::collections::BTreeMap;

use sentinel_sdk::Need;
use sentinel_sdk::series::{Aggregate, Estimate, Estimation, MatchOp, Matcher, Query, Selector};

use crate::condition::{
    Absent, Combine, Comparison, Condition, Function, Grouping, Measure, Threshold,
};
use crate::expression::Expression;
use crate::relation::Labels;
use crate::term::Term;
use crate::words;

/// A condition in which only leaves are negated.
#[derive(Debug)]
pub(crate) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Threshold(Compared),
    Absent(Missed),
    Holds(Held),
}

/// Rows that are instances.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) term: Term,
    /// Only of a comparison.
    pub(crate) negated: bool,
    /// The summary is this, the value, and [`Self::after`].
    pub(crate) before: String,
    pub(crate) after: String,
}

/// A threshold and the numbers of its questions.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) query: usize,
    pub(crate) groups: Option<Groups>,
    pub(crate) comparison: Comparison,
    pub(crate) limit: f64,
    pub(crate) negated: bool,
    /// The summary is this, the value, and [`Self::after`].
    pub(crate) before: String,
    pub(crate) after: String,
}

/// How a threshold's series become groups.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Number of the list of labels among those of all rules.
    pub(crate) grouping: usize,
    pub(crate) combine: Combine,
    /// The question of the divisor, and how its groups become one value.
    pub(crate) divisor: Option<(usize, Combine)>,
}

/// An absence and the numbers of its questions.
#[derive(Debug)]
pub(crate) struct Missed {
    /// Samples in the window, by series.
    pub(crate) recent: usize,
    /// The list of labels and the question who is known at all.
    pub(crate) known: Option<(usize, usize)>,
    /// The labels where there are no groups: those of the plain matchers.
    pub(crate) labels: Labels,
    pub(crate) negated: bool,
    pub(crate) summary: String,
}

/// What is asked of the host.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Ask(Query),
    Estimate(Estimation),
}

impl Question {
    fn of(measure: &Measure) -> Self {
        let Measure { selector, function, window_ms, offset_ms, closed } = measure.clone();
        match function {
            Function::Of(aggregate) => {
                let window_ms = window_ms + u64::from(closed);
                Self::Ask(Query { selector, window_ms, offset_ms, aggregate })
            }
            Function::Estimated(estimate) => {
                // The host counts from the window's end, people from now.
                let estimate = match estimate {
                    Estimate::Predict(ahead) => Estimate::Predict(ahead + offset_ms as f64 / 1e3),
                    other => other,
                };
                Self::Estimate(Estimation { selector, window_ms, offset_ms, closed, estimate })
            }
        }
    }

    fn reach(&self) -> (&Selector, u64) {
        match self {
            Self::Ask(query) => (&query.selector, query.window_ms + query.offset_ms),
            Self::Estimate(query) => {
                let window_ms = query.window_ms + u64::from(query.closed);
                (&query.selector, window_ms + query.offset_ms)
            }
        }
    }
}

/// The questions and lists of labels of all rules, each once.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) queries: Vec<Question>,
    pub(crate) groupings: Vec<Vec<String>>,
    by_question: BTreeMap<String, usize>,
    by_grouping: BTreeMap<Vec<String>, usize>,
}

impl Catalogue {
    fn query(&mut self, measure: &Measure) -> usize {
        // The text tells questions apart: `{:?}` writes a number so that it reads as the same.
        let key = format!("{measure:?}");
        *self.by_question.entry(key).or_insert_with(|| {
            self.queries.push(Question::of(measure));
            self.queries.len() - 1
        })
    }

    fn grouping(&mut self, by: &[String]) -> usize {
        *self.by_grouping.entry(by.to_vec()).or_insert_with(|| {
            self.groupings.push(by.to_vec());
            self.groupings.len() - 1
        })
    }
}

/// A rule ready to be evaluated.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) node: Node,
    /// Its questions, sorted and distinct.
    pub(crate) queries: Vec<usize>,
}

/// Plans a condition with the questions of `catalogue`.
pub(crate) fn rule(condition: &Condition, catalogue: &mut Catalogue) -> Rule {
    let mut planner = Planner { catalogue, queries: Vec::new() };
    let node = planner.node(condition, false);
    let mut queries = planner.queries;
    queries.sort_unstable();
    queries.dedup();
    Rule { node, queries }
}

/// What a condition reads: each selector once, with its longest reach.
pub(crate) fn needs(condition: &Condition) -> Vec<Need> {
    let mut catalogue = Catalogue::default();
    rule(condition, &mut catalogue);
    let mut needs: Vec<Need> = Vec::new();
    for query in &catalogue.queries {
        let (selector, window_ms) = query.reach();
        match needs.iter_mut().find(|need| need.selector == *selector) {
            Some(need) => need.window_ms = need.window_ms.max(window_ms),
            None => needs.push(Need { selector: selector.clone(), window_ms }),
        }
    }
    needs
}

pub(crate) struct Planner<'c> {
    catalogue: &'c mut Catalogue,
    queries: Vec<usize>,
}

impl Planner<'_> {
    fn node(&mut self, condition: &Condition, negated: bool) -> Node {
        match (condition, negated) {
            (Condition::Not(member), negated) => self.node(member, !negated),
            (Condition::All(members), false) | (Condition::Any(members), true) => {
                Node::All(members.iter().map(|member| self.node(member, negated)).collect())
            }
            (Condition::Any(members), false) | (Condition::All(members), true) => {
                Node::Any(members.iter().map(|member| self.node(member, negated)).collect())
            }
            (Condition::Threshold(threshold), negated) => {
                Node::Threshold(self.threshold(threshold, negated))
            }
            (Condition::Absent(absent), negated) => Node::Absent(self.absent(absent, negated)),
            (Condition::Holds(rows), negated) => Node::Holds(self.held(rows, negated)),
        }
    }

    fn held(&mut self, rows: &Expression, negated: bool) -> Held {
        let (before, after) = words::of_rows(rows, negated);
        Held { term: self.term(rows), negated, before, after }
    }

    pub(crate) fn grouping(&mut self, by: &[String]) -> usize {
        self.catalogue.grouping(by)
    }

    pub(crate) fn ask(&mut self, measure: &Measure) -> usize {
        let query = self.catalogue.query(measure);
        self.queries.push(query);
        query
    }

    fn threshold(&mut self, threshold: &Threshold, negated: bool) -> Compared {
        let (before, after) = words::of_threshold(threshold, negated);
        let query = self.ask(&threshold.measure);
        let divisor = threshold.divisor.as_ref();
        let divisor = divisor.map(|(measure, combine)| (self.ask(measure), *combine));
        let groups = threshold.grouping.as_ref().map(|Grouping { by, combine }| Groups {
            grouping: self.catalogue.grouping(by),
            combine: *combine,
            divisor,
        });
        let (comparison, limit) = (threshold.comparison, threshold.limit);
        Compared { query, groups, comparison, limit, negated, before, after }
    }

    pub(crate) fn absent(&mut self, absent: &Absent, negated: bool) -> Missed {
        let count = |window_ms| Measure {
            selector: absent.selector.clone(),
            function: Function::Of(Aggregate::Count),
            window_ms,
            offset_ms: 0,
            closed: absent.closed,
        };
        let recent = self.ask(&count(absent.window_ms));
        let known = absent
            .groups
            .as_ref()
            .map(|known| (self.catalogue.grouping(&known.by), self.ask(&count(known.within_ms))));
        Missed {
            recent,
            known,
            labels: plain_labels(&absent.selector),
            negated,
            summary: words::of_absence(absent, negated),
        }
    }
}

fn plain_labels(selector: &Selector) -> Labels {
    let plain = |matcher: &&Matcher| matcher.op == MatchOp::Equal && !matcher.value.is_empty();
    let mut labels: Vec<_> = selector
        .matchers
        .iter()
        .filter(plain)
        .map(|matcher| (matcher.label.clone(), matcher.value.clone()))
        .collect();
    labels.sort_unstable();
    labels.into()
}
