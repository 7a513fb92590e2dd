//! From a record to what is committed: decode, label, reshape.

use super::{IngestParts, Ready};
use crate::label::set_agent;
use crate::stages::TransformError;
use sentinel_model::batch::Batch;
use sentinel_model::codec;
use sentinel_store::ingest::{Commit, Content};
use sentinel_wire::envelope::{self, Record};
use std::sync::Arc;
use std::time::Duration;

/// Records that are decoded and reshaped at once.
pub const PREPARED_AT_ONCE: usize = 4;
/// How often a transform is tried that does not say that it never will succeed. Then the record
/// is dead: one record must not hold up all others for ever.
pub const TRANSFORM_ATTEMPTS: u32 = 5;
/// The longest wait between attempts at a transform.
const MAX_TRANSFORM_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Preparer<'a> {
    parts: &'a IngestParts,
}

impl<'a> Preparer<'a> {
    pub(super) fn new(parts: &'a IngestParts) -> Self {
        Self { parts }
    }

    pub(super) async fn prepare(&self, record: &Record) -> Ready {
        let content = match &record.content {
            envelope::Content::SkippedTo(to) => Content::Skipped { to: *to },
            envelope::Content::Batch(payload) => match self.samples(record, payload).await {
                Ok(batch) => Content::Samples(batch),
                Err(reason) => Content::Dead { payload: payload.to_vec(), reason },
            },
        };
        let commit = Commit {
            agent: record.agent.clone(),
            epoch: record.position.epoch,
            seq: record.position.seq,
            hash: record.hash(),
            content,
        };
        Ready { commit, attempt: record.attempt }
    }

    async fn samples(&self, record: &Record, payload: &[u8]) -> Result<Arc<Batch>, String> {
        let batch = codec::decode(payload).map_err(|e| e.to_string())?;
        let batch =
            set_agent(batch, &record.agent).map_err(|e| format!("with its agent's label: {e}"))?;
        self.reshape(Arc::new(batch)).await
    }

    async fn reshape(&self, mut batch: Arc<Batch>) -> Result<Arc<Batch>, String> {
        let count = self.parts.stages.load().transforms.len();
        for at in 0..count {
            let (mut attempt, mut wait) = (1, self.parts.transform_wait);
            batch = loop {
                // Taken anew for each attempt: it may have been replaced.
                let Some(stage) = self.parts.stages.load().transforms.get(at).cloned() else {
                    break batch;
                };
                let slot = &stage.slot;
                match stage.transform.reshape(Arc::clone(&batch)).await {
                    Ok(reshaped) => break reshaped,
                    Err(TransformError::Rejected(why)) => {
                        return Err(format!("transform {slot} rejects it: {why}"));
                    }
                    Err(TransformError::Failed(why)) => {
                        self.parts.metrics.transform_failures.inc();
                        if attempt >= TRANSFORM_ATTEMPTS {
                            return Err(format!("transform {slot} failed {attempt} times: {why}"));
                        }
                        tracing::warn!(%slot, attempt, why, "a transform failed; tried again");
                        attempt += 1;
                    }
                    Err(TransformError::NotLoaded(why)) => {
                        self.parts.metrics.transform_failures.inc();
                        if wait == self.parts.transform_wait {
                            tracing::error!(%slot, why, "a transform is not loaded; nothing is stored until it is");
                        }
                    }
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(MAX_TRANSFORM_WAIT);
            };
        }
        Ok(batch)
    }
}
