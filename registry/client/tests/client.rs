//! A host and its registry on good days, and without a network.

#[path = "../../trust/tests/fixture/mod.rs"]
mod fixture;
mod hostile;

use std::collections::BTreeSet;

use fixture::key;
use fixture::registry::{DAY, NOW, Registry, plugin, role_key};
use hostile::Server;
use sentinel_registry_client::{
    BundleOptions, ClientError, FetchLimits, RegistryClient, RegistryOptions,
};
use sentinel_trust::repository::{Interest, KeyPurpose, ResolveError};

fn only(publisher: &str) -> Interest {
    Interest::Only(BTreeSet::from([publisher.parse().unwrap()]))
}

/// A client whose registry does not listen.
fn offline(folder: &std::path::Path) -> RegistryClient {
    let options = RegistryOptions {
        url: "http://127.0.0.1:1/".parse().unwrap(),
        folder: folder.to_owned(),
        ca: None,
        limits: FetchLimits::default(),
    };
    RegistryClient::open(options, None).unwrap()
}

#[tokio::test]
async fn a_plugin_is_resolved_fetched_once_and_starts_again_without_a_network() {
    let registry = Registry::with_acme();
    let server = Server::start().await;
    server.serve(&registry);
    let folder = tempfile::tempdir().unwrap();
    let client = server.client(folder.path(), &registry.enrolment());
    let release = client.resolve(&"acme/probe@^1".parse().unwrap(), NOW).await.unwrap();
    let first = client.fetch(&release.name, release.digest, NOW).await.unwrap();
    server.asked();
    let again = client.fetch(&release.name, release.digest, NOW).await.unwrap();
    assert_eq!(first.digest(), again.digest());
    assert!(server.asked().is_empty());
    // Years later, without a network: what was verified starts, what is new does not.
    let later = NOW + 1000 * DAY;
    let host = offline(folder.path());
    let again = host.fetch(&release.name, release.digest, later).await.unwrap();
    assert_eq!(again.version().to_string(), "1.0.0");
    let other = "acme/other".parse().unwrap();
    let refused = host.fetch(&other, release.digest, later).await.unwrap_err();
    assert!(matches!(refused, ClientError::Resolve(ResolveError::NotListed { .. })), "{refused}");
    let none = sentinel_trust::Digest::of(b"none");
    let refused = host.fetch(&release.name, none, later).await.unwrap_err();
    assert!(matches!(refused, ClientError::Unreachable { .. }), "{refused}");
}

#[tokio::test]
async fn a_host_asks_for_the_publishers_that_it_needs() {
    let mut registry = Registry::with_acme();
    registry.approve("other", 2);
    registry.publish(&plugin("other/probe", "1.0.0"), &key("other", 2));
    let server = Server::start().await;
    server.serve(&registry);
    let folder = tempfile::tempdir().unwrap();
    let client = server.client(folder.path(), &registry.enrolment());
    client.refresh(only("acme"), NOW).await.unwrap();
    assert!(!server.asked().iter().any(|path| path.contains("/other/")));
    let view = client.refresh(only("other"), NOW).await.unwrap();
    assert_eq!(view.releases().count(), 2);
}

#[tokio::test]
async fn two_processes_of_a_host_lose_neither_a_version_nor_an_index() {
    let mut registry = Registry::with_acme();
    registry.approve("other", 2);
    registry.publish(&plugin("other/probe", "1.0.0"), &key("other", 2));
    let server = Server::start().await;
    server.serve(&registry);
    let folder = tempfile::tempdir().unwrap();
    let one = server.client(folder.path(), &registry.enrolment());
    let two = server.client(folder.path(), &registry.enrolment());
    let (first, second) =
        tokio::join!(one.refresh(only("acme"), NOW), two.refresh(only("other"), NOW));
    first.unwrap();
    second.unwrap();
    let known: Vec<_> = one.trusted().await.unwrap().indexes().map(|(n, _)| n.clone()).collect();
    assert_eq!(known.len(), 2);
}

#[tokio::test]
async fn a_bundle_made_here_installs_there() {
    let registry = Registry::with_acme();
    let server = Server::start().await;
    server.serve(&registry);
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let maker = server.client(here.path(), &registry.enrolment());
    let options =
        BundleOptions { plugins: vec!["acme/probe".parse().unwrap()], expires_at: NOW + 60 * DAY };
    let operator = role_key(KeyPurpose::Operator, 120);
    let (bytes, releases) = maker.bundle(options, &operator, NOW).await.unwrap();
    drop(server.client(there.path(), &registry.enrolment()));
    let host = offline(there.path());
    let later = NOW + 50 * DAY;
    let kept = host.install_bundle(bytes.clone(), later).await.unwrap();
    assert_eq!(kept, releases);
    let host = offline(there.path());
    host.fetch(&kept[0].name, kept[0].digest, later).await.unwrap();
    for at in [0, bytes.len() / 3, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(host.install_bundle(damaged, later).await.is_err(), "damaged at {at}");
    }
    assert!(host.install_bundle(bytes, NOW + 61 * DAY).await.is_err());
}

#[tokio::test]
async fn what_is_forgotten_is_gone_from_the_disk() {
    let registry = Registry::with_acme();
    let server = Server::start().await;
    server.serve(&registry);
    let folder = tempfile::tempdir().unwrap();
    let client = server.client(folder.path(), &registry.enrolment());
    let release = client.resolve(&"acme/probe".parse().unwrap(), NOW).await.unwrap();
    client.fetch(&release.name, release.digest, NOW).await.unwrap();
    let needed = BTreeSet::from([release.digest]);
    assert_eq!(client.forget(BTreeSet::new()).await.unwrap(), 0);
    assert_eq!(client.forget(needed.clone()).await.unwrap(), 1);
    assert_eq!(client.forget(needed).await.unwrap(), 0, "it is gone");
    assert!(client.stored(release.digest).await.unwrap().is_none());
}

#[tokio::test]
async fn a_damaged_plugin_in_the_store_is_fetched_again() {
    let registry = Registry::with_acme();
    let server = Server::start().await;
    server.serve(&registry);
    let folder = tempfile::tempdir().unwrap();
    let client = server.client(folder.path(), &registry.enrolment());
    let release = client.resolve(&"acme/probe".parse().unwrap(), NOW).await.unwrap();
    client.fetch(&release.name, release.digest, NOW).await.unwrap();
    let file = folder.path().join(format!("plugins/{}.wasm", release.digest.to_hex()));
    let whole = std::fs::read(&file).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..at]).unwrap();
        assert!(client.stored(release.digest).await.unwrap().is_none());
        client.fetch(&release.name, release.digest, NOW).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), whole);
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::with_acme();
    for url in ["ftp://127.0.0.1/", "http://user:secret@127.0.0.1/", "file:///etc/"] {
        let options = RegistryOptions {
            url: url.parse().unwrap(),
            folder: folder.path().to_owned(),
            ca: None,
            limits: FetchLimits::default(),
        };
        let refused = RegistryClient::open(options, Some(&registry.enrolment())).unwrap_err();
        assert!(matches!(refused, ClientError::Address(_)), "{refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
}

#[tokio::test]
async fn a_host_that_was_never_enrolled_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let refused = RegistryClient::open(server.options(folder.path()), None).unwrap_err();
    assert!(matches!(refused, ClientError::NotEnrolled { .. }), "{refused}");
}
