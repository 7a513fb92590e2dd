//! Records as they were committed: which there are, what became of each, the samples that they brought, and the bytes
//! of those that could not be processed. A batch is packed by series when its hour is over: from then on what came
//! together is no longer kept together, and its samples are in their series (`/v1/query`, by the label `agent`).

use super::{Context, Failure};
use crate::api::{
    BatchBody, BatchesBody, DeadBody, ErrorBody, SampleBody, SamplesBody, StreamBody,
};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sentinel_model::ids::{AgentId, Epoch, Position};
use sentinel_model::number::Number;
use sentinel_store::ingest::{AgentStream, LedgerEntry, RecordState};
use serde::Deserialize;
use std::collections::HashMap;
use utoipa::IntoParams;

/// Records in one answer unless asked otherwise, and at most.
const LISTED: u32 = 100;
const MAX_LISTED: u32 = 1000;
/// Samples of one record in one answer unless asked otherwise, and at most.
const ROWS: u32 = 1000;
const MAX_ROWS: u32 = 10_000;
/// The most openings of an agent's log that are listed.
const MAX_STREAMS: u32 = 100;
/// The type of a record's own bytes.
const BYTES: &str = "application/octet-stream";

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Which {
    /// Whose.
    agent: String,
    /// Of which opening of its log, 32 hexadecimal digits; of the one that was last committed into where absent.
    epoch: Option<String>,
    /// From this number on; the first that is known where absent.
    from: Option<u64>,
    /// How many; 100 where absent, at most 1,000.
    limit: Option<u32>,
}

/// Which of a record's samples.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Rows {
    /// The first of them, counted from 0; 0 where absent.
    row: Option<u32>,
    /// How many; 1,000 where absent, at most 10,000.
    limit: Option<u32>,
}

/// 32 hexadecimal digits.
fn epoch(text: &str) -> Result<Epoch, Failure> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| {
        Failure::bad(
            "an epoch has 32 hexadecimal digits; the list of an agent's batches shows them",
        )
    })?;
    Ok(Epoch(bytes))
}

fn stream(one: &AgentStream) -> StreamBody {
    let AgentStream { epoch, committed, last_commit } = *one;
    StreamBody { epoch: hex::encode(epoch.0), committed, last_commit }
}

fn batch(agent: &AgentId, epoch: Epoch, entry: LedgerEntry) -> BatchBody {
    let state = match entry.state {
        RecordState::Samples => "samples",
        RecordState::Skipped => "skipped",
        RecordState::Dead => "dead",
    };
    BatchBody {
        agent: agent.to_string(),
        epoch: hex::encode(epoch.0),
        sequence: entry.seq,
        last: entry.last,
        state: state.to_owned(),
        rows: entry.rows,
        sha256: hex::encode(entry.hash),
        dead: None,
        samples: None,
        packed: None,
    }
}

/// The samples of a record, or why they are not told.
async fn brought(
    context: &Context,
    (agent, at): (&AgentId, Position),
    entry: &LedgerEntry,
    rows: &Rows,
) -> Result<Result<SamplesBody, String>, Failure> {
    let packed = || {
        format!(
            "the {} samples that it brought are packed with others of their series, as all are when their hour is over: `GET /v1/query`, by the label agent=\"{agent}\"; what is older than raw retention is there as rollups",
            entry.rows
        )
    };
    if entry.rows == 0 {
        return Ok(Ok(SamplesBody { rows: Vec::new(), more: false }));
    }
    let Some(found) = context.store.brought(agent, at).await? else { return Ok(Err(packed())) };
    let (all, first) = (found.series.len(), rows.row.unwrap_or(0) as usize);
    let first = first.min(all);
    let end = first.saturating_add(rows.limit.unwrap_or(ROWS) as usize).min(all);
    let mut ids = found.series[first..end].to_vec();
    ids.sort_unstable();
    ids.dedup();
    let known = context.store.known_series(&ids).await?;
    let known: HashMap<u32, _> = known.into_iter().map(|one| (one.id, one.key)).collect();
    let sample = |row: usize| {
        let key = known.get(&found.series[row])?;
        let (name, labels) = (key.name.clone(), key.labels.clone().into());
        let (time, value) = (found.times[row], Number(found.values[row]));
        Some(SampleBody { name, labels, time, value })
    };
    let told: Option<Vec<SampleBody>> = (first..end).map(sample).collect();
    // A series that is gone by now had all its samples packed, and dropped.
    Ok(told.map(|rows| SamplesBody { rows, more: end < all }).ok_or_else(packed))
}

/// Records of one opening of an agent's log, in their order, and which openings there are.
#[utoipa::path(get, path = "/v1/batches", params(Which), responses((status = 200, body = BatchesBody), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn list(
    State(context): State<Context>,
    Query(which): Query<Which>,
) -> Result<Json<BatchesBody>, Failure> {
    let agent = AgentId::new(&which.agent).map_err(Failure::bad)?;
    let wanted = which.epoch.as_deref().map(epoch).transpose()?;
    let limit = which.limit.unwrap_or(LISTED);
    if limit == 0 || limit > MAX_LISTED {
        return Err(Failure::bad(format!("limit is {limit}; write 1 to {MAX_LISTED}")));
    }
    let streams = context.store.streams(&agent, MAX_STREAMS).await?;
    let Some(of) = wanted.or(streams.first().map(|stream| stream.epoch)) else {
        let text = format!("nothing of an agent {agent} was committed; see `sentinel agents`");
        return Err(Failure::not_found(text));
    };
    let mut entries = context.store.ledger(&agent, of, which.from.unwrap_or(0), limit + 1).await?;
    let next = (entries.len() > limit as usize).then(|| entries.pop()).flatten();
    Ok(Json(BatchesBody {
        streams: streams.iter().map(stream).collect(),
        batches: entries.into_iter().map(|entry| batch(&agent, of, entry)).collect(),
        next: next.map(|entry| entry.seq),
    }))
}

/// One record, with the samples that it brought until they are packed. Of one that could not be processed its bytes and
/// why: in JSON, or with `Accept: application/octet-stream` the bytes alone, as they came.
#[utoipa::path(get, path = "/v1/batches/{agent}/{epoch}/{sequence}", params(("agent" = String, Path), ("epoch" = String, Path), ("sequence" = u64, Path), Rows), responses((status = 200, content((BatchBody = "application/json"), (Vec<u8> = "application/octet-stream"))), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 406, body = ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    Path((agent, of, sequence)): Path<(String, String, u64)>,
    Query(rows): Query<Rows>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let agent = AgentId::new(&agent).map_err(Failure::bad)?;
    let of = epoch(&of)?;
    if let Some(limit) = rows.limit.filter(|limit| *limit == 0 || *limit > MAX_ROWS) {
        return Err(Failure::bad(format!("limit is {limit}; write 1 to {MAX_ROWS}")));
    }
    let found = context.store.ledger(&agent, of, sequence, 1).await?.pop();
    let entry = found.filter(|entry| entry.seq == sequence);
    let dead = context.store.dead_letter(&agent, of, sequence).await?;
    let bytes = headers.get(header::ACCEPT).is_some_and(|accept| accept == BYTES);
    if bytes && let Some(dead) = dead {
        return Ok(([(header::CONTENT_TYPE, BYTES)], dead.payload).into_response());
    }
    let Some(entry) = entry else {
        let text = format!(
            "the ledger has no record {sequence} of {agent} in this epoch: it was not committed, or is older than what the ledger keeps, or lies within a skip"
        );
        return Err(Failure::not_found(text));
    };
    if bytes {
        let text = "only the bytes of a record that could not be processed are kept; ask for application/json to have the samples of this one";
        return Err(Failure::new(StatusCode::NOT_ACCEPTABLE, text));
    }
    let at = Position { epoch: of, seq: sequence };
    let samples = match entry.state {
        RecordState::Samples => Some(brought(&context, (&agent, at), &entry, &rows).await?),
        RecordState::Skipped | RecordState::Dead => None,
    };
    let mut body = batch(&agent, of, entry);
    match samples {
        Some(Ok(samples)) => body.samples = Some(samples),
        Some(Err(packed)) => body.packed = Some(packed),
        None => {}
    }
    body.dead = dead.map(|dead| DeadBody {
        at: dead.at,
        reason: dead.reason,
        payload: STANDARD.encode(dead.payload),
    });
    Ok(Json(body).into_response())
}
