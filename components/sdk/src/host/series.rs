//! What an evaluator may ask about stored series. Capability `series`.
//!
//! During `evaluate(at)` all answers are as of `at`: samples with
//! `at - offset - window < time <= at - offset`.

use super::host_call;
use crate::Label;
#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sentinel::plugin::series as import;

pub use crate::bindings::host::sentinel::plugin::series::{
    Aggregate, Answer, Estimate, Estimation, MatchOp, Matcher, Query, QueryError, Selector,
};

/// Answers many questions at once (at most 10,000), in their order.
pub fn ask(queries: &[Query]) -> Vec<Result<Answer, QueryError>> {
    host_call!(import::ask(queries), crate::testing::with_host(|host| host.series.ask(queries)))
}

/// Answers many questions for estimates at once (at most 10,000), in their order.
pub fn estimates(queries: &[Estimation]) -> Vec<Result<Answer, QueryError>> {
    host_call!(
        import::estimates(queries),
        crate::testing::with_host(|host| host.series.estimates(queries))
    )
}

/// Labels of series, in the order of `ids`, without the metric name; empty for unknown ids.
pub fn labels_of(ids: &[u64]) -> Vec<Vec<Label>> {
    host_call!(import::labels_of(ids), crate::testing::with_host(|host| host.series.labels_of(ids)))
}
