//! The file of what a host trusts.

use std::path::{Path, PathBuf};

use sentinel_files::Lock;
use sentinel_trust::repository::{Enrolment, MAX_STATE_BYTES, Role, Trusted};

use super::error::ClientError;
use crate::files::read_bounded;

#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
}

impl State {
    /// Where it is; begun from `enrolment` if there is none yet.
    pub(super) fn open(folder: &Path, enrolment: Option<&Enrolment>) -> Result<Self, ClientError> {
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let state = Self { path: folder.join("trusted") };
        let _lock = state.lock()?;
        if !state.path.try_exists().map_err(io(&state.path))? {
            let Some(enrolment) = enrolment else {
                return Err(ClientError::NotEnrolled { path: state.path });
            };
            state.write(&Trusted::enrolled(enrolment)?)?;
        }
        Ok(state)
    }

    pub(super) fn read(&self) -> Result<Trusted, ClientError> {
        let bytes = read_bounded(&self.path, MAX_STATE_BYTES)
            .map_err(|error| io(&self.path)(error.into_io()))?;
        Trusted::from_bytes(&bytes).map_err(|source| ClientError::State {
            path: self.path.clone(),
            source: Box::new(source),
        })
    }

    /// Replaces the file; where another process was faster and has newer, what that one wrote
    /// stays. What counts afterwards.
    pub(super) fn replace(&self, trusted: Trusted) -> Result<Trusted, ClientError> {
        let _lock = self.lock()?;
        let now = self.read()?;
        let kept = if is_newer(&now, &trusted) {
            now.with_indexes_of(&trusted)
        } else {
            trusted.with_indexes_of(&now)
        };
        self.write(&kept)?;
        Ok(kept)
    }

    fn write(&self, trusted: &Trusted) -> Result<(), ClientError> {
        sentinel_files::replace(&self.path, &trusted.to_bytes(), 0o600).map_err(io(&self.path))
    }

    fn lock(&self) -> Result<Lock, ClientError> {
        let path = self.path.with_extension("lock");
        Lock::wait(&path).map_err(io(&path))
    }
}

/// Whether `one` was updated after `other`: a root that follows it, or the same root and a
/// later timestamp. Roots only ever go forward, and start the other versions anew.
fn is_newer(one: &Trusted, other: &Trusted) -> bool {
    let version = |trusted: &Trusted, role| {
        let file = trusted.files().into_iter().find(|file| file.role() == role);
        file.map_or(0, |file| file.version())
    };
    let order =
        |trusted: &Trusted| (version(trusted, Role::Root), version(trusted, Role::Timestamp));
    order(one) > order(other)
}

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ClientError + '_ {
    move |source| ClientError::Io { path: path.to_owned(), source }
}
