//! Rules: shown, checked, applied whole or not at all.

use super::failure::problem_body;
use super::{Context, Failure};
use crate::api::{AppliedBody, ApplyBody, CheckBody, CheckedBody};
use crate::rules::{Stored, differences, read};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sentinel_model::document::{Problem, Problems};
use sentinel_model::rule::{MAX_RULES, Rule, RuleSet};
use sentinel_store::StoreError;

/// The rules in force.
#[utoipa::path(get, path = "/v1/rules", responses((status = 200, body = Object)))]
pub(super) async fn current(State(context): State<Context>) -> Result<Json<RuleSet>, Failure> {
    Ok(Json(context.store.rules().await?))
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
) -> Result<Json<AppliedBody>, Failure> {
    let (rules, warnings) = read_all(&context, &body).await?;
    let before = context.store.rules().await?;
    if let Some(expected) = body.if_version.filter(|expected| *expected != before.version) {
        return Err(somebody_else(before.version, expected));
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
                return Err(somebody_else(found, before.version));
            }
            Err(error) => return Err(error.into()),
        }
        context.rules.applied();
        tracing::info!(version = set.version, rules = set.rules.len(), "rules applied");
    }
    Ok(Json(applied))
}

fn somebody_else(found: u64, expected: u64) -> Failure {
    let said = format!(
        "version {found} of the rules is in force, not {expected}: somebody else was first; nothing was changed, look at the difference again"
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
