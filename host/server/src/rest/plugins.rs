//! Plugins: which releases the fleet wants and which run, and where. Nothing is changed here: what runs on a host its
//! operators decide (`PUT /v1/fleet`) or its owner; which releases there are at all, the registry says.

use super::page::{Next, Page};
use super::{Context, Failure};
use crate::api::{PluginBody, PluginSlotBody, PluginWishBody, PluginsBody};
use axum::Json;
use axum::extract::{Query, State};
use sentinel_trust::fleet::DesiredSet;
use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::IntoParams;

/// The most bytes of a release's name, version, digest or kind.
const MAX_SAID: usize = 256;

/// Which plugins.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Which {
    /// `publisher/name`; all where absent.
    name: Option<String>,
}

/// What a host says of itself, as far as it matters here; other versions may say less or more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    slots: Vec<SaidSlot>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidSlot {
    name: String,
    kind: String,
    plugin: String,
    version: String,
    digest: String,
    state: String,
    reason: Option<String>,
}

impl SaidSlot {
    /// Whether there may be such a release: what has no bounds would stand in links to pages.
    fn is_of_a_release(&self) -> bool {
        let said = [&self.plugin, &self.version, &self.digest, &self.kind];
        said.iter().all(|text| text.len() <= MAX_SAID)
    }
}

/// A host, and what it said last.
struct Host {
    name: String,
    role: &'static str,
    at: Option<i64>,
    said: Said,
}

impl Host {
    fn new(name: String, role: &'static str, at: Option<i64>, json: &str) -> Self {
        let mut said: Said = serde_json::from_str(json).unwrap_or_default();
        said.slots.retain(SaidSlot::is_of_a_release);
        Self { name, role, at, said }
    }
}

/// Plugins that are wanted or that run, by their releases, each with where; a page of them.
#[utoipa::path(get, path = "/v1/plugins", params(Which, Page), responses((status = 200, body = PluginsBody, headers(("link" = String, description = "Where the next page is, rel=\"next\"; absent after the last"))), (status = 400, body = crate::api::ErrorBody)))]
pub(super) async fn list(
    State(context): State<Context>,
    Query(which): Query<Which>,
    Query(page): Query<Page>,
) -> Result<(Next, Json<PluginsBody>), Failure> {
    page.limit()?;
    let after: Option<[String; 4]> =
        page.after().map(serde_json::from_str).transpose().map_err(|_| page.nowhere())?;
    let set = context.fleet.in_force().await?;
    let agents = context.store.agents().await?.into_iter();
    let mut hosts: Vec<Host> = agents
        .map(|it| {
            let json = it.report.as_deref().unwrap_or_default();
            Host::new(it.id.to_string(), "agent", it.last_seen, json)
        })
        .collect();
    for (name, json, at) in context.store.statuses().await? {
        if let Some(worker) = name.strip_prefix("worker/") {
            hosts.push(Host::new(worker.to_owned(), "worker", Some(at), &json));
        }
    }
    let mut plugins = plugins(set.as_deref(), hosts);
    if let Some(name) = &which.name {
        plugins.retain(|one| one.plugin == *name);
    }
    if let Some(after) = &after {
        plugins.retain(|one| place(one) > after.each_ref().map(String::as_str));
    }
    let name = which.name.as_deref().map(|name| ("name", name));
    let next = page.cut(&mut plugins, ("/v1/plugins", name.as_slice()), |last| {
        serde_json::json!(place(last)).to_string()
    });
    let number = set.map_or(0, |set| set.number);
    Ok((next, Json(PluginsBody { number, plugins })))
}

/// Where a release stands among others.
fn place(one: &PluginBody) -> [&str; 4] {
    [&one.plugin, &one.version, &one.digest, &one.kind].map(String::as_str)
}

/// Releases by name, version, digest and kind: the same version with another digest is another one.
#[derive(Default)]
struct Releases(BTreeMap<[String; 4], PluginBody>);

impl Releases {
    fn entry(&mut self, of: [String; 4]) -> &mut PluginBody {
        let [plugin, version, digest, kind] = of.clone();
        self.0.entry(of).or_insert_with(|| PluginBody {
            plugin,
            version,
            digest,
            kind,
            wanted: Vec::new(),
            slots: Vec::new(),
        })
    }
}

fn plugins(set: Option<&DesiredSet>, hosts: Vec<Host>) -> Vec<PluginBody> {
    let mut found = Releases::default();
    for group in set.into_iter().flat_map(|set| &set.groups) {
        for wish in &group.slots {
            let release = [
                wish.plugin.to_string(),
                wish.version.to_string(),
                wish.digest.to_string(),
                wish.kind.as_str().to_owned(),
            ];
            let (slot, on, disabled) = (wish.slot.clone(), group.selector(), wish.disabled);
            found.entry(release).wanted.push(PluginWishBody { slot, on, disabled });
        }
    }
    for host in hosts {
        for SaidSlot { name, kind, plugin, version, digest, state, reason } in host.said.slots {
            found.entry([plugin, version, digest, kind]).slots.push(PluginSlotBody {
                host: host.name.clone(),
                role: host.role.to_owned(),
                at: host.at,
                slot: name,
                state,
                reason,
            });
        }
    }
    found.0.into_values().collect()
}
