//! Who is told of alerts, when next, or why nobody is.

use super::{Context, Failure};
use crate::api::{WayBody, WaysBody};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use sentinel_alerting::routing::{People, Router, RuleFacts, StatedRouting};
use sentinel_model::alert::{Alert, AlertState, Fingerprint};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::IntoParams;

/// Alerts of one rule that are explained, at most.
const MAX_EXPLAINED: usize = 1_000;

/// Of which rule.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct OfRule {
    /// Its name.
    rule: String,
}

/// What the worker that keeps alerts said last.
struct Keeper {
    name: String,
    at: i64,
    routing: StatedRouting,
}

/// Who is told of the alerts of a rule, by the routes of the worker that keeps alerts and by what
/// was told.
#[utoipa::path(get, path = "/v1/alerts/ways", params(OfRule), responses((status = 200, body = WaysBody)))]
pub(super) async fn ways(
    State(context): State<Context>,
    Query(of): Query<OfRule>,
) -> Result<Json<WaysBody>, Failure> {
    let Some(keeper) = keeper(&context).await? else { return Ok(Json(WaysBody::default())) };
    let now = context.now();
    let alerts = context.store.alerts(now).await?;
    let router = router(&context, &keeper.routing, &alerts).await?;
    let known: HashMap<Fingerprint, &Alert> =
        alerts.iter().map(|alert| (alert.fingerprint, alert)).collect();
    let lookup = |_: &str, fingerprint: Fingerprint| known.get(&fingerprint).copied();
    let meant = |alert: &&Alert| alert.rule == of.rule && alert.state != AlertState::Resolved;
    let explained = alerts.iter().filter(meant).take(MAX_EXPLAINED).map(|alert| WayBody {
        fingerprint: alert.fingerprint.to_string(),
        ways: router.explain(now, alert, &lookup),
    });
    let (name, stated_at) = (keeper.name, keeper.at);
    Ok(Json(WaysBody { keeper: Some(name), stated_at, alerts: explained.collect() }))
}

/// Of several that said it (one took over from another) the newest counts.
async fn keeper(context: &Context) -> Result<Option<Keeper>, Failure> {
    let statuses = context.store.statuses().await?;
    let stated = statuses.into_iter().filter_map(|(name, json, at)| {
        let mut status: Value = serde_json::from_str(&json).ok()?;
        let routing = serde_json::from_value(status.get_mut("routing")?.take()).ok()?;
        Some(Keeper { name, at, routing })
    });
    Ok(stated.max_by_key(|keeper| keeper.at))
}

async fn router(
    context: &Context,
    stated: &StatedRouting,
    alerts: &[Alert],
) -> Result<Router, Failure> {
    let now = context.now();
    let routing = stated.read().map_err(|problems| {
        let said: Vec<String> =
            problems.into_iter().map(|(at, said)| format!("{at}: {said}")).collect();
        let text = format!(
            "the routes of the worker that keeps alerts are not understood: {}",
            said.join("; ")
        );
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    let rules = context.store.rules().await?.rules;
    let facts = rules.iter().map(|rule| (rule.name.clone(), RuleFacts::from(rule)));
    let groups = context.store.alert_groups().await?;
    let (mut router, errors) = Router::restore(groups.into_iter().map(|one| (one.key, one.body)));
    for error in errors {
        tracing::error!(%error, "a group of alerts is not explained");
    }
    let found = context.store.decisions(None).await?.unwrap_or_default();
    router.heed(now, People::new(found.silences, found.acknowledgements));
    router.tell_everybody(stated.everybody.clone());
    router.configure(now, Arc::new(routing), facts.collect(), alerts);
    Ok(router)
}
