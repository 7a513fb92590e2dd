//! The files under a log, behind a trait: the log's code is the same over a real folder and over the
//! [simulation](crate::simulation) that injects faults.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, fdatasync, flock};
use rustix::io::Errno;

/// Name of the file that is locked.
pub(crate) const LOCK_FILE: &str = "lock";

/// One open file.
pub trait StorageFile: Send + Sync {
    /// Reads into `buf` from `offset`; fewer bytes than asked only at the end of the file.
    ///
    /// # Errors
    /// Any I/O error.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`. After an error any part of them may be in the file.
    ///
    /// # Errors
    /// Any I/O error; `StorageFull` when there is no room.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when all that was written before the call is on the disk, with the size needed to read it (fdatasync).
    ///
    /// # Errors
    /// Any I/O error. After one, nothing may be concluded from a later success on the same file.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves room for `len` bytes from the start and makes the file at least so long; new bytes read as zero.
    ///
    /// # Errors
    /// `StorageFull` when there is no room; storage that cannot reserve room succeeds without doing so.
    fn preallocate(&self, len: u64) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// Any I/O error.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Says when it was last written to, in place of now; storage that does not know ([`Storage::modified`]) need not.
    ///
    /// # Errors
    /// Any I/O error.
    fn set_modified(&self, at: SystemTime) -> io::Result<()> {
        let _ = at;
        Ok(())
    }
    /// Its size in bytes.
    ///
    /// # Errors
    /// Any I/O error.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    ///
    /// # Errors
    /// Any I/O error.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Held while a log is open; dropping it lets the next opener in.
pub trait StorageLock: Send + Sync {}

/// Why a folder could not be locked.
#[derive(Debug)]
pub enum LockFailure {
    /// Somebody holds the lock; the pid where it could be read.
    Held(Option<u32>),
    /// The lock file could not be opened or locked.
    Io(io::Error),
}

/// One flat folder of files. Changes of the folder itself (create, rename, remove) are durable only after
/// [`Storage::sync_dir`].
pub trait Storage: Send + Sync + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or any I/O error.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Creates a file for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists`, or any I/O error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Renames a file, replacing `to` atomically.
    ///
    /// # Errors
    /// Any I/O error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; handles that are open stay readable.
    ///
    /// # Errors
    /// Any I/O error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files.
    ///
    /// # Errors
    /// Any I/O error.
    fn list(&self) -> io::Result<Vec<String>>;
    /// When a file was last written to; `None` where the storage does not know.
    ///
    /// # Errors
    /// `NotFound`, or any I/O error.
    fn modified(&self, name: &str) -> io::Result<Option<SystemTime>> {
        let _ = name;
        Ok(None)
    }
    /// Returns when the changes of the folder made before the call are on the disk.
    ///
    /// # Errors
    /// Any I/O error.
    fn sync_dir(&self) -> io::Result<()>;
    /// Locks the folder for one opener.
    ///
    /// # Errors
    /// [`LockFailure`].
    fn lock(&self) -> Result<Box<dyn StorageLock>, LockFailure>;
    /// The folder, for messages.
    fn describe(&self) -> String;
}

/// A folder of a real file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: File,
}

impl Folder {
    /// Opens a folder, creating it (mode 0700) where it is missing.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn open(path: &Path) -> io::Result<Folder> {
        if !path.is_dir() {
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Folder { path: path.to_owned(), handle: File::open(path)? })
    }

    fn options() -> OpenOptions {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }
}

impl Storage for Folder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(RealFile(Folder::options().open(self.path.join(name))?)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(RealFile(Folder::options().create_new(true).open(self.path.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn modified(&self, name: &str) -> io::Result<Option<SystemTime>> {
        fs::metadata(self.path.join(name))?.modified().map(Some)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn lock(&self) -> Result<Box<dyn StorageLock>, LockFailure> {
        let mut file = Folder::options()
            .create(true)
            .truncate(false)
            .open(self.path.join(LOCK_FILE))
            .map_err(LockFailure::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // The pid is only for the message another opener gives; on a full disk it goes without.
                let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                Ok(Box::new(FileLock { _file: file }))
            }
            Err(Errno::WOULDBLOCK) => {
                let mut text = [0; 10];
                let read = file.read_at(&mut text, 0).unwrap_or(0);
                Err(LockFailure::Held(
                    std::str::from_utf8(&text[..read]).ok().and_then(|t| t.parse().ok()),
                ))
            }
            Err(other) => Err(LockFailure::Io(other.into())),
        }
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

struct FileLock {
    _file: File,
}

impl StorageLock for FileLock {}

struct RealFile(File);

impl StorageFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        // Never retried, not even on EINTR: a failed sync may have marked its pages clean.
        Ok(fdatasync(&self.0)?)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        let reserved = loop {
            match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        match reserved {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                if self.len()? < len {
                    self.0.set_len(len)?;
                }
                Ok(())
            }
            Err(other) => Err(other.into()),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn set_modified(&self, at: SystemTime) -> io::Result<()> {
        self.0.set_modified(at)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
