//! New keys in place of old ones.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sentinel_registry_service::{Store, install_metadata};
use sentinel_trust::repository::{
    KeyPurpose, MetadataFile, Role, RoleKey, RoleSpec, RootSpec, TargetsSpec, root_file,
    targets_file,
};
use serde_json::json;

use super::change::newest;
use super::keys;
use crate::commands::now;
use crate::commands::reach::{Reach, role_key};
use crate::failure::Failure;
use crate::files;
use crate::output::Printer;

/// Whose keys are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rotated {
    /// The root key.
    Root,
    /// The targets key.
    Targets,
    /// The three keys of the service: index, snapshot, timestamp.
    Online,
}

/// Options of `sentinel registry rotate`.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// Whose keys are replaced
    role: Rotated,
    #[command(flatten)]
    reach: Reach,
    /// The root key so far; of several that must sign, each
    #[arg(long, value_name = "FILE", required = true)]
    root_key: Vec<PathBuf>,
    /// The targets key; where only the online keys are replaced
    #[arg(long, value_name = "FILE", required_if_eq("role", "online"))]
    targets_key: Vec<PathBuf>,
    /// Folder for the new keys, which must not be there yet
    #[arg(long, value_name = "DIR")]
    new_keys: PathBuf,
    /// Folder for what is signed: `sentinel registry install` brings it into force
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Options of `sentinel registry install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// What was signed elsewhere: N.root.json, N.targets.json, or both
    #[arg(required = true, num_args = 1..=2)]
    files: Vec<PathBuf>,
}

pub(super) async fn run(command: Rotate, printer: &Printer) -> Result<(), Failure> {
    let client = command.reach.open()?;
    let (root, targets) = newest(&client).await?;
    let read = |files: &[PathBuf], purpose| -> Result<Vec<RoleKey>, Failure> {
        files.iter().map(|file| role_key(file, purpose)).collect()
    };
    let mut root_keys = read(&command.root_key, KeyPurpose::Root)?;
    let mut targets_keys = read(&command.targets_key, KeyPurpose::Targets)?;
    let mut root_spec = RootSpec::read(&root)?;
    let mut targets_spec = TargetsSpec::read(&targets)?;
    let one = |key: &RoleKey| RoleSpec::one(key.public());
    keys::folder(&command.new_keys)?;
    match command.role {
        Rotated::Root => {
            let new = keys::make(&command.new_keys, KeyPurpose::Root)?;
            root_spec.root = one(&new);
            root_keys.push(new);
        }
        Rotated::Targets => {
            let new = keys::make(&command.new_keys, KeyPurpose::Targets)?;
            root_spec.targets = one(&new);
            targets_keys = vec![new];
        }
        Rotated::Online => {
            let new = keys::make_online(&command.new_keys)?;
            root_spec.snapshot = one(&new.snapshot);
            root_spec.timestamp = one(&new.timestamp);
            targets_spec.index = one(&new.index);
        }
    }
    let until = |role: Role| now() + role.lifetime_ms();
    let root_keys: Vec<_> = root_keys.iter().collect();
    let next = root_file(Some(&root), &root_spec, &root_keys, until(Role::Root))?;
    let mut signed = vec![next.clone()];
    if command.role != Rotated::Root {
        let keys: Vec<_> = targets_keys.iter().collect();
        let previous = Some(&targets);
        signed.push(targets_file(&next, previous, &targets_spec, &keys, until(Role::Targets))?);
    }
    std::fs::create_dir_all(&command.out)?;
    let mut paths = Vec::new();
    for file in &signed {
        let path = command.out.join(file.path());
        files::create(&path, file.bytes(), 0o644)?;
        paths.push(path);
    }
    explain(command.role, &command.new_keys, &paths, printer);
    printer.data(&json!({ "signed": paths, "keys": command.new_keys }), |_| {
        paths.iter().map(|path| format!("{}\n", path.display())).collect()
    })
}

fn explain(role: Rotated, keys: &Path, signed: &[PathBuf], printer: &Printer) {
    let signed: Vec<_> = signed.iter().map(|path| path.display().to_string()).collect();
    let keys = keys.display();
    let first = match role {
        Rotated::Root | Rotated::Targets => {
            format!("keep what is in {keys} offline, in place of the old key")
        }
        Rotated::Online => format!(
            "stop the registry, and put what is in {keys} in place of the keys in its folder `keys`"
        ),
    };
    printer.say(&format!(
        "1. {first}\n2. on the registry's machine: sentinel registry install {}\n3. start the registry again; hosts follow by themselves; destroy the old keys",
        signed.join(" ")
    ));
}

pub(super) async fn install(
    command: Install,
    folder: &Path,
    open: impl FnOnce() -> Result<Store, Failure>,
    printer: &Printer,
) -> Result<(), Failure> {
    let keys = keys::read_online(&folder.join("keys"))?;
    let (mut root, mut targets) = (None, None);
    for path in &command.files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (role, place) = if name.ends_with(".root.json") {
            (Role::Root, &mut root)
        } else if name.ends_with(".targets.json") {
            (Role::Targets, &mut targets)
        } else {
            return Err(Failure::new(format!(
                "{}: only N.root.json and N.targets.json are installed",
                path.display()
            )));
        };
        let bytes = files::read(path, role.max_bytes())?;
        let file = MetadataFile::read(role, bytes)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        *place = Some(file);
    }
    install_metadata(&open()?, keys, root.as_ref(), targets.as_ref(), now()).await?;
    let shown: Vec<_> = [&root, &targets].into_iter().flatten().map(MetadataFile::path).collect();
    printer.say(&format!("in force: {}", shown.join(", ")));
    printer.data(&shown, |_| String::new())
}
