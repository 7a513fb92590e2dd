//! What the server shows of itself, and whom it asks to show a certificate.
//!
//! The files are looked at every second. What is in them counts for connections made from then
//! on; those that are open go on. A pair that does not go together, or cannot be read, changes
//! nothing and is said once.

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The most bytes of a file of certificates or of a key.
const MAX_PEM: u64 = 1 << 20;
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where the files for TLS lie, all of them PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its CA.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// Certificates of CAs: whoever connects must then show a certificate of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be served with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is too large.
    #[error("{file} cannot be read: {why}", file = file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// A file holds something else.
    #[error("{file} is not what it should be: {why}", file = file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Certificate and key do not serve together.
    #[error("the certificate {certificate} with the key {key}: {source}", certificate = certificate.display(), key = key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// How a file looked: which it is, its length, and when it was written.
type Stamp = Option<(u64, u64, SystemTime)>;

impl TlsFiles {
    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &PathBuf| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.ino(), meta.len(), meta.modified().ok()?))
        };
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(stamp)
            .collect()
    }

    fn load(&self) -> Result<ServerConfig, TlsError> {
        let pair = |source| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let wrong = |why: String| TlsError::Pem { file: file.clone(), why };
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|e| wrong(e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|e| TlsError::Pem { file: self.key.clone(), why: e.to_string() })?;
        let mut config =
            builder.with_single_cert(certificates(&self.certificate)?, key).map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn read(file: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, TlsError> {
    let failed = |why: String| TlsError::Read { file: file.to_owned(), why };
    let opened = File::open(file).map_err(|e| failed(e.to_string()))?;
    // All at once, so that no copy of a key stays behind where the buffer grew.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(MAX_PEM as usize + 1));
    opened.take(MAX_PEM + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > MAX_PEM {
        return Err(failed(format!("it has more than {MAX_PEM} bytes")));
    }
    Ok(bytes)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::Pem { file: file.to_owned(), why };
    let found = CertificateDer::pem_slice_iter(&read(file)?).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|e| wrong(e.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

/// What the files said when they were last good.
pub(crate) struct Certificates {
    files: TlsFiles,
    config: Mutex<Arc<ServerConfig>>,
}

/// What is known of the files' looks.
struct Watched {
    /// Of what was read last, taken or refused.
    read: Vec<Stamp>,
    /// Of the look before.
    before: Vec<Stamp>,
}

impl Certificates {
    /// Reads the files.
    pub(crate) fn open(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { files: files.clone(), config: Mutex::new(Arc::new(files.load()?)) })
    }

    /// What a new connection is served with.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.lock())
    }

    /// Follows the files; never ends.
    pub(crate) async fn follow(&self) {
        // What was read at the start may have been changed since: the first look decides.
        let mut watched = Watched { read: Vec::new(), before: self.files.stamps() };
        loop {
            tokio::time::sleep(LOOK).await;
            self.look(&mut watched);
        }
    }

    /// Reads the files where they are others than those that were read, and as they were at the
    /// look before: of two files that are replaced one after the other, both then.
    fn look(&self, watched: &mut Watched) {
        let now = self.files.stamps();
        let still = watched.before == now;
        watched.before.clone_from(&now);
        if !still || watched.read == now {
            return;
        }
        let first = watched.read.is_empty();
        watched.read = now;
        match self.files.load() {
            Ok(config) => {
                *self.config.lock() = Arc::new(config);
                if !first {
                    let file = self.files.certificate.display();
                    tracing::info!(certificate = %file, "serves new connections with the files for TLS that changed");
                }
            }
            Err(error) => tracing::error!(
                "{error}; new connections are served with the certificate before it until the files are right"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair of its own, and the certificate in it.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_that_does_not_go_together_changes_nothing_until_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            certificate: dir.path().join("c.pem"),
            key: dir.path().join("k.pem"),
            client_ca: None,
        };
        let write = |certificate: &str, key: &str| {
            // Files of their own, so that each write looks otherwise.
            sentinel_files::replace(&files.certificate, certificate.as_bytes(), 0o644).unwrap();
            sentinel_files::replace(&files.key, key.as_bytes(), 0o600).unwrap();
        };
        let ((first, first_key), (second, second_key)) = (pair(), pair());
        write(&first, &first_key);
        let certificates = Certificates::open(&files).unwrap();
        let begun = certificates.current();
        let mut watched = Watched { read: files.stamps(), before: files.stamps() };
        for (certificate, key, serves) in [
            (&second, &first_key, false),
            (&second, &"nonsense".to_owned(), false),
            (&"".to_owned(), &second_key, false),
            (&second, &second_key, true),
        ] {
            write(certificate, key);
            certificates.look(&mut watched);
            assert!(Arc::ptr_eq(&certificates.current(), &begun), "the first look takes nothing");
            certificates.look(&mut watched);
            assert_eq!(!Arc::ptr_eq(&certificates.current(), &begun), serves);
        }
        fs::remove_file(&files.key).unwrap();
        let last = certificates.current();
        certificates.look(&mut watched);
        certificates.look(&mut watched);
        assert!(Arc::ptr_eq(&certificates.current(), &last), "a file that is gone changes nothing");
    }
}
