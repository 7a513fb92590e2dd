//! Each attack on a registry's metadata that must fail, against a real client over a real
//! connection.

#[path = "../../trust/tests/fixture/mod.rs"]
mod fixture;
mod hostile;

use std::collections::BTreeMap;

use fixture::key;
use fixture::registry::{DAY, NOW, Registry, listed, online_keys, plugin};
use hostile::Reply;
use hostile::scene::Scene;
use sentinel_registry_client::{ClientError, RegistryClient};
use sentinel_trust::Digest;
use sentinel_trust::repository::{
    IndexEntry, IndexError, Interest, MetadataError, MetadataFile, Misfit, PublisherIndex, Role,
    RootSpec, Trusted, index_entries, index_file, snapshot_file, timestamp_file,
};

fn is_rollback(error: &MetadataError, of: Role) -> bool {
    matches!(error, MetadataError::Rollback { role, .. } if *role == of)
}

#[tokio::test]
async fn rollback_of_the_timestamp() {
    let mut scene = Scene::new().await;
    let old = scene.registry.files["timestamp.json"].clone();
    scene.registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
    scene.refresh().await.unwrap();
    scene.registry.files.insert("timestamp.json".into(), old);
    let refused = scene.refused().await;
    assert!(is_rollback(&refused, Role::Timestamp), "{refused}");
}

#[tokio::test]
async fn rollback_of_the_snapshot_under_a_new_timestamp() {
    let mut scene = Scene::new().await;
    let old = scene.registry.online.snapshot.clone();
    scene.registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
    scene.refresh().await.unwrap();
    let online = &scene.registry.online;
    let key = &scene.registry.online_keys.timestamp;
    let forged = timestamp_file(&online.root, 99, &old, key, NOW + DAY).unwrap();
    scene.registry.files.insert(forged.path(), forged.bytes().to_vec());
    let refused = scene.refused().await;
    assert!(is_rollback(&refused, Role::Snapshot), "{refused}");
}

#[tokio::test]
async fn rollback_of_targets_forgets_no_revocation() {
    let mut scene = Scene::new().await;
    let old = scene.registry.online.targets.clone();
    let release = scene.client.view().releases().next().unwrap().clone();
    let acme = "acme".parse().unwrap();
    scene.registry.publishers(|all| all.revoke_digest(&acme, release.digest).unwrap());
    scene.refresh().await.unwrap();
    let index = scene.registry.online.index.clone();
    scene.steal_online(&old, &index);
    let refused = scene.refused().await;
    assert!(is_rollback(&refused, Role::Targets), "{refused}");
    let refused = scene.client.fetch(&release.name, release.digest, NOW).await.unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
}

/// Also tough's advisory on delegated roles whose version was not compared.
#[tokio::test]
async fn rollback_of_the_delegated_index() {
    let mut scene = Scene::new().await;
    let old = scene.registry.online.index.clone();
    scene.registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
    scene.refresh().await.unwrap();
    let targets = scene.registry.online.targets.clone();
    scene.steal_online(&targets, &old);
    let refused = scene.refused().await;
    assert!(is_rollback(&refused, Role::Index), "{refused}");
}

#[tokio::test]
async fn rollback_of_a_publishers_own_index_by_stolen_online_keys() {
    let mut scene = Scene::new().await;
    let old = scene.registry.indexes[&"acme".parse().unwrap()].clone();
    scene.registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
    scene.refresh().await.unwrap();
    let entry =
        IndexEntry { number: 1, digest: Digest::of(old.bytes()), length: old.bytes().len() as u64 };
    let online = &scene.registry.online;
    let entries = BTreeMap::from([("acme".parse().unwrap(), entry)]);
    let keys = &scene.registry.online_keys;
    let index =
        index_file(&online.targets, Some(&online.index), &entries, &keys.index, NOW + DAY).unwrap();
    let targets = online.targets.clone();
    scene.steal_online(&targets, &index);
    scene.refresh().await.unwrap();
    assert_eq!(scene.problem("acme"), Some(IndexError::Rollback { known: 2, offered: 1 }));
    let newest = scene.client.view().resolve(&"acme/probe".parse().unwrap(), NOW).cloned();
    assert_eq!(newest.unwrap().version.to_string(), "1.1.0");
}

#[tokio::test]
async fn rollback_of_the_root_or_a_root_that_skips_one() {
    let mut scene = Scene::new().await;
    let first = scene.registry.online.root.bytes().to_vec();
    scene.registry.rotate_online(150);
    scene.registry.rotate_online(160);
    let third = scene.registry.files["3.root.json"].clone();
    let second = scene.registry.files.insert("2.root.json".into(), third.clone()).unwrap();
    assert!(is_rollback(&scene.refused().await, Role::Root));
    scene.registry.files.insert("2.root.json".into(), second);
    scene.refresh().await.unwrap();
    for older in [first, third] {
        scene.registry.files.insert("4.root.json".into(), older);
        assert!(is_rollback(&scene.refused().await, Role::Root));
    }
}

#[tokio::test]
async fn freeze() {
    let mut scene = Scene::new().await;
    scene.registry.now = NOW + 2 * DAY;
    let refused = scene.refused().await;
    let expired = matches!(refused, MetadataError::Expired { role: Role::Timestamp, .. });
    assert!(expired, "{refused}");
    // A clock set back makes nothing young again either.
    scene.registry.renew();
    scene.refresh().await.unwrap();
    let frozen = Registry::with_acme();
    scene.server.serve(&frozen);
    assert!(scene.client.refresh(Interest::All, NOW).await.is_err());
}

#[tokio::test]
async fn mix_and_match() {
    for role in [Role::Snapshot, Role::Targets, Role::Index] {
        let mut scene = Scene::new().await;
        let mut other = Registry::with_acme();
        // Both are good, signed and of the same versions; they do not belong together.
        scene.registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
        other.publish(&plugin("acme/probe", "1.2.0"), &key("acme", 1));
        for registry in [&mut scene.registry, &mut other] {
            registry.approve("other", 2);
        }
        let extra = key(if role == Role::Targets { "third" } else { "other" }, 3);
        other.publishers(|all| all.approve(extra.publisher(), extra.public()).unwrap());
        scene.registry.publishers(|all| {
            all.approve(&"fourth".parse().unwrap(), key("fourth", 4).public()).unwrap();
        });
        scene.registry.replace(role, &other);
        let refused = scene.refused().await;
        let mismatch = matches!(
            &refused,
            MetadataError::Mismatch { role: it, misfit: Misfit::Digest | Misfit::Length, .. } if *it == role
        );
        assert!(mismatch || matches!(refused, MetadataError::TooBig { .. }), "{role}: {refused}");
    }
}

#[tokio::test]
async fn endless_data() {
    let mut scene = Scene::new().await;
    scene.registry.approve("other", 2);
    scene.registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
    let online = scene.registry.online.files();
    let paths = online.iter().map(|file| file.path()).filter(|path| path != "1.root.json");
    for path in paths.chain(["2.root.json".to_owned()]) {
        scene.server.serve(&scene.registry);
        scene.server.set(&format!("/metadata/{path}"), Reply::Endless);
        let refused = scene.client.refresh(Interest::All, NOW).await.unwrap_err();
        assert!(matches!(refused, ClientError::TooBig { .. }), "{path}: {refused}");
    }
    scene.server.serve(&scene.registry);
    let index = scene.registry.files.keys().find(|path| path.starts_with("publishers/acme/2."));
    scene.server.set(&format!("/metadata/{}", index.unwrap()), Reply::Endless);
    scene.client.refresh(Interest::All, NOW).await.unwrap();
    assert_eq!(scene.problem("acme"), Some(IndexError::Unavailable));
}

#[tokio::test]
async fn fast_forward_and_recovery() {
    let mut scene = Scene::new().await;
    // A thief of the online keys runs every number up.
    let online = &scene.registry.online;
    let (root, keys, until) = (&online.root, &scene.registry.online_keys, NOW + DAY);
    let high = |file: &MetadataFile| {
        let mut json: serde_json::Value = serde_json::from_slice(file.bytes()).unwrap();
        json["signed"]["version"] = (u64::MAX - 1).into();
        MetadataFile::read(file.role(), json.to_string().into_bytes()).unwrap()
    };
    let (index, snapshot) = (high(&online.index), high(&online.snapshot));
    let entries = index_entries(&online.index).unwrap();
    let index = index_file(&online.targets, Some(&index), &entries, &keys.index, until).unwrap();
    assert_eq!(index.version(), u64::MAX);
    let targets = &online.targets;
    let snapshot =
        snapshot_file(root, Some(&snapshot), targets, &index, &keys.snapshot, until).unwrap();
    let timestamp = timestamp_file(root, u64::MAX, &snapshot, &keys.timestamp, until).unwrap();
    for file in [&index, &snapshot, &timestamp] {
        scene.registry.files.insert(file.path(), file.bytes().to_vec());
    }
    scene.refresh().await.unwrap();
    assert_eq!(scene.client.view().versions().timestamp, u64::MAX);
    // With the same keys there is no way back; with new ones there is.
    scene.registry.serve();
    assert!(is_rollback(&scene.refused().await, Role::Timestamp));
    scene.registry.rotate_online(150);
    scene.refresh().await.unwrap();
    assert_eq!(scene.client.view().versions().timestamp, scene.registry.online.timestamp.version());
}

#[tokio::test]
async fn fast_forward_of_a_publishers_number_and_recovery() {
    let mut scene = Scene::new().await;
    let acme = key("acme", 1);
    let known = scene.registry.indexes[acme.publisher()].index().clone();
    let high = PublisherIndex { number: (1 << 53) - 1, ..known.clone() };
    scene.registry.push_index(&high.sign(&acme).unwrap());
    scene.refresh().await.unwrap();
    let next = key("acme", 2);
    scene.registry.publishers(|all| {
        all.approve(acme.publisher(), next.public()).unwrap();
        all.revoke_key(acme.publisher(), acme.id()).unwrap();
    });
    scene.refresh().await.unwrap();
    assert!(matches!(scene.problem("acme"), Some(IndexError::Unsigned { .. })));
    let release = listed(&plugin("acme/probe", "1.0.1"), &next, NOW);
    scene.registry.push_index(
        &PublisherIndex { number: 2, releases: vec![release], ..known }.sign(&next).unwrap(),
    );
    scene.refresh().await.unwrap();
    let newest = scene.client.view().resolve(&"acme/probe".parse().unwrap(), NOW).cloned();
    assert_eq!(newest.unwrap().version.to_string(), "1.0.1");
}

/// tough's advisory on delegations that end a search and did not: here there is one delegation,
/// and metadata with another shape is no metadata.
#[tokio::test]
async fn a_delegation_that_is_not_the_one_is_refused() {
    let scene = Scene::new().await;
    let targets = String::from_utf8(scene.registry.online.targets.bytes().to_vec()).unwrap();
    for (from, to) in [
        ("\"terminating\": true", "\"terminating\": false"),
        ("\"publishers/*\"", "\"*\""),
        ("\"name\": \"index\"", "\"name\": \"other\""),
    ] {
        assert!(targets.contains(from), "{from}");
        let changed = MetadataFile::read(Role::Targets, targets.replace(from, to).into_bytes());
        let refused = sentinel_trust::repository::TargetsSpec::read(&changed.unwrap()).unwrap_err();
        assert!(matches!(refused, MetadataError::OtherRoles { .. }), "{to}: {refused}");
    }
}

/// tough's advisory on metadata that was kept before it was checked: whatever fails, nothing
/// of the update is on the disk, and the next good one is taken.
#[tokio::test]
async fn nothing_is_kept_before_all_was_checked() {
    let mut scene = Scene::new().await;
    scene.registry.rotate_online(150);
    scene.registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
    let good = scene.registry.files.clone();
    let paths: Vec<String> = scene.registry.online.files().iter().map(|file| file.path()).collect();
    for path in paths {
        let mut damaged = good[&path].clone();
        let at = damaged.len() / 2;
        damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
        scene.registry.files = good.clone();
        scene.registry.files.insert(path, damaged);
        scene.refused().await;
    }
    scene.registry.files = good;
    scene.refresh().await.unwrap();
}

#[tokio::test]
async fn a_state_cut_or_changed_anywhere_fails_closed() {
    let scene = Scene::new().await;
    let whole = scene.state();
    let path = scene.folder.path().join("trusted");
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(Trusted::from_bytes(&changed).is_err(), "changed at {at}");
        assert!(Trusted::from_bytes(&whole[..at]).is_err(), "cut at {at}");
    }
    for at in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..at]).unwrap();
        let options = scene.server.options(scene.folder.path());
        let enrolment = scene.registry.enrolment();
        let refused = RegistryClient::open(options, Some(&enrolment)).unwrap_err();
        assert!(matches!(refused, ClientError::State { .. }), "{refused}");
        assert!(scene.client.refresh(Interest::All, NOW).await.is_err());
    }
}

/// What a killed update leaves: the old file beside as much of the new one as was written, or
/// the new file alone.
#[tokio::test]
async fn a_host_killed_anywhere_in_an_update_goes_on() {
    let mut scene = Scene::new().await;
    let old = scene.state();
    scene.registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
    scene.refresh().await.unwrap();
    let new = scene.state();
    let folder = tempfile::tempdir().unwrap();
    let (state, part) =
        (folder.path().join("trusted"), folder.path().join(".trusted.0123456789abcdef.part"));
    let versions = |state: &[u8]| Trusted::from_bytes(state).unwrap().view().versions();
    std::fs::write(&state, &old).unwrap();
    // That no part of a state passes for one is tried at every byte elsewhere.
    for at in (0..=new.len()).step_by(new.len() / 30).chain([new.len() - 1, new.len()]) {
        std::fs::write(&part, &new[..at]).unwrap();
        let client = RegistryClient::open(scene.server.options(folder.path()), None).unwrap();
        assert_eq!(client.view().versions(), versions(&old), "killed at byte {at}");
    }
    let client = RegistryClient::open(scene.server.options(folder.path()), None).unwrap();
    client.refresh(Interest::All, NOW).await.unwrap();
    std::fs::rename(&part, &state).unwrap();
    let client = RegistryClient::open(scene.server.options(folder.path()), None).unwrap();
    assert_eq!(client.view().versions(), versions(&new));
}

#[tokio::test]
async fn a_host_enrolled_with_another_registry_believes_nothing() {
    let scene = Scene::new().await;
    let mut other = Registry::new();
    let keys = online_keys(220);
    let mut spec = RootSpec::read(&other.online.root).unwrap();
    let stranger = fixture::registry::role_key(sentinel_trust::repository::KeyPurpose::Root, 230);
    spec.root.keys = vec![stranger.public()];
    spec.timestamp.keys = vec![keys.timestamp.public()];
    let root = sentinel_trust::repository::root_file(None, &spec, &[&stranger], NOW + DAY).unwrap();
    other.online.root = root;
    let folder = tempfile::tempdir().unwrap();
    let client = scene.server.client(folder.path(), &other.enrolment());
    let refused = client.refresh(Interest::All, NOW).await.unwrap_err();
    let unsigned = matches!(
        refused,
        ClientError::Metadata(MetadataError::Unsigned { role: Role::Timestamp, .. })
    );
    assert!(unsigned, "{refused}");
}
