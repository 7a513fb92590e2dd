//! A message as a record of the log.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | length of the agent's name |
//! | 2 | n | the agent's name |
//! | 2 + n | 16 | epoch |
//! | 18 + n | 8 | sequence number, little-endian |
//! | 26 + n | 4 | attempt, little-endian |
//! | 30 + n | | payload |

use bytes::{Buf, Bytes};
use sentinel_model::ids::{AgentId, Epoch, MAX_NAME};

use crate::{Message, MessageId};

const VERSION: u8 = 1;
const FIXED_BYTES: usize = 30;

/// Largest payload of a message: what fits into a record of the log beside the longest name.
pub const MAX_PAYLOAD_BYTES: usize = sentinel_wal::MAX_RECORD_BYTES - FIXED_BYTES - MAX_NAME;

pub(crate) fn encode(message: &Message) -> Vec<u8> {
    let agent = message.id.agent.as_str().as_bytes();
    let mut out = Vec::with_capacity(FIXED_BYTES + agent.len() + message.payload.len());
    out.extend_from_slice(&[VERSION, agent.len() as u8]);
    out.extend_from_slice(agent);
    out.extend_from_slice(&message.id.epoch.0);
    out.extend_from_slice(&message.id.seq.to_le_bytes());
    out.extend_from_slice(&message.id.attempt.to_le_bytes());
    out.extend_from_slice(&message.payload);
    out
}

/// `None` for anything that [`encode`] does not make.
pub(crate) fn decode(record: Vec<u8>) -> Option<Message> {
    let mut rest = Bytes::from(record);
    if rest.len() < FIXED_BYTES || rest.get_u8() != VERSION {
        return None;
    }
    let name = rest.get_u8() as usize;
    if rest.len() < FIXED_BYTES - 2 + name {
        return None;
    }
    let agent = AgentId::new(std::str::from_utf8(&rest.split_to(name)).ok()?).ok()?;
    let mut epoch = [0; 16];
    rest.copy_to_slice(&mut epoch);
    let (seq, attempt) = (rest.get_u64_le(), rest.get_u32_le());
    Some(Message { id: MessageId { agent, epoch: Epoch(epoch), seq, attempt }, payload: rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_record() {
        let id = MessageId {
            agent: AgentId::new("web-1").unwrap(),
            epoch: Epoch([7; 16]),
            seq: 258,
            attempt: 3,
        };
        let message = Message { id, payload: Bytes::from_static(b"payload") };
        let record = encode(&message);
        let mut expected = vec![1, 5];
        expected.extend_from_slice(b"web-1");
        expected.extend_from_slice(&[7; 16]);
        expected.extend_from_slice(&[2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        expected.extend_from_slice(b"payload");
        assert_eq!(record, expected);
        assert_eq!(decode(record), Some(message));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = encode(&Message {
            id: MessageId {
                agent: AgentId::new("a").unwrap(),
                epoch: Epoch([7; 16]),
                seq: 1,
                attempt: 0,
            },
            payload: Bytes::new(),
        });
        assert!(decode(good.clone()).is_some());
        for len in 0..good.len() {
            assert_eq!(decode(good[..len].to_vec()), None, "cut to {len}");
        }
        for (at, byte) in [(0, 2), (1, 200), (2, b'/'), (2, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(decode(bad), None, "byte {at} = {byte}");
        }
    }
}
