//! The stored past, as a server's query API gives it.

use async_trait::async_trait;
use sentinel_model::series::{Labels, Selector, SeriesKey};
use sentinel_rule_tests::{History, HistoryError, Stream};
use sentinel_server::api::{QueryBody, SeriesBody};
use sentinel_store::query::{MAX_SERIES, Points, TimeRange};

use crate::client::Client;

/// A server that is asked for samples.
pub(super) struct Stored<'c>(pub(super) &'c Client);

#[async_trait(?Send)]
impl History for Stored<'_> {
    async fn samples(
        &self,
        selector: &Selector,
        range: TimeRange,
    ) -> Result<Vec<Stream>, HistoryError> {
        let query = [
            ("selector", selector.to_string()),
            ("start", range.start.to_string()),
            ("end", range.end.to_string()),
            ("limit", MAX_SERIES.to_string()),
        ];
        let found = self.0.get_unless_too_much("/v1/query", &query).await;
        let found: QueryBody = found
            .map_err(|failure| HistoryError::Failed(failure.message))?
            .map_err(HistoryError::TooMuch)?;
        Ok(found.series.into_iter().map(stream).collect())
    }
}

fn stream(series: SeriesBody) -> Stream {
    let SeriesBody { name, labels, times, values, .. } = series;
    let key = SeriesKey { name, labels: Labels::from(labels) };
    let values = values.into_iter().map(|number| number.0).collect();
    Stream { key, points: Points { times, values } }
}
