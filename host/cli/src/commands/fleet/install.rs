//! A plugin for the fleet: what it is, what it asks for, what it is given.

use std::sync::Arc;

use clap::Args;
use reqwest::Method;
use sentinel_registry_client::RegistryClient;
use sentinel_trust::fleet::{DesiredSet, Wish};
use sentinel_trust::repository::{CapabilityLine, PluginRange};
use sentinel_trust::{Grants, Kind, Manifest, VerifiedComponent, effective, unused_grants};

use super::decide::{Board, Consent, Decide, Proposal};
use super::edit::{self, Selector};
use super::grant::Named;
use super::setup::{Running, Setup};
use crate::client::Client;
use crate::commands::now;
use crate::commands::plugin::requests;
use crate::commands::reach::Reach;
use crate::failure::Failure;
use crate::output::{Printer, clean};

/// Options of `sentinel plugin install NAME`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The slot's name [default: the plugin's name after the slash]
    #[arg(long, value_name = "NAME")]
    slot: Option<String>,
    /// Put it in the place of what the slot has
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    how: How,
}

/// Where a plugin is put, and how it is set up there.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// On which hosts: role=web,zone=a, or '*' for all; a collector needs it
    #[arg(long, value_name = "SELECTOR")]
    on: Option<Selector>,
    #[command(flatten)]
    setup: Setup,
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    decide: Decide,
    #[command(flatten)]
    reach: Reach,
}

impl Options {
    /// Whether nobody is to be asked.
    pub(crate) const fn agreed(&self) -> bool {
        self.how.decide.yes
    }

    /// Whether anything is said that concerns a fleet alone.
    pub(crate) const fn for_a_fleet(&self) -> bool {
        self.how.on.is_some() || self.slot.is_some()
    }
}

/// Resolves, verifies, shows, asks, decides, waits.
pub(crate) async fn run(
    plugin: PluginRange,
    options: Options,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let Options { slot, replace, how } = options;
    let board = Board::open(client, how.decide.key.as_deref())?;
    let short = || plugin.name.as_str().rsplit('/').next().unwrap_or_default().to_owned();
    let slot = slot.unwrap_or_else(short);
    place(board, Placed { plugin, slot, replace, only: None }, &how, printer).await
}

/// The same of a notifier, whose slot is made or replaced, and nothing besides.
pub(crate) async fn notifier(
    slot: String,
    plugin: PluginRange,
    how: How,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let board = Board::open(client, how.decide.key.as_deref())?;
    let board = board.through(Method::PUT, format!("/v1/notifiers/{slot}"));
    let placed = Placed { plugin, slot, replace: true, only: Some(Kind::Notifier) };
    place(board, placed, &how, printer).await
}

/// What is put where.
struct Placed {
    plugin: PluginRange,
    slot: String,
    replace: bool,
    /// Of another kind it must not be.
    only: Option<Kind>,
}

async fn place(
    mut board: Board<'_>,
    placed: Placed,
    how: &How,
    printer: &Printer,
) -> Result<(), Failure> {
    let Placed { plugin, slot, replace, only } = placed;
    let named = how.setup.named()?;
    let registry = how.reach.open()?;
    let component = fetch(&registry, &plugin).await?;
    let manifest = component.manifest();
    if let Some(kind) = only.filter(|kind| *kind != manifest.kind) {
        let (release, is) = (manifest.release(), manifest.kind);
        return Err(Failure::new(format!("{release} is no {kind}: it is of the kind {is}"))
            .hint("`sentinel plugin install` puts any kind into its slot"));
    }
    show(manifest, printer);
    let config = how.setup.config(&serde_json::json!({}), manifest)?;
    let (grants, consent) = granted(&named, manifest)?;
    warn_of_unused(manifest, &grants, printer);
    let wish = Wish {
        slot,
        kind: manifest.kind,
        plugin: plugin.name.clone(),
        range: plugin.versions.clone(),
        version: manifest.version.clone(),
        digest: component.digest(),
        config,
        grants,
        collect: how.running.collect(manifest.kind)?,
        on_unknown: how.running.on_unknown(manifest.kind)?,
        disabled: false,
    };
    let propose = async |set: &DesiredSet| {
        let set = edit::install(set, how.on.as_ref(), wish.clone(), replace)?;
        Ok(Proposal::new(set, consent))
    };
    board.decide(&how.decide, printer, propose).await
}

/// The newest release in a range, verified.
pub(super) async fn fetch(
    registry: &RegistryClient,
    plugin: &PluginRange,
) -> Result<Arc<VerifiedComponent>, Failure> {
    let release = registry.resolve(plugin, now()).await?;
    Ok(registry.fetch(&plugin.name, release.digest, now()).await?)
}

/// What a plugin is and what it asks for.
pub(super) fn show(manifest: &Manifest, printer: &Printer) {
    let description = clean(&manifest.description);
    printer.say(&format!("{} ({}): {description}", manifest.release(), manifest.kind));
    let asked = requests::lines(&manifest.requests);
    if asked.is_empty() {
        printer.say("  asks for nothing");
    }
    for line in &asked {
        printer.say(&format!("  asks for {line}"));
    }
}

/// What a new plugin is given: what was named; where nothing was, all that needs no choice,
/// which is then asked about.
fn granted(named: &Named, manifest: &Manifest) -> Result<(Grants, Consent), Failure> {
    let asks_for_nothing = requests::lines(&manifest.requests).is_empty();
    let consent =
        if named.is_empty() && !asks_for_nothing { Consent::Asked } else { Consent::Given };
    let grants = named.or_all().grants(&manifest.requests, &Grants::default());
    enough(manifest, &grants)?;
    Ok((grants, consent))
}

/// Fails where hosts would refuse the plugin for want of grants.
pub(super) fn enough(manifest: &Manifest, grants: &Grants) -> Result<(), Failure> {
    effective(&manifest.requests, grants).map(|_| ()).map_err(|missing| {
        Failure::new(format!("{}: {missing}", manifest.release())).hint(
            "name each with --grant, such as --grant http=https://a.example:443,POST --grant files=/var/log/*.log --grant mac=KEY; --grant-all adds what needs no choice",
        )
    })
}

pub(super) fn warn_of_unused(manifest: &Manifest, grants: &Grants, printer: &Printer) {
    for unused in unused_grants(&manifest.requests, grants) {
        printer.warn(&format!("the grant {unused}"));
    }
}

/// Things that are asked for, one a line.
pub(super) fn listed(lines: &[&CapabilityLine]) -> String {
    let one = |line: &&CapabilityLine| {
        format!("\n  + {}", format!("{} {}", line.capability, line.what).trim_end())
    };
    lines.iter().map(one).collect()
}
