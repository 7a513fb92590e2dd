//! `series`: asked of the host's windows, at once.

use std::collections::HashMap;
use std::sync::Arc;

use sentinel_model::series::{MatchOp, Matcher, Selector};

use crate::bindings::sentinel::plugin::series as contract;
use crate::capabilities::series::{Aggregate, Answer, Estimate, MAX_QUERIES, Query, QueryError};
use crate::host::{Host, Stop};

/// Most selectors that a slot keeps parsed; beyond, it starts anew.
const MAX_SELECTORS: usize = 20_000;

type Written = (String, Vec<(String, MatchOp, String)>);

/// Selectors that were asked for, parsed once: compiling a regular expression costs more than
/// answering the question.
#[derive(Default)]
pub(crate) struct Selectors(HashMap<Written, Result<Arc<Selector>, String>>);

impl Selectors {
    /// A selector out of the contract's form; the same allocation for the same selector.
    pub(crate) fn parsed(&mut self, selector: contract::Selector) -> Result<Arc<Selector>, String> {
        let matchers = selector.matchers.into_iter().map(|matcher| {
            let op = match matcher.op {
                contract::MatchOp::Equal => MatchOp::Equal,
                contract::MatchOp::NotEqual => MatchOp::NotEqual,
                contract::MatchOp::Regex => MatchOp::Regex,
                contract::MatchOp::NotRegex => MatchOp::NotRegex,
            };
            (matcher.label, op, matcher.value)
        });
        let written: Written = (selector.name, matchers.collect());
        if let Some(known) = self.0.get(&written) {
            return known.clone();
        }
        let matchers = written.1.iter().map(|(label, op, value)| Matcher::new(label, *op, value));
        let parsed = matchers
            .collect::<Result<Vec<_>, _>>()
            .and_then(|matchers| Selector::new(&written.0, matchers))
            .map(Arc::new)
            .map_err(|error| error.to_string());
        if self.0.len() >= MAX_SELECTORS {
            self.0.clear();
        }
        self.0.insert(written, parsed.clone());
        parsed
    }
}

impl contract::Host for Host {
    async fn ask(
        &mut self,
        queries: Vec<contract::Query>,
    ) -> wasmtime::Result<Vec<Result<contract::Answer, contract::QueryError>>> {
        self.at_once("series.ask", |host| {
            bounded("series.ask", queries.len())?;
            Ok(host.answers(queries, checked))
        })
    }

    async fn estimates(
        &mut self,
        queries: Vec<contract::Estimation>,
    ) -> wasmtime::Result<Vec<Result<contract::Answer, contract::QueryError>>> {
        self.at_once("series.estimates", |host| {
            bounded("series.estimates", queries.len())?;
            Ok(host.answers(queries, checked_estimation))
        })
    }

    async fn labels_of(&mut self, ids: Vec<u64>) -> wasmtime::Result<Vec<Vec<(String, String)>>> {
        self.at_once("series.labels-of", |host| {
            let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
            let mut labels = host.slot.services.series.labels_of(&ids);
            labels.resize_with(ids.len(), Default::default);
            Ok(labels.iter().map(|labels| labels.iter().map(owned).collect()).collect())
        })
    }
}

fn bounded(call: &str, count: usize) -> wasmtime::Result<()> {
    if count > MAX_QUERIES {
        let why = format!("{call}: {count} questions at once; at most {MAX_QUERIES}");
        return Err(Stop::Refused(why).into());
    }
    Ok(())
}

impl Host {
    fn answers<Q>(
        &self,
        queries: Vec<Q>,
        checked: fn(Q, &mut Selectors) -> Result<Query, QueryError>,
    ) -> Vec<Result<contract::Answer, contract::QueryError>> {
        let mut answers = Vec::with_capacity(queries.len());
        let mut sound = Vec::with_capacity(queries.len());
        {
            let mut selectors = self.slot.selectors.lock();
            for query in queries {
                match checked(query, &mut selectors) {
                    Ok(query) => {
                        sound.push(query);
                        answers.push(None);
                    }
                    Err(error) => answers.push(Some(Err(converted(error)))),
                }
            }
        }
        let asked = self.slot.services.series.ask(self.call.at, &sound);
        let mut asked = asked.into_iter().map(|answer| {
            let Answer { series, value } = answer.map_err(converted)?;
            Ok(contract::Answer { series, value })
        });
        // A source that answers fewer than it was asked has nothing for the rest.
        let mut next = || asked.next().unwrap_or(Err(contract::QueryError::Unplanned));
        answers.into_iter().map(|answer| answer.unwrap_or_else(&mut next)).collect()
    }
}

fn checked(query: contract::Query, selectors: &mut Selectors) -> Result<Query, QueryError> {
    let aggregate = match query.aggregate {
        contract::Aggregate::Last => Aggregate::Last,
        contract::Aggregate::Avg => Aggregate::Avg,
        contract::Aggregate::Min => Aggregate::Min,
        contract::Aggregate::Max => Aggregate::Max,
        contract::Aggregate::Sum => Aggregate::Sum,
        contract::Aggregate::Count => Aggregate::Count,
        contract::Aggregate::Increase => Aggregate::Increase,
        contract::Aggregate::Rate => Aggregate::Rate,
        contract::Aggregate::Quantile(q) => Aggregate::Quantile(q),
    };
    aggregate.check()?;
    let selector = selectors.parsed(query.selector).map_err(QueryError::Invalid)?;
    Ok(Query { selector, window_ms: query.window_ms, offset_ms: query.offset_ms, aggregate })
}

fn checked_estimation(
    query: contract::Estimation,
    selectors: &mut Selectors,
) -> Result<Query, QueryError> {
    let estimate = match query.estimate {
        contract::Estimate::ExtrapolatedIncrease => Estimate::Increase,
        contract::Estimate::ExtrapolatedRate => Estimate::Rate,
        contract::Estimate::ExtrapolatedDelta => Estimate::Delta,
        contract::Estimate::InstantRate => Estimate::InstantRate,
        contract::Estimate::InstantDelta => Estimate::InstantDelta,
        contract::Estimate::Slope => Estimate::Slope,
        contract::Estimate::Predict(ahead) => Estimate::Predict(ahead),
        contract::Estimate::Changes => Estimate::Changes,
        contract::Estimate::Resets => Estimate::Resets,
        contract::Estimate::Stddev => Estimate::StdDev,
        contract::Estimate::Stdvar => Estimate::StdVar,
    };
    let aggregate = Aggregate::Estimate { estimate, closed: query.closed };
    aggregate.check()?;
    let selector = selectors.parsed(query.selector).map_err(QueryError::Invalid)?;
    Ok(Query { selector, window_ms: query.window_ms, offset_ms: query.offset_ms, aggregate })
}

fn converted(error: QueryError) -> contract::QueryError {
    match error {
        QueryError::Unplanned => contract::QueryError::Unplanned,
        QueryError::Invalid(why) => contract::QueryError::Invalid(why),
        QueryError::TooMany(count) => contract::QueryError::TooMany(count),
    }
}
