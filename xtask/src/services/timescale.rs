//! A PostgreSQL with TimescaleDB's Apache edition, of the first Debian release that has one. It
//! may be newer than this machine: it is unpacked with its own C library, and started through its
//! own loader. The Community edition is in no registry of packages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{LAYOUT, Service, Services, recorded};
use crate::checkout::{Checkout, replace};
use crate::debian;
use crate::newer::Newer;
use crate::steps::Step;

/// Names a list of services of which PostgreSQL has the extension; then none is fetched.
pub(crate) const VARIABLE: &str = "SENTINEL_TIMESCALE";

const RELEASE: &str = "trixie";
const EXTENSION: &str = "postgresql-17-timescaledb";
const PACKAGES: [&str; 3] = ["postgresql-17", "postgresql-client-17", EXTENSION];
/// What they ask for and tests do not: a compiler for queries, languages, and time zones that
/// every machine has.
const TAKEN_AS_THERE: [&str; 3] = ["libllvm19", "locales", "tzdata"];
/// What is started by name. A dump is made and restored by programs that are not older than the server.
const PROGRAMS: [&str; 5] = ["postgres", "initdb", "psql", "pg_dump", "pg_restore"];

/// Where the list of services lies that tests read.
pub(crate) fn list_path(checkout: &Checkout) -> PathBuf {
    std::env::var_os(VARIABLE)
        .map_or_else(|| checkout.target("services/timescale/services.json"), PathBuf::from)
}

/// Fetches what is missing.
pub(super) fn ensure(checkout: &Checkout, step: &Step) -> Result<String> {
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(format!("TimescaleDB as {VARIABLE} says"));
    }
    let _lock =
        checkout.lock("timescale", || step.say("waiting for another cargo xtask to finish"))?;
    let list = list_path(checkout);
    let found = match recorded(&list).filter(is_whole) {
        Some(found) => found,
        None => fetch(checkout, step)?,
    };
    let version = found.services.get("postgres").map_or("", |service| &service.version);
    Ok(format!("TimescaleDB {version}"))
}

/// Whether a list has every program: one that was written when fewer were asked for does not.
fn is_whole(list: &Services) -> bool {
    PROGRAMS.iter().all(|&name| list.services.contains_key(name))
}

fn fetch(checkout: &Checkout, step: &Step) -> Result<Services> {
    let folder = checkout.target("services/timescale");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let root = folder.join("root");
    let newer = Newer::lists(step, RELEASE, &checkout.target(&format!("services/{RELEASE}")))
        .with_context(|| format!("tests need TimescaleDB: name one by {VARIABLE}"))?;
    let version = newer.version(EXTENSION)?;
    let there: BTreeSet<String> = TAKEN_AS_THERE.map(str::to_owned).into();
    newer.unpack(step, &newer.closure(&PACKAGES, &there)?, &root)?;

    let libraries = debian::library_path(&root)?;
    let loader = loader(Path::new(&libraries))?;
    let mut found = BTreeMap::new();
    for name in PROGRAMS {
        let program = root.join("usr/lib/postgresql/17/bin").join(name);
        start_through(&loader, &libraries, &program)?;
        let service = Service { program, library_path: String::new(), version: version.clone() };
        found.insert(name.to_owned(), service);
    }
    let found = Services { layout: LAYOUT, services: found };
    replace(&list_path(checkout), &serde_json::to_vec_pretty(&found)?)?;
    Ok(found)
}

/// The loader of the C library in a folder.
fn loader(libraries: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(libraries)
        .with_context(|| format!("cannot look into {}", libraries.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-")))
        .with_context(|| format!("{} has no loader", libraries.display()))
}

/// Puts a script in the place of a program, which is beside it from then on: `initdb` starts
/// `postgres` by its path, and both find their files by the name that they are started by.
fn start_through(loader: &Path, libraries: &str, program: &Path) -> Result<()> {
    fs::rename(program, program.with_extension("elf"))
        .with_context(|| format!("the packages hold no {}", program.display()))?;
    let loader = loader.display();
    let script = format!(
        "#!/bin/sh\nexec '{loader}' --library-path '{libraries}' --argv0 \"$0\" \"$0.elf\" \"$@\"\n"
    );
    fs::write(program, script)?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_for_a_program_hands_all_words_on_and_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let (loader, program) = (dir.path().join("ld-test.so"), dir.path().join("postgres"));
        fs::write(&loader, "#!/bin/sh\nprintf '%s|' \"$@\"\n").unwrap();
        fs::set_permissions(&loader, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&program, "the program").unwrap();
        start_through(&super::loader(dir.path()).unwrap(), "/a b:/c", &program).unwrap();

        let output = std::process::Command::new(&program).args(["-c", "x y", ""]).output().unwrap();
        let path = program.display();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, format!("--library-path|/a b:/c|--argv0|{path}|{path}.elf|-c|x y||"));
        assert_eq!(fs::read_to_string(program.with_extension("elf")).unwrap(), "the program");
    }

    #[test]
    fn a_list_without_one_of_the_programs_is_not_whole() {
        let service = Service {
            program: "/bin/sh".into(),
            library_path: String::new(),
            version: "1".to_owned(),
        };
        let all = PROGRAMS.map(|name| (name.to_owned(), service.clone()));
        let mut list = Services { layout: LAYOUT, services: BTreeMap::from(all) };
        assert!(is_whole(&list));
        list.services.remove("pg_restore");
        assert!(!is_whole(&list));
    }

    #[test]
    fn a_folder_without_a_loader_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = loader(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("has no loader"), "{error}");
    }
}
