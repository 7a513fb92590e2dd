//! Reading what only its owner may read.

use crate::create;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The mode of a private file.
const MODE: u32 = 0o600;
/// What nobody but the owner may have.
const OTHERS: u32 = 0o077;

/// Why a private file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read or write it.
    #[error("{path} can be read by others; `chmod 600` it, and replace what is in it if they may have", path = path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
    },
    /// It is larger than such a file can be.
    #[error("{path} has more than {max} bytes and is not what it should be", path = path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The most bytes.
        max: usize,
    },
}

/// A private file's bytes, at most `max`; `None` where there is no file. Mode and bytes are
/// those of one file, whoever replaces it meanwhile.
///
/// # Errors
/// [`PrivateError`].
pub fn read_private(path: &Path, max: usize) -> Result<Option<Zeroizing<Vec<u8>>>, PrivateError> {
    let failed = |source| PrivateError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let meta = file.metadata().map_err(failed)?;
    if meta.permissions().mode() & OTHERS != 0 {
        return Err(PrivateError::Exposed { path: path.to_owned() });
    }
    // In one piece, so that no half-grown copy of a secret stays behind in memory.
    let room = usize::try_from(meta.len()).unwrap_or(usize::MAX).min(max);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        return Err(PrivateError::TooLarge { path: path.to_owned(), max });
    }
    Ok(Some(bytes))
}

/// A private file's bytes; where there is none, it is made (0600) of what `fresh` gives. Of
/// many who find none at once, all get what one of them made.
///
/// # Errors
/// [`PrivateError`].
pub fn private_or_made(
    path: &Path,
    max: usize,
    fresh: impl FnOnce() -> Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, PrivateError> {
    let failed = |source| PrivateError::Io { path: path.to_owned(), source };
    if let Some(bytes) = read_private(path, max)? {
        return Ok(bytes);
    }
    let made = fresh();
    match create(path, &made, MODE) {
        Ok(()) => Ok(made),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            read_private(path, max)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
        }
        Err(e) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn a_private_file_is_read_up_to_its_bound_and_only_while_it_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(read_private(&path, 4).unwrap().is_none());
        create(&path, b"1234", MODE).unwrap();
        assert_eq!(read_private(&path, 4).unwrap().unwrap().as_slice(), b"1234");
        assert!(matches!(read_private(&path, 3), Err(PrivateError::TooLarge { max: 3, .. })));
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(read_private(&path, 4), Err(PrivateError::Exposed { .. })),
                "{mode:o}"
            );
        }
    }

    #[test]
    fn all_who_make_a_file_at_once_get_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let got: BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
            let each = |n: u8| {
                let path = &path;
                let make = move || private_or_made(path, 32, || Zeroizing::new(vec![n; 32]));
                scope.spawn(move || make().unwrap().to_vec())
            };
            let all: Vec<_> = (0..16).map(each).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(got.len(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
