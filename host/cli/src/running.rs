//! The run file: how other commands of the same user find a running `sentinel up`.
//!
//! It lies in the user's runtime folder, else in their state folder, and only its owner may
//! read it. It holds no secret, only the path to one.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::files;

/// Most bytes of a run file.
const MAX_BYTES: usize = 64 << 10;

/// A `sentinel up` that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Its REST API, `http://HOST:PORT`.
    pub(crate) server: String,
    /// Where agents reach it, `http://HOST:PORT`.
    pub(crate) grpc: String,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// The file that holds its API token.
    pub(crate) token_file: PathBuf,
    /// Its process.
    pub(crate) pid: u32,
    /// Its registry, `http://HOST:PORT`, where it has one.
    #[serde(default)]
    pub(crate) registry: Option<String>,
    /// The file of what hosts begin with at that registry.
    #[serde(default)]
    pub(crate) enrolment: Option<PathBuf>,
}

/// Why there is no run file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunningError {
    /// The user has neither a runtime folder nor a home.
    #[error("this user has no folder for a run file: set XDG_RUNTIME_DIR or HOME")]
    NoFolder,
    /// The folder cannot be made.
    #[error("{path} cannot be made: {source}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{0}")]
    Write(String),
}

/// Where a run file may lie, the place that is written to first.
fn places() -> Vec<PathBuf> {
    let Some(folders) = directories::BaseDirs::new() else { return Vec::new() };
    let places = [folders.runtime_dir(), folders.state_dir()];
    places.into_iter().flatten().map(|place| place.join("sentinel/up.json")).collect()
}

/// Says that this process runs. A later `up` of the same user takes the place of an earlier.
///
/// # Errors
/// [`RunningError`].
pub(crate) fn write(running: &Running) -> Result<(), RunningError> {
    write_to(places().first().ok_or(RunningError::NoFolder)?, running)
}

/// The folder of the run file, which is made.
///
/// # Errors
/// [`RunningError`].
pub(crate) fn folder() -> Result<PathBuf, RunningError> {
    folder_of(places().first().ok_or(RunningError::NoFolder)?)
}

fn folder_of(file: &Path) -> Result<PathBuf, RunningError> {
    let folder = file.parent().ok_or(RunningError::NoFolder)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| RunningError::Folder { path: folder.to_owned(), source })?;
    Ok(folder.to_owned())
}

fn write_to(file: &Path, running: &Running) -> Result<(), RunningError> {
    folder_of(file)?;
    let json = serde_json::to_vec_pretty(running)
        .map_err(|error| RunningError::Write(error.to_string()))?;
    files::replace(file, &json, 0o600).map_err(|failure| RunningError::Write(failure.message))
}

/// Takes this process's run file away; another's stays.
pub(crate) fn remove() {
    for file in places() {
        if read_from(&file)
            .is_ok_and(|found| found.is_some_and(|one| one.pid == std::process::id()))
        {
            let _ = fs::remove_file(file);
        }
    }
}

/// The `up` of this user that runs now.
///
/// # Errors
/// A run file that cannot be read or is none.
pub(crate) fn read() -> Result<Option<Running>, Failure> {
    for file in places() {
        if let Some(running) = read_from(&file)?
            && lives(running.pid)
        {
            return Ok(Some(running));
        }
    }
    Ok(None)
}

fn read_from(file: &Path) -> Result<Option<Running>, Failure> {
    if !file.exists() {
        return Ok(None);
    }
    let json = files::read(file, MAX_BYTES)?;
    serde_json::from_slice(&json).map(Some).map_err(|error| {
        Failure::new(format!("the run file {} is damaged: {error}", file.display()))
            .hint("remove it, and start `sentinel up` again")
    })
}

/// Whether there is such a process, whoever's it is.
fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(Errno::SRCH)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn running(pid: u32) -> Running {
        Running {
            server: "http://127.0.0.1:8080".into(),
            grpc: "http://127.0.0.1:50051".into(),
            data: "/data".into(),
            token_file: "/data/api.token".into(),
            pid,
            registry: None,
            enrolment: None,
        }
    }

    #[test]
    fn what_is_written_is_read_and_only_its_owner_may() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/sentinel/up.json");
        assert!(read_from(&file).unwrap().is_none());
        write_to(&file, &running(1)).unwrap();
        write_to(&file, &running(2)).unwrap();
        assert_eq!(read_from(&file).unwrap(), Some(running(2)));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_damaged_run_file_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("up.json");
        fs::write(&file, "{").unwrap();
        let failure = read_from(&file).unwrap_err();
        assert!(failure.message.contains("up.json is damaged") && failure.hint.is_some());
    }

    #[test]
    fn a_process_lives_until_it_was_waited_for() {
        assert!(lives(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(!lives(pid) && !lives(0) && !lives(u32::MAX));
    }
}
