//! Core modules become plugins: packed with their manifest and signed with this checkout's
//! development key, by the host program itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::checkout::{Checkout, replace};
use crate::components::{Guest, PLACES};
use crate::process;
use crate::steps::Step;

/// What decides how a core module is packed and signed: all that `sentinel plugin pack`, `sign`
/// and `keygen` are made of. The program itself is not among them: it changes with every edit
/// of the host.
const PACKING_SOURCES: &[&str] = &[
    "Cargo.lock",
    "host/cli/src",
    "host/files/src",
    "host/model/src",
    "host/runtime/src",
    "registry/client/src",
    "registry/trust/src",
    "wit",
];

/// The publisher whose plugins this checkout signs.
const PUBLISHER: &str = "sentinel";

/// The paths a host needs to run what was built here.
#[derive(Debug, Clone)]
pub(crate) struct DevKey {
    /// The private key, 0600.
    pub(crate) key: PathBuf,
}

/// Packs and signs what has changed, with the host program `sentinel`.
pub(crate) fn pack(
    checkout: &Checkout,
    step: &Step,
    sentinel: &Path,
    guests: &[Guest],
    cores: &BTreeMap<String, PathBuf>,
) -> Result<String> {
    let _lock =
        checkout.lock("plugins", || step.say("waiting for another cargo xtask to finish"))?;
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
    let known = fs::read_to_string(&stamp).ok().and_then(|text| Stamp::read(&text));
    if let Some(known) = &known
        && known.inputs == inputs
        && outputs_digest(&out, &signature).ok().as_ref() == Some(&known.outputs)
    {
        return Ok(false);
    }
    fs::create_dir_all(stamp.parent().context("a stamp lies in a folder")?)?;
    let packed = |to: &Path, patch: Option<u64>| {
        let mut pack = Command::new(sentinel);
        pack.args(["plugin", "pack"]).arg(core).arg("--manifest").arg(&manifest);
        pack.arg("-o").arg(to);
        pack.args(patch.iter().flat_map(|patch| ["--patch".to_owned(), patch.to_string()]));
        process::quietly(&mut pack, None)
    };
    // Beside the stamp first: whoever looks at the folder sees finished plugins only.
    let fresh = stamp.with_extension("fresh");
    packed(&fresh, None)?;
    let mut content = Sha256::new();
    feed_file(&mut content, &fresh)?;
    let content = hex(content);
    // A registry never takes other bytes for a version that it has, so what changes in a
    // checkout gets a version of its own: the time takes the place of the patch number. The
    // first build of a checkout has the version that its manifest says, as releases do.
    let patch = match known {
        None => None,
        Some(known) if known.content == content => known.patch,
        Some(_) => Some(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    };
    match patch {
        None => fs::rename(&fresh, &out)?,
        Some(patch) => {
            fs::remove_file(&fresh)?;
            packed(&out, Some(patch))?;
        }
    }
    let mut sign = Command::new(sentinel);
    sign.args(["plugin", "sign"]).arg(&out).arg("--key").arg(&key.key);
    process::quietly(&mut sign, None)?;
    let outputs = outputs_digest(&out, &signature).with_context(|| {
        format!("`sentinel plugin` left no {} with its .sig beside it", out.display())
    })?;
    replace(&stamp, Stamp { inputs, outputs, content, patch }.text().as_bytes())?;
    Ok(true)
}

/// What is known of the last packing of a plugin.
struct Stamp {
    /// Of everything that decides what comes out.
    inputs: String,
    /// Of the files that came out.
    outputs: String,
    /// Of the plugin with the version that its manifest says.
    content: String,
    /// The patch number that it was given in place of the manifest's.
    patch: Option<u64>,
}

impl Stamp {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ').map(str::to_owned);
        let [inputs, outputs, content] = [parts.next()?, parts.next()?, parts.next()?];
        let patch = parts.next().map(|patch| patch.parse()).transpose().ok()?;
        Some(Self { inputs, outputs, content, patch })
    }

    fn text(&self) -> String {
        let Self { inputs, outputs, content, patch } = self;
        let patch = patch.map(|patch| format!(" {patch}")).unwrap_or_default();
        format!("{inputs} {outputs} {content}{patch}")
    }
}

fn stamp_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(".stamps").join(name)
}

/// The development key, made on the first call in a checkout.
pub(crate) fn dev_key(checkout: &Checkout, sentinel: &Path) -> Result<DevKey> {
    let dir = checkout.target("dev-keys");
    let key = DevKey { key: dir.join("sentinel.key") };
    if !key.key.is_file() {
        fs::create_dir_all(&dir)?;
        let mut keygen = Command::new(sentinel);
        keygen.args(["plugin", "keygen", "--publisher", PUBLISHER, "--out"]).arg(&key.key);
        let public = process::read(&mut keygen)?;
        // What deploy/found.sh and tests tell a registry of the publisher.
        let path = dir.join("sentinel.pub");
        fs::write(&path, public).with_context(|| format!("cannot write {}", path.display()))?;
    }
    ensure!(key.key.is_file(), "`sentinel plugin keygen` left no {}", key.key.display());
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
    feed_file(&mut digest, &key.key)?;
    for source in PACKING_SOURCES {
        feed_tree(&mut digest, &checkout.root().join(source))?;
    }
    Ok(hex(digest))
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

#[cfg(test)]
mod tests;
