//! A plugin from a file, published to the registry of this machine's own `sentinel up`, and
//! installed from there.

use std::path::Path;

use sentinel_registry_client::{Moved, Publisher, Upgrade as Step};
use sentinel_trust::repository::{IndexedRelease, Interest, PluginRange, RequestsDifference};
use sentinel_trust::{Digest, MAX_COMPONENT_BYTES, PluginName, PublisherKey, Unverified};
use serde_json::json;

use super::machine::{Host, Machine};
use super::{refuse, requests};
use crate::commands::fleet::decide::confirm;
use crate::commands::now;
use crate::commands::reach::publisher_key;
use crate::failure::Failure;
use crate::files;
use crate::output::Printer;
use crate::roles::own_registry::OwnRegistry;

/// Publishes a file where that is needed, and installs it.
pub(super) async fn install(
    file: &Path,
    key: Option<&Path>,
    yes: bool,
    printer: &Printer,
) -> Result<(), Failure> {
    let component = files::read(file, MAX_COMPONENT_BYTES)?;
    let unverified = Unverified::read(&component)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    refuse(file, &unverified.problems())?;
    let manifest = unverified.manifest();
    printer.say(&format!("{} ({}): {}", manifest.release(), manifest.kind, manifest.description));
    let asked = requests::lines(&manifest.requests);
    if asked.is_empty() {
        printer.say("  asks for nothing");
    }
    for line in &asked {
        printer.say(&format!("  asks for {line}"));
    }
    let host = Machine::default().open()?;
    let publisher = std::collections::BTreeSet::from([manifest.name.publisher()]);
    host.plugins.client().refresh(Interest::Only(publisher), now()).await?;
    let digest = Digest::of(&component);
    let published = host.plugins.client().view();
    let published = published.releases().find(|one| one.digest == digest && !one.yanked).cloned();
    let release = match published {
        Some(there) => there,
        None => publish(&host, (file, &component), (key, yes), printer).await?,
    };
    let moved =
        host.plugins.install(&release).await.map_err(|error| {
            Failure::new(format!("{} was not installed: {error}", file.display()))
        })?;
    printer.say(&format!("installed {}", release.release()));
    if !asked.is_empty() {
        printer.hint("it can do what it asks for only in slots whose `grants` allow it");
    }
    tell(&release, &moved, printer)
}

/// Publishes to the registry of the `up` that runs.
async fn publish(
    host: &Host,
    (file, component): (&Path, &[u8]),
    (key_file, yes): (Option<&Path>, bool),
    printer: &Printer,
) -> Result<IndexedRelease, Failure> {
    let Some(key_file) = key_file else {
        return Err(Failure::new(format!(
            "{} is not published in the registry of this machine, so it cannot be installed",
            file.display()
        ))
        .hint("give its publisher's secret key with --publisher-key; `sentinel plugin keygen` makes one"));
    };
    if host.running.is_none() {
        return Err(Failure::new("no `sentinel up` runs here that could take it").hint(
            "start it; or publish it where this host's registry is, with `sentinel plugin publish`",
        ));
    }
    let key = publisher_key(key_file)?;
    let own = OwnRegistry::open(&host.data).map_err(|error| Failure::new(format!("{error:#}")))?;
    approve(host, &own, &key, yes, printer).await?;
    let failed = |error: anyhow::Error| Failure::new(format!("{}: {error:#}", file.display()));
    let token = own.token(key.publisher()).await.map_err(failed)?;
    let publisher = Publisher { client: host.plugins.client(), key: &key, token };
    let published = publisher
        .publish(component, now())
        .await
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    printer.say(&format!(
        "published {} as {}",
        published.release.release(),
        published.release.digest
    ));
    Ok(published.release)
}

/// Lets the publisher publish here, once whoever sits there has agreed.
async fn approve(
    host: &Host,
    own: &OwnRegistry,
    key: &PublisherKey,
    yes: bool,
    printer: &Printer,
) -> Result<(), Failure> {
    let view = host.plugins.client().view();
    let known = view.policy().publishers.get(key.publisher());
    if known.is_some_and(|trust| trust.keys.contains(&key.public())) {
        return Ok(());
    }
    let (publisher, id) = (key.publisher(), key.id());
    printer.say(&format!("the key {id} of {publisher} is not approved on this machine"));
    if !yes {
        confirm(&format!("Let it publish plugins named {publisher}/… here?"))?;
    }
    own.approve(host.plugins.client(), (publisher.clone(), key.public()))
        .await
        .map_err(|error| Failure::new(format!("{publisher} was not approved: {error:#}")))?;
    printer.say(&format!("{publisher} may publish here with the key {id}"));
    Ok(())
}

fn tell(release: &IndexedRelease, moved: &[Moved], printer: &Printer) -> Result<(), Failure> {
    let shown = json!({
        "name": release.name,
        "version": release.version,
        "digest": release.digest,
        "moved": moved.iter().map(shown).collect::<Vec<_>>(),
    });
    let exactly = PluginRange::exactly(release.name.clone(), &release.version);
    printer.data(&shown, |_| exactly.to_string())
}

fn shown(moved: &Moved) -> serde_json::Value {
    json!({
        "range": moved.range, "from": moved.from,
        "to": moved.to.version, "digest": moved.to.digest,
    })
}

/// Moves what the slots of this machine's own configuration name to the newest in their ranges.
pub(super) async fn upgrade(
    plugin: Option<&PluginName>,
    machine: &Machine,
    yes: bool,
    printer: &Printer,
) -> Result<(), Failure> {
    let host = machine.open()?;
    let steps = host.plugins.upgrades(plugin).await?;
    for step in &steps {
        say(step, printer);
    }
    if steps.is_empty() {
        printer.say("every range has its newest release");
    } else if !yes {
        confirm("Go to these releases?")?;
    }
    let mut moved = Vec::new();
    for step in &steps {
        match host.plugins.upgrade(step).await? {
            Some(one) => moved.push(shown(&one)),
            None => printer.warn(&format!("{} was moved by another meanwhile", step.pin.range)),
        }
    }
    printer.data(&moved, |_| String::new())
}

/// What one step changes.
fn say(step: &Step, printer: &Printer) {
    let RequestsDifference { added, removed } = &step.difference;
    printer.say(&format!("{}: {} → {}", step.pin.range, step.pin.version, step.to.version));
    for line in removed {
        printer.say(&format!("  asks no more for {} {}", line.capability, line.what));
    }
    for line in added {
        printer.warn(&format!(
            "{} asks for {} {} beyond what it did: slots that do not grant it stay as they are",
            step.pin.range.name, line.capability, line.what
        ));
    }
}
