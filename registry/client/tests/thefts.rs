//! Stolen keys, wrong bytes, dawdling servers: what must fail against a real client over a real
//! connection.

#[path = "../../trust/tests/fixture/mod.rs"]
mod fixture;
mod hostile;

use std::collections::BTreeMap;

use fixture::key;
use fixture::registry::{DAY, NOW, listed, plugin};
use hostile::scene::Scene;
use hostile::{Reply, Server};
use sentinel_registry_client::{ClientError, RegistryClient};
use sentinel_trust::repository::{
    IndexEntry, IndexError, IndexedRelease, Interest, MetadataError, MetadataFile, PublisherIndex,
    ResolveError, Role, SignedIndex, index_entries, index_file, publisher_index_path,
};
use sentinel_trust::{Digest, TrustError};

#[tokio::test]
async fn stolen_online_keys_mint_no_plugin() {
    let mut scene = Scene::new().await;
    let thief = key("acme", 66);
    let evil = plugin("acme/probe", "9.9.9");
    let release = listed(&evil, &thief, NOW);
    scene.registry.blobs.insert(release.digest, evil.into());
    // An index of acme's, signed by a key that targets does not name.
    let known = scene.registry.indexes[thief.publisher()].clone();
    let forged = known.index().with(release.clone()).sign(&thief).unwrap();
    mint(&mut scene, &forged, &release);
    scene.refresh().await.unwrap();
    assert!(matches!(scene.problem("acme"), Some(IndexError::Unsigned { .. })));
    assert!(scene.client.fetch(&release.name, release.digest, NOW).await.is_err());
    // A publisher that targets does not name at all.
    let thief = key("thief", 66);
    let release = listed(&plugin("thief/probe", "9.9.9"), &thief, NOW);
    let forged = PublisherIndex::empty(thief.publisher().clone()).with(release.clone());
    mint(&mut scene, &forged.sign(&thief).unwrap(), &release);
    scene.refresh().await.unwrap();
    let refused = scene.client.fetch(&release.name, release.digest, NOW).await.unwrap_err();
    let unknown = matches!(&refused, ClientError::Resolve(ResolveError::UnknownPublisher { .. }));
    assert!(unknown, "{refused}");
}

#[tokio::test]
async fn stolen_publisher_key_works_until_revoked() {
    let mut scene = Scene::new().await;
    let stolen = key("acme", 1);
    let evil = scene.registry.publish(&plugin("acme/probe", "6.6.6"), &stolen);
    scene.refresh().await.unwrap();
    let running = scene.client.fetch(&evil.name, evil.digest, NOW).await.unwrap();
    scene.client.revoked(&running).unwrap();
    scene.registry.publishers(|all| all.revoke_key(stolen.publisher(), stolen.id()).unwrap());
    scene.refresh().await.unwrap();
    let refused = scene.client.revoked(&running).unwrap_err();
    assert!(matches!(refused, TrustError::KeyRevoked { .. }), "{refused}");
    // Neither out of the store nor out of the registry, and not after a restart.
    for client in [scene.client.clone(), reopened(&scene)] {
        let refused = client.fetch(&evil.name, evil.digest, NOW).await.unwrap_err();
        assert!(matches!(refused, ClientError::Refused(_)), "{refused}");
        assert!(client.resolve(&"acme/probe".parse().unwrap(), NOW).await.is_err());
    }
    // The publisher signs with a new key what it had published before: that runs again.
    let next = key("acme", 2);
    scene.registry.publishers(|all| all.approve(next.publisher(), next.public()).unwrap());
    let good = plugin("acme/probe", "1.0.0");
    let index = PublisherIndex::empty(next.publisher().clone()).with(listed(&good, &next, NOW));
    scene.registry.push_index(&PublisherIndex { number: 9, ..index }.sign(&next).unwrap());
    scene.refresh().await.unwrap();
    let release = scene.client.resolve(&"acme/probe".parse().unwrap(), NOW).await.unwrap();
    scene.client.fetch(&release.name, release.digest, NOW).await.unwrap();
}

#[tokio::test]
async fn what_was_signed_anew_with_another_key_goes_on() {
    let mut scene = Scene::new().await;
    let (old, new) = (key("acme", 1), key("acme", 2));
    let release = scene.client.view().releases().next().unwrap().clone();
    let running = scene.client.fetch(&release.name, release.digest, NOW).await.unwrap();
    scene.registry.publishers(|all| all.approve(new.publisher(), new.public()).unwrap());
    scene.registry.list(listed(&plugin("acme/probe", "1.0.0"), &new, NOW), &new);
    scene.registry.publishers(|all| all.revoke_key(old.publisher(), old.id()).unwrap());
    scene.refresh().await.unwrap_or_else(|error| panic!("{error}"));
    scene.client.revoked(&running).unwrap();
    reopened(&scene).stored(release.digest).await.unwrap().unwrap();
}

#[tokio::test]
async fn wrong_namespace_signing() {
    let mut scene = Scene::new().await;
    scene.registry.approve("other", 2);
    let other = key("other", 2);
    // Signed by a good key of `other`, in the index of `other`, under acme's name.
    let bytes = plugin("acme/probe", "7.0.0");
    let stolen_name = listed(&bytes, &key("acme", 1), NOW);
    let index = PublisherIndex::empty(other.publisher().clone());
    let refused = index.with(stolen_name.clone()).sign(&other).unwrap_err();
    assert!(matches!(refused, IndexError::WrongNamespace { .. }), "{refused}");
    // In acme's index, listed by a thief of acme's index key alone: signed by `other`.
    let mut release = stolen_name;
    release.signatures =
        sentinel_trust::sign(&plugin("other/probe", "7.0.0"), &other, None).unwrap().signatures;
    scene.registry.blobs.insert(release.digest, bytes.into());
    scene.registry.list(release.clone(), &key("acme", 1));
    scene.refresh().await.unwrap();
    let refused = scene.client.fetch(&release.name, release.digest, NOW).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to `other`"), "{refused}");
}

#[tokio::test]
async fn digest_swap_in_the_blob_store() {
    let mut scene = Scene::new().await;
    let release = scene.client.view().releases().next().unwrap().clone();
    let other = scene.registry.publish(&plugin("acme/probe", "1.0.9"), &key("acme", 1));
    let swapped = scene.registry.blobs[&other.digest].clone();
    scene.registry.blobs.insert(release.digest, swapped);
    scene.refresh().await.unwrap();
    let refused = scene.client.fetch(&release.name, release.digest, NOW).await.unwrap_err();
    assert!(matches!(refused, ClientError::Admit(_)), "{refused}");
    assert!(scene.client.stored(release.digest).await.unwrap().is_none());
}

#[tokio::test]
async fn truncated_and_oversized_blobs() {
    let scene = Scene::new().await;
    let release = scene.client.view().releases().next().unwrap().clone();
    let path = format!("/v2/{}/blobs/{}", release.name, release.digest);
    let bytes = scene.registry.blobs[&release.digest].to_vec();
    let longer = [&bytes[..], b"x"].concat();
    let half = bytes[..bytes.len() / 2].to_vec();
    for (reply, says) in [
        (Reply::Body(half.clone()), "somebody may have changed it"),
        (Reply::Truncated(half, bytes.len()), "does not answer"),
        (Reply::Body(longer), "sends more than"),
        (Reply::Endless, "sends more than"),
        (Reply::Body(Vec::new()), "somebody may have changed it"),
    ] {
        scene.server.set(&path, reply.clone());
        let refused = scene.client.fetch(&release.name, release.digest, NOW).await.unwrap_err();
        assert!(refused.to_string().contains(says), "{reply:?}: {refused}");
        let kept = std::fs::read_dir(scene.folder.path().join("plugins")).unwrap().count();
        assert_eq!(kept, 0, "{reply:?}");
    }
}

#[tokio::test]
async fn slow_loris_registry() {
    let scene = Scene::new().await;
    let release = scene.client.view().releases().next().unwrap().clone();
    let path = format!("/v2/{}/blobs/{}", release.name, release.digest);
    for reply in [Reply::Trickle, Reply::Silent] {
        scene.server.set("/metadata/timestamp.json", reply.clone());
        let refused = scene.client.refresh(Interest::All, NOW).await.unwrap_err();
        let slow = matches!(refused, ClientError::TooSlow { .. } | ClientError::TooBig { .. });
        assert!(slow, "{refused}");
        scene.server.set(&path, reply);
        assert!(scene.client.fetch(&release.name, release.digest, NOW).await.is_err());
    }
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let scene = Scene::new().await;
    let elsewhere = Server::start().await;
    elsewhere.serve(&scene.registry);
    let to = format!("{}metadata/timestamp.json", elsewhere.url);
    scene.server.set("/metadata/timestamp.json", Reply::Redirect(to));
    let refused = scene.client.refresh(Interest::All, NOW).await.unwrap_err();
    assert!(matches!(refused, ClientError::Answer { status: 302, .. }), "{refused}");
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn path_traversal_in_names() {
    let scene = Scene::new().await;
    let online = &scene.registry.online;
    let index = String::from_utf8(online.index.bytes().to_vec()).unwrap();
    for name in ["publishers/../../etc/passwd.json", "publishers/..%2froot.json", "/acme.json"] {
        let text = index.replace("publishers/acme.json", name);
        let read = MetadataFile::read(Role::Index, text.into_bytes()).unwrap();
        let refused = index_entries(&read).unwrap_err();
        assert!(matches!(refused, MetadataError::NoIndex { .. }), "{name}: {refused}");
    }
    let known = scene.registry.indexes[&"acme".parse().unwrap()].clone();
    let text = String::from_utf8(known.bytes().to_vec()).unwrap();
    for name in ["acme/../../x", "acme/..", "../acme/probe", "acme/pro/be", "acme\\\\probe"] {
        let changed = text.replace("acme/probe", name);
        let refused = SignedIndex::read(changed.into_bytes()).unwrap_err();
        assert!(matches!(refused, IndexError::Unreadable(_)), "{name}: {refused}");
    }
}

#[tokio::test]
async fn a_broken_index_of_one_publisher_hurts_no_other() {
    let mut scene = Scene::new().await;
    scene.registry.approve("other", 2);
    let other = key("other", 2);
    scene.registry.publish(&plugin("other/probe", "1.0.0"), &other);
    scene.registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
    let mut files = scene.registry.files.keys();
    let path = files.rfind(|path| path.starts_with("publishers/acme/2.")).unwrap();
    let path = format!("/metadata/{path}");
    for reply in [
        Reply::Body(b"{".to_vec()),
        Reply::Status(500, b"boom".to_vec()),
        Reply::Endless,
        Reply::Silent,
        Reply::Truncated(b"{".to_vec(), 4096),
    ] {
        scene.server.serve(&scene.registry);
        scene.server.set(&path, reply.clone());
        let folder = tempfile::tempdir().unwrap();
        let client = scene.server.client(folder.path(), &scene.registry.enrolment());
        let view = client.refresh(Interest::All, NOW).await.unwrap();
        assert!(view.publishers()[&"acme".parse().unwrap()].problem.is_some(), "{reply:?}");
        let release = view.resolve(&"other/probe".parse().unwrap(), NOW).unwrap();
        client.fetch(&release.name, release.digest, NOW).await.unwrap();
    }
}

/// Serves an index with everything that online keys can sign.
fn mint(scene: &mut Scene, forged: &SignedIndex, release: &IndexedRelease) {
    let (publisher, number) = (forged.index().publisher.clone(), forged.index().number);
    let entry = IndexEntry {
        number,
        digest: Digest::of(forged.bytes()),
        length: forged.bytes().len() as u64,
    };
    let path = publisher_index_path(&publisher, number, entry.digest);
    scene.registry.files.insert(path, forged.bytes().to_vec());
    scene.registry.indexes.insert(publisher.clone(), forged.clone());
    let online = scene.registry.online.clone();
    let changes = BTreeMap::from([(publisher, entry)]);
    let mut entries = index_entries(&online.index).unwrap();
    entries.extend(changes);
    let keys = &scene.registry.online_keys;
    let index =
        index_file(&online.targets, Some(&online.index), &entries, &keys.index, NOW + DAY).unwrap();
    scene.steal_online(&online.targets, &index);
    scene.registry.online.index = index;
    let read =
        |role, path: String| MetadataFile::read(role, scene.registry.files[&path].clone()).unwrap();
    let snapshot = online.snapshot.version() + 1;
    scene.registry.online.snapshot = read(Role::Snapshot, Role::Snapshot.path(snapshot));
    scene.registry.online.timestamp = read(Role::Timestamp, Role::Timestamp.path(0));
    assert!(
        scene.registry.blobs.contains_key(&release.digest)
            || release.name.as_str().starts_with("thief")
    );
}

fn reopened(scene: &Scene) -> RegistryClient {
    RegistryClient::open(scene.server.options(scene.folder.path()), None).unwrap()
}
