//! Programs of a newer Debian release than this machine's: its package lists are read into a
//! folder of ours, from the mirror that this machine has for its own release.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::process;
use crate::steps::Step;

const LIMIT: Duration = Duration::from_secs(300);

/// Package lists of another release.
pub(crate) struct Newer {
    options: Vec<String>,
}

/// What `apt-get indextargets` says of one list: origin, component, address.
fn mirror(targets: &str) -> Option<String> {
    let addresses: BTreeSet<&str> = targets
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('|');
            let found = (fields.next()?, fields.next()?, fields.next()?);
            let security = found.2.trim_end_matches('/').ends_with("-security");
            (found.0 == "Debian" && found.1 == "main" && !security).then_some(found.2)
        })
        .collect();
    addresses.first().map(|address| (*address).to_owned())
}

/// The key of a release, as Debian's keyring package installs it.
fn key_of(release: &str) -> PathBuf {
    format!("/usr/share/keyrings/debian-archive-{release}-automatic.gpg").into()
}

impl Newer {
    /// Reads the lists of `release` into `dir`.
    pub(crate) fn lists(step: &Step, release: &str, dir: &Path) -> Result<Self> {
        let key = key_of(release);
        if !key.exists() {
            bail!("there is no {}: upgrade the package `debian-archive-keyring`", key.display());
        }
        let targets = process::read(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(ORIGIN)|$(COMPONENT)|$(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        let address = mirror(&targets)
            .context("this machine's package sources have no Debian mirror; give it one")?;
        for folder in ["sources", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        fs::write(
            dir.join("sources/newer.sources"),
            format!(
                "Types: deb\nURIs: {address}\nSuites: {release}\nComponents: main\nSigned-By: {}\n",
                key.display()
            ),
        )?;
        let at = |name: &str| dir.join(name).display().to_string();
        let options = [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={}", at("sources")),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
        ];
        let newer =
            Self { options: options.into_iter().flat_map(|one| ["-o".to_owned(), one]).collect() };
        step.note(&format!("reading the package lists of {release}"));
        process::quietly(newer.command("apt-get").args(["update", "-q"]), Some(LIMIT))?;
        Ok(newer)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C");
        command
    }

    /// The version of a package in these lists.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let version = debian::candidate(self.command("apt-cache"), package)?;
        version.with_context(|| format!("the lists have no `{package}`"))
    }

    /// `packages` and everything they need, its C library too, but for what is taken as there.
    pub(crate) fn closure(
        &self,
        packages: &[&str],
        there: &BTreeSet<String>,
    ) -> Result<Vec<String>> {
        let mut all = debian::closure_beside(self.command("apt-cache"), packages, there)?;
        all.push("libc6".to_owned());
        Ok(all)
    }

    /// Downloads packages and unpacks them into `dir`, and nothing that they need.
    pub(crate) fn unpack(&self, step: &Step, packages: &[String], dir: &Path) -> Result<()> {
        let archives = dir.with_extension("archives");
        if archives.exists() {
            fs::remove_dir_all(&archives)?;
        }
        fs::create_dir_all(&archives)?;
        step.note(&format!("downloading {}", packages.join(", ")));
        process::quietly(
            self.command("apt-get").args(["download", "-q"]).args(packages).current_dir(&archives),
            Some(LIMIT),
        )?;
        for archive in fs::read_dir(&archives)? {
            let archive = archive?.path();
            process::quietly(Command::new("dpkg").arg("-x").arg(&archive).arg(dir), None)?;
        }
        fs::remove_dir_all(&archives)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debians_own_main_and_not_the_security_archive() {
        for (targets, found) in [
            (
                "Debian|main|http://m/debian-security/\nDebian|main|http://m/debian/\n",
                Some("http://m/debian/"),
            ),
            ("Other|main|http://o/\nDebian|contrib|http://m/debian/\n", None),
            ("", None),
            ("Debian\n", None),
        ] {
            assert_eq!(mirror(targets).as_deref(), found, "{targets:?}");
        }
    }
}
