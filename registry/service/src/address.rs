//! Which thing of the distribution specification an address means. Pure.

use sentinel_trust::Digest;

use crate::names::{NameError, Reference, Repository, digest};
use crate::refusal::{Code, Refusal};

/// Characters of an upload's id: 128 random bits in hex.
pub(crate) const UPLOAD_ID_CHARS: usize = 32;

/// An upload's id, as given out by this service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadId(Box<str>);

impl UploadId {
    /// An id of 128 random bits.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random() -> Result<Self, Refusal> {
        let mut bytes = [0; UPLOAD_ID_CHARS / 2];
        getrandom::fill(&mut bytes)
            .map_err(|error| Refusal::internal("the system gives no randomness", &error))?;
        Ok(Self(hex::encode(bytes).into()))
    }

    /// An id that was given out; nothing where the text is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == UPLOAD_ID_CHARS && hex).then(|| Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an address below `/v2` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `/v2/`: end-1.
    Base,
    /// A blob: end-2, end-10.
    Blob(Repository, Digest),
    /// Where uploads begin: end-4, end-11.
    Uploads(Repository),
    /// An upload under way: end-5, end-6, end-13, end-14.
    Upload(Repository, UploadId),
    /// A manifest: end-3, end-7, end-9.
    Manifest(Repository, Reference),
    /// The tags of a repository: end-8.
    Tags(Repository),
    /// The referrers of a manifest: end-12.
    Referrers(Repository, Digest),
}

fn refused(error: &NameError) -> Refusal {
    let code = match error {
        NameError::Repository(_) => Code::NameInvalid,
        NameError::Tag(_) => Code::ManifestInvalid,
        NameError::Digest(_) => Code::DigestInvalid,
    };
    Refusal::new(code, error.to_string())
}

fn repository(text: &str) -> Result<Repository, Refusal> {
    text.parse().map_err(|error| refused(&error))
}

impl Address {
    /// Reads the path of an address, as it was sent.
    ///
    /// # Errors
    /// [`Code::NameInvalid`], [`Code::DigestInvalid`], [`Code::ManifestInvalid`] for a tag
    /// that is none, [`Code::BlobUploadUnknown`]; [`Code::NameUnknown`] for what means nothing.
    pub(crate) fn parse(path: &str) -> Result<Self, Refusal> {
        let nothing = || Refusal::new(Code::NameUnknown, "there is nothing at this address");
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or_else(nothing)?,
            None => return Err(nothing()),
        };
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(repository(name)?));
        }
        if let Some(name) =
            rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return Ok(Self::Uploads(repository(name)?));
        }
        let (head, last) = rest.rsplit_once('/').ok_or_else(nothing)?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            let name = repository(name)?;
            let id = UploadId::parse(last).ok_or_else(|| {
                Refusal::new(Code::BlobUploadUnknown, "there is no upload of this id")
            })?;
            return Ok(Self::Upload(name, id));
        }
        if let Some(name) = head.strip_suffix("/blobs") {
            return Ok(Self::Blob(repository(name)?, digest(last).map_err(|e| refused(&e))?));
        }
        if let Some(name) = head.strip_suffix("/manifests") {
            let name = repository(name)?;
            return Ok(Self::Manifest(name, last.parse().map_err(|e| refused(&e))?));
        }
        if let Some(name) = head.strip_suffix("/referrers") {
            return Ok(Self::Referrers(repository(name)?, digest(last).map_err(|e| refused(&e))?));
        }
        Err(nothing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_the_specification_is_read() {
        let hex = "0".repeat(64);
        let digest = format!("sha256:{hex}").parse::<Digest>().unwrap();
        let name: Repository = "acme/blobs/x".parse().unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        for (path, address) in [
            ("/v2".to_owned(), Address::Base),
            ("/v2/".to_owned(), Address::Base),
            (format!("/v2/{name}/blobs/{digest}"), Address::Blob(name.clone(), digest)),
            (format!("/v2/{name}/blobs/uploads/"), Address::Uploads(name.clone())),
            (format!("/v2/{name}/blobs/uploads"), Address::Uploads(name.clone())),
            (
                format!("/v2/{name}/blobs/uploads/{id}"),
                Address::Upload(name.clone(), UploadId(id.into())),
            ),
            (
                format!("/v2/{name}/manifests/1.0.0"),
                Address::Manifest(name.clone(), Reference::Tag("1.0.0".parse().unwrap())),
            ),
            (
                format!("/v2/{name}/manifests/{digest}"),
                Address::Manifest(name.clone(), Reference::Digest(digest)),
            ),
            (format!("/v2/{name}/tags/list"), Address::Tags(name.clone())),
            (format!("/v2/{name}/referrers/{digest}"), Address::Referrers(name.clone(), digest)),
        ] {
            assert_eq!(Address::parse(&path).unwrap(), address, "{path}");
        }
    }

    #[test]
    fn no_address_leaves_the_folder_of_its_repository() {
        for (path, code) in [
            ("/v2/../x/tags/list", Code::NameInvalid),
            ("/v2/a/../../b/manifests/x", Code::NameInvalid),
            ("/v2/a/%2e%2e/manifests/x", Code::NameInvalid),
            ("/v2/a%2f..%2fb/tags/list", Code::NameInvalid),
            ("/v2//tags/list", Code::NameInvalid),
            ("/v2/_blobs/tags/list", Code::NameInvalid),
            ("/v2/a/manifests/..", Code::ManifestInvalid),
            ("/v2/a/manifests/%2e%2e", Code::ManifestInvalid),
            ("/v2/a/manifests/.hidden", Code::ManifestInvalid),
            ("/v2/a/blobs/sha256:../../x", Code::NameUnknown),
            ("/v2/a/blobs/sha256:xyz", Code::DigestInvalid),
            ("/v2/a/blobs/md5:00", Code::DigestInvalid),
            ("/v2/a/referrers/latest", Code::DigestInvalid),
            ("/v2/a/blobs/uploads/..", Code::BlobUploadUnknown),
            ("/v2/a/blobs/uploads/0123", Code::BlobUploadUnknown),
            ("/v2/a", Code::NameUnknown),
            ("/v2x/a/tags/list", Code::NameUnknown),
            ("/v2/_catalog", Code::NameUnknown),
        ] {
            let refused = Address::parse(path).expect_err(path);
            assert_eq!(refused.code, code, "{path}");
        }
    }
}
