//! Rules: shown, checked, applied whole or not at all.

use super::failure::problem_body;
use super::{Context, Failure};
use crate::api::{AppliedBody, ApplyBody};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sentinel_model::document::{Document, Problem, Problems};
use sentinel_model::rule::{MAX_CONDITION, MAX_RULES, Rule, RuleFile, RuleSet};
use std::collections::BTreeMap;

/// The rules in force.
#[utoipa::path(get, path = "/v1/rules", responses((status = 200, body = Object)))]
pub(super) async fn current(State(context): State<Context>) -> Result<Json<RuleSet>, Failure> {
    Ok(Json(context.store.rules().await?))
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
        let found = before.version;
        let said = format!(
            "version {found} of the rules is in force, not {expected}: somebody else was first; nothing was changed, look at the difference again"
        );
        return Err(Failure::new(StatusCode::CONFLICT, said));
    }
    let mut applied = compare(&before.rules, &rules);
    applied.warnings = warnings.into_iter().map(problem_body).collect();
    applied.version = before.version;
    let differs =
        !(applied.added.is_empty() && applied.changed.is_empty() && applied.removed.is_empty());
    if differs && !body.dry_run {
        applied.version = before.version + 1;
        let set = RuleSet { version: applied.version, applied_at: context.now(), rules };
        context.store.save_rules(&set).await?;
        context.rules.applied();
        tracing::info!(version = set.version, rules = set.rules.len(), "rules applied");
    }
    Ok(Json(applied))
}

async fn read_all(
    context: &Context,
    body: &ApplyBody,
) -> Result<(Vec<Rule>, Vec<Problem>), Failure> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut rules = Vec::new();
    for file in &body.files {
        let document = match Document::parse(&file.name, &file.text) {
            Ok(document) => document,
            Err(found) => {
                problems.extend(found.0);
                continue;
            }
        };
        let parsed: RuleFile = match document.read() {
            Ok(parsed) => parsed,
            Err(found) => {
                problems.extend(found.0);
                continue;
            }
        };
        for (i, rule) in parsed.rules.into_iter().enumerate() {
            let path = format!("/rules/{i}");
            if let Some(other) = names.insert(rule.name.clone(), file.name.clone()) {
                let text = format!("a rule named {:?} stands in {other} already", rule.name);
                problems.push(document.problem(&format!("{path}/name"), text));
            }
            check(context, &document, &path, &rule, &mut problems, &mut warnings).await;
            rules.push(rule);
        }
    }
    if rules.len() > MAX_RULES {
        return Err(Failure::bad(format!("{} rules, at most {MAX_RULES}", rules.len())));
    }
    Problems(problems).into_result()?;
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((rules, warnings))
}

async fn check(
    context: &Context,
    document: &Document,
    path: &str,
    rule: &Rule,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    if rule.interval.0 < 1000 {
        problems.push(document.problem(&format!("{path}/interval"), "shorter than 1s"));
    }
    for (place, said) in rule.problems() {
        problems.push(document.problem(&format!("{path}{place}"), said));
    }
    let length = rule.condition.to_string().len();
    if length > MAX_CONDITION {
        let text = format!("{length} bytes, at most {MAX_CONDITION}");
        problems.push(document.problem(&format!("{path}/condition"), text));
        return;
    }
    match context.rules.check(&rule.evaluator, &rule.condition).await {
        Ok(diagnostics) => {
            for one in diagnostics {
                let into = if one.error { &mut *problems } else { &mut *warnings };
                into.push(document.problem(&format!("{path}/condition{}", one.path), one.message));
            }
        }
        Err(error) => problems.push(document.problem(&format!("{path}/evaluator"), error)),
    }
}

fn compare(before: &[Rule], after: &[Rule]) -> AppliedBody {
    let old: BTreeMap<&str, &Rule> = before.iter().map(|r| (r.name.as_str(), r)).collect();
    let mut out = AppliedBody::default();
    for rule in after {
        match old.get(rule.name.as_str()) {
            None => out.added.push(rule.name.clone()),
            Some(same) if *same == rule => out.unchanged += 1,
            Some(_) => out.changed.push(rule.name.clone()),
        }
    }
    let stays = |name: &str| after.iter().any(|r| r.name == name);
    out.removed = old.keys().filter(|n| !stays(n)).map(|n| (*n).to_owned()).collect();
    out
}
