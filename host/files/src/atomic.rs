//! Writing a file whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// End of the names of files that are being written.
const PART: &str = ".part";
/// Random bytes in such a name.
const RANDOM: usize = 8;
/// No writer takes so long: what is older was left behind by a crash.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Puts `bytes` in place of whatever file is there, in one step: whoever reads sees the old
/// file or the new one. Durable when this returns. `mode` is the new file's.
///
/// # Errors
/// The disk's. Then the old file is as it was, unless it is the folder that could not be
/// synced: then either may survive a power failure.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    in_place(path, bytes, mode, |part| fs::rename(part, path))
}

/// Writes a file that is not there yet, in one step. Durable when this returns.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where there is one, which stays as it is; the disk's.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    in_place(path, bytes, mode, |part| {
        // A link, unlike a rename, never takes the place of another file.
        fs::hard_link(part, path)?;
        fs::remove_file(part)
    })
}

fn in_place(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let part = part_of(path)?;
    let written = write_new(&part, bytes, mode).and_then(|()| put(&part));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written?;
    File::open(folder_of(path))?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `.NAME.RANDOM.part`, beside the file: random, so that threads and processes that share a
/// file (and pids, in containers) never write into one part.
fn part_of(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut random = [0; RANDOM];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut part = std::ffi::OsString::from(".");
    part.push(name);
    part.push(".");
    part.push(hex::encode(random));
    part.push(PART);
    Ok(folder_of(path).join(part))
}

fn is_part(name: &str) -> bool {
    let random = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(PART));
    let random = random.and_then(|rest| rest.rsplit_once('.')).map(|(_, random)| random);
    random.is_some_and(|r| r.len() == 2 * RANDOM && r.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Takes away what crashes left behind in a folder: parts more than an hour old. How many.
///
/// # Errors
/// A folder that cannot be read. A part that cannot be removed stays for the next time.
pub fn sweep(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let old = || {
            let modified = entry.metadata().and_then(|meta| meta.modified()).ok()?;
            SystemTime::now().duration_since(modified).ok()
        };
        if entry.file_name().to_str().is_some_and(is_part)
            && old().is_some_and(|age| age > ABANDONED)
            && fs::remove_file(entry.path()).is_ok()
        {
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"1", 0o644).unwrap();
        replace(&path, b"2", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_file_is_created_once_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        create(&path, b"1", 0o600).unwrap();
        let refused = create(&path, b"2", 0o600).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            (fs::read(&path).unwrap(), names(dir.path())),
            (b"1".to_vec(), vec!["file".into()])
        );
    }

    #[test]
    fn what_cannot_be_put_in_place_leaves_the_old_and_no_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "1").unwrap();
        assert!(replace(&path, b"2", 0o600).is_err());
        assert_eq!(names(dir.path()), ["folder"]);
        assert!(replace(Path::new("/"), b"", 0o600).is_err());
    }

    #[test]
    fn a_reader_never_sees_half_a_file_whoever_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content = |n: u8| vec![n; 100_000];
        replace(&path, &content(0), 0o600).unwrap();
        std::thread::scope(|scope| {
            for n in 1..=4 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..10 {
                        replace(path, &content(n), 0o600).unwrap();
                    }
                });
            }
            for _ in 0..200 {
                let seen = fs::read(&path).unwrap();
                assert!(seen.len() == 100_000 && seen.iter().all(|b| *b == seen[0]));
            }
        });
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn only_old_parts_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, age: u64| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        put(".key.0123456789abcdef.part", 7200);
        put(".new.0123456789abcdef.part", 10);
        put(".other.part", 7200);
        put("key", 7200);
        assert_eq!(sweep(dir.path()).unwrap(), 1);
        assert_eq!(names(dir.path()), [".new.0123456789abcdef.part", ".other.part", "key"]);
    }
}
