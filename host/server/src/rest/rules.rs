//! Rules: shown, checked, applied whole or not at all.

use super::failure::problem_body;
use super::{Context, Failure};
use crate::access::roles::Became;
use crate::api::{AppliedBody, ApplyBody, CheckBody, CheckedBody, RuleVersionBody, RulesBody};
use crate::rules::{Stored, differences, read};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use sentinel_model::document::{Problem, Problems};
use sentinel_model::rule::{MAX_RULES, Rule, RuleSet};
use sentinel_store::StoreError;
use sentinel_store::access::Audit;
use serde::Deserialize;
use std::collections::HashMap;
use utoipa::IntoParams;

/// How many of the newest changes are looked through for who applied the rules in force.
const LOOKED_THROUGH: u32 = 1_000;
/// What an apply is in the log of changes.
const APPLY: &str = "PUT /v1/rules";
/// Versions in one answer unless asked otherwise, and at most: as many as are kept.
const LISTED: u32 = 50;
const MAX_LISTED: u32 = 100;

/// The rules in force, and who applied them.
#[utoipa::path(get, path = "/v1/rules", responses((status = 200, body = RulesBody)))]
pub(super) async fn current(State(context): State<Context>) -> Result<Json<RulesBody>, Failure> {
    let set = context.store.rules().await?;
    let applied_by = applied_by(&context, set.version).await?;
    Ok(Json(RulesBody { set, applied_by }))
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Limit {
    /// At most so many, 50 unless given; the last 100 are kept.
    limit: Option<u32>,
}

/// Versions of the rules that are kept, and who applied them, the newest first.
#[utoipa::path(get, path = "/v1/rules/history", params(Limit), responses((status = 200, body = Vec<RuleVersionBody>)))]
pub(super) async fn history(
    State(context): State<Context>,
    Query(limit): Query<Limit>,
) -> Result<Json<Vec<RuleVersionBody>>, Failure> {
    let limit = limit.limit.unwrap_or(LISTED).min(MAX_LISTED);
    let versions = context.store.rule_versions(limit).await?;
    let mut appliers = appliers(&context).await?;
    let told = versions.into_iter().map(|one| RuleVersionBody {
        version: one.version,
        applied_at: one.applied_at,
        applied_by: appliers.remove(&in_force(one.version)),
        rules: one.rules,
    });
    Ok(Json(told.collect()))
}

/// The rules of a version that is kept, and who applied them.
#[utoipa::path(get, path = "/v1/rules/versions/{version}", responses((status = 200, body = RulesBody), (status = 404, body = crate::api::ErrorBody)))]
pub(super) async fn version(
    State(context): State<Context>,
    Path(version): Path<u64>,
) -> Result<Json<RulesBody>, Failure> {
    let set = context.store.rules_of(version).await?.ok_or_else(|| {
        let lists = "`sentinel rules history` lists those that are kept";
        Failure::not_found(format!("there is no version {version} of the rules; {lists}"))
    })?;
    let applied_by = applied_by(&context, version).await?;
    Ok(Json(RulesBody { set, applied_by }))
}

/// Says everything that is wrong with files, what of that which they read is not stored, and what
/// each rule costs. Changes nothing.
#[utoipa::path(post, path = "/v1/rules/check", request_body = CheckBody, responses((status = 200, body = CheckedBody)))]
pub(super) async fn check(
    State(context): State<Context>,
    Json(body): Json<CheckBody>,
) -> Result<Json<CheckedBody>, Failure> {
    let sheet = read(&*context.rules, &body.files).await;
    bounded(sheet.entries.len())?;
    let stored = Stored::ask(&*context.store, &sheet, context.now()).await?;
    // Many rules over many series take a while, which other requests need not wait for.
    let judged = tokio::task::spawn_blocking(move || CheckedBody::of(sheet, Some(&stored))).await;
    Ok(Json(judged.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error))?))
}

/// Replaces the rules in force by those of the files. With problems in any file nothing changes.
#[utoipa::path(put, path = "/v1/rules", request_body = ApplyBody, responses((status = 200, body = AppliedBody), (status = 409, body = crate::api::ErrorBody), (status = 422, body = crate::api::ErrorBody)))]
pub(super) async fn apply(
    State(context): State<Context>,
    Json(body): Json<ApplyBody>,
) -> Result<(Option<Extension<Became>>, Json<AppliedBody>), Failure> {
    let (rules, warnings) = read_all(&context, &body).await?;
    let before = context.store.rules().await?;
    if let Some(expected) = body.if_version.filter(|expected| *expected != before.version) {
        return Err(somebody_else(&context, before.version, expected).await);
    }
    let mut applied = differences(&before.rules, &rules);
    applied.warnings = warnings.into_iter().map(problem_body).collect();
    applied.version = before.version;
    let differs =
        !(applied.added.is_empty() && applied.changed.is_empty() && applied.removed.is_empty());
    if differs && !body.dry_run {
        applied.version = before.version + 1;
        let set = RuleSet { version: applied.version, applied_at: context.now(), rules };
        match context.store.save_rules(&set).await {
            Ok(()) => {}
            // Another apply came between the comparison and the write.
            Err(StoreError::Conflict(_)) => {
                let found = context.store.rules().await?.version;
                return Err(somebody_else(&context, found, before.version).await);
            }
            Err(error) => return Err(error.into()),
        }
        context.rules.applied();
        tracing::info!(version = set.version, rules = set.rules.len(), "rules applied");
        return Ok((Some(Extension(Became(in_force(set.version)))), Json(applied)));
    }
    Ok((None, Json(applied)))
}

/// What became of an apply, in the log of changes.
fn in_force(version: u64) -> String {
    format!("version {version}")
}

/// Who applied a version: not known where that is long ago, or is being written down just now.
async fn applied_by(context: &Context, version: u64) -> Result<Option<String>, StoreError> {
    if version == 0 {
        return Ok(None);
    }
    Ok(appliers(context).await?.remove(&in_force(version)))
}

/// Who put what [`in_force`], of those whose apply is among the newest changes.
async fn appliers(context: &Context) -> Result<HashMap<String, String>, StoreError> {
    let done = format!("{} ", StatusCode::OK.as_str());
    let newest = context.store.audit(i64::MAX, LOOKED_THROUGH).await?;
    let applied = |one: Audit| {
        let became = one.outcome.as_deref()?.strip_prefix(&done)?.to_owned();
        (one.entry.what == APPLY).then_some((became, one.entry.who))
    };
    // The newest first: of two the same the newer one is to stay.
    Ok(newest.into_iter().rev().filter_map(applied).collect())
}

async fn somebody_else(context: &Context, found: u64, expected: u64) -> Failure {
    // It is refused whether it can be said by whom or not.
    let by = applied_by(context, found).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "who applied the rules is not known");
        None
    });
    let by = by.map_or_else(String::new, |who| format!(", applied by {who}"));
    let said = format!(
        "version {found} of the rules is in force{by}, not {expected}: somebody else was first; nothing was changed, look at the difference again"
    );
    Failure::new(StatusCode::CONFLICT, said)
}

fn bounded(rules: usize) -> Result<(), Failure> {
    if rules > MAX_RULES {
        return Err(Failure::bad(format!("{rules} rules, at most {MAX_RULES}")));
    }
    Ok(())
}

async fn read_all(
    context: &Context,
    body: &ApplyBody,
) -> Result<(Vec<Rule>, Vec<Problem>), Failure> {
    let sheet = read(&*context.rules, &body.files).await;
    bounded(sheet.entries.len())?;
    Problems(sheet.problems).into_result()?;
    let mut rules: Vec<Rule> = sheet.entries.into_iter().map(|entry| entry.rule).collect();
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((rules, sheet.warnings))
}
