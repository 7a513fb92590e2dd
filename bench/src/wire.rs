//! Bytes on the wire a sample: of one scrape, and of a batch of a backlog, as an agent pushes them: encoded, in a signed
//! envelope, in gRPC's frame. A size, the same in every profile.

use crate::row::{Better, Row};
use crate::scrape::{Host, SERIES};
use anyhow::Result;
use bytes::Bytes;
use prost::Message as _;
use sentinel_model::codec;
use sentinel_model::ids::{AgentId, Epoch, Position};
use sentinel_wire::envelope::{Content, Record, seal};
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::PushRequest;
use serde_json::json;

/// Scrapes of one batch of a backlog: 1,800 rows.
const BACKLOG: usize = 6;
/// Compressed flag and length of gRPC's message, and the header of an HTTP/2 frame of data.
const FRAMES: usize = 5 + 9;

struct Size {
    rows: usize,
    payload: usize,
    push: usize,
}

impl Size {
    fn row(&self, name: &'static str, limit: f64) -> Row {
        let Self { rows, payload, push } = *self;
        let a_sample = |bytes: usize| bytes as f64 / rows as f64;
        let detail = json!({
            "rows": rows, "bytes": push, "envelope and frames": push - payload, "a sample in the batch": a_sample(payload),
        });
        Row::new(name, a_sample(push), (Better::Lower, limit), "bytes", detail)
    }
}

fn size(host: &mut Host, scrapes: usize) -> Result<Size> {
    let batch = host.scrapes(scrapes)?;
    let payload = Bytes::from(codec::encode(&batch));
    let record = Record {
        agent: AgentId::new("web-frontend-01")?,
        position: Position { epoch: Epoch([0xa7; 16]), seq: 12_345 },
        attempt: 1,
        content: Content::Batch(payload.clone()),
    };
    let envelope = seal(&record, &AgentKey::random(1), 1_760_000_400_123, [0x5c; 16]);
    let push = PushRequest { envelopes: vec![envelope] }.encoded_len() + FRAMES;
    Ok(Size { rows: batch.len(), payload: payload.len(), push })
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut host = Host::new();
    let scrape = size(&mut host, 1)?;
    anyhow::ensure!(scrape.rows == SERIES, "a scrape has {} series", scrape.rows);
    let backlog = size(&mut host, BACKLOG)?;
    Ok(vec![
        scrape.row("wire-bytes-per-sample-scrape", 14.0),
        backlog.row("wire-bytes-per-sample-backlog", 8.0),
    ])
}
