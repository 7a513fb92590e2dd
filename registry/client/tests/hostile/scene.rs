//! A registry, a server that serves it, and a host that knows it.

use sentinel_registry_client::{ClientError, RegistryClient};
use sentinel_trust::repository::{
    IndexError, Interest, MetadataError, MetadataFile, snapshot_file, timestamp_file,
};
use tempfile::TempDir;

use super::Server;
use crate::fixture::registry::{DAY, NOW, Registry};

/// A registry, a server that serves it, and a host that knows it.
pub(crate) struct Scene {
    pub(crate) registry: Registry,
    pub(crate) server: Server,
    pub(crate) client: RegistryClient,
    pub(crate) folder: TempDir,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let registry = Registry::with_acme();
        let server = Server::start().await;
        server.serve(&registry);
        let folder = tempfile::tempdir().unwrap();
        let client = server.client(folder.path(), &registry.enrolment());
        client.refresh(Interest::All, NOW).await.unwrap();
        Self { registry, server, client, folder }
    }

    pub(crate) async fn refresh(&self) -> Result<(), ClientError> {
        self.server.serve(&self.registry);
        self.client.refresh(Interest::All, self.registry.now).await.map(|_| ())
    }

    /// Refreshes, which must fail and change nothing on the disk.
    pub(crate) async fn refused(&self) -> MetadataError {
        let before = self.state();
        let refused = self.refresh().await.unwrap_err();
        assert_eq!(self.state(), before, "a refused update left something behind");
        match refused {
            ClientError::Metadata(error) => error,
            other => panic!("refused otherwise: {other}"),
        }
    }

    pub(crate) fn state(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("trusted")).unwrap()
    }

    /// What a thief of the online keys can serve: a snapshot and timestamp of his own over any
    /// targets and index that were ever signed.
    pub(crate) fn steal_online(&mut self, targets: &MetadataFile, index: &MetadataFile) {
        let online = &self.registry.online;
        let keys = &self.registry.online_keys;
        let until = self.registry.now + DAY;
        let (root, previous) = (&online.root, Some(&online.snapshot));
        let snapshot =
            snapshot_file(root, previous, targets, index, &keys.snapshot, until).unwrap();
        let version = online.timestamp.version() + 1;
        let timestamp = timestamp_file(root, version, &snapshot, &keys.timestamp, until).unwrap();
        for file in [targets, index, &snapshot, &timestamp] {
            self.registry.files.insert(file.path(), file.bytes().to_vec());
        }
    }

    pub(crate) fn problem(&self, publisher: &str) -> Option<IndexError> {
        self.client.view().publishers()[&publisher.parse().unwrap()].problem.clone()
    }
}
