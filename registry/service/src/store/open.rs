//! Opening the store that a configuration names.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore};

use super::Store;

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A local folder, made if it is not there.
    Folder(PathBuf),
    /// A bucket of S3 or of what speaks like it. Credentials come from the environment alone
    /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, or the machine's
    /// role), so that no configuration holds a secret.
    S3 {
        /// The bucket, which exists.
        bucket: String,
        /// Folder in the bucket; empty for all of it.
        prefix: String,
        /// Address of what is not AWS, such as `https://ceph.example`.
        endpoint: Option<String>,
        /// Region; `us-east-1` where none is said.
        region: Option<String>,
    },
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made.
    #[error("the folder {folder} cannot be made: {source}", folder = folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The endpoint is not one that is spoken to.
    #[error(
        "the S3 endpoint `{0}` has neither https nor a loopback address: what is stored would be readable on the way; give an https address"
    )]
    Endpoint(String),
    /// The store refuses its configuration.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] object_store::Error),
}

/// Whether an address is https, or plain http to this very machine.
fn is_private(endpoint: &str) -> bool {
    let Ok(url) = url::Url::parse(endpoint) else { return false };
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

impl Store {
    /// Opens a place.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(place: &Place) -> Result<Self, OpenError> {
        let mut files = None;
        let objects: Arc<dyn ObjectStore> = match place {
            Place::Folder(folder) => {
                std::fs::create_dir_all(folder)
                    .map_err(|source| OpenError::Folder { folder: folder.clone(), source })?;
                files = Some(Arc::from(folder.as_path()));
                // An answer is given once what it says is on the disk.
                Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true))
            }
            Place::S3 { bucket, prefix, endpoint, region } => {
                let mut builder = AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_conditional_put(S3ConditionalPut::ETagMatch)
                    .with_region(region.as_deref().unwrap_or("us-east-1"));
                if let Some(endpoint) = endpoint {
                    if !is_private(endpoint) {
                        return Err(OpenError::Endpoint(endpoint.clone()));
                    }
                    let plain = endpoint.starts_with("http:");
                    builder = builder
                        .with_endpoint(endpoint)
                        .with_client_options(ClientOptions::new().with_allow_http(plain));
                }
                let store = builder.build()?;
                if prefix.is_empty() {
                    Arc::new(store)
                } else {
                    Arc::new(PrefixStore::new(store, prefix.as_str()))
                }
            }
        };
        Ok(Self { folder: files, ..Self::new(objects) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_does_not_travel_in_the_clear() {
        for (endpoint, private) in [
            ("https://ceph.example", true),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000", true),
            ("http://localhost:9000", true),
            ("http://ceph.example", false),
            ("http://127.0.0.1.evil.example", false),
            ("ftp://127.0.0.1", false),
            ("ceph", false),
        ] {
            assert_eq!(is_private(endpoint), private, "{endpoint}");
        }
    }
}
