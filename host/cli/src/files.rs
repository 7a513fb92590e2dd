//! Reading files with a bound, writing them whole or not at all.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::Failure;

/// A file's bytes, at most `max` of them.
pub(crate) fn read(path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    let refused = |why: &dyn std::fmt::Display| {
        Failure::new(format!("{} cannot be read: {why}", path.display()))
    };
    let file = fs::File::open(path).map_err(|error| refused(&error))?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|error| refused(&error))?;
    if bytes.len() > max {
        return Err(refused(&format!("it has more than {max} bytes")));
    }
    Ok(bytes)
}

/// A file's text, at most `max` bytes of it.
pub(crate) fn read_text(path: &Path, max: usize) -> Result<String, Failure> {
    String::from_utf8(read(path, max)?)
        .map_err(|_| Failure::new(format!("{} is not UTF-8", path.display())))
}

/// Puts a file in place of whatever is there, in one step.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    sentinel_files::replace(path, bytes, mode)
        .map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display())))
}

/// Writes a file that must not be there yet.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    sentinel_files::create(path, bytes, mode).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(format!("{} is there already and was left as it is", path.display()))
                .hint("give another file, or move that one away")
        }
        _ => Failure::new(format!("{} cannot be written: {error}", path.display())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_has_its_mode_and_an_old_one_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"1", 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = create(&path, b"2", 0o600).unwrap_err();
        assert!(refused.message.contains("is there already"), "{refused:?}");
        assert_eq!(fs::read(&path).unwrap(), b"1");
    }

    #[test]
    fn replacing_leaves_nothing_else_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"1", 0o644).unwrap();
        replace(&path, b"2", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_and_not_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "1234").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "1234");
        assert!(read(&path, 3).unwrap_err().message.contains("more than 3 bytes"));
        assert!(read(dir.path(), 3).unwrap_err().message.contains("cannot be read"));
    }
}
