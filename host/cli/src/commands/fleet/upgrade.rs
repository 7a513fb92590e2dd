//! Other versions of what the fleet runs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use clap::Args;
use semver::VersionReq;
use sentinel_registry_client::RegistryClient;
use sentinel_trust::fleet::{DesiredSet, Wish};
use sentinel_trust::repository::{PluginRange, RequestsDifference};
use sentinel_trust::{Digest, Requests, VerifiedComponent};

use super::decide::{Board, Consent, Decide, Proposal};
use super::edit::{self, Selector, Which};
use super::grant::Named;
use super::install::{enough, fetch, listed, warn_of_unused};
use super::setup::Setup;
use crate::client::Client;
use crate::commands::reach::Reach;
use crate::failure::Failure;
use crate::output::Printer;

/// Options of `sentinel plugin upgrade`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only in the group of this selector
    #[arg(long, value_name = "SELECTOR")]
    on: Option<Selector>,
    /// Only this slot
    #[arg(long, value_name = "NAME")]
    slot: Option<String>,
    #[command(flatten)]
    setup: Setup,
    #[command(flatten)]
    decide: Decide,
    #[command(flatten)]
    reach: Reach,
}

impl Options {
    /// Whether nobody is to be asked.
    pub(crate) const fn agreed(&self) -> bool {
        self.decide.yes
    }
}

/// Moves every slot that has the plugin to the newest version in its range, or in the one that
/// is given and stays its range from then on.
pub(crate) async fn run(
    plugin: PluginRange,
    options: Options,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut board = Board::open(client, options.decide.key.as_deref())?;
    let named = options.setup.named()?;
    let registry = options.reach.open()?;
    let which = Which {
        plugin: Some(plugin.name.clone()),
        slot: options.slot.clone(),
        on: options.on.clone(),
    };
    let propose = async |set: &DesiredSet| {
        let mut newest = BTreeMap::new();
        for (_, wish) in edit::find(set, &which)? {
            let range = range_of(&plugin, wish);
            if let Entry::Vacant(vacant) = newest.entry(range.to_string()) {
                vacant.insert(fetch(&registry, &range).await?);
            }
        }
        let next = edit::change(set, &which, |on, wish| {
            let range = range_of(&plugin, wish);
            let component = &newest[&range.to_string()];
            upgrade(
                wish,
                &range,
                component,
                &requests_of(&registry, wish.digest),
                &named,
                &options.setup,
            )
            .map_err(|failure| Failure {
                message: format!("slot {} on {on}: {}", wish.slot, failure.message),
                ..failure
            })?;
            warn_of_unused(component.manifest(), &wish.grants, printer);
            Ok::<_, Failure>(())
        })?;
        Ok(Proposal::new(next, Consent::Given))
    };
    board.decide(&options.decide, printer, propose).await
}

fn range_of(plugin: &PluginRange, wish: &Wish) -> PluginRange {
    let own = plugin.versions == VersionReq::STAR;
    let versions = if own { wish.range.clone() } else { plugin.versions.clone() };
    PluginRange { name: plugin.name.clone(), versions }
}

/// What the version that runs asks for. One that its publisher does not list any more counts as
/// one that asked for nothing: then all of it is to be granted anew.
fn requests_of(registry: &RegistryClient, digest: Digest) -> Requests {
    let view = registry.view();
    let found = view.releases().find(|release| release.digest == digest);
    found.map(|release| release.requests.clone()).unwrap_or_default()
}

/// Puts a version in the place of another, unless it asks for more than was named.
fn upgrade(
    wish: &mut Wish,
    range: &PluginRange,
    component: &Arc<VerifiedComponent>,
    before: &Requests,
    named: &Named,
    setup: &Setup,
) -> Result<(), Failure> {
    let manifest = component.manifest();
    if manifest.kind != wish.kind {
        return Err(Failure::new(format!(
            "{} is a {} and the slot has a {}: uninstall one and install the other",
            manifest.release(),
            manifest.kind,
            wish.kind
        )));
    }
    let difference = RequestsDifference::between(before, &manifest.requests);
    let unnamed = named.unnamed(&difference.added);
    if !unnamed.is_empty() {
        return Err(Failure::new(format!(
            "{} asks for more than {}, and nothing was changed:{}",
            manifest.release(),
            wish.version,
            listed(&unnamed)
        ))
        .hint("grant it with --grant, or all of it with --grant-all"));
    }
    let grants = named.grants(&manifest.requests, &wish.grants);
    enough(manifest, &grants)?;
    wish.config = setup.config(&wish.config, manifest)?;
    wish.grants = grants;
    wish.range = range.versions.clone();
    wish.version = manifest.version.clone();
    wish.digest = component.digest();
    Ok(())
}
