//! Reading manifests: as much as the service must know of them.

use std::collections::BTreeMap;

use sentinel_trust::Digest;
use serde::Deserialize;

use crate::refusal::{Code, Refusal};
use crate::store::Descriptor;

/// An OCI image manifest, which is also what every artifact is.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI index.
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Most blobs or manifests that a manifest names.
pub(crate) const MAX_PARTS: usize = 256;

/// A manifest, of any of the four media types.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What the service knows of a manifest.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Its media type.
    pub(crate) media_type: String,
    /// What kind of artifact it is, also where only the config says so.
    pub(crate) artifact_type: Option<String>,
    /// The config's media type; none for an index.
    pub(crate) config_type: Option<String>,
    /// The layers, in order.
    pub(crate) layers: Vec<(Digest, Descriptor)>,
    /// Everything that must be a blob of the repository: config and layers.
    pub(crate) blobs: Vec<(Digest, u64)>,
    /// Manifests of an index.
    pub(crate) manifests: Vec<Digest>,
    /// What it refers to; need not be there yet.
    pub(crate) subject: Option<Digest>,
    /// Its annotations.
    pub(crate) annotations: BTreeMap<String, String>,
}

fn invalid(why: impl Into<String>) -> Refusal {
    Refusal::new(Code::ManifestInvalid, why)
}

fn digest(descriptor: &Descriptor) -> Result<Digest, Refusal> {
    crate::names::digest(&descriptor.digest).map_err(|error| invalid(error.to_string()))
}

impl Parsed {
    /// Reads a manifest that was sent under a content type.
    ///
    /// # Errors
    /// [`Code::ManifestInvalid`].
    pub(crate) fn read(bytes: &[u8], content_type: &str) -> Result<Self, Refusal> {
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("the manifest cannot be read: {error}")))?;
        if json.schema_version != 2 {
            return Err(invalid(format!("schemaVersion is {}, not 2", json.schema_version)));
        }
        let media_type = json.media_type.as_deref().unwrap_or(content_type);
        if media_type != content_type {
            return Err(invalid(format!(
                "the manifest says it is {media_type:?}, the Content-Type {content_type:?}"
            )));
        }
        let is_index = matches!(media_type, OCI_INDEX | DOCKER_LIST);
        if !is_index && !matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST) {
            return Err(invalid(format!(
                "manifests of type {media_type:?} are not taken; {OCI_MANIFEST} is"
            )));
        }
        if json.layers.len() > MAX_PARTS || json.manifests.len() > MAX_PARTS {
            return Err(invalid(format!(
                "a manifest names at most {MAX_PARTS} layers or manifests"
            )));
        }
        if is_index && (json.config.is_some() || !json.layers.is_empty()) {
            return Err(invalid("an index has neither a config nor layers"));
        }
        if !is_index && (json.config.is_none() || !json.manifests.is_empty()) {
            return Err(invalid("an image manifest has a config and no manifests"));
        }
        let subject = json.subject.as_ref().map(digest).transpose()?;
        let mut layers = Vec::with_capacity(json.layers.len());
        for layer in json.layers {
            layers.push((digest(&layer)?, layer));
        }
        let config = json.config.as_ref();
        let mut blobs: Vec<_> =
            layers.iter().map(|(digest, layer)| (*digest, layer.size)).collect();
        if let Some(config) = config {
            blobs.push((digest(config)?, config.size));
        }
        let config_type = config.map(|config| config.media_type.clone());
        Ok(Self {
            media_type: media_type.to_owned(),
            artifact_type: json.artifact_type.or_else(|| config_type.clone()),
            config_type,
            layers,
            blobs,
            manifests: json.manifests.iter().map(digest).collect::<Result<_, _>>()?,
            subject,
            annotations: json.annotations,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn manifest() -> Value {
        let part = |kind: &str| json!({ "mediaType": kind, "size": 2, "digest": Digest::of(kind.as_bytes()).to_string() });
        json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": part("c"), "layers": [part("l")] })
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        assert!(Parsed::read(manifest().to_string().as_bytes(), OCI_MANIFEST).is_ok());
        let many: Vec<Value> = vec![manifest()["config"].clone(); MAX_PARTS + 1];
        for (pointer, value) in [
            ("/schemaVersion", json!(1)),
            ("/mediaType", json!(OCI_INDEX)),
            ("/mediaType", json!("text/plain")),
            ("/config", Value::Null),
            ("/config/digest", json!("sha256:../../x")),
            ("/config/digest", json!("md5:00")),
            ("/config/size", json!(-1)),
            ("/layers", json!(many)),
            ("/layers/0/digest", json!("")),
            ("/layers/0", json!("x")),
        ] {
            let mut changed = manifest();
            *changed.pointer_mut(pointer).unwrap() = value.clone();
            let refused = Parsed::read(changed.to_string().as_bytes(), OCI_MANIFEST);
            assert_eq!(
                refused.expect_err(pointer).code,
                Code::ManifestInvalid,
                "{pointer} {value}"
            );
        }
        for bytes in ["", "{}", "[]", "null", "\u{0}", &"[".repeat(100_000)] {
            assert!(Parsed::read(bytes.as_bytes(), OCI_MANIFEST).is_err());
        }
        assert!(Parsed::read(manifest().to_string().as_bytes(), "text/plain").is_err());
    }
}
