//! Plugins that were verified, by digest. A file's name is made of its digest alone, so
//! nothing that a registry says becomes part of a path.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use sentinel_trust::{Digest, MAX_COMPONENT_BYTES, MAX_SIGNATURE_FILE_BYTES, VerifiedComponent};

use super::error::ClientError;
use super::state::io;
use crate::files::{ReadError, read_bounded};

#[derive(Debug)]
pub(super) struct Plugins {
    folder: PathBuf,
}

impl Plugins {
    pub(super) fn open(folder: PathBuf) -> Result<Self, ClientError> {
        fs::create_dir_all(&folder).map_err(io(&folder))?;
        sentinel_files::sweep(&folder).map_err(io(&folder))?;
        Ok(Self { folder })
    }

    fn component(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{}.wasm", digest.to_hex()))
    }

    fn signatures(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{}.wasm.sig", digest.to_hex()))
    }

    /// The signature first, so that a component is never there without one.
    pub(super) fn keep(
        &self,
        plugin: &VerifiedComponent,
        signatures: &[u8],
    ) -> Result<(), ClientError> {
        let component = plugin.bytes().expect("what was just verified has its bytes");
        for (path, bytes) in [
            (self.signatures(plugin.digest()), signatures),
            (self.component(plugin.digest()), component),
        ] {
            sentinel_files::replace(&path, bytes, 0o600).map_err(io(&path))?;
        }
        Ok(())
    }

    /// A component and its signatures; none where they are not there, or damaged.
    pub(super) fn read(&self, digest: Digest) -> Result<Option<Files>, ClientError> {
        let read = |path: PathBuf, max| match read_bounded(&path, max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ReadError::TooLarge(_)) => Ok(None),
            Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(ReadError::Io(error)) => Err(io(&path)(error)),
        };
        let bytes = read(self.component(digest), MAX_COMPONENT_BYTES)?;
        let signatures = read(self.signatures(digest), MAX_SIGNATURE_FILE_BYTES)?;
        let (Some(bytes), Some(signatures)) = (bytes, signatures) else { return Ok(None) };
        Ok((Digest::of(&bytes) == digest).then(|| (bytes.into(), signatures)))
    }

    /// The component first, so that none is there without its signatures.
    pub(super) fn forget(&self, gone: &BTreeSet<Digest>) -> Result<usize, ClientError> {
        let mut forgotten = 0;
        for digest in gone {
            let component = self.component(*digest);
            match fs::remove_file(&component) {
                Ok(()) => forgotten += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(io(&component)(error)),
            }
            let _ = fs::remove_file(self.signatures(*digest));
        }
        Ok(forgotten)
    }
}

type Files = (Arc<[u8]>, Vec<u8>);
