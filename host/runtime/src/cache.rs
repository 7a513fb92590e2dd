//! Compiled code on disk, private to this host.
//!
//! `Component::deserialize` trusts its input: whoever can choose the bytes runs code in this
//! process. So each entry carries a MAC under a key that only this process reads, and the very
//! bytes that were checked are the bytes that are used.
//!
//! ```text
//! <digest of the component>-<first 16 digits of the fingerprint>.code, mode 0600
//!  0  8  magic "SNTLCODE"
//!  8  4  version, 1, little-endian
//! 12 32  HMAC-SHA256(key, context ‖ digest ‖ fingerprint ‖ length of code ‖ code)
//! 44  …  code
//! ```
//!
//! An entry that is torn, foreign, of another engine or forged is removed and made anew. A
//! crash leaves at most a temporary file, removed at the next start. Beyond the bound the
//! entries used longest ago go.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sentinel_trust::Digest;
use sha2::Sha256;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"SNTLCODE";
const VERSION: u32 = 1;
const HEADER: usize = 8 + 4 + 32;
const CONTEXT: &[u8] = b"sentinel compiled code, version 1\0";
const KEY_BYTES: usize = 32;
/// Most bytes of one component's compiled code (256 MiB).
pub(crate) const MAX_CODE_BYTES: usize = 256 << 20;

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder cannot be made or read.
    #[error("the folder {path} for compiled plugins cannot be used: {source}")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key cannot be read or made.
    #[error("the key file {path} of the compiled plugins cannot be used: {source}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The cache of one host.
pub(crate) struct Cache {
    dir: PathBuf,
    key: Zeroizing<[u8; KEY_BYTES]>,
    fingerprint: [u8; 32],
    max_bytes: u64,
}

impl Cache {
    pub(crate) fn open(
        dir: &Path,
        key_file: &Path,
        fingerprint: [u8; 32],
        max_bytes: u64,
    ) -> Result<Self, CacheError> {
        let folder = |source| CacheError::Folder { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(folder)?;
        let key = read_or_make_key(key_file)
            .map_err(|source| CacheError::Key { path: key_file.to_owned(), source })?;
        let cache = Self { dir: dir.to_owned(), key, fingerprint, max_bytes };
        for entry in cache.entries().map_err(folder)? {
            if entry.path.extension().is_some_and(|ext| ext == "tmp") {
                // Left by a crash; if it cannot be removed it costs only space.
                let _ = fs::remove_file(&entry.path);
            }
        }
        Ok(cache)
    }

    /// Its folder, which is this process's own.
    pub(crate) fn folder(&self) -> &Path {
        &self.dir
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let fingerprint = hex::encode(&self.fingerprint[..8]);
        self.dir.join(format!("{}-{fingerprint}.code", digest.to_hex()))
    }

    fn mac(&self, digest: &Digest, code: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&*self.key).expect("HMAC takes keys of every length");
        mac.update(CONTEXT);
        mac.update(digest.as_bytes());
        mac.update(&self.fingerprint);
        mac.update(&(code.len() as u64).to_le_bytes());
        mac.update(code);
        mac
    }

    /// The compiled code of a component, if it is here and unharmed.
    pub(crate) fn load(&self, digest: &Digest) -> Option<Code> {
        let path = self.path(digest);
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled plugin cannot be read; compiling it again");
                return None;
            }
        };
        if self.is_sound(digest, &bytes) {
            // Marks it as used, for the bound; a clock or file system that refuses changes
            // only which entry goes first.
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
            return Some(Code(bytes));
        }
        tracing::warn!(path = %path.display(), "compiled plugin is damaged or not ours; compiling it again");
        let _ = fs::remove_file(&path);
        None
    }

    fn is_sound(&self, digest: &Digest, bytes: &[u8]) -> bool {
        let Some((header, code)) = bytes.split_at_checked(HEADER) else { return false };
        header[..8] == *MAGIC
            && header[8..12] == VERSION.to_le_bytes()
            && self.mac(digest, code).verify_slice(&header[12..]).is_ok()
    }

    /// Keeps compiled code. The caller already has the code, so a failure is only told.
    pub(crate) fn store(&self, digest: &Digest, code: &[u8]) {
        if let Err(error) = self.write(digest, code) {
            tracing::warn!(dir = %self.dir.display(), %error, "compiled plugin was not kept; it is compiled again at the next start");
        }
    }

    fn write(&self, digest: &Digest, code: &[u8]) -> io::Result<()> {
        self.make_room((HEADER + code.len()) as u64)?;
        let path = self.path(digest);
        let mut unique = [0; 8];
        getrandom::fill(&mut unique).map_err(io::Error::other)?;
        let temporary = path.with_extension(format!("{}.tmp", hex::encode(unique)));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file
            .write_all(MAGIC)
            .and_then(|()| file.write_all(&VERSION.to_le_bytes()))
            .and_then(|()| file.write_all(&self.mac(digest, code).finalize().into_bytes()))
            .and_then(|()| file.write_all(code))
            // No fsync: a torn entry fails its MAC and is made anew.
            .and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes a component's code, of whatever engine. What cannot be removed is told: it is
    /// never loaded for a plugin that may not run.
    pub(crate) fn remove(&self, digest: &Digest) {
        let of_digest = |entry: &Entry| {
            let name = entry.path.file_name().unwrap_or_default().as_encoded_bytes();
            name.starts_with(digest.to_hex().as_bytes())
        };
        let entries = self.entries().unwrap_or_default();
        for entry in entries.iter().filter(|entry| of_digest(entry)) {
            if let Err(error) = fs::remove_file(&entry.path) {
                tracing::warn!(path = %entry.path.display(), %error, "compiled code of a plugin that may not run was not removed");
            }
        }
    }

    /// Removes entries until so many bytes more fit below the bound.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in &entries {
            if total + bytes <= self.max_bytes {
                break;
            }
            fs::remove_file(&entry.path)?;
            total -= entry.bytes;
        }
        Ok(())
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            let ours = path.extension().is_some_and(|ext| ext == "code" || ext == "tmp");
            let metadata = entry.metadata()?;
            if ours && metadata.is_file() {
                entries.push(Entry { path, bytes: metadata.len(), used: metadata.modified()? });
            }
        }
        Ok(entries)
    }
}

struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Compiled code whose MAC was good.
pub(crate) struct Code(Vec<u8>);

impl Code {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[HEADER..]
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > (HEADER + MAX_CODE_BYTES) as u64 {
        return Err(io::Error::other(format!("it has {length} bytes")));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the key, or makes one. A key that others could read or write is replaced: what was
/// kept under it is compiled again.
fn read_or_make_key(path: &Path) -> io::Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    match File::open(path) {
        Ok(mut file) => {
            let metadata = file.metadata()?;
            let private = metadata.mode() & 0o077 == 0
                && metadata.uid() == rustix::process::geteuid().as_raw();
            if private && metadata.len() == KEY_BYTES as u64 {
                file.read_exact(&mut *key)?;
                return Ok(key);
            }
            tracing::warn!(path = %path.display(), "the key of the compiled plugins is not private or not whole; making a new one");
            fs::remove_file(path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    getrandom::fill(&mut *key).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&*key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn open(&self, fingerprint: u8, max_bytes: u64) -> Cache {
            let (dir, key) = (self.dir.path().join("code"), self.dir.path().join("key"));
            Cache::open(&dir, &key, [fingerprint; 32], max_bytes).unwrap()
        }
    }

    fn digest(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    fn loaded(cache: &Cache, n: u8) -> Option<Vec<u8>> {
        cache.load(&digest(n)).map(|code| code.bytes().to_vec())
    }

    #[test]
    fn what_was_kept_is_found_again_by_the_same_host_and_engine_only() {
        let fixture = Fixture::new();
        fixture.open(1, 1 << 20).store(&digest(1), b"code");
        assert_eq!(loaded(&fixture.open(1, 1 << 20), 1).as_deref(), Some(&b"code"[..]));
        assert_eq!(loaded(&fixture.open(2, 1 << 20), 1), None);
        assert_eq!(loaded(&fixture.open(1, 1 << 20), 2), None);
        fs::remove_file(fixture.dir.path().join("key")).unwrap();
        assert_eq!(loaded(&fixture.open(1, 1 << 20), 1), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found_and_the_entry_removed() {
        let fixture = Fixture::new();
        let cache = fixture.open(1, 1 << 20);
        cache.store(&digest(1), b"some code");
        let path = cache.path(&digest(1));
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            for bytes in [&bad[..], &good[..at]] {
                fs::write(&path, bytes).unwrap();
                assert_eq!(loaded(&cache, 1), None, "at {at}");
                assert!(!path.exists());
            }
        }
    }

    #[test]
    fn code_of_one_component_is_never_taken_for_another() {
        let fixture = Fixture::new();
        let cache = fixture.open(1, 1 << 20);
        cache.store(&digest(1), b"code");
        fs::rename(cache.path(&digest(1)), cache.path(&digest(2))).unwrap();
        assert_eq!(loaded(&cache, 2), None);
    }

    #[test]
    fn files_are_private_and_a_key_that_others_can_read_is_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let fixture = Fixture::new();
        let cache = fixture.open(1, 1 << 20);
        cache.store(&digest(1), b"code");
        let key = fixture.dir.path().join("key");
        for path in [&key, &cache.path(&digest(1))] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(loaded(&fixture.open(1, 1 << 20), 1), None);
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn beyond_the_bound_the_entry_used_longest_ago_goes() {
        let fixture = Fixture::new();
        let cache = fixture.open(1, 3 * (HEADER as u64 + 100));
        for n in 1..=3 {
            cache.store(&digest(n), &[n; 100]);
            let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n.into());
            File::open(cache.path(&digest(n))).unwrap().set_modified(used).unwrap();
        }
        assert!(loaded(&cache, 1).is_some(), "and is marked as used");
        cache.store(&digest(4), &[4; 100]);
        let here: Vec<_> = (1..=4).filter(|n| loaded(&cache, *n).is_some()).collect();
        assert_eq!(here, [1, 3, 4]);
    }

    #[test]
    fn code_of_a_component_is_removed_for_every_engine_and_no_other() {
        let fixture = Fixture::new();
        for engine in 1..=2 {
            let cache = fixture.open(engine, 1 << 20);
            (1..=2).for_each(|n| cache.store(&digest(n), b"code"));
        }
        fixture.open(1, 1 << 20).remove(&digest(1));
        for engine in 1..=2 {
            let cache = fixture.open(engine, 1 << 20);
            assert_eq!((loaded(&cache, 1), loaded(&cache, 2)), (None, Some(b"code".to_vec())));
        }
    }

    #[test]
    fn what_a_crash_left_is_removed_at_the_next_start() {
        let fixture = Fixture::new();
        let cache = fixture.open(1, 1 << 20);
        let left = cache.dir.join("x.0011.tmp");
        fs::write(&left, b"half").unwrap();
        fixture.open(1, 1 << 20);
        assert!(!left.exists());
    }
}
