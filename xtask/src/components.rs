//! The crates that become plugins, and their core modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::cargo::{self, Artifact};
use crate::checkout::Checkout;
use crate::process;
use crate::steps::Step;
use crate::toolchain::Toolchain;

/// Folders whose sub-folders may be plugins, and where their packed files go.
pub(crate) const PLACES: &[(&str, &str)] =
    &[("components", "plugins"), ("tests/fixtures/plugins", "plugins/fixtures")];

/// A crate that becomes a plugin: it has a `plugin.yaml` beside its `Cargo.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    /// Its cargo package.
    pub(crate) package: String,
    /// The plugin's name without its publisher; the packed file bears it.
    pub(crate) name: String,
    /// The crate's folder.
    pub(crate) dir: PathBuf,
    /// The folder of the packed file, below `target/`.
    pub(crate) place: &'static str,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// Every plugin crate of the checkout.
pub(crate) fn discover(checkout: &Checkout) -> Result<Vec<Guest>> {
    let metadata = process::read(checkout.cargo().args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version=1",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let mut guests = Vec::new();
    for package in metadata.packages {
        let dir = package.manifest_path.parent().context("a manifest has a folder")?;
        let Ok(below) = dir.strip_prefix(checkout.root()) else {
            continue;
        };
        let place = PLACES.iter().find(|(parent, _)| below.parent() == Some(Path::new(parent)));
        let manifest = dir.join("plugin.yaml");
        if let Some((_, place)) = place
            && manifest.is_file()
        {
            let name = plugin_name(&fs::read_to_string(&manifest)?)
                .with_context(|| format!("in {}", manifest.display()))?;
            guests.push(Guest { package: package.name, name, dir: dir.to_path_buf(), place });
        }
    }
    guests.sort_by(|a, b| (a.place, &a.name).cmp(&(b.place, &b.name)));
    for pair in guests.windows(2) {
        ensure!(
            (pair[0].place, &pair[0].name) != (pair[1].place, &pair[1].name),
            "{} and {} both name their plugin `{}`",
            pair[0].dir.display(),
            pair[1].dir.display(),
            pair[1].name
        );
    }
    Ok(guests)
}

/// Compiles `guests` in one call of cargo and returns each one's core module.
pub(crate) fn compile(
    checkout: &Checkout,
    step: &Step,
    toolchain: &Toolchain,
    profile: &str,
    guests: &[Guest],
) -> Result<(BTreeMap<String, PathBuf>, String)> {
    let mut command = toolchain.cargo_build(checkout);
    command.args(["--profile", profile]);
    for guest in guests {
        command.args(["--package", &guest.package]);
    }
    let artifacts = cargo::build(step, &mut command, &[])?;
    let mut cores = BTreeMap::new();
    for guest in guests {
        let core = core_module(&artifacts, &guest.dir).with_context(|| {
            format!(
                "{} built no .wasm; its Cargo.toml needs crate-type = [\"cdylib\", ...]",
                guest.package
            )
        })?;
        cores.insert(guest.package.clone(), core);
    }
    Ok((cores, cargo::summary(&artifacts)))
}

fn core_module(artifacts: &[Artifact], dir: &Path) -> Option<PathBuf> {
    artifacts
        .iter()
        .filter(|artifact| artifact.manifest.parent() == Some(dir))
        .flat_map(|artifact| &artifact.files)
        .find(|file| file.extension().is_some_and(|end| end == "wasm"))
        .cloned()
}

/// The part after the slash of a manifest's top-level `name: publisher/name`.
fn plugin_name(manifest: &str) -> Result<String> {
    let Some(value) = manifest.lines().find_map(|line| line.strip_prefix("name:")) else {
        bail!("no line starts with `name:`");
    };
    let value = value.split(" #").next().unwrap_or_default();
    let value = value.trim().trim_matches(['"', '\'']);
    let name = match value.split_once('/') {
        Some((publisher, name)) if !publisher.is_empty() => name,
        _ => bail!("`name: {value}` is not `publisher/name`"),
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        !name.is_empty() && name.chars().all(plain),
        "`{name}` may hold only a-z, 0-9 and -, since the file is named after it"
    );
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_file_is_named_after_the_part_behind_the_slash() {
        for (manifest, expected) in [
            ("name: sentinel/system\n", Some("system")),
            ("# top\nversion: 1.0.0\nname: \"sentinel/alert-dsl\"  # ours\n", Some("alert-dsl")),
            ("  name: nested/no\n", None),
            ("name: system\n", None),
            ("name: sentinel/../../etc\n", None),
            ("name: sentinel/\n", None),
            ("name: /system\n", None),
        ] {
            assert_eq!(plugin_name(manifest).ok().as_deref(), expected, "{manifest}");
        }
    }

    #[test]
    fn a_core_module_is_found_by_the_folder_of_its_crate() {
        let artifact = |dir: &str, files: &[&str]| Artifact {
            manifest: format!("/w/components/{dir}/Cargo.toml").into(),
            files: files.iter().map(PathBuf::from).collect(),
            fresh: false,
        };
        let artifacts = [
            artifact("sdk", &["/t/libsdk.rlib"]),
            artifact("rows", &["/t/libplugin_rows.rlib", "/t/plugin_rows.wasm"]),
        ];
        assert_eq!(
            core_module(&artifacts, Path::new("/w/components/rows")),
            Some("/t/plugin_rows.wasm".into())
        );
        assert_eq!(core_module(&artifacts, Path::new("/w/components/sdk")), None);
    }
}
