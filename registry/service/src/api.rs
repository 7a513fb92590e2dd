//! The JSON API beside the OCI protocol: search, detail, publishing, and repository metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use sentinel_trust::repository::{
    IndexedRelease, MAX_INDEX_BYTES, MetadataFile, RepositoryView, Role,
};
use sentinel_trust::{Capability, Kind, PluginName, PublisherName};
use serde::{Deserialize, Serialize};

use crate::access::Identity;
use crate::downloads::Totals;
use crate::publish;
use crate::refusal::{Code, Refusal};
use crate::service::{Peer, Shared};

/// Most plugins in an answer to a search.
const MAX_FOUND: usize = 200;
/// Most characters of a text that is searched for.
const MAX_TEXT: usize = 200;

/// A plugin as a search finds it.
#[derive(Debug, Serialize)]
struct Found {
    name: PluginName,
    kind: Kind,
    /// The newest version that may be installed.
    version: String,
    description: String,
    capabilities: Vec<Capability>,
    /// About how often its versions were pulled.
    downloads: u64,
}

/// One version of a plugin.
#[derive(Debug, Serialize)]
struct VersionDetail {
    version: String,
    digest: String,
    size: u64,
    contract: String,
    capabilities: Vec<Capability>,
    yanked: bool,
    /// Why hosts refuse it; absent where they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// When, unix milliseconds, by the publisher's clock.
    published_at: i64,
    /// About how often it was pulled.
    downloads: u64,
}

#[derive(Debug, Serialize)]
struct Detail {
    name: PluginName,
    kind: Kind,
    description: String,
    versions: Vec<VersionDetail>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Search {
    q: Option<String>,
    kind: Option<Kind>,
    publisher: Option<PublisherName>,
}

async fn identify(shared: &Shared, headers: &HeaderMap, peer: Peer) -> Result<Identity, Refusal> {
    let now = (shared.options.clock)();
    shared.access.identify(&shared.store, headers, peer.0.ip(), now).await
}

fn capabilities(release: &IndexedRelease) -> Vec<Capability> {
    Capability::ALL.into_iter().filter(|one| release.requests.asks_for(*one)).collect()
}

async fn view(shared: &Shared) -> Result<RepositoryView, Refusal> {
    let state = shared.catalogue.current((shared.options.clock)()).await?;
    state.and_then(|state| state.view()).ok_or_else(|| {
        Refusal::new(Code::NameUnknown, "this registry has published nothing that hosts believe")
    })
}

/// Releases by plugin, each by version.
fn plugins(view: &RepositoryView) -> BTreeMap<&PluginName, Vec<&IndexedRelease>> {
    let mut plugins: BTreeMap<&PluginName, Vec<&IndexedRelease>> = BTreeMap::new();
    for release in view.releases() {
        plugins.entry(&release.name).or_default().push(release);
    }
    for releases in plugins.values_mut() {
        releases.sort_by(|a, b| a.version.cmp(&b.version));
    }
    plugins
}

fn found(view: &RepositoryView, totals: &Totals, search: &Search) -> Vec<Found> {
    let text = search.q.as_deref().unwrap_or_default().to_lowercase();
    let mut all: Vec<Found> = plugins(view)
        .into_iter()
        .filter_map(|(name, releases)| {
            let good = |one: &&&IndexedRelease| !one.yanked && view.may_run(one).is_ok();
            let newest = releases.iter().rev().find(good)?;
            let wanted = search.kind.is_none_or(|kind| kind == newest.kind)
                && search.publisher.as_ref().is_none_or(|one| *one == name.publisher())
                && (name.as_str().contains(&text)
                    || newest.description.to_lowercase().contains(&text));
            let downloads = releases.iter().map(|one| totals.of(name.as_str(), &one.digest)).sum();
            wanted.then(|| Found {
                name: name.clone(),
                kind: newest.kind,
                version: newest.version.to_string(),
                description: newest.description.clone(),
                capabilities: capabilities(newest),
                downloads,
            })
        })
        .collect();
    // Names that have the text come first, then what is pulled most.
    all.sort_by_key(|one| (!one.name.as_str().contains(&text), std::cmp::Reverse(one.downloads)));
    all.truncate(MAX_FOUND);
    all
}

pub(crate) async fn search(
    State(shared): State<Arc<Shared>>,
    peer: Peer,
    headers: HeaderMap,
    Query(search): Query<Search>,
) -> Result<Response, Refusal> {
    let who = identify(&shared, &headers, peer).await?;
    shared.access.may_pull(&who)?;
    if search.q.as_ref().is_some_and(|text| text.chars().count() > MAX_TEXT) {
        return Err(Refusal::new(
            Code::NameInvalid,
            format!("search for at most {MAX_TEXT} characters"),
        ));
    }
    let totals = shared.totals().await?;
    Ok(Json(found(&view(&shared).await?, &totals, &search)).into_response())
}

pub(crate) async fn detail(
    State(shared): State<Arc<Shared>>,
    peer: Peer,
    headers: HeaderMap,
    Path((publisher, plugin)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let who = identify(&shared, &headers, peer).await?;
    shared.access.may_pull(&who)?;
    let name: PluginName = format!("{publisher}/{plugin}")
        .parse()
        .map_err(|error| Refusal::new(Code::NameInvalid, format!("{error}")))?;
    let totals = shared.totals().await?;
    let view = view(&shared).await?;
    let mut plugins = plugins(&view);
    let releases = plugins.remove(&name).unwrap_or_default();
    let Some(newest) = releases.last() else {
        return Err(Refusal::new(Code::NameUnknown, format!("there is no plugin {name}")));
    };
    let version = |one: &&IndexedRelease| VersionDetail {
        version: one.version.to_string(),
        digest: one.digest.to_string(),
        size: one.size,
        contract: one.contract.to_string(),
        capabilities: capabilities(one),
        yanked: one.yanked,
        refused: view.may_run(one).err().map(|error| error.to_string()),
        published_at: one.published_at,
        downloads: totals.of(name.as_str(), &one.digest),
    };
    let (kind, description) = (newest.kind, newest.description.clone());
    let versions = releases.iter().rev().map(version).collect();
    Ok(Json(Detail { name: name.clone(), kind, description, versions }).into_response())
}

fn publisher(text: &str) -> Result<PublisherName, Refusal> {
    text.parse().map_err(|error| Refusal::new(Code::NameInvalid, format!("{error}")))
}

/// A publisher's newest index, word for word: what its next one is made of.
pub(crate) async fn index(
    State(shared): State<Arc<Shared>>,
    peer: Peer,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let who = identify(&shared, &headers, peer).await?;
    shared.access.may_pull(&who)?;
    let name = publisher(&name)?;
    let state = shared.catalogue.current((shared.options.clock)()).await?;
    let index = state.as_ref().and_then(|state| state.index(&name));
    let index = index.ok_or_else(|| {
        Refusal::new(Code::NameUnknown, format!("{name} has published nothing here"))
    })?;
    Ok(json(index.bytes().to_vec()))
}

/// Takes a publisher's next index.
pub(crate) async fn put_index(
    State(shared): State<Arc<Shared>>,
    peer: Peer,
    headers: HeaderMap,
    Path(name): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let who = identify(&shared, &headers, peer).await?;
    let name = publisher(&name)?;
    shared.access.may_push_to(&who, name.as_str())?;
    let held = shared.room.take(&who, body, MAX_INDEX_BYTES, "an index").await?;
    let index = publish::publish(&shared, &name, &held.bytes).await?;
    let number = index.index().number;
    Ok((StatusCode::CREATED, Json(serde_json::json!({ "publisher": name, "number": number })))
        .into_response())
}

/// Takes a root or targets that the offline keys signed: their signatures are the right to do
/// so, no token is.
pub(crate) async fn put_metadata(
    State(shared): State<Arc<Shared>>,
    peer: Peer,
    headers: HeaderMap,
    Path(role): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let who = identify(&shared, &headers, peer).await?;
    let role = Role::ALL.into_iter().find(|one| one.is_offline() && one.as_str() == role);
    let role = role.ok_or_else(|| {
        Refusal::new(Code::NameUnknown, "root and targets are brought here, nothing else")
    })?;
    let held = shared.room.take(&who, body, role.max_bytes(), role.as_str()).await?;
    let file = MetadataFile::read(role, held.bytes.to_vec())
        .map_err(|error| Refusal::new(Code::ReleaseInvalid, error.to_string()))?;
    let (root, targets) = match role {
        Role::Root => (Some(&file), None),
        _ => (None, Some(&file)),
    };
    shared.catalogue.install(root, targets, (shared.options.clock)()).await?;
    Ok(StatusCode::CREATED.into_response())
}

fn json(bytes: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes.into()).into_response()
}

/// A file of the repository metadata.
pub(crate) async fn metadata(
    State(shared): State<Arc<Shared>>,
    peer: Peer,
    headers: HeaderMap,
    Path(at): Path<String>,
) -> Result<Response, Refusal> {
    let who = identify(&shared, &headers, peer).await?;
    shared.access.may_pull(&who)?;
    let found = shared.catalogue.file(&at, (shared.options.clock)()).await?;
    let bytes =
        found.ok_or_else(|| Refusal::new(Code::NameUnknown, "there is no such metadata"))?;
    let mut response = json(bytes);
    // Only the timestamp is ever replaced.
    let kept = if at == Role::Timestamp.path(0) { "no-cache" } else { "max-age=86400, immutable" };
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static(kept));
    Ok(response)
}
