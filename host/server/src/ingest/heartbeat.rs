//! Heartbeats: what an agent says of itself, kept when it is signed.

use super::{BUSY_MS, IngestService, MAX_LABELS, Refused, epoch_state, is_short};
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::StoreError;
use sentinel_store::agents::Heartbeat;
use sentinel_trust::fleet::HostReport;
use sentinel_wire::heartbeat;
use sentinel_wire::v1::{EpochState, HeartbeatRequest, KeyOffer, Label, Refusal};

/// The most epochs, slots and warnings that one heartbeat may name.
const MAX_LISTED: usize = 256;
/// The most bytes of a heartbeat's report.
const MAX_REPORT: usize = 1 << 20;

impl IngestService {
    /// Keeps a heartbeat; where the epochs that it names stand, and a newer key, if there is one.
    pub(super) async fn beat(
        &self,
        request: &HeartbeatRequest,
    ) -> Result<(Vec<EpochState>, Option<KeyOffer>), Refused> {
        let agent = AgentId::new(&request.agent_id)
            .map_err(|e| Refused::new(Refusal::Malformed, e.to_string()))?;
        let access = self.access(&agent).await?;
        let key = self.key(&agent, &access, request.key_id)?;
        if !heartbeat::fits(request, key) {
            return Err(Refused::new(Refusal::Signature, "the heartbeat's signature does not fit"));
        }
        self.judge(request.sent_at_ms, &request.nonce)?;
        let report = report(request)?;
        let heartbeat = Heartbeat { id: agent.clone(), version: request.version.clone(), report };
        let busy = |e: StoreError| Refused::busy(e.to_string(), BUSY_MS);
        self.store.save_heartbeat(heartbeat, self.now()).await.map_err(busy)?;
        let mut epochs = Vec::new();
        for offsets in &request.offsets {
            let Ok(bytes) = <[u8; 16]>::try_from(offsets.epoch.as_slice()) else { continue };
            let state = self.streams.look_up(&agent, Epoch(bytes)).await;
            let state = state.map_err(|error| Refused::busy(error, BUSY_MS))?;
            epochs.push(epoch_state(Epoch(bytes), 0, state));
        }
        let offer = self.rotation.heard(&agent, &access, request.key_id).await;
        Ok((epochs, offer))
    }
}

/// The heartbeat's body as the store keeps it.
fn report(request: &HeartbeatRequest) -> Result<String, Refused> {
    let listed = request.offsets.len().max(request.slots.len()).max(request.warnings.len());
    if listed > MAX_LISTED {
        return Err(Refused::new(Refusal::Malformed, "a heartbeat lists at most 256 of anything"));
    }
    let slots: Vec<serde_json::Value> =
        request.slots.iter().filter_map(|s| serde_json::from_str(&s.json).ok()).collect();
    let offsets: Vec<serde_json::Value> = request
        .offsets
        .iter()
        .map(|o| {
            serde_json::json!({
                "epoch": hex::encode(&o.epoch), "written": o.written, "synced": o.synced,
                "accepted": o.accepted, "committed": o.committed, "bytes": o.bytes,
            })
        })
        .collect();
    let mut report =
        serde_json::json!({ "offsets": offsets, "slots": slots, "warnings": request.warnings });
    if let Ok(fleet) = serde_json::from_str::<HostReport>(&request.fleet) {
        report["fleet"] = serde_json::to_value(fleet).unwrap_or_default();
    }
    report["labels"] = labels(&request.labels)?;
    let text = report.to_string();
    if text.len() > MAX_REPORT {
        return Err(Refused::new(
            Refusal::Malformed,
            "the heartbeat's report is larger than 1 MiB",
        ));
    }
    Ok(text)
}

/// An agent's labels, within what an enrolment may say too.
fn labels(labels: &[Label]) -> Result<serde_json::Value, Refused> {
    let fits = labels.len() <= MAX_LABELS
        && labels.iter().all(|label| is_short(&label.key) && is_short(&label.value));
    if !fits {
        return Err(Refused::new(
            Refusal::Malformed,
            "a heartbeat has too many labels, or one that is too long or holds control characters",
        ));
    }
    Ok(labels
        .iter()
        .map(|label| (label.key.clone(), serde_json::Value::from(label.value.clone())))
        .collect())
}
