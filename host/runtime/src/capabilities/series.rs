//! Stored series: what an evaluator may ask, and who answers.

use std::sync::Arc;

use sentinel_model::series::{Labels, Selector};

/// Most questions in one `ask`.
pub const MAX_QUERIES: usize = 10_000;
/// Most series in one answer.
pub const MAX_SERIES: u64 = 100_000;

/// One number out of a window of samples. A series without samples in the window has none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregate {
    /// The newest.
    Last,
    /// Arithmetic mean.
    Avg,
    /// Smallest.
    Min,
    /// Greatest.
    Max,
    /// Sum.
    Sum,
    /// How many samples.
    Count,
    /// Increase of a counter, resets corrected; needs two samples. Not extrapolated.
    Increase,
    /// [`Aggregate::Increase`] divided by the seconds between the first and the last sample.
    Rate,
    /// Quantile over time, 0 to 1, linear interpolation between the closest ranks.
    Quantile(f64),
    /// A number for which the samples' times matter.
    Estimate {
        /// Which.
        estimate: Estimate,
        /// Whether a sample at the very start of the window is part of it.
        closed: bool,
    },
}

/// One number out of a window of samples and their times, as PromQL makes it. NaN is taken as any
/// value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Estimate {
    /// Increase of a counter, extrapolated to the window's edges; needs two samples.
    Increase,
    /// [`Estimate::Increase`] divided by the window's seconds.
    Rate,
    /// As [`Estimate::Increase`], of a gauge.
    Delta,
    /// Increase a second between the last two samples.
    InstantRate,
    /// Difference of the last two samples.
    InstantDelta,
    /// Slope a second of the line through the samples; needs two.
    Slope,
    /// That line's value so many seconds after the window's end; needs two samples.
    Predict(f64),
    /// How often the value changed.
    Changes,
    /// How often the value fell.
    Resets,
    /// Standard deviation.
    StdDev,
    /// Its square.
    StdVar,
}

impl Aggregate {
    /// Whether it can be computed at all.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] for a quantile that is not within 0 to 1, or a prediction for no
    /// finite time.
    pub fn check(self) -> Result<(), QueryError> {
        match self {
            Self::Quantile(q) if !(0.0..=1.0).contains(&q) => {
                Err(QueryError::Invalid(format!("the quantile {q} is not within 0 to 1")))
            }
            Self::Estimate { estimate: Estimate::Predict(ahead), .. } if !ahead.is_finite() => {
                Err(QueryError::Invalid(format!("{ahead} is no number of seconds")))
            }
            Self::Last
            | Self::Avg
            | Self::Min
            | Self::Max
            | Self::Sum
            | Self::Count
            | Self::Increase
            | Self::Rate
            | Self::Quantile(_)
            | Self::Estimate { .. } => Ok(()),
        }
    }
}

/// One question, about samples with `at - offset - window < time <= at - offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Which series. The same selector is the same allocation from call to call, as a rule.
    pub selector: Arc<Selector>,
    /// Length of the window, in milliseconds.
    pub window_ms: u64,
    /// How long before the evaluation the window ends, in milliseconds.
    pub offset_ms: u64,
    /// What to make of the samples.
    pub aggregate: Aggregate,
}

/// One answer, in columns of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Ids of series, sorted; valid until the rules are loaded again.
    pub series: Vec<u64>,
    /// A value for each.
    pub value: Vec<f64>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The rule's plan did not announce this selector, or not so long a window.
    #[error("the plan did not announce this selector or so long a window")]
    Unplanned,
    /// A selector, a regular expression or a quantile is malformed.
    #[error("{0}")]
    Invalid(String),
    /// More than [`MAX_SERIES`] series; says how many.
    #[error("{0} series; at most {MAX_SERIES} can be answered")]
    TooMany(u64),
}

/// Who answers: the worker's windows.
///
/// The import glue turns a malformed selector or aggregate into [`QueryError::Invalid`] by
/// itself and refuses more than [`MAX_QUERIES`] questions, so what arrives here is sound.
pub trait SeriesSource: Send + Sync {
    /// Answers questions as of `at` (unix milliseconds), in their order and as many.
    fn ask(&self, at: i64, queries: &[Query]) -> Vec<Result<Answer, QueryError>>;

    /// Labels of series in the order of `ids`, without the metric name; empty for unknown
    /// ids.
    fn labels_of(&self, ids: &[u64]) -> Vec<Labels>;
}

/// A source in which no selector was ever announced.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSeries;

impl SeriesSource for NoSeries {
    fn ask(&self, _at: i64, queries: &[Query]) -> Vec<Result<Answer, QueryError>> {
        queries.iter().map(|_| Err(QueryError::Unplanned)).collect()
    }

    fn labels_of(&self, ids: &[u64]) -> Vec<Labels> {
        ids.iter().map(|_| Labels::default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quantiles_between_zero_and_one_can_be_computed() {
        for (q, sound) in
            [(0.0, true), (0.5, true), (1.0, true), (-0.1, false), (1.1, false), (f64::NAN, false)]
        {
            assert_eq!(Aggregate::Quantile(q).check().is_ok(), sound, "{q}");
        }
        assert_eq!(Aggregate::Rate.check(), Ok(()));
        for (ahead, sound) in [(60.0, true), (-60.0, true), (f64::NAN, false)] {
            let estimate = Estimate::Predict(ahead);
            assert_eq!(Aggregate::Estimate { estimate, closed: true }.check().is_ok(), sound);
        }
    }

    #[test]
    fn a_source_without_series_answers_every_question_in_its_place() {
        let query = Query {
            selector: Arc::new("up".parse().unwrap()),
            window_ms: 1,
            offset_ms: 0,
            aggregate: Aggregate::Last,
        };
        assert_eq!(
            NoSeries.ask(0, &[query.clone(), query]),
            [Err(QueryError::Unplanned), Err(QueryError::Unplanned)]
        );
        assert_eq!(NoSeries.labels_of(&[1, 2]).len(), 2);
    }
}
