//! Pushes: each envelope verified, not seen before, and on the bus when it is accepted.

use super::{BUSY_MS, IngestService, Refused, epoch_state};
use bytes::Bytes;
use sentinel_bus::{BusError, Message, MessageId};
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::ingest::StreamState;
use sentinel_wire::envelope::{self, WAY, batch_id, trace_id};
use sentinel_wire::v1::{EpochState, PushRequest, PushResponse, Refusal};
use std::collections::BTreeMap;

impl IngestService {
    /// Takes one envelope: verified, not seen before, and on the bus when this returns.
    async fn take(
        &self,
        sealed: &sentinel_wire::v1::Envelope,
        progress: &mut Progress,
    ) -> Result<(), Refused> {
        let now = self.now();
        let all = |wait| Refused::busy("the server gets as many batches as it takes", wait);
        self.rates.batch(now).map_err(all)?;
        // What the agent did not sign says nothing of the record that it has: called malformed, the
        // agent would give that up for a byte that was lost on the way.
        let unsigned = |text: String| Refused::new(Refusal::Signature, text);
        let agent = AgentId::new(&sealed.agent_id).map_err(|e| unsigned(e.to_string()))?;
        progress.belongs_to(&agent)?;
        let access = self.access(&agent).await?;
        let key = self.key(&agent, &access, sealed.key_id)?;
        let record = envelope::open(sealed, key).map_err(|e| unsigned(e.to_string()))?;
        // Only what the agent signed counts against it.
        let too_many = |wait| Refused::busy("the agent sends more batches than it may", wait);
        self.rates.agent(&agent, now).map_err(too_many)?;
        self.judge(sealed.sent_at_ms, &sealed.nonce)?;
        let epoch = record.position.epoch;
        // What is in the database already needs no second way through the bus.
        if !progress.is_stored(self, &agent, epoch, record.last()).await? {
            let id = MessageId { agent, epoch, seq: record.position.seq, attempt: record.attempt };
            let payload = Bytes::from(prost::Message::encode_to_vec(sealed));
            self.bus.publish(Message { id, payload }).await.map_err(|e| match e {
                // Larger than any message may be: the agent keeps it aside and sends a skip.
                BusError::TooLarge { .. } => Refused::new(Refusal::Malformed, e.to_string()),
                BusError::Busy { retry_after_ms } => Refused::busy(
                    "the bus is at its bound",
                    u32::try_from(retry_after_ms).unwrap_or(BUSY_MS),
                ),
                other => Refused::busy(other.to_string(), BUSY_MS),
            })?;
        }
        progress.accepted(epoch, record.last());
        let at = record.position;
        tracing::debug!(target: WAY, agent_id = %record.agent, batch_id = %batch_id(at), trace_id = %trace_id(at), "accepted");
        self.metrics.envelopes.inc();
        self.metrics.bytes.inc_by(sealed.payload.len() as u64);
        Ok(())
    }

    pub(super) async fn push_all(&self, request: &PushRequest) -> PushResponse {
        let mut progress = Progress::default();
        let mut refused = None;
        for sealed in &request.envelopes {
            if let Err(refusal) = self.take(sealed, &mut progress).await {
                self.metrics.refused.with_label_values(&[refusal.kind.as_str_name()]).inc();
                tracing::debug!(agent = %sealed.agent_id, seq = sealed.seq, reason = %refusal.text, "refused");
                refused = Some(refusal);
                break;
            }
        }
        let mut response = PushResponse {
            epochs: progress.finish(self).await,
            server_time_ms: self.now(),
            incarnation: self.bus.incarnation().0.to_vec(),
            ..PushResponse::default()
        };
        if let Some(refusal) = refused {
            response.retry_after_ms = refusal.retry_after_ms;
            response.refusal = refusal.kind.into();
            response.refusal_text = refusal.text;
        }
        response
    }
}

/// How far one push came.
#[derive(Default)]
struct Progress {
    agent: Option<AgentId>,
    epochs: BTreeMap<Epoch, Reached>,
}

/// How far it came in one epoch.
#[derive(Clone, Copy, Default)]
struct Reached {
    accepted: u64,
    state: StreamState,
    /// Whether the store said so in this push: what is only remembered may be too low.
    is_fresh: bool,
}

impl Progress {
    fn belongs_to(&mut self, agent: &AgentId) -> Result<(), Refused> {
        match &self.agent {
            Some(first) if first != agent => {
                Err(Refused::new(Refusal::Signature, "a push carries one agent's records"))
            }
            _ => {
                self.agent = Some(agent.clone());
                Ok(())
            }
        }
    }

    /// Whether a record is in the database already.
    async fn is_stored(
        &mut self,
        service: &IngestService,
        agent: &AgentId,
        epoch: Epoch,
        last: u64,
    ) -> Result<bool, Refused> {
        let remembered = || {
            let state = service.streams.remembered(agent, epoch)?;
            Some(Reached { state, ..Reached::default() })
        };
        let known = self.epochs.get(&epoch).copied().or_else(remembered);
        let reached = match known {
            Some(reached) if reached.is_fresh || last > reached.state.committed => reached,
            other => {
                let state = service.streams.look_up(agent, epoch).await;
                let state = state.map_err(|error| Refused::busy(error, BUSY_MS))?;
                Reached { state, is_fresh: true, ..other.unwrap_or_default() }
            }
        };
        self.epochs.insert(epoch, reached);
        Ok(last <= reached.state.committed)
    }

    fn accepted(&mut self, epoch: Epoch, last: u64) {
        if let Some(reached) = self.epochs.get_mut(&epoch) {
            reached.accepted = last.max(reached.accepted);
        }
    }

    /// The answer's offsets, committed ones read again: workers were at it meanwhile.
    async fn finish(self, service: &IngestService) -> Vec<EpochState> {
        let Some(agent) = self.agent else { return Vec::new() };
        let mut out = Vec::new();
        for (epoch, reached) in self.epochs {
            let state = service.streams.look_up(&agent, epoch).await.unwrap_or(reached.state);
            out.push(epoch_state(epoch, reached.accepted, state));
        }
        out
    }
}
