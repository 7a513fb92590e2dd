//! The beginning of a registry.

use std::path::{Path, PathBuf};

use clap::Args;
use sentinel_registry_service::{Store, install_metadata};
use sentinel_trust::repository::{
    Enrolment, KeyPurpose, MinimumVersions, Publishers, Role, RoleSpec, RootSpec, TargetsSpec,
    root_file, targets_file,
};
use sentinel_trust::{KeyId, PublicKey};
use serde_json::json;

use super::keys;
use crate::commands::now;
use crate::failure::Failure;
use crate::files;
use crate::output::Printer;

/// Options of `sentinel registry init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Folder for the offline keys: a stick, or a folder that you move away afterwards
    #[arg(long, value_name = "DIR")]
    offline: PathBuf,
}

pub(super) async fn run(
    command: Init,
    folder: &Path,
    open: impl FnOnce() -> Result<Store, Failure>,
    printer: &Printer,
) -> Result<(), Failure> {
    let Init { offline } = command;
    let founded = found(&offline, folder, &open()?, Vec::new(), now()).await?;
    explain(&offline, folder, &founded.enrolment, printer);
    let shown = json!({
        "offline": [
            keys::path(&offline, KeyPurpose::Root), keys::path(&offline, KeyPurpose::Targets),
        ],
        "online": folder.join("keys"),
        "enrolment": founded.enrolment,
        "root": founded.root,
        "targets": founded.targets,
    });
    printer.data(&shown, |_| founded.enrolment.display().to_string())
}

/// A registry that was begun.
pub(crate) struct Founded {
    /// The file of what hosts are given.
    pub(crate) enrolment: PathBuf,
    /// Its first root key.
    root: KeyId,
    /// Its first targets key.
    targets: KeyId,
}

/// Begins a registry at `at` (unix milliseconds): the offline keys in one folder, the online
/// keys and the enrolment in its own, the first metadata in its store. Hosts believe `operators`
/// where desired sets and bundles are concerned.
pub(crate) async fn found(
    offline: &Path,
    folder: &Path,
    store: &Store,
    operators: Vec<PublicKey>,
    at: i64,
) -> Result<Founded, Failure> {
    keys::folder(offline)?;
    let root_key = keys::make(offline, KeyPurpose::Root)?;
    let targets_key = keys::make(offline, KeyPurpose::Targets)?;
    let online = keys::make_online(&folder.join("keys"))?;
    let one = |key: &sentinel_trust::repository::RoleKey| RoleSpec::one(key.public());
    let root = RootSpec {
        root: one(&root_key),
        targets: one(&targets_key),
        snapshot: one(&online.snapshot),
        timestamp: one(&online.timestamp),
    };
    let root = root_file(None, &root, &[&root_key], at + Role::Root.lifetime_ms())?;
    let targets = TargetsSpec { publishers: Publishers::default(), index: one(&online.index) };
    let until = at + Role::Targets.lifetime_ms();
    let targets = targets_file(&root, None, &targets, &[&targets_key], until)?;
    install_metadata(store, online, Some(&root), Some(&targets), at).await?;
    let minimum =
        MinimumVersions { targets: 1, index: 1, snapshot: 1, timestamp: 1, ..Default::default() };
    let file = folder.join("enrolment.json");
    let json = Enrolment { root, minimum, operators }.to_json();
    files::replace(&file, json.as_bytes(), 0o644)?;
    Ok(Founded { enrolment: file, root: root_key.id(), targets: targets_key.id() })
}

/// What to keep where, said plainly.
fn explain(offline: &Path, folder: &Path, enrolment: &Path, printer: &Printer) {
    let (root, targets) =
        (keys::path(offline, KeyPurpose::Root), keys::path(offline, KeyPurpose::Targets));
    printer.say(&format!(
        "\
{}  says whose keys count. You need it about once a year, and when another key was
    lost or stolen. Whoever has it owns every host; without it, a stolen key cannot be replaced,
    and every host must be enrolled again. Two copies, offline, in two places.
{}  says who may publish and what was revoked. You need it to approve, to revoke, and
    every {} days to renew. Whoever has it can let anything run. A copy, offline.
{}  the registry's own keys. They stay on its machine; whoever steals them can withhold
    what is new, and nothing else.
{}  what each host is given once. No secret, but it must come over a way that you trust.",
        root.display(),
        targets.display(),
        Role::Targets.lifetime_ms() / 86_400_000,
        folder.join("keys").display(),
        enrolment.display(),
    ));
    printer.warn(&format!(
        "move {} away from this machine now, and remove it here",
        offline.display()
    ));
    printer.hint("next: `sentinel registry` serves it; `sentinel registry approve NAME KEY` lets somebody publish");
}
