//! Stored series of a test, and the answers that the contract prescribes for them.

use std::collections::BTreeMap;

use regex::Regex;

use super::aggregates::aggregate;
use super::estimates::estimate;
use crate::Label;
use crate::series::{Answer, Estimation, MatchOp, Matcher, Query, QueryError, Selector};

/// Series in memory, asked as of a time.
#[derive(Clone, Debug, Default)]
pub struct Series {
    stored: Vec<Stored>,
    pub(super) at: i64,
}

#[derive(Clone, Debug)]
struct Stored {
    name: String,
    labels: BTreeMap<String, String>,
    samples: Vec<(i64, f64)>,
}

impl Series {
    pub(super) fn add(&mut self, name: &str, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
        self.stored.push(Stored {
            name: name.to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            samples: samples.to_vec(),
        });
    }

    pub(crate) fn ask(&self, queries: &[Query]) -> Vec<Result<Answer, QueryError>> {
        queries.iter().map(|query| self.answer(query)).collect()
    }

    pub(crate) fn estimates(&self, queries: &[Estimation]) -> Vec<Result<Answer, QueryError>> {
        let answer = |query: &Estimation| {
            let until = self.at.saturating_sub_unsigned(query.offset_ms);
            let from = until.saturating_sub_unsigned(query.window_ms);
            let within = |time| (from < time || query.closed && from == time) && time <= until;
            self.collect(&query.selector, within, |window| {
                Ok(estimate(&query.estimate, window, from, until))
            })
        };
        queries.iter().map(answer).collect()
    }

    /// Ids count from 1 in the order in which the series were added.
    pub(crate) fn labels_of(&self, ids: &[u64]) -> Vec<Vec<Label>> {
        ids.iter()
            .map(|id| {
                (*id as usize)
                    .checked_sub(1)
                    .and_then(|at| self.stored.get(at))
                    .map(|series| series.labels.clone().into_iter().collect())
                    .unwrap_or_default()
            })
            .collect()
    }

    fn answer(&self, query: &Query) -> Result<Answer, QueryError> {
        let until = self.at.saturating_sub_unsigned(query.offset_ms);
        let from = until.saturating_sub_unsigned(query.window_ms);
        let within = |time| from < time && time <= until;
        self.collect(&query.selector, within, |window| aggregate(&query.aggregate, window))
    }

    fn collect(
        &self,
        selector: &Selector,
        within: impl Fn(i64) -> bool,
        value: impl Fn(&[(i64, f64)]) -> Result<Option<f64>, QueryError>,
    ) -> Result<Answer, QueryError> {
        let matches = compile(selector)?;
        let mut answer = Answer { series: Vec::new(), value: Vec::new() };
        for (at, series) in self.stored.iter().enumerate() {
            if !matches(series) {
                continue;
            }
            let window: Vec<(i64, f64)> =
                series.samples.iter().copied().filter(|(time, _)| within(*time)).collect();
            if let Some(value) = value(&window)? {
                answer.series.push(at as u64 + 1);
                answer.value.push(value);
            }
        }
        Ok(answer)
    }
}

fn compile(selector: &Selector) -> Result<impl Fn(&Stored) -> bool + '_, QueryError> {
    let matchers = selector
        .matchers
        .iter()
        .map(|matcher| {
            let regex = match matcher.op {
                MatchOp::Equal | MatchOp::NotEqual => None,
                MatchOp::Regex | MatchOp::NotRegex => Some(
                    Regex::new(&format!("^(?:{})$", matcher.value))
                        .map_err(|error| QueryError::Invalid(error.to_string()))?,
                ),
            };
            Ok((matcher, regex))
        })
        .collect::<Result<Vec<(&Matcher, Option<Regex>)>, QueryError>>()?;
    Ok(move |series: &Stored| {
        series.name == selector.name
            && matchers.iter().all(|(matcher, regex)| {
                let value = series.labels.get(&matcher.label).map_or("", String::as_str);
                let same = match regex {
                    Some(regex) => regex.is_match(value),
                    None => value == matcher.value,
                };
                match matcher.op {
                    MatchOp::Equal | MatchOp::Regex => same,
                    MatchOp::NotEqual | MatchOp::NotRegex => !same,
                }
            })
    })
}
