//! Silences: made, looked at before they are made, ended.

use super::page::{Next, Page};
use super::{Context, Failure};
use crate::api::{ByBody, PreviewBody, SilenceBody, SilencedBody, SilencesBody};
use axum::Json;
use axum::extract::{Path, Query, State};
use sentinel_alerting::matching::Matchers;
use sentinel_model::alert::{Alert, AlertState};
use sentinel_model::attention::Silence;
use sentinel_model::duration::Millis;
use sentinel_store::alerting::Act;
use serde::Deserialize;
use std::cmp::Reverse;
use utoipa::IntoParams;

/// The longest a silence may last: what is to be silent for longer wants another rule.
const MAX_LASTS: Millis = Millis(366 * 86_400_000);
/// The most bytes of a name.
pub(super) const MAX_NAME: usize = 200;
/// The most bytes of a reason or a note.
pub(super) const MAX_WORDS: usize = 2_000;
/// Silences that are remembered at once.
const MAX_SILENCES: usize = 10_000;

/// A text of a person, bounded.
pub(super) fn words(what: &str, text: &str, most: usize) -> Result<String, Failure> {
    let text = text.trim();
    if text.len() > most {
        return Err(Failure::bad(format!("{what} has {} bytes, at most {most}", text.len())));
    }
    Ok(text.to_owned())
}

/// As [`words`], and not empty.
pub(super) fn named(what: &str, text: &str, most: usize) -> Result<String, Failure> {
    let text = words(what, text, most)?;
    if text.is_empty() {
        return Err(Failure::bad(format!("{what} is missing")));
    }
    Ok(text)
}

fn matchers(texts: &[String]) -> Result<Matchers, Failure> {
    let refused = |wrong: Vec<(usize, String)>| {
        let lines: Vec<String> = wrong.into_iter().map(|(_, why)| why).collect();
        Failure::bad(lines.join("\n"))
    };
    let matchers = Matchers::parse(texts).map_err(refused)?;
    if matchers.is_empty() {
        let text = "a silence without a condition would mean every alert; say which, as in agent=\"web-1\"";
        return Err(Failure::bad(text));
    }
    Ok(matchers)
}

/// Alerts that are pending or fire, and that conditions mean.
async fn meant(context: &Context, matchers: &Matchers) -> Result<Vec<Alert>, Failure> {
    let alerts = context.store.alerts(context.now()).await?;
    let is_meant = |alert: &Alert| alert.state != AlertState::Resolved && matchers.matches(alert);
    Ok(alerts.into_iter().filter(is_meant).collect())
}

/// A new id: `sil_` and 16 hexadecimal digits.
pub(super) fn random_id(prefix: &str) -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    format!("{prefix}_{}", hex::encode(bytes))
}

/// Whether those that are over are wanted too.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Which {
    /// Also silences that are over.
    #[serde(default)]
    all: bool,
}

/// Where a silence stands among others: the one that ends last first, and then by id.
fn place(silence: &Silence) -> (Reverse<i64>, &str) {
    (Reverse(silence.ends_at), silence.id.as_str())
}

/// Silences in force or to come, a page of them.
#[utoipa::path(get, path = "/v1/silences", params(Which, Page), responses((status = 200, body = SilencesBody, headers(("link" = String, description = "Where the next page is, rel=\"next\"; absent after the last"))), (status = 400, body = crate::api::ErrorBody)))]
pub(super) async fn list(
    State(context): State<Context>,
    Query(which): Query<Which>,
    Query(page): Query<Page>,
) -> Result<(Next, Json<SilencesBody>), Failure> {
    page.limit()?;
    let now = context.now();
    let mut silences = context.store.decisions(None).await?.unwrap_or_default().silences;
    silences.retain(|silence| which.all || silence.ends_at > now);
    silences.sort_by(|a, b| place(a).cmp(&place(b)));
    if let Some(after) = page.after() {
        let (ends_at, id) = after.split_once('.').ok_or_else(|| page.nowhere())?;
        let ends_at: i64 = ends_at.parse().map_err(|_| page.nowhere())?;
        silences.retain(|silence| place(silence) > (Reverse(ends_at), id));
    }
    let parameters: &[(&str, &str)] = if which.all { &[("all", "true")] } else { &[] };
    let next = page.cut(&mut silences, ("/v1/silences", parameters), |last| {
        format!("{}.{}", last.ends_at, last.id)
    });
    Ok((next, Json(SilencesBody { silences })))
}

/// One silence, and the alerts that it means now: none once it is over.
#[utoipa::path(get, path = "/v1/silences/{id}", params(("id" = String, Path)), responses((status = 200, body = SilencedBody), (status = 404, body = crate::api::ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<SilencedBody>, Failure> {
    let silences = context.store.decisions(None).await?.unwrap_or_default().silences;
    let found = silences.into_iter().find(|silence| silence.id == id);
    let silence = found.ok_or_else(|| {
        let lists = "`sentinel alerts silence list --all` lists them";
        Failure::not_found(format!("there is no silence {id:?}; {lists}"))
    })?;
    let mut alerts = Vec::new();
    if silence.ends_at > context.now() {
        alerts = meant(&context, &matchers(&silence.matchers)?).await?;
    }
    Ok(Json(SilencedBody { silence, alerts }))
}

/// Makes a silence; the answer says what it means now.
#[utoipa::path(post, path = "/v1/silences", request_body = SilenceBody, responses((status = 200, body = SilencedBody), (status = 400, body = crate::api::ErrorBody)))]
pub(super) async fn create(
    State(context): State<Context>,
    Json(body): Json<SilenceBody>,
) -> Result<Json<SilencedBody>, Failure> {
    let matchers = matchers(&body.matchers)?;
    let lasts: Millis = body.lasts.parse().map_err(Failure::bad)?;
    if lasts == Millis(0) || lasts > MAX_LASTS {
        return Err(Failure::bad(format!("a silence lasts for at most {MAX_LASTS}, not {lasts}")));
    }
    let now = context.now();
    let starts_at = body.starts_at.unwrap_or(now).max(now);
    let silence = Silence {
        id: random_id("sil"),
        matchers: body.matchers,
        starts_at,
        ends_at: starts_at.saturating_add(lasts.0 as i64),
        author: named("the author", &body.author, MAX_NAME)?,
        reason: named("the reason", &body.reason, MAX_WORDS)?,
        created_at: now,
        ended_by: None,
    };
    let known = context.store.decisions(None).await?.unwrap_or_default().silences.len();
    if known >= MAX_SILENCES {
        let text = format!(
            "there are {known} silences already; silence more with one condition, as in agent=~\"web-.*\""
        );
        return Err(Failure::bad(text));
    }
    context.store.act(Act::Silence(silence.clone()), now).await?;
    context.rules.applied();
    tracing::info!(id = silence.id, author = silence.author, "a silence was made");
    let alerts = meant(&context, &matchers).await?;
    Ok(Json(SilencedBody { silence, alerts }))
}

/// What a silence with these conditions would mean now.
#[utoipa::path(post, path = "/v1/silences/preview", request_body = PreviewBody, responses((status = 200, body = crate::api::AlertsBody), (status = 400, body = crate::api::ErrorBody)))]
pub(super) async fn preview(
    State(context): State<Context>,
    Json(body): Json<PreviewBody>,
) -> Result<Json<crate::api::AlertsBody>, Failure> {
    let matchers = matchers(&body.matchers)?;
    let alerts = meant(&context, &matchers).await?;
    Ok(Json(super::alerts::with_attention(&context, alerts).await?))
}

/// Ends a silence now.
#[utoipa::path(post, path = "/v1/silences/{id}/expire", params(("id" = String, Path)), request_body = ByBody, responses((status = 200, body = SilencesBody), (status = 409, body = crate::api::ErrorBody)))]
pub(super) async fn expire(
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(body): Json<ByBody>,
) -> Result<Json<SilencesBody>, Failure> {
    let by = named("who ends it", &body.by, MAX_NAME)?;
    let now = context.now();
    context.store.act(Act::EndSilence { id: id.clone(), by }, now).await?;
    context.rules.applied();
    let mut silences = context.store.decisions(None).await?.unwrap_or_default().silences;
    silences.retain(|silence| silence.id == id);
    Ok(Json(SilencesBody { silences }))
}
