//! Debian packages used without installing them: downloaded as the current user and unpacked
//! into a folder of ours. Neither root nor dpkg's database is touched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::steps::Step;

/// A mirror that sends nothing for this long in all is given up.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(900);

/// `apt-get update` reads every list of every source.
const UPDATE_LIMIT: Duration = Duration::from_secs(300);

/// Packages that do something only when they are installed: never unpacked.
const ONLY_WHEN_INSTALLED: &[&str] = &[
    "adduser",
    "binutils",
    "debconf",
    "dpkg",
    "gcc",
    "init-system-helpers",
    "iproute2",
    "libc-dev",
    "libc6",
    "libc6-dev",
    "lsb-base",
    "perl",
    "perl-base",
    "postgresql-client-common",
    "postgresql-common",
    "ssl-cert",
    "sysvinit-utils",
];

/// What belongs to a person's desktop: tests bring a bus of their own, and there is nobody to
/// ask for a password.
const ONLY_ON_A_DESKTOP: &[&str] = &[
    "dbus-user-session",
    "dbus-x11",
    "dconf-gsettings-backend",
    "default-dbus-session-bus",
    "gcr",
    "gcr4",
    "p11-kit",
    "pinentry-gnome3",
];

/// What `apt-cache depends` says of one package: groups of alternatives, one of which is needed.
type Needs = BTreeMap<String, Vec<Vec<String>>>;

/// Says why packages cannot be had here, or nothing.
pub(crate) fn unusable() -> Option<String> {
    ["apt-get", "apt-cache", "dpkg", "dpkg-query"]
        .into_iter()
        .find(|program| process::on_path(program).is_none())
        .map(|program| format!("this is not a Debian or Ubuntu machine (no `{program}`)"))
}

/// The version that would be downloaded, if the package lists of an `apt-cache` know one.
pub(crate) fn candidate(mut apt_cache: Command, package: &str) -> Result<Option<String>> {
    let policy = process::read(apt_cache.args(["policy", package]).env("LC_ALL", "C"))?;
    Ok(policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned))
}

/// Whether a version is not below the least one, as Debian orders them.
pub(crate) fn is_at_least(version: &str, least: Option<&str>) -> bool {
    let compare = |least| {
        let mut dpkg = Command::new("dpkg");
        process::quietly(dpkg.args(["--compare-versions", version, "ge", least]), None).is_ok()
    };
    least.is_none_or(compare)
}

/// Makes sure that the lists know `package`, reading them anew once if this user may.
pub(crate) fn need_candidate(step: &Step, package: &str) -> Result<String> {
    let known = || candidate(apt_cache(), package);
    if let Some(version) = known()? {
        return Ok(version);
    }
    if rustix::process::geteuid().is_root() {
        step.note("reading the package lists");
        process::quietly(Command::new("apt-get").args(["update", "-q"]), Some(UPDATE_LIMIT))?;
        if let Some(version) = known()? {
            return Ok(version);
        }
        bail!("this machine's package sources have no `{package}`");
    }
    bail!(
        "the package lists do not know `{package}`; run `sudo apt-get update` once, then start again"
    );
}

/// The first dependency of `package` that starts with `prefix`.
pub(crate) fn dependency(package: &str, prefix: &str) -> Result<String> {
    needs_of(apt_cache(), &[package])?
        .remove(package)
        .into_iter()
        .flatten()
        .flatten()
        .find(|name| name.starts_with(prefix))
        .with_context(|| format!("`{package}` depends on nothing named `{prefix}*` any more"))
}

/// `packages` and everything they need that is not installed on this machine.
pub(crate) fn closure(packages: &[&str]) -> Result<Vec<String>> {
    closure_beside(apt_cache(), packages, &installed()?)
}

/// `packages` and everything they need beside what is there, by the lists of an `apt-cache`.
pub(crate) fn closure_beside(
    apt_cache: Command,
    packages: &[&str],
    there: &BTreeSet<String>,
) -> Result<Vec<String>> {
    Ok(missing(packages, &needs_of(apt_cache, packages)?, there))
}

/// Downloads `packages` and unpacks them into `dir`, which must not exist yet.
pub(crate) fn unpack(step: &Step, packages: &[String], dir: &Path) -> Result<()> {
    let partial = dir.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let archives = partial.join("archives");
    fs::create_dir_all(&archives)?;
    step.note(&format!("downloading {} Debian packages", packages.len()));
    process::quietly(
        Command::new("apt-get").args(["download", "-q"]).args(packages).current_dir(&archives),
        Some(DOWNLOAD_LIMIT),
    )?;
    for archive in fs::read_dir(&archives)? {
        let archive = archive?.path();
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        step.note(&format!("unpacking {}", name.split('_').next().unwrap_or(&name)));
        process::quietly(Command::new("dpkg").arg("-x").arg(&archive).arg(&partial), None)?;
    }
    fs::remove_dir_all(&archives)?;
    fs::rename(&partial, dir)
        .with_context(|| format!("cannot move the unpacked packages to {}", dir.display()))
}

/// The folders below `root` that hold shared libraries, as a loader path.
pub(crate) fn library_path(root: &Path) -> Result<String> {
    let mut dirs: BTreeSet<PathBuf> = BTreeSet::new();
    for base in ["lib", "usr/lib"] {
        let base = root.join(base);
        if !base.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&base)? {
            let dir = entry?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with("-linux-gnu") {
                dirs.insert(dir);
            } else if name.starts_with("llvm-") {
                dirs.insert(dir.join("lib"));
            }
        }
    }
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.to_string_lossy()).collect();
    Ok(dirs.join(":"))
}

/// The one that reads this machine's own lists.
fn apt_cache() -> Command {
    Command::new("apt-cache")
}

fn needs_of(mut apt_cache: Command, packages: &[&str]) -> Result<Needs> {
    let text = process::read(
        apt_cache
            .args(["depends", "--recurse", "--no-recommends", "--no-suggests"])
            .args(["--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"])
            .args(packages)
            .env("LC_ALL", "C"),
    )?;
    Ok(read_needs(&text))
}

fn installed() -> Result<BTreeSet<String>> {
    let text = process::read(Command::new("dpkg-query").args([
        "-W",
        "-f",
        "${Package} ${db:Status-Status}\\n",
    ]))?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(" installed")).map(str::to_owned).collect())
}

/// A line `|Depends: a` is an alternative to the next one; `<a>` is virtual and the names
/// indented below it are its providers.
fn read_needs(text: &str) -> Needs {
    let mut needs = Needs::new();
    let mut package = String::new();
    let mut open = false;
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches([' ', '|']).len();
        if indent == 0 {
            package = line.trim().to_owned();
            needs.entry(package.clone()).or_default();
            open = false;
            continue;
        }
        let Some(groups) = needs.get_mut(&package) else {
            continue;
        };
        let words = line.trim_start_matches([' ', '|']);
        if let Some((_, name)) = words.split_once("Depends: ") {
            if !open {
                groups.push(Vec::new());
            }
            open = line.contains('|');
            if let (Some(group), false) = (groups.last_mut(), name.starts_with('<')) {
                group.push(name.trim().to_owned());
            }
        } else if let Some(group) = groups.last_mut() {
            group.push(words.trim().to_owned());
        }
    }
    needs
}

fn missing(packages: &[&str], needs: &Needs, installed: &BTreeSet<String>) -> Vec<String> {
    let mut wanted: Vec<String> = Vec::new();
    let mut queue: VecDeque<String> = packages.iter().map(|&name| name.to_owned()).collect();
    while let Some(package) = queue.pop_front() {
        if wanted.contains(&package) {
            continue;
        }
        for group in needs.get(&package).into_iter().flatten() {
            let here = |name: &String| {
                installed.contains(name)
                    || wanted.contains(name)
                    || ONLY_WHEN_INSTALLED.contains(&name.as_str())
                    || ONLY_ON_A_DESKTOP.contains(&name.as_str())
            };
            if group.iter().any(here) {
                continue;
            }
            queue.extend(group.first().cloned());
        }
        wanted.push(package);
    }
    wanted.sort();
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_debian_orders_them() {
        for (version, least, enough) in [
            ("2.9.10-1+b3", Some("2.10"), false),
            ("2.10.27-1", Some("2.10"), true),
            ("1:2.9", Some("2.10"), true),
            ("0.1", None, true),
        ] {
            assert_eq!(is_at_least(version, least), enough, "{version} {least:?}");
        }
    }

    const DEPENDS: &str = "\
rustc-web
  Depends: libc6
  Depends: libstd-rust-web-dev
  Depends: gcc
  Depends: <libc-dev>
    libc6-dev
libstd-rust-web-dev
  Depends: libstd-rust-web-1.96
libstd-rust-web-1.96
 |Depends: first
 |Depends: second
  Depends: <virtual>
    third
  PreDepends: before
";

    #[test]
    fn alternatives_and_providers_make_one_group() {
        let needs = read_needs(DEPENDS);
        assert_eq!(
            needs["libstd-rust-web-1.96"],
            [vec!["first", "second", "third"], vec!["before"]]
        );
        assert_eq!(needs["rustc-web"][3], ["libc6-dev"]);
    }

    #[test]
    fn only_what_is_not_installed_is_fetched_and_the_first_alternative_wins() {
        let needs = read_needs(DEPENDS);
        for (installed, expected) in [
            (
                vec![],
                vec!["before", "first", "libstd-rust-web-1.96", "libstd-rust-web-dev", "rustc-web"],
            ),
            (
                vec!["third", "before"],
                vec!["libstd-rust-web-1.96", "libstd-rust-web-dev", "rustc-web"],
            ),
        ] {
            let installed = installed.into_iter().map(str::to_owned).collect();
            assert_eq!(missing(&["rustc-web"], &needs, &installed), expected);
        }
    }
}
