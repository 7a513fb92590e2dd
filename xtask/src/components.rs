//! Plugins from their crates: compiled for the guest target, packed with their manifest, signed
//! with this checkout's development key.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::cargo::{self, Artifact};
use crate::checkout::{Checkout, replace};
use crate::process;
use crate::steps::Step;
use crate::toolchain::Toolchain;

/// Folders whose sub-folders may be plugins, and where their packed files go.
const PLACES: &[(&str, &str)] =
    &[("components", "plugins"), ("tests/fixtures/plugins", "plugins/fixtures")];

/// What decides how a core module is packed and signed. The program itself is not among them:
/// it changes with every edit of the host.
const PACKING_SOURCES: &[&str] = &["Cargo.lock", "registry/trust", "host/runtime/src", "wit"];

/// The publisher whose plugins this checkout signs.
const PUBLISHER: &str = "sentinel";

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

/// The paths a host needs to run what was built here.
#[derive(Debug, Clone)]
pub(crate) struct DevKey {
    /// The private key, 0600.
    pub(crate) key: PathBuf,
    /// The policy that trusts it.
    pub(crate) trust: PathBuf,
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

/// Packs and signs what has changed, with the host program `sentinel`.
pub(crate) fn pack(
    checkout: &Checkout,
    step: &Step,
    sentinel: &Path,
    guests: &[Guest],
    cores: &BTreeMap<String, PathBuf>,
) -> Result<String> {
    let _lock = checkout.lock("plugins", || step.note("waiting for another cargo xtask"))?;
    let key = dev_key(checkout, sentinel)?;
    let common = common_digest(checkout, &key)?;
    let mut packed = 0;
    for (number, guest) in guests.iter().enumerate() {
        step.note(&format!("{} ({}/{})", guest.name, number + 1, guests.len()));
        let core = cores
            .get(&guest.package)
            .with_context(|| format!("{} was not compiled", guest.package))?;
        packed += usize::from(pack_one(checkout, sentinel, guest, core, &key, &common)?);
    }
    let removed = remove_strangers(checkout, guests)?;
    let mut said = format!("{packed} of {} packed and signed", guests.len());
    if removed > 0 {
        said.push_str(&format!(", {removed} of crates that are gone removed"));
    }
    Ok(said)
}

fn pack_one(
    checkout: &Checkout,
    sentinel: &Path,
    guest: &Guest,
    core: &Path,
    key: &DevKey,
    common: &str,
) -> Result<bool> {
    let folder = checkout.target(guest.place);
    let out = folder.join(format!("{}.wasm", guest.name));
    let signature = folder.join(format!("{}.wasm.sig", guest.name));
    let stamp = stamp_path(&folder, &guest.name);
    let manifest = guest.dir.join("plugin.yaml");
    let mut digest = Sha256::new();
    digest.update(common);
    for input in [core, &manifest] {
        feed_file(&mut digest, input)?;
    }
    let inputs = hex(digest);
    let stamped = || -> Option<String> {
        let outputs = outputs_digest(&out, &signature).ok()?;
        Some(format!("{inputs} {outputs}"))
    };
    if fs::read_to_string(&stamp).ok().is_some_and(|old| Some(old) == stamped()) {
        return Ok(false);
    }
    fs::create_dir_all(&folder)?;
    let mut pack = Command::new(sentinel);
    pack.args(["plugin", "pack"]).arg(core).arg("--manifest").arg(&manifest);
    process::quietly(pack.arg("-o").arg(&out), None)?;
    let mut sign = Command::new(sentinel);
    sign.args(["plugin", "sign"]).arg(&out).arg("--key").arg(&key.key);
    process::quietly(&mut sign, None)?;
    let stamped = stamped().with_context(|| {
        format!("`sentinel plugin` left no {} with its .sig beside it", out.display())
    })?;
    replace(&stamp, stamped.as_bytes())?;
    Ok(true)
}

fn stamp_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(".stamps").join(name)
}

/// The development key, made on the first call in a checkout.
pub(crate) fn dev_key(checkout: &Checkout, sentinel: &Path) -> Result<DevKey> {
    let dir = checkout.target("dev-keys");
    let key = DevKey { key: dir.join("sentinel.key"), trust: dir.join("trust.yaml") };
    if !(key.key.is_file() && key.trust.is_file()) {
        fs::create_dir_all(&dir)?;
        for stale in [&key.key, &key.trust, &dir.join("sentinel.pub")] {
            if stale.exists() {
                fs::remove_file(stale)?;
            }
        }
        process::quietly(
            Command::new(sentinel)
                .args(["plugin", "keygen", "--publisher", PUBLISHER, "--out"])
                .arg(&key.key),
            None,
        )?;
    }
    for file in [&key.key, &key.trust] {
        ensure!(file.is_file(), "`sentinel plugin keygen` left no {}", file.display());
    }
    let mode = fs::metadata(&key.key)?.permissions().mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "{} may be read by others (mode {mode:o}); remove target/dev-keys and start again",
        key.key.display()
    );
    Ok(key)
}

fn common_digest(checkout: &Checkout, key: &DevKey) -> Result<String> {
    let mut digest = Sha256::new();
    feed_file(&mut digest, &key.trust)?;
    for source in PACKING_SOURCES {
        feed_tree(&mut digest, &checkout.root().join(source))?;
    }
    feed_plugin_commands(&mut digest, &checkout.root().join("host/cli/src"))?;
    Ok(hex(digest))
}

/// The CLI's files about plugins, wherever they stand in it.
fn feed_plugin_commands(digest: &mut Sha256, dir: &Path) -> Result<()> {
    for path in sorted(dir)? {
        let about_plugins =
            path.file_name().is_some_and(|name| name.to_string_lossy().contains("plugin"));
        if about_plugins {
            feed_tree(digest, &path)?;
        } else if path.is_dir() {
            feed_plugin_commands(digest, &path)?;
        }
    }
    Ok(())
}

fn feed_tree(digest: &mut Sha256, path: &Path) -> Result<()> {
    if path.is_dir() {
        for entry in sorted(path)? {
            feed_tree(digest, &entry)?;
        }
        Ok(())
    } else {
        feed_file(digest, path)
    }
}

fn feed_file(digest: &mut Sha256, path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Lengths first, so that no two lists of files read as the same bytes.
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
    Ok(())
}

fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn outputs_digest(out: &Path, signature: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    feed_file(&mut digest, out)?;
    feed_file(&mut digest, signature)?;
    Ok(hex(digest))
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes packed files of plugins that this checkout built once and has no crate for now.
fn remove_strangers(checkout: &Checkout, guests: &[Guest]) -> Result<usize> {
    let mut removed = 0;
    for (_, place) in PLACES {
        let folder = checkout.target(place);
        let Ok(stamps) = fs::read_dir(folder.join(".stamps")) else {
            continue;
        };
        for stamp in stamps {
            let stamp = stamp?.path();
            let name = stamp.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known = |guest: &Guest| guest.place == *place && guest.name == name;
            if guests.iter().any(known) {
                continue;
            }
            for file in [format!("{name}.wasm"), format!("{name}.wasm.sig")] {
                let file = folder.join(file);
                if file.exists() {
                    fs::remove_file(file)?;
                }
            }
            fs::remove_file(stamp)?;
            removed += 1;
        }
    }
    Ok(removed)
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

    #[test]
    fn moving_bytes_from_one_file_to_the_next_changes_the_digest() {
        let dir = tempfile::tempdir().unwrap();
        let check = |a: &str, b: &str| {
            fs::write(dir.path().join("a"), a).unwrap();
            fs::write(dir.path().join("b"), b).unwrap();
            let mut digest = Sha256::new();
            feed_tree(&mut digest, dir.path()).unwrap();
            hex(digest)
        };
        assert_ne!(check("xy", "z"), check("x", "yz"));
        assert_eq!(check("xy", "z"), check("xy", "z"));
    }
}
