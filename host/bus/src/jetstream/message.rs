//! A message as it travels over NATS: the payload as it is, the name in headers.
//!
//! | header | |
//! |---|---|
//! | `Nats-Msg-Id` | agent/epoch/sequence/attempt: what NATS takes once within the duplicates window |
//! | `Sentinel-Agent` | the agent's id |
//! | `Sentinel-Epoch` | 32 hexadecimal digits |
//! | `Sentinel-Seq` | from 1 |
//! | `Sentinel-Attempt` | from 0 |

use std::str::FromStr;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use sentinel_model::ids::AgentId;

use crate::{MAX_PAYLOAD_BYTES, Message, MessageId};

const AGENT: &str = "Sentinel-Agent";
const EPOCH: &str = "Sentinel-Epoch";
const SEQ: &str = "Sentinel-Seq";
const ATTEMPT: &str = "Sentinel-Attempt";

/// Room for the headers, the subject and the reply subject of a message beside its payload.
pub(super) const MAX_OVERHEAD_BYTES: usize = 4 << 10;

pub(super) fn headers(id: &MessageId) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id.to_string().as_str());
    headers.insert(AGENT, id.agent.as_str());
    headers.insert(EPOCH, id.epoch.to_string().as_str());
    headers.insert(SEQ, id.seq.to_string());
    headers.insert(ATTEMPT, id.attempt.to_string());
    headers
}

/// `None` for anything that [`headers`] did not name, or that is too large.
pub(super) fn read(headers: Option<&HeaderMap>, payload: Bytes) -> Option<Message> {
    let headers = headers?;
    fn value<T: FromStr>(headers: &HeaderMap, key: &str) -> Option<T> {
        headers.get(key)?.as_str().parse().ok()
    }
    let id = MessageId {
        agent: AgentId::new(headers.get(AGENT)?.as_str()).ok()?,
        epoch: value(headers, EPOCH)?,
        seq: value(headers, SEQ)?,
        attempt: value(headers, ATTEMPT)?,
    };
    (payload.len() <= MAX_PAYLOAD_BYTES).then_some(Message { id, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::ids::Epoch;

    fn id() -> MessageId {
        let agent = AgentId::new("web-1").unwrap();
        MessageId { agent, epoch: Epoch([7; 16]), seq: 258, attempt: 3 }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let payload = Bytes::from_static(b"payload");
        let headers = headers(&id());
        let text = |key: &str| headers.get(key).unwrap().as_str().to_owned();
        assert_eq!(text("Nats-Msg-Id"), format!("web-1/{}/258/3", "07".repeat(16)));
        assert_eq!(read(Some(&headers), payload.clone()), Some(Message { id: id(), payload }));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(read(None, Bytes::new()), None);
        for (key, value) in
            [(AGENT, "../a"), (EPOCH, "07"), (SEQ, "-1"), (SEQ, ""), (ATTEMPT, "4294967296")]
        {
            let mut headers = headers(&id());
            headers.insert(key, value);
            assert_eq!(read(Some(&headers), Bytes::new()), None, "{key}: {value}");
        }
        let large = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
        assert_eq!(read(Some(&headers(&id())), large), None);
    }
}
