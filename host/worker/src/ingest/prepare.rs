//! From a record to what is committed: decode, label, reshape.

use super::{IngestParts, Opened, Ready};
use crate::label::set_agent;
use crate::stages::{Stages, TransformError, TransformStage};
use sentinel_bus::MAX_DELIVERIES;
use sentinel_model::batch::Batch;
use sentinel_model::codec;
use sentinel_model::ids::SlotName;
use sentinel_store::ingest::{Commit, Content};
use sentinel_wire::envelope::{self, Record};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Records that are decoded and reshaped at once.
pub const PREPARED_AT_ONCE: usize = 4;
/// How often a transform is called that does not say that it never will succeed. Then the record
/// is dead: one record must not hold up all others for ever. A transform that is left alone after
/// failures was not called: that another record made it fail says nothing of this one.
pub const TRANSFORM_ATTEMPTS: u32 = 5;
/// The longest wait between attempts at a transform.
const MAX_TRANSFORM_WAIT: Duration = Duration::from_secs(5);

/// How often each transform failed with one record.
type Attempts = BTreeMap<SlotName, u32>;

pub(super) struct Preparer<'a> {
    parts: &'a IngestParts,
}

impl<'a> Preparer<'a> {
    pub(super) fn new(parts: &'a IngestParts) -> Self {
        Self { parts }
    }

    pub(super) async fn prepare(&self, Opened { record, deliveries }: &Opened) -> Ready {
        let content = match &record.content {
            envelope::Content::SkippedTo(to) => Content::Skipped { to: *to },
            envelope::Content::Batch(payload) if *deliveries > MAX_DELIVERIES => {
                let tried = deliveries - 1;
                let reason =
                    format!("delivered {tried} times, and no worker came to an end with it");
                Content::Dead { payload: payload.to_vec(), reason }
            }
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

    /// Through all transforms, as they are together: where one has to be tried again and they
    /// were replaced meanwhile, the batch begins anew, so that it passes each exactly once.
    async fn reshape(&self, batch: Arc<Batch>) -> Result<Arc<Batch>, String> {
        let mut attempts = Attempts::new();
        loop {
            let stages = self.parts.stages.load_full();
            if let Some(batch) = self.pass(&stages, Arc::clone(&batch), &mut attempts).await? {
                return Ok(batch);
            }
        }
    }

    /// `None` where the transforms are others now.
    async fn pass(
        &self,
        stages: &Arc<Stages>,
        mut batch: Arc<Batch>,
        attempts: &mut Attempts,
    ) -> Result<Option<Arc<Batch>>, String> {
        for TransformStage { slot, transform } in &stages.transforms {
            let mut wait = self.parts.transform_wait;
            batch = loop {
                match transform.reshape(Arc::clone(&batch)).await {
                    Ok(reshaped) => break reshaped,
                    Err(error) => self.failed(slot, error, wait, attempts)?,
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(MAX_TRANSFORM_WAIT);
                if !Arc::ptr_eq(stages, &self.parts.stages.load()) {
                    return Ok(None);
                }
            };
        }
        Ok(Some(batch))
    }

    /// Counts a failure and says so; an error where the record is given up.
    fn failed(
        &self,
        slot: &SlotName,
        error: TransformError,
        wait: Duration,
        attempts: &mut Attempts,
    ) -> Result<(), String> {
        let first = wait == self.parts.transform_wait;
        match error {
            TransformError::Rejected(why) => {
                return Err(format!("transform {slot} rejects it: {why}"));
            }
            TransformError::Failed(why) => {
                let attempt = attempts.entry(slot.clone()).or_default();
                *attempt += 1;
                if *attempt >= TRANSFORM_ATTEMPTS {
                    self.parts.metrics.transform_failures.inc();
                    return Err(format!("transform {slot} failed {attempt} times: {why}"));
                }
                tracing::warn!(%slot, attempt, why, "a transform failed; tried again");
            }
            TransformError::NotCalled(why) => {
                if first {
                    tracing::warn!(%slot, why, "a transform is left alone for a while; what it is to reshape waits");
                }
            }
            TransformError::NotLoaded(why) => {
                if first {
                    tracing::error!(%slot, why, "a transform is not loaded; nothing is stored until it is");
                }
            }
        }
        self.parts.metrics.transform_failures.inc();
        Ok(())
    }
}
