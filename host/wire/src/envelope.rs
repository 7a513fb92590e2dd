//! The signed envelope of one log record.
//!
//! The canonical bytes that the code covers, integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 20 | `sentinel-envelope-v1` |
//! | 1 + n | length and bytes of the agent id |
//! | 4 | key id |
//! | 16 | epoch |
//! | 8 | seq |
//! | 8 | skipped_to |
//! | 4 | attempt |
//! | 8 | sent_at_ms |
//! | 16 | nonce |
//! | 32 | SHA-256 of the payload |

use crate::key::AgentKey;
use crate::v1;
use bytes::Bytes;
use sentinel_model::ids::{AgentId, Epoch, IdError, Position};
use sha2::{Digest, Sha256};

const DOMAIN: &[u8; 20] = b"sentinel-envelope-v1";
/// The most bytes a payload may have: an encoded batch and some air.
pub const MAX_PAYLOAD: usize = 8 << 20;
/// The most envelopes a push may have.
pub const MAX_ENVELOPES: usize = 256;
/// The most bytes a push may have, encoded.
pub const MAX_PUSH: usize = 8 << 20;

/// What a record of the log is to those behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An encoded batch.
    Batch(Bytes),
    /// The records from the position to this one were lost or dropped, and are said to be.
    SkippedTo(u64),
}

/// A record on its way, without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who sends it.
    pub agent: AgentId,
    /// Which record; of a skip, the first.
    pub position: Position,
    /// How often it had to be sent, from 1.
    pub attempt: u32,
    /// What it holds.
    pub content: Content,
}

impl Record {
    /// The last record that it accounts for.
    #[must_use]
    pub fn last(&self) -> u64 {
        match self.content {
            Content::Batch(_) => self.position.seq,
            Content::SkippedTo(to) => to,
        }
    }

    /// The id under which every process logs what it does with the record: see [`trace_id`].
    #[must_use]
    pub fn trace_id(&self) -> String {
        trace_id(self.position)
    }

    /// SHA-256 of what it holds: of the payload, or of the range's end.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        match &self.content {
            Content::Batch(payload) => Sha256::digest(payload).into(),
            Content::SkippedTo(to) => Sha256::digest(to.to_le_bytes()).into(),
        }
    }
}

/// Why an envelope is not what it says. Nothing of it may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The agent id is malformed.
    #[error(transparent)]
    Agent(#[from] IdError),
    /// A field has another length than it must have.
    #[error("the envelope's {field} has {found} bytes, {expected} are needed")]
    Length {
        /// Which field.
        field: &'static str,
        /// What was found.
        found: usize,
        /// What is needed.
        expected: usize,
    },
    /// Numbers that contradict each other.
    #[error("the envelope is malformed: {0}")]
    Malformed(&'static str),
    /// The signature does not fit.
    #[error("the signature of record {seq} of agent {agent} does not fit key {key_id}")]
    Signature {
        /// Who it says it is from.
        agent: String,
        /// Which record.
        seq: u64,
        /// With which key.
        key_id: u32,
    },
}

/// The target of the lines with which each process says, at the level `debug`, what it does with a record:
/// with `agent_id`, `batch_id` and `trace_id`. `SENTINEL_LOG=info,sentinel::way=debug` shows them.
pub const WAY: &str = "sentinel::way";

/// The id under which every process logs what it does with a record, 32 hexadecimal digits: the sum of
/// its epoch, which is random, and its number. Whoever knows the record's place knows it, so that nothing
/// has to carry it.
#[must_use]
pub fn trace_id(position: Position) -> String {
    let epoch = u128::from_be_bytes(position.epoch.0);
    format!("{:032x}", epoch.wrapping_add(position.seq.into()))
}

/// The name of a record in logs: its epoch and its number.
#[must_use]
pub fn batch_id(position: Position) -> String {
    format!("{}-{}", position.epoch, position.seq)
}

fn canonical(envelope: &v1::Envelope) -> Vec<u8> {
    let id = envelope.agent_id.as_bytes();
    let mut out = Vec::with_capacity(160 + id.len());
    out.extend_from_slice(DOMAIN);
    out.push(id.len() as u8);
    out.extend_from_slice(id);
    out.extend_from_slice(&envelope.key_id.to_le_bytes());
    out.extend_from_slice(&envelope.epoch);
    out.extend_from_slice(&envelope.seq.to_le_bytes());
    out.extend_from_slice(&envelope.skipped_to.to_le_bytes());
    out.extend_from_slice(&envelope.attempt.to_le_bytes());
    out.extend_from_slice(&envelope.sent_at_ms.to_le_bytes());
    out.extend_from_slice(&envelope.nonce);
    out.extend_from_slice(&Sha256::digest(&envelope.payload));
    out
}

/// Signs a record for one send.
#[must_use]
pub fn seal(record: &Record, key: &AgentKey, sent_at_ms: i64, nonce: [u8; 16]) -> v1::Envelope {
    let (payload, skipped_to) = match &record.content {
        Content::Batch(payload) => (payload.clone(), 0),
        Content::SkippedTo(to) => (Bytes::new(), *to),
    };
    let mut envelope = v1::Envelope {
        agent_id: record.agent.to_string(),
        key_id: key.id(),
        epoch: record.position.epoch.0.to_vec(),
        seq: record.position.seq,
        skipped_to,
        attempt: record.attempt,
        sent_at_ms,
        nonce: nonce.to_vec(),
        payload,
        mac: Vec::new(),
    };
    envelope.mac = key.sign(&[&canonical(&envelope)]);
    envelope
}

fn shape(envelope: &v1::Envelope) -> Result<Record, EnvelopeError> {
    let agent = AgentId::new(&envelope.agent_id)?;
    let length = |field, found: usize, expected: usize| {
        if found == expected {
            Ok(())
        } else {
            Err(EnvelopeError::Length { field, found, expected })
        }
    };
    length("epoch", envelope.epoch.len(), 16)?;
    length("nonce", envelope.nonce.len(), 16)?;
    length("mac", envelope.mac.len(), 32)?;
    if envelope.seq == 0 || envelope.attempt == 0 {
        return Err(EnvelopeError::Malformed("seq and attempt count from 1"));
    }
    if envelope.payload.len() > MAX_PAYLOAD {
        return Err(EnvelopeError::Malformed("the payload is larger than 8 MiB"));
    }
    let content = match (envelope.skipped_to, envelope.payload.is_empty()) {
        (0, false) => Content::Batch(envelope.payload.clone()),
        (0, true) => return Err(EnvelopeError::Malformed("neither a payload nor a skip")),
        (_, false) => return Err(EnvelopeError::Malformed("a payload and a skip")),
        (to, true) if to < envelope.seq => {
            return Err(EnvelopeError::Malformed("a skip that ends before it begins"));
        }
        (to, true) => Content::SkippedTo(to),
    };
    let mut epoch = [0; 16];
    epoch.copy_from_slice(&envelope.epoch);
    let position = Position { epoch: Epoch(epoch), seq: envelope.seq };
    Ok(Record { agent, position, attempt: envelope.attempt, content })
}

/// Checks an envelope against the key of the agent that it names.
///
/// # Errors
/// A malformed field, or a signature that does not fit. The send time and the nonce are the
/// caller's to check, after this.
pub fn open(envelope: &v1::Envelope, key: &AgentKey) -> Result<Record, EnvelopeError> {
    let record = shape(envelope)?;
    if envelope.key_id == key.id() && key.fits(&[&canonical(envelope)], &envelope.mac) {
        return Ok(record);
    }
    Err(EnvelopeError::Signature {
        agent: record.agent.to_string(),
        seq: envelope.seq,
        key_id: envelope.key_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: Content) -> Record {
        let position = Position { epoch: Epoch([7; 16]), seq: 3 };
        Record { agent: AgentId::new("web-1").unwrap(), position, attempt: 1, content }
    }

    #[test]
    fn a_sealed_record_opens_with_its_key_only() {
        let key = AgentKey::random(2);
        for content in [Content::Batch(Bytes::from_static(b"x")), Content::SkippedTo(9)] {
            let record = record(content);
            let envelope = seal(&record, &key, 1_000, [1; 16]);
            assert_eq!(open(&envelope, &key), Ok(record));
            assert!(open(&envelope, &AgentKey::random(2)).is_err());
            assert!(open(&envelope, &AgentKey::new(3, key.expose()).unwrap()).is_err());
        }
    }

    #[test]
    fn each_record_has_a_trace_of_its_own_that_follows_from_its_place() {
        let at = |epoch, seq| trace_id(Position { epoch: Epoch([epoch; 16]), seq });
        assert_eq!(at(7, 3), "0707070707070707070707070707070a");
        assert_eq!(at(0xff, 2), "00000000000000000000000000000001", "it goes round");
        assert_eq!(record(Content::SkippedTo(9)).trace_id(), at(7, 3));
        assert_ne!(at(7, 4), at(7, 3));
        let position = Position { epoch: Epoch([7; 16]), seq: 3 };
        assert_eq!(batch_id(position), format!("{}-3", "07".repeat(16)));
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let key = AgentKey::random(1);
        let good = seal(&record(Content::Batch(Bytes::from_static(b"abc"))), &key, 5, [1; 16]);
        type Change = fn(&mut v1::Envelope);
        let changes: &[(&str, Change)] = &[
            ("agent", |e| e.agent_id = "web-2".into()),
            ("epoch", |e| e.epoch[0] ^= 1),
            ("seq", |e| e.seq += 1),
            ("skip", |e| e.skipped_to = 4),
            ("attempt", |e| e.attempt += 1),
            ("time", |e| e.sent_at_ms += 1),
            ("nonce", |e| e.nonce[15] ^= 1),
            ("payload", |e| e.payload = Bytes::from_static(b"abd")),
            ("mac", |e| e.mac[31] ^= 1),
            ("short mac", |e| e.mac.truncate(31)),
            ("no payload", |e| e.payload = Bytes::new()),
            ("a key id", |e| e.key_id = 2),
        ];
        for (what, change) in changes {
            let mut envelope = good.clone();
            change(&mut envelope);
            assert!(open(&envelope, &key).is_err(), "{what}");
        }
    }
}
