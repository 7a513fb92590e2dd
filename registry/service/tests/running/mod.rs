//! A registry on a free port over a folder of its own, and what tests ask of it.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod metadata;
pub(crate) mod plugins;
pub(crate) mod rows;
pub(crate) mod s3;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use sentinel_registry_service::{Options, Patience, Place, Registry, Store, serve};
use sentinel_trust::Digest;
use sentinel_trust::repository::OnlineKeys;
use serde_json::{Value, json};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A running registry and a token of its namespace `acme`.
pub(crate) struct Running {
    pub(crate) registry: Registry,
    pub(crate) place: Place,
    /// Where a store of files has them.
    pub(crate) folder: PathBuf,
    pub(crate) token: String,
    pub(crate) store: Store,
    pub(crate) client: reqwest::Client,
    pub(crate) own: Option<tempfile::TempDir>,
}

/// Bounds that a test can reach quickly.
pub(crate) fn options() -> Options {
    let mut options = Options::new(([127, 0, 0, 1], 0).into());
    options.limits.blob_bytes = 6 << 20;
    options
}

/// The same, and nobody is waited for long.
pub(crate) fn hasty() -> Options {
    let mut options = options();
    options.limits.head = Duration::from_millis(300);
    options.limits.patience =
        Patience { grace: Duration::from_millis(300), bytes_per_second: 10 << 20 };
    options
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::with(options(), None).await
    }

    pub(crate) async fn with(options: Options, keys: Option<OnlineKeys>) -> Self {
        let own = tempfile::tempdir().unwrap();
        let folder = own.path().join("store");
        Self { own: Some(own), ..Self::over(&folder, options, keys).await }
    }

    /// Another one over a folder.
    pub(crate) async fn over(folder: &Path, options: Options, keys: Option<OnlineKeys>) -> Self {
        Self::at(Place::Folder(folder.to_owned()), options, keys).await
    }

    /// Another one over the same store.
    pub(crate) async fn beside(&self, options: Options, keys: Option<OnlineKeys>) -> Self {
        Self::at(self.place.clone(), options, keys).await
    }

    /// One over whatever store is there.
    pub(crate) async fn at(place: Place, options: Options, keys: Option<OnlineKeys>) -> Self {
        let store = Store::open(&place).unwrap();
        let folder = match &place {
            Place::Folder(folder) => folder.clone(),
            Place::S3 { .. } => PathBuf::from("/nowhere"),
        };
        let (_, token) = store.create_token(Some("acme".parse().unwrap()), 0).await.unwrap();
        let registry = serve(options, store.clone(), keys).await.unwrap();
        Self {
            registry,
            place,
            folder,
            token: token.to_string(),
            store,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            own: None,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.registry.address())
    }

    /// Asks as the holder of the token.
    pub(crate) fn ask(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.anybody(method, path).bearer_auth(&self.token)
    }

    /// Asks without a token.
    pub(crate) fn anybody(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub(crate) async fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        let response = self
            .ask(Method::POST, &format!("/v2/{repository}/blobs/uploads/?digest={digest}"))
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
        digest
    }

    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Value,
    ) -> Response {
        self.ask(Method::PUT, &format!("/v2/{repository}/manifests/{reference}"))
            .header("content-type", manifest["mediaType"].as_str().unwrap_or(OCI_MANIFEST))
            .body(manifest.to_string())
            .send()
            .await
            .unwrap()
    }

    /// A manifest of a repository with one layer, its blobs pushed.
    pub(crate) async fn artifact(&self, repository: &str, layer: &[u8]) -> Value {
        let config = self.push_blob(repository, b"{}").await;
        let digest = self.push_blob(repository, layer).await;
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.example",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
            "layers": [{ "mediaType": "application/octet-stream", "digest": digest, "size": layer.len() }],
        })
    }

    /// Where an object of the store lies.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.folder.join("blobs/sha256").join(&hex[..2]).join(hex)
    }
}

/// The code of a refusal's body.
pub(crate) async fn code(response: Response) -> String {
    let body: Value = response.json().await.unwrap();
    body["errors"][0]["code"].as_str().unwrap().to_owned()
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// A digest as text.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

pub(crate) fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}
