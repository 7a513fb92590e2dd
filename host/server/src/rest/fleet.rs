//! The fleet: what was decided, by whom, and what became of it.

use super::page::{Next, Page};
use super::{Context, Failure};
use crate::api::{FleetHostBody, FleetSetBody, FleetStatusBody, FleetTakenBody, SealedBody};
use crate::fleet::FleetError;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sentinel_model::ids::AgentId;
use sentinel_store::agents::{AgentRecord, AgentState};
use sentinel_store::fleet::StoredSet;
use sentinel_trust::Kind;
use sentinel_trust::fleet::{DesiredSet, HostReport, Operators, open};
use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::IntoParams;

/// A host that was not heard of for so long is silent.
const SILENT_MS: i64 = 30_000;
/// The most sets that the history gives at once.
const MAX_HISTORY: u32 = 1000;

impl From<FleetError> for Failure {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::Store(error) => error.into(),
            FleetError::NoFleet => Self::new(StatusCode::CONFLICT, error),
            FleetError::Unopened(_) => Self::new(StatusCode::FORBIDDEN, error),
            FleetError::NotText => Self::bad(error),
        }
    }
}

/// Takes a desired set that an operator sealed. Its number must be the next.
#[utoipa::path(put, path = "/v1/fleet", request_body(content = String, content_type = "application/json"), responses((status = 200, body = FleetTakenBody), (status = 403, body = crate::api::ErrorBody), (status = 409, body = crate::api::ErrorBody)))]
pub(super) async fn put(
    State(context): State<Context>,
    body: Bytes,
) -> Result<Json<FleetTakenBody>, Failure> {
    let number = context.fleet.take(&body, context.now()).await?;
    Ok(Json(FleetTakenBody { number }))
}

/// The desired set in force, sealed, and who may decide the next.
#[utoipa::path(get, path = "/v1/fleet", responses((status = 200, body = SealedBody)))]
pub(super) async fn sealed(State(context): State<Context>) -> Result<Json<SealedBody>, Failure> {
    let newest = context.fleet.newest().await?;
    let operators = context.fleet.operators();
    Ok(Json(SealedBody {
        number: newest.as_ref().map_or(0, |set| set.number),
        sealed: newest.map(|set| set.sealed),
        fleet: operators.map(|o| o.fleet.to_string()),
        operators: operators
            .map(|o| o.keys.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
    }))
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Limit {
    /// At most so many, 50 unless given.
    limit: Option<u32>,
}

/// Who changed what and when, the newest first.
#[utoipa::path(get, path = "/v1/fleet/history", params(Limit), responses((status = 200, body = Vec<FleetSetBody>)))]
pub(super) async fn history(
    State(context): State<Context>,
    Query(limit): Query<Limit>,
) -> Result<Json<Vec<FleetSetBody>>, Failure> {
    let limit = limit.limit.unwrap_or(50).min(MAX_HISTORY);
    let Some(operators) = context.fleet.operators() else { return Ok(Json(Vec::new())) };
    let sets = context.store.fleet_sets(limit).await?;
    Ok(Json(sets.into_iter().filter_map(|stored| opened(stored, operators)).collect()))
}

/// One set of the history.
#[utoipa::path(get, path = "/v1/fleet/sets/{number}", responses((status = 200, body = FleetSetBody), (status = 404, body = crate::api::ErrorBody)))]
pub(super) async fn set(
    State(context): State<Context>,
    Path(number): Path<u64>,
) -> Result<Json<FleetSetBody>, Failure> {
    let missing = || Failure::not_found(format!("there is no desired set {number}"));
    let operators = context.fleet.operators().ok_or_else(missing)?;
    let stored = context.store.fleet_set(number).await?.ok_or_else(missing)?;
    opened(stored, operators).map(Json).ok_or_else(missing)
}

/// A set as it is told; nothing where no operator of this server signed it.
fn opened(stored: StoredSet, operators: &Operators) -> Option<FleetSetBody> {
    // The signer's key is said by the signature and not by the set.
    let opened = open(stored.sealed.as_bytes(), operators, 0).ok()?;
    let set = opened.set();
    Some(FleetSetBody {
        number: stored.number,
        taken_at: stored.taken_at,
        by: set.by.clone(),
        key: opened.signer().id().to_string(),
        note: set.note.clone(),
        set: serde_json::to_value(set).unwrap_or_default(),
        sealed: stored.sealed,
    })
}

/// Desired against actual, host by host: agents by id and then workers by name, a page of them.
#[utoipa::path(get, path = "/v1/fleet/status", params(Page), responses((status = 200, body = FleetStatusBody, headers(("link" = String, description = "Where the next page is, rel=\"next\"; absent after the last"))), (status = 400, body = crate::api::ErrorBody)))]
pub(super) async fn status(
    State(context): State<Context>,
    Query(page): Query<Page>,
) -> Result<(Next, Json<FleetStatusBody>), Failure> {
    // Hosts are there before anything was decided for them.
    let set = context.fleet.in_force().await?;
    let set = set.as_deref();
    let mut hosts = hosts(&context, set, &page).await?;
    let next = page
        .cut(&mut hosts, ("/v1/fleet/status", &[]), |last| format!("{}/{}", last.role, last.host));
    let Some(set) = set else {
        return Ok((next, Json(FleetStatusBody { hosts, ..FleetStatusBody::default() })));
    };
    let body = FleetStatusBody {
        number: set.number,
        by: set.by.clone(),
        made_at: set.made_at,
        note: set.note.clone(),
        hosts,
    };
    Ok((next, Json(body)))
}

/// The hosts of a page, and at least one more where there are more.
async fn hosts(
    context: &Context,
    set: Option<&DesiredSet>,
    page: &Page,
) -> Result<Vec<FleetHostBody>, Failure> {
    let (most, now) = (page.limit()? + 1, context.now());
    let (agent, worker) = match page.after().map(|after| after.split_once('/')) {
        None => (None, None),
        Some(Some(("agent", id))) => (Some(AgentId::new(id).map_err(|_| page.nowhere())?), None),
        Some(Some(("worker", name))) => (None, Some(name)),
        Some(_) => return Err(page.nowhere()),
    };
    let mut hosts = Vec::new();
    // Workers come after all agents.
    if worker.is_none() {
        let agents = context.store.agents_after(agent.as_ref(), most).await?;
        hosts.extend(agents.into_iter().map(|agent| agent_host(set, agent, now)));
    }
    if hosts.len() >= most as usize {
        return Ok(hosts);
    }
    let mut workers = context.store.statuses().await?;
    workers.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, json, at) in workers {
        if let Some(name) = name.strip_prefix("worker/").filter(|name| Some(*name) > worker) {
            hosts.push(worker_host(set, name, &json, now - at > SILENT_MS));
        }
    }
    Ok(hosts)
}

fn agent_host(set: Option<&DesiredSet>, agent: AgentRecord, now: i64) -> FleetHostBody {
    let report: serde_json::Value =
        agent.report.as_deref().and_then(|r| serde_json::from_str(r).ok()).unwrap_or_default();
    // As the agent says now; those of its enrolment where it says nothing of them.
    let labels = serde_json::from_value(report["labels"].clone()).unwrap_or(agent.labels);
    let silent = agent.last_seen.is_none_or(|seen| now - seen > SILENT_MS);
    let mut host = Host {
        name: agent.id.to_string(),
        role: "agent",
        labels,
        kinds: &[Kind::Collector],
        silent,
        report: &report,
    }
    .body(set);
    if agent.state != AgentState::Approved {
        host.state = match agent.state {
            AgentState::Waiting => "unapproved".to_owned(),
            _ => "blocked".to_owned(),
        };
    }
    host
}

fn worker_host(set: Option<&DesiredSet>, name: &str, json: &str, silent: bool) -> FleetHostBody {
    let report: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    Host {
        name: name.to_owned(),
        role: "worker",
        labels: serde_json::from_value(report["labels"].clone()).unwrap_or_default(),
        kinds: &[Kind::Transform, Kind::Evaluator, Kind::Notifier],
        silent,
        report: &report,
    }
    .body(set)
}

/// One host and what it said last.
struct Host<'a> {
    name: String,
    role: &'static str,
    labels: BTreeMap<String, String>,
    kinds: &'a [Kind],
    silent: bool,
    report: &'a serde_json::Value,
}

impl Host<'_> {
    fn body(self, set: Option<&DesiredSet>) -> FleetHostBody {
        let said: Option<HostReport> = serde_json::from_value(self.report["fleet"].clone()).ok();
        let number = set.map_or(0, |set| set.number);
        let wishes = set.map_or(Ok(Vec::new()), |set| set.for_host(&self.labels, self.kinds));
        let (wanted, conflict) = match wishes {
            Ok(wishes) => {
                let wanted = wishes.iter().map(|wish| {
                    let off = if wish.disabled { " (disabled)" } else { "" };
                    format!("{}: {}@{}{off}", wish.slot, wish.plugin, wish.version)
                });
                (wanted.collect(), None)
            }
            Err(conflict) => (Vec::new(), Some(conflict.to_string())),
        };
        let refused = said.as_ref().and_then(|said| said.refused.as_ref());
        let problem = refused.map(|refused| refused.why.clone()).or(conflict);
        let state = match &said {
            None => "outside",
            Some(_) if self.silent => "silent",
            Some(_) if problem.is_some() => "refused",
            Some(said) if said.applied >= number => "current",
            Some(_) => "behind",
        };
        FleetHostBody {
            host: self.name,
            role: self.role.to_owned(),
            labels: self.labels,
            refused: refused.map(|refused| refused.number),
            applying: said.as_ref().and_then(|said| said.applying),
            trial: said.as_ref().is_some_and(|said| said.trial),
            number: said.map(|said| said.applied),
            state: state.to_owned(),
            problem,
            wanted,
            slots: self.report["slots"].clone(),
        }
    }
}
