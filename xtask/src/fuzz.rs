//! `cargo xtask fuzz`: every fuzz target of the checkout, each for a bounded time.
//!
//! A target is a program of a `fuzz` folder below a crate, which is a workspace of its own. It is
//! built by the stable compiler with coverage for libFuzzer, which comes with `libfuzzer-sys`.
//! What a target found before lies in `target/fuzz/corpus` and is where it goes on; texts in
//! `fuzz/seeds/<target>` are where it begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cargo;
use crate::checkout::Checkout;
use crate::process;
use crate::steps::{Step, Steps};

/// Folders whose sub-folders may have a `fuzz` folder.
const PLACES: &[&str] = &["host", "registry", "components"];

/// As cargo-fuzz has them, without the sanitizers that only nightly compilers have.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "--cfg=fuzzing",
];

/// Longest that one input may take, in seconds.
const INPUT_SECONDS: u64 = 10;
/// Most memory that a target may take, in MiB.
const MEMORY_MIB: u64 = 2048;
/// How long a target may take beyond its time: for its start and its report.
const GRACE: Duration = Duration::from_secs(60);

/// A crate of fuzz targets.
#[derive(Debug, PartialEq, Eq)]
struct Fuzzed {
    /// Its folder, from the checkout's root.
    dir: PathBuf,
    /// Its targets.
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Runs every target whose folder or name contains one of `filters` (all where there is none)
/// for `seconds`. One that finds something does not keep the others from running.
pub(crate) fn run(checkout: &Checkout, seconds: u64, filters: &[String]) -> Result<()> {
    if !["c++", "g++", "clang++"].iter().any(|name| process::on_path(name).is_some()) {
        bail!("libFuzzer is C++ and there is no C++ compiler; on Debian: apt-get install g++");
    }
    let fuzzed = select(discover(checkout)?, filters);
    if fuzzed.is_empty() {
        bail!("no fuzz target is named like {}", filters.join(", "));
    }
    let steps = Steps::new(fuzzed.iter().map(|one| 1 + one.targets.len()).sum());
    let host = host_triple(checkout)?;
    let mut found = Vec::new();
    for one in &fuzzed {
        let shown = one.dir.display();
        let built = steps.run(&format!("Build {shown}"), |step| build(checkout, step, one, &host));
        let programs = match built {
            Ok(programs) => programs,
            Err(error) => {
                eprintln!("{error:#}");
                found.push(format!("{shown} (not built)"));
                continue;
            }
        };
        for target in &one.targets {
            let title = format!("Fuzz {shown} {target}");
            let program = programs.join(target);
            let place = one.dir.join(target);
            let outcome = steps
                .run(&title, |step| fuzz(checkout, step, &program, &place, one, target, seconds));
            if let Err(error) = outcome {
                eprintln!("{error:#}");
                found.push(place.display().to_string());
            }
        }
    }
    if !found.is_empty() {
        bail!("{} fuzz targets failed: {}", found.len(), found.join(", "));
    }
    Ok(())
}

fn discover(checkout: &Checkout) -> Result<Vec<Fuzzed>> {
    let mut fuzzed = Vec::new();
    for place in PLACES {
        let mut crates = fs::read_dir(checkout.root().join(place))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<Vec<_>>>()?;
        crates.sort();
        for name in crates {
            let dir = Path::new(place).join(name).join("fuzz");
            let manifest = checkout.root().join(&dir).join("Cargo.toml");
            if manifest.is_file() {
                fuzzed.push(Fuzzed { targets: targets(checkout, &manifest)?, dir });
            }
        }
    }
    Ok(fuzzed)
}

fn targets(checkout: &Checkout, manifest: &Path) -> Result<Vec<String>> {
    let metadata = process::read(
        checkout
            .cargo()
            .args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"])
            .arg(manifest),
    )?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let targets = metadata.packages.into_iter().flat_map(|package| package.targets);
    let programs = targets.filter(|target| target.kind.iter().any(|kind| kind == "bin"));
    Ok(programs.map(|target| target.name).collect())
}

fn select(fuzzed: Vec<Fuzzed>, filters: &[String]) -> Vec<Fuzzed> {
    let wanted = |dir: &Path, target: &str| {
        let name = dir.join(target).display().to_string();
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter))
    };
    let selected = fuzzed.into_iter().map(|Fuzzed { dir, targets }| {
        let targets = targets.into_iter().filter(|target| wanted(&dir, target)).collect();
        Fuzzed { dir, targets }
    });
    selected.filter(|one| !one.targets.is_empty()).collect()
}

fn host_triple(checkout: &Checkout) -> Result<String> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let said = process::read(rustc.arg("-vV").current_dir(checkout.root()))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// Builds a crate's targets; returns the folder of the programs.
fn build(
    checkout: &Checkout,
    step: &Step,
    fuzzed: &Fuzzed,
    host: &str,
) -> Result<(PathBuf, String)> {
    let target_dir = checkout.target("fuzz/build");
    let mut command = checkout.cargo();
    command
        .args(["build", "--release", "--bins", "--manifest-path"])
        .arg(checkout.root().join(&fuzzed.dir).join("Cargo.toml"))
        // Named, so that programs which run while building are not instrumented.
        .args(["--target", host, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"))
        .env_remove("RUSTFLAGS");
    let built = cargo::build(step, &mut command, &[])?;
    Ok((target_dir.join(host).join("release"), cargo::summary(&built)))
}

fn fuzz(
    checkout: &Checkout,
    step: &Step,
    program: &Path,
    place: &Path,
    fuzzed: &Fuzzed,
    target: &str,
    seconds: u64,
) -> Result<((), String)> {
    let corpus = checkout.target("fuzz/corpus").join(place);
    let artifacts = checkout.target("fuzz/artifacts").join(place);
    for dir in [&corpus, &artifacts] {
        fs::create_dir_all(dir)?;
    }
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(&corpus);
    let seeds = checkout.root().join(&fuzzed.dir).join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let mut done = "nothing was run".to_owned();
    let mut kept = String::new();
    let limit = Duration::from_secs(seconds) + GRACE;
    let status = process::watch(&mut command, Some(limit), |_, line| match progress(line) {
        Some(note) => {
            step.note(&note);
            done = note;
        }
        None => {
            kept.push_str(line);
            kept.push('\n');
        }
    })?;
    if !status.success() {
        bail!(
            "{}\n`{}` failed ({status}); inputs that fail lie in {}",
            kept.trim_end(),
            process::show(&command),
            artifacts.display()
        );
    }
    Ok(((), done))
}

/// libFuzzer: `#1048576  pulse  cov: 512 ft: 2000 corp: 99/4Kb lim: 64 exec/s: 9000 rss: 90Mb`.
fn progress(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let runs: u64 = words.first()?.strip_prefix('#')?.parse().ok()?;
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    Some(format!("{runs} inputs, {} places reached", after("cov:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_libfuzzers_lines() {
        for (line, expected) in [
            (
                "#1048576\tpulse  cov: 512 ft: 2000 corp: 99/4Kb lim: 64 exec/s: 9000 rss: 90Mb",
                Some("1048576 inputs, 512 places reached"),
            ),
            (
                "#2\tINITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 32Mb",
                Some("2 inputs, 9 places reached"),
            ),
            ("#0\tREAD units: 4", None),
            ("==123== ERROR: libFuzzer: deadly signal", None),
            ("    #0 0x5581 in main", None),
            ("", None),
        ] {
            assert_eq!(progress(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn targets_are_selected_by_folder_and_by_name() {
        let all = || {
            vec![
                Fuzzed { dir: "host/wal/fuzz".into(), targets: vec!["segment".to_owned()] },
                Fuzzed {
                    dir: "registry/trust/fuzz".into(),
                    targets: vec!["component".to_owned(), "manifest".to_owned()],
                },
            ]
        };
        let names = |filters: &[&str]| -> Vec<String> {
            let filters: Vec<_> = filters.iter().map(|filter| (*filter).to_owned()).collect();
            select(all(), &filters).into_iter().flat_map(|one| one.targets).collect()
        };
        assert_eq!(names(&[]), ["segment", "component", "manifest"]);
        assert_eq!(names(&["trust"]), ["component", "manifest"]);
        assert_eq!(names(&["manifest", "wal"]), ["segment", "manifest"]);
        assert!(names(&["nothing"]).is_empty());
    }

    #[test]
    fn every_fuzz_folder_of_this_checkout_is_found_with_its_targets() {
        let checkout = Checkout::find().unwrap();
        let found = discover(&checkout).unwrap();
        let dsl = found.iter().find(|one| one.dir == Path::new("components/alert-dsl/fuzz"));
        assert_eq!(dsl.unwrap().targets, ["conditions"]);
        assert!(found.iter().all(|one| !one.targets.is_empty()), "{found:?}");
    }
}
