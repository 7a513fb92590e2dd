//! Questions about stored series.

use super::{Context, Failure};
use crate::api::{QueryBody, SeriesBody};
use axum::Json;
use axum::extract::{Query, State};
use sentinel_model::duration::Millis;
use sentinel_model::number::Number;
use sentinel_model::series::Selector;
use sentinel_store::query::TimeRange;
use serde::Deserialize;
use utoipa::IntoParams;

const HOUR_MS: i64 = 3_600_000;
/// Series in one answer unless asked otherwise.
const DEFAULT_LIMIT: usize = 1000;

/// Which series, over which time.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct QueryParams {
    /// `name{label="value", other=~"regex"}`.
    selector: String,
    /// Unix milliseconds, not included; an hour before `end` where absent.
    start: Option<i64>,
    /// Unix milliseconds, included; now where absent.
    end: Option<i64>,
    /// At most one value in each step of this width, such as `1m`.
    step: Option<String>,
    /// The most series to answer.
    limit: Option<usize>,
}

/// Samples of the series that a selector matches.
#[utoipa::path(get, path = "/v1/query", params(QueryParams), responses((status = 200, body = QueryBody)))]
pub(super) async fn query(
    State(context): State<Context>,
    Query(params): Query<QueryParams>,
) -> Result<Json<QueryBody>, Failure> {
    let selector: Selector = params.selector.parse().map_err(Failure::bad)?;
    let end = params.end.unwrap_or_else(|| context.now());
    let range = TimeRange { start: params.start.unwrap_or(end - HOUR_MS), end };
    if range.start >= range.end {
        return Err(Failure::bad("start is not before end"));
    }
    let step = match params.step.as_deref().map(str::parse::<Millis>) {
        Some(Ok(Millis(0))) => return Err(Failure::bad("a step of 0 has no values")),
        Some(step) => Some(step.map_err(Failure::bad)?),
        None => None,
    };
    let mut found = context.store.range(&selector, range, step).await?;
    found.sort_by(|a, b| a.info.key.cmp(&b.info.key));
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    let truncated = found.len() > limit;
    found.truncate(limit);
    let series = found.into_iter().map(|one| SeriesBody {
        name: one.info.key.name,
        labels: one.info.key.labels.into(),
        kind: one.info.kind,
        times: one.points.times,
        values: one.points.values.into_iter().map(Number).collect(),
    });
    Ok(Json(QueryBody { series: series.collect(), truncated }))
}

/// A prefix.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct NamesParams {
    /// What the names start with.
    #[serde(default)]
    prefix: String,
}

/// Metric names.
#[utoipa::path(get, path = "/v1/metrics", params(NamesParams), responses((status = 200, body = Vec<String>)))]
pub(super) async fn names(
    State(context): State<Context>,
    Query(params): Query<NamesParams>,
) -> Result<Json<Vec<String>>, Failure> {
    Ok(Json(context.store.metric_names(&params.prefix).await?))
}
