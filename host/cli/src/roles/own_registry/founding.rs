//! The beginning of the registry of an `up`: whole or not at all.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result};
use sentinel_registry_service::{Place, Store};
use sentinel_trust::repository::KeyPurpose;

use super::{OWNER, STORE, told};
use crate::commands::fleet::operator::Operator;
use crate::commands::now;
use crate::commands::registry::{init, keys};

/// Where a registry is made before it is put in its place.
const UNFINISHED: &str = "registry.unfinished";
/// Begins a registry and a fleet. A crash leaves an unfinished folder, which the next start
/// removes, and never half a registry in its place.
pub(super) async fn found(data: &Path, folder: &Path) -> Result<()> {
    let unfinished = data.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("{} cannot be removed", unfinished.display()))?;
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .with_context(|| format!("{} cannot be made", unfinished.display()))?;
    let owner = unfinished.join(OWNER);
    keys::folder(&owner).map_err(told)?;
    let key = keys::path(&owner, KeyPurpose::Operator);
    let operators = Operator::create(&key, None, Vec::new()).map_err(told)?.pins().keys;
    let store = Store::open(&Place::Folder(unfinished.join(STORE)))?;
    init::found(&owner, &unfinished, &store, operators, now()).await.map_err(told)?;
    fs::File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, folder)
        .with_context(|| format!("{} cannot be put in its place", folder.display()))?;
    fs::File::open(data)?.sync_all()?;
    Ok(())
}
