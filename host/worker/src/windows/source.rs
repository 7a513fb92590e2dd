//! The windows as evaluators ask them.

use super::Windows;
use parking_lot::RwLock;
use sentinel_model::series::Labels;
use sentinel_runtime::SeriesSource;
use sentinel_runtime::evaluator::{Answer, Query, QueryError};
use std::sync::Arc;

/// Answers from windows. Holds their lock for the time of one call.
#[derive(Clone)]
pub struct WindowSource(pub Arc<RwLock<Windows>>);

impl SeriesSource for WindowSource {
    fn ask(&self, at: i64, queries: &[Query]) -> Vec<Result<Answer, QueryError>> {
        let windows = self.0.read();
        queries.iter().map(|query| windows.ask(at, query)).collect()
    }

    fn labels_of(&self, ids: &[u64]) -> Vec<Labels> {
        let windows = self.0.read();
        ids.iter().map(|&id| windows.labels(id).cloned().unwrap_or_default()).collect()
    }
}
