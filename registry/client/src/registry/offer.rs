//! Bringing a registry what the offline keys signed.

use reqwest::header::CONTENT_TYPE;
use sentinel_trust::repository::MetadataFile;

use super::RegistryClient;
use super::error::ClientError;

impl RegistryClient {
    /// Brings the registry a new root or new targets. No token is needed: whoever has the
    /// offline keys has the right, and the registry checks their signatures.
    ///
    /// # Errors
    ///
    /// [`ClientError::Answer`] where the registry refuses it.
    pub async fn offer(&self, file: &MetadataFile) -> Result<(), ClientError> {
        let fetcher = &self.0.fetcher;
        let url = fetcher.url(&format!("api/v1/metadata/{}", file.role()))?;
        let put = fetcher.http().put(url.clone()).header(CONTENT_TYPE, "application/json");
        let done = fetcher.send(put.body(file.bytes().to_vec()), &url).await?;
        fetcher.good(done, &url).await.map(|_| ())
    }
}
