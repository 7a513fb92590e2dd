//! The compiler for guests (`wasm32-unknown-unknown`): rustup's target where it is or can be
//! had, else Debian's own Rust unpacked under `target/toolchain`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::checkout::{Checkout, replace};
use crate::debian;
use crate::process;
use crate::steps::{Step, Steps};

/// What guests are compiled to.
pub(crate) const GUEST_TARGET: &str = "wasm32-unknown-unknown";

/// rustup gives up by itself where no server answers; a slow one is cut off here.
const RUSTUP_LIMIT: Duration = Duration::from_secs(180);

/// Parts of the compiler's sources that building `std` never reads.
const UNUSED_SOURCES: &[&str] = &["compiler", "src", "tests", "vendor"];

/// Where the guest compiler should come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// What is there; else rustup; else Debian.
    Auto,
    /// rustup's target only.
    Rustup,
    /// Debian's packages only.
    Debian,
}

/// The compiler that was chosen, as `target/toolchain/choice.json` keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Toolchain {
    /// The Rust that builds the host has the target's standard library.
    Rustup {
        /// The folder of that library.
        libraries: PathBuf,
    },
    /// Debian's packages, unpacked; the standard library is built from their sources.
    Debian {
        /// Where they are unpacked.
        root: PathBuf,
        /// The packages' version.
        version: String,
        /// The loader path of what is unpacked.
        library_path: String,
    },
}

impl Toolchain {
    /// One line for a reader.
    pub(crate) fn describe(&self) -> String {
        match self {
            Toolchain::Rustup { .. } => "the installed Rust has the target".to_owned(),
            Toolchain::Debian { version, .. } => format!("Debian's Rust {version}, unpacked"),
        }
    }

    /// A `cargo build` that compiles for guests; the caller adds packages.
    pub(crate) fn cargo_build(&self, checkout: &Checkout) -> Command {
        let mut command = checkout.cargo();
        command
            .arg("build")
            .args(["--target", GUEST_TARGET, "--target-dir"])
            .arg(checkout.target("guest"))
            // The environment's flags are for the host. Paths are cut to what is the same on
            // every machine, so that a digest does not tell where something was built.
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(checkout).join("\u{1f}"))
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET")
            .env_remove("CARGO_BUILD_RUSTFLAGS");
        if let Toolchain::Debian { root, library_path, .. } = self {
            let programs = root.join("usr/bin");
            let path = env::var_os("PATH").unwrap_or_default();
            let path = env::join_paths(env::split_paths(&path).chain([programs.clone()]));
            command
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC", programs.join("rustc"))
                .env("RUSTC_BOOTSTRAP", "1")
                .env("LD_LIBRARY_PATH", library_path)
                .env("PATH", path.unwrap_or_default())
                .env_remove("RUSTC_WRAPPER");
        }
        command
    }

    fn flags(&self, checkout: &Checkout) -> Vec<String> {
        let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
        let mut flags = vec![remap(checkout.root(), "sentinel")];
        if let Some(home) = cargo_home() {
            flags.push(remap(&home, "cargo"));
        }
        if let Toolchain::Debian { root, .. } = self {
            flags.push(remap(root, "rust"));
        }
        flags
    }

    fn works(&self) -> bool {
        match self {
            Toolchain::Rustup { libraries } => has_core(libraries),
            Toolchain::Debian { root, .. } => process::is_program(&root.join("usr/bin/rustc")),
        }
    }

    fn is_from(&self, source: Source) -> bool {
        match source {
            Source::Auto => true,
            Source::Rustup => matches!(self, Toolchain::Rustup { .. }),
            Source::Debian => matches!(self, Toolchain::Debian { .. }),
        }
    }
}

/// Finds or fetches the compiler for guests, as a step of a list.
pub(crate) fn ready(checkout: &Checkout, steps: &Steps, source: Source) -> Result<Toolchain> {
    steps.run("Guest toolchain", |step| {
        let toolchain = ensure(checkout, step, source)?;
        let said = toolchain.describe();
        Ok((toolchain, said))
    })
}

/// Finds the guest compiler, fetching it on the first call in a checkout.
pub(crate) fn ensure(checkout: &Checkout, step: &Step, source: Source) -> Result<Toolchain> {
    let _lock =
        checkout.lock("toolchain", || step.say("waiting for another cargo xtask to finish"))?;
    let kept = checkout.target("toolchain/choice.json");
    if let Some(toolchain) = recorded(&kept)
        && toolchain.works()
        && toolchain.is_from(source)
    {
        return Ok(toolchain);
    }
    let toolchain = choose(checkout, step, source)?;
    replace(&kept, &serde_json::to_vec_pretty(&toolchain)?)?;
    Ok(toolchain)
}

fn recorded(path: &Path) -> Option<Toolchain> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn choose(checkout: &Checkout, step: &Step, source: Source) -> Result<Toolchain> {
    let mut tried = Vec::new();
    if source != Source::Debian {
        match from_rustup(checkout, step) {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => tried.push(format!("rustup: {error:#}")),
        }
    }
    if source != Source::Rustup {
        match from_debian(checkout, step) {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => tried.push(format!("Debian's packages: {error:#}")),
        }
    }
    bail!(
        "no compiler for {GUEST_TARGET}:\n  {}\nhint: where rustup can download, \
         run `rustup target add {GUEST_TARGET}`; on Debian 12 or newer make `rustc-web` available \
         to apt-get (with the security suite); then start again",
        tried.join("\n").replace('\n', "\n  ")
    );
}

fn from_rustup(checkout: &Checkout, step: &Step) -> Result<Toolchain> {
    let libraries = target_libraries(checkout)?;
    if has_core(&libraries) {
        return Ok(Toolchain::Rustup { libraries });
    }
    if process::on_path("rustup").is_none() {
        bail!("the installed Rust lacks {GUEST_TARGET} and there is no rustup to add it");
    }
    step.note("asking rustup for the target");
    process::quietly(
        Command::new("rustup")
            .args(["target", "add", GUEST_TARGET])
            .current_dir(checkout.root())
            .env("RUSTUP_MAX_RETRIES", "1"),
        Some(RUSTUP_LIMIT),
    )?;
    let libraries = target_libraries(checkout)?;
    if !has_core(&libraries) {
        bail!(
            "rustup added the target, but {} holds no core library: the `rustc` on PATH is not rustup's",
            libraries.display()
        );
    }
    Ok(Toolchain::Rustup { libraries })
}

fn target_libraries(checkout: &Checkout) -> Result<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = process::read(
        Command::new(rustc)
            .args(["--print", "target-libdir", "--target", GUEST_TARGET])
            .current_dir(checkout.root()),
    )?;
    Ok(PathBuf::from(printed.trim()))
}

fn has_core(libraries: &Path) -> bool {
    fs::read_dir(libraries).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// The version is part of two packages' names and of LLVM's, so apt is asked for them.
fn from_debian(checkout: &Checkout, step: &Step) -> Result<Toolchain> {
    if let Some(reason) = debian::unusable() {
        bail!(reason);
    }
    let version = debian::need_candidate(step, "rustc-web")?;
    let folder = version.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    let root = checkout.target(&format!("toolchain/debian-{folder}"));
    if !root.is_dir() {
        step.say("taking Debian's own Rust: about 140 MB, once; nothing is installed");
        let std = debian::dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
        let llvm = debian::dependency("rust-web-llvm", "llvm-")?;
        let lld = llvm.replace("llvm-", "lld-");
        let mut packages = debian::closure(&[&lld, "rustc-web", &std])?;
        packages.extend(["rust-web-src", "rust-web-llvm"].map(str::to_owned));
        debian::unpack(step, &packages, &root)?;
        drop_unused_sources(&root)?;
    }
    let toolchain = Toolchain::Debian { library_path: debian::library_path(&root)?, version, root };
    if !toolchain.works() {
        bail!("the unpacked packages hold no usr/bin/rustc");
    }
    Ok(toolchain)
}

fn drop_unused_sources(root: &Path) -> Result<()> {
    let sources = fs::read_dir(root.join("usr/src")).context("rust-web-src holds no usr/src")?;
    for source in sources {
        for unused in UNUSED_SOURCES {
            let unused = source.as_ref().map(|entry| entry.path().join(unused));
            if let Ok(unused) = unused
                && unused.is_dir()
            {
                fs::remove_dir_all(unused)?;
            }
        }
    }
    Ok(())
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_choice_reads_back_and_a_strange_one_is_chosen_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("choice.json");
        let toolchain = Toolchain::Debian {
            root: "/r".into(),
            version: "1.96.0".into(),
            library_path: "/r/usr/lib".into(),
        };
        replace(&path, &serde_json::to_vec(&toolchain).unwrap()).unwrap();
        assert_eq!(recorded(&path), Some(toolchain));
        replace(&path, br#"{"source":"debian","root":"/r"}"#).unwrap();
        assert_eq!(recorded(&path), None);
        assert_eq!(recorded(&dir.path().join("none")), None);
    }

    #[test]
    fn a_library_folder_counts_only_with_a_core_library_in_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_core(dir.path()));
        assert!(!has_core(&dir.path().join("absent")));
        fs::write(dir.path().join("libcore-0123.rlib"), b"").unwrap();
        assert!(has_core(dir.path()));
    }
}
