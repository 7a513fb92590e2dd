//! What a kill leaves in a store of files: parts of files that were being written, which
//! nobody reads, and folders of uploads that are gone.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Store, StoreError};

/// Deepest folder that is looked into: a repository's name has at most eight parts.
const MAX_DEPTH: usize = 16;

/// Whether a file is a part of one that was being written: `object_store` calls it
/// `<file>#<number>`, and no object is called so.
fn is_part(name: &str) -> bool {
    let number = name.rsplit_once('#').map_or("", |(_, number)| number);
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

fn sweep(folder: &Path, before: SystemTime, depth: usize) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Gone meanwhile, or a link, which is none of ours: neither is looked at.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth < MAX_DEPTH {
            removed += sweep(&entry.path(), before, depth + 1)?;
        } else if meta.is_file()
            && is_part(&entry.file_name().to_string_lossy())
            && meta.modified()? < before
        {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes empty folders of uploads. An upload's folder gets its first file when it is made,
/// so one that is old and empty stays so.
fn sweep_empty(uploads: &Path, before: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(uploads)? {
        let entry = entry?;
        let old = entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at < before);
        if old && let Err(error) = fs::remove_dir(entry.path()) {
            tracing::trace!(%error, "an upload's folder is in use");
        }
    }
    Ok(())
}

impl Store {
    /// Removes from a store of files what killed processes left behind before `before` (unix
    /// milliseconds). Returns how many parts of files. Other stores clean up after themselves.
    ///
    /// # Errors
    /// If a folder cannot be read or a file not removed.
    pub async fn collect_parts(&self, before: i64) -> Result<usize, StoreError> {
        let Some(folder) = self.folder.clone() else { return Ok(0) };
        let before = UNIX_EPOCH + Duration::from_millis(u64::try_from(before).unwrap_or(0));
        let swept = tokio::task::spawn_blocking(move || {
            let uploads = folder.join("uploads");
            if uploads.is_dir() {
                sweep_empty(&uploads, before)?;
            }
            sweep(&folder, before, 0)
        });
        let swept = swept.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        swept.map_err(|error| {
            object_store::Error::Generic { store: "folder", source: Box::new(error) }.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Place;

    #[test]
    fn a_part_is_known_by_its_name() {
        for (name, part) in [
            ("0a#1", true),
            ("session#12", true),
            ("a#b#3", true),
            ("0a", false),
            ("a#", false),
            ("a#b", false),
            ("a#1b", false),
            ("1", false),
        ] {
            assert_eq!(is_part(name), part, "{name}");
        }
    }

    #[tokio::test]
    async fn parts_and_empty_uploads_go_once_they_are_old_and_objects_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Place::Folder(folder.path().to_owned())).unwrap();
        let write = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            path
        };
        let parts = [write("blobs/sha256/00/00#1"), write("repos/a/b/_tags/1.0#22")];
        let object = write("blobs/sha256/00/00");
        let used = write("uploads/1/session");
        let empty = folder.path().join("uploads/2");
        fs::create_dir(&empty).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = i64::try_from(now).unwrap();
        assert_eq!(store.collect_parts(now - 60_000).await.unwrap(), 0);
        assert!(parts.iter().all(|part| part.exists()) && empty.exists());
        assert_eq!(store.collect_parts(now + 60_000).await.unwrap(), 2);
        assert!(!parts.iter().any(|part| part.exists()) && !empty.exists());
        assert!(object.exists() && used.exists());
    }
}
