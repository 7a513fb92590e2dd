//! What a host believes of a registry: the update, and what it admits.

mod fixture;

use std::sync::Arc;

use fixture::key;
use fixture::registry::{DAY, NOW, Registry, listed, plugin, plugin_with, role_key};
use sentinel_trust::repository::{
    AdmitError, Bundle, BundleError, BundleParts, Enrolment, IndexError, Interest, KeyPurpose,
    MetadataError, Misfit, ResolveError, Role, RootSpec, TargetsSpec, Trusted, Update, root_file,
};
use sentinel_trust::{KeyError, TrustError};

fn range(text: &str) -> sentinel_trust::repository::PluginRange {
    text.parse().unwrap()
}

#[test]
fn a_new_host_finds_verifies_and_keeps_what_was_published() {
    let registry = Registry::with_acme();
    let trusted = registry.update(&registry.enrolled()).unwrap();
    let view = trusted.view();
    let release = view.resolve(&range("acme/probe@^1"), NOW).unwrap();
    let bytes = Arc::clone(&registry.blobs[&release.digest]);
    let verified = view.admit(release, bytes, NOW).unwrap();
    assert_eq!(verified.version().to_string(), "1.0.0");
    let again = Trusted::from_bytes(&trusted.to_bytes()).unwrap();
    assert_eq!(again.to_bytes(), trusted.to_bytes());
    assert_eq!(again.view().versions(), view.versions());
}

#[test]
fn an_update_asks_for_what_changed_and_no_more() {
    let mut registry = Registry::with_acme();
    let trusted = registry.update(&registry.enrolled()).unwrap();
    let asked = |registry: &Registry, trusted: &Trusted| {
        let mut asked = Vec::new();
        let mut update = Update::new(trusted, Interest::All, registry.now);
        while let Some(request) = update.next() {
            asked.push(request.path.split_once('.').map_or("", |(_, rest)| rest).to_owned());
            update.provide(registry.files.get(&request.path).cloned()).unwrap();
        }
        (asked, update.finish().unwrap())
    };
    let (first, trusted) = asked(&registry, &trusted);
    assert_eq!(first, ["root.json", "json"]);
    registry.publish(&plugin("acme/probe", "1.0.1"), &key("acme", 1));
    let (second, _) = asked(&registry, &trusted);
    assert_eq!(second[..4], ["root.json", "json", "snapshot.json", "index.json"]);
    assert_eq!(second.len(), 5);
}

#[test]
fn the_newest_release_that_is_neither_yanked_nor_revoked_resolves() {
    let mut registry = Registry::with_acme();
    let acme = key("acme", 1);
    let mut releases = Vec::new();
    for version in ["1.1.0", "1.2.0", "1.10.0", "2.0.0-rc.1"] {
        releases.push(registry.publish(&plugin("acme/probe", version), &acme));
    }
    let newest = |registry: &Registry, text: &str| {
        let trusted = registry.update(&registry.enrolled()).unwrap();
        let view = trusted.view();
        view.resolve(&range(text), NOW).map(|release| release.version.to_string())
    };
    assert_eq!(newest(&registry, "acme/probe").unwrap(), "1.10.0");
    assert_eq!(newest(&registry, "acme/probe@2.0.0-rc.1").unwrap(), "2.0.0-rc.1");
    let mut yanked = releases[2].clone();
    yanked.yanked = true;
    registry.list(yanked, &acme);
    assert_eq!(newest(&registry, "acme/probe").unwrap(), "1.2.0");
    registry.publishers(|all| all.revoke_digest(acme.publisher(), releases[1].digest).unwrap());
    assert_eq!(newest(&registry, "acme/probe@^1").unwrap(), "1.1.0");
    let refused = newest(&registry, "acme/probe@1.2.0").unwrap_err();
    assert!(matches!(refused, ResolveError::Refused(_)), "{refused}");
    let refused = newest(&registry, "acme/probe@^3").unwrap_err();
    insta::assert_snapshot!(refused);
    let refused = newest(&registry, "nobody/probe").unwrap_err();
    assert!(matches!(refused, ResolveError::UnknownPublisher { .. }), "{refused}");
    for (name, said) in [
        ("acme/porbe", "has no plugin `acme/porbe`; did you mean `acme/probe`?"),
        ("amce/probe", "has no plugin `amce/probe`; did you mean `acme/probe`?"),
        ("acme/rows", "has no plugin `acme/rows`: look for the name with"),
    ] {
        let refused = newest(&registry, name).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn what_a_publisher_lists_wrongly_is_not_admitted() {
    let mut registry = Registry::with_acme();
    let acme = key("acme", 1);
    let more = plugin_with("acme/probe", "1.1.0", |json| {
        json["requests"] = serde_json::json!({"kv": {"max_bytes": 9}});
    });
    let mut release = listed(&more, &acme, NOW);
    release.requests = Default::default();
    registry.list(release.clone(), &acme);
    let view = registry.update(&registry.enrolled()).unwrap().view();
    let refused = view.admit(&release, more.into(), NOW).unwrap_err();
    assert!(matches!(refused, AdmitError::OtherManifest { what: "requests", .. }), "{refused}");
    let other: Arc<[u8]> = plugin("acme/probe", "1.0.0").into();
    let refused = view.admit(&release, other, NOW).unwrap_err();
    assert!(matches!(refused, AdmitError::OtherBytes { .. }), "{refused}");
}

#[test]
fn the_least_versions_of_an_enrolment_count() {
    let registry = Registry::with_acme();
    for role in ["targets", "index", "snapshot", "timestamp"] {
        let mut enrolment = registry.enrolment();
        let minimum = match role {
            "targets" => &mut enrolment.minimum.targets,
            "index" => &mut enrolment.minimum.index,
            "snapshot" => &mut enrolment.minimum.snapshot,
            _ => &mut enrolment.minimum.timestamp,
        };
        *minimum = 99;
        let trusted = Trusted::enrolled(&enrolment).unwrap();
        let refused = registry.update(&trusted).unwrap_err();
        let rollback = matches!(&refused, MetadataError::Rollback { role: it, trusted: 99, .. } if it.as_str() == role);
        assert!(rollback, "{role}: {refused}");
    }
    let mut enrolment = registry.enrolment();
    enrolment.minimum.publishers.insert("acme".parse().unwrap(), 2);
    let trusted = registry.update(&Trusted::enrolled(&enrolment).unwrap()).unwrap();
    let acme = &trusted.view().publishers()[&"acme".parse().unwrap()].clone();
    assert_eq!(acme.problem, Some(IndexError::Rollback { known: 2, offered: 1 }));
    assert!(acme.index.is_none());
}

#[test]
fn an_enrolment_reads_back() {
    let mut enrolment = Registry::with_acme().enrolment();
    enrolment.minimum.timestamp = 7;
    let read = Enrolment::from_json(enrolment.to_json().as_bytes()).unwrap();
    assert_eq!(read.minimum, enrolment.minimum);
    assert_eq!(read.operators, enrolment.operators);
    assert_eq!(Trusted::enrolled(&read).unwrap().root().version(), 1);
    for text in ["", "{}", "[]", "{\"format\":2,\"root\":{}}"] {
        assert!(Enrolment::from_json(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn root_keys_rotate_and_an_old_host_follows_every_step() {
    let mut registry = Registry::with_acme();
    let enrolled = registry.enrolled();
    for seed in [201, 202, 203] {
        let next = role_key(KeyPurpose::Root, seed);
        let mut spec = RootSpec::read(&registry.online.root).unwrap();
        spec.root.keys = vec![next.public()];
        let previous = Some(&registry.online.root);
        let until = NOW + 365 * DAY;
        let refused = root_file(previous, &spec, &[&next], until).unwrap_err();
        assert!(refused.to_string().contains("not signed as it must be"), "{refused}");
        let root = root_file(previous, &spec, &[&registry.root_key, &next], until).unwrap();
        registry.root_key = next;
        let targets = registry.online.targets.clone();
        registry.advance(&root, &targets, &Default::default());
    }
    assert_eq!(registry.update(&enrolled).unwrap().root().version(), 4);
}

#[test]
fn a_root_that_skips_a_number_is_refused_whoever_signed_it() {
    let mut registry = Registry::with_acme();
    let enrolled = registry.enrolled();
    let spec = RootSpec::read(&registry.online.root).unwrap();
    let next = |before| root_file(Some(before), &spec, &[&registry.root_key], NOW + 365 * DAY);
    let second = next(&registry.online.root).unwrap();
    let third = next(&second).unwrap();
    registry.files.insert(second.path(), third.bytes().to_vec());
    let refused = registry.update(&enrolled).unwrap_err();
    let skipped = MetadataError::Rollback { role: Role::Root, trusted: 2, offered: 3 };
    assert_eq!(refused, skipped);
}

#[test]
fn metadata_is_good_until_the_moment_of_its_expiry_and_no_longer() {
    let registry = Registry::with_acme();
    let trusted = registry.update(&registry.enrolled()).unwrap();
    let view = trusted.view();
    let end = view.expires_at();
    assert!(view.resolve(&range("acme/probe"), end - 1).is_ok());
    assert!(view.resolve(&range("acme/probe"), end).is_err());
    assert!(registry.update_at(&registry.enrolled(), end - 1).is_ok());
    let refused = registry.update_at(&registry.enrolled(), end).unwrap_err();
    assert!(matches!(refused, MetadataError::Expired { .. }), "{refused}");
}

#[test]
fn a_role_with_two_keys_and_a_threshold_of_two_needs_both() {
    let registry = Registry::new();
    let (one, two) = (role_key(KeyPurpose::Root, 101), role_key(KeyPurpose::Root, 201));
    let mut spec = RootSpec::read(&registry.online.root).unwrap();
    spec.root.keys.push(two.public());
    spec.root.threshold = 2;
    let previous = Some(&registry.online.root);
    assert!(root_file(previous, &spec, &[&one], NOW + DAY).is_err());
    assert!(root_file(previous, &spec, &[&one, &one], NOW + DAY).is_err());
    let root = root_file(previous, &spec, &[&one, &two], NOW + DAY).unwrap();
    assert_eq!(RootSpec::read(&root).unwrap(), spec);
    spec.root.threshold = 3;
    assert!(root_file(previous, &spec, &[&one, &two], NOW + DAY).is_err());
}

#[test]
fn a_key_signs_only_what_it_is_for() {
    let registry = Registry::new();
    let spec = RootSpec::read(&registry.online.root).unwrap();
    let refused = root_file(None, &spec, &[&registry.targets_key], NOW + DAY).unwrap_err();
    insta::assert_snapshot!(refused);
}

#[test]
fn expiry_stops_what_is_new_and_nothing_else() {
    let registry = Registry::with_acme();
    let trusted = registry.update(&registry.enrolled()).unwrap();
    let view = trusted.view();
    let release = view.resolve(&range("acme/probe"), NOW).unwrap().clone();
    let bytes = Arc::clone(&registry.blobs[&release.digest]);
    let later = NOW + 2 * DAY;
    let refused = view.resolve(&range("acme/probe"), later).unwrap_err();
    insta::assert_snapshot!(refused);
    assert!(view.admit(&release, Arc::clone(&bytes), later).is_err());
    let signatures = release.signature_file().to_json();
    let verified = view.readmit(bytes, signatures.as_bytes()).unwrap();
    verified.recheck(view.policy()).unwrap();
}

#[test]
fn a_clock_that_went_back_makes_nothing_young() {
    let registry = Registry::with_acme();
    let trusted = registry.update_at(&registry.enrolled(), NOW + DAY / 2).unwrap();
    // The registry goes on serving the same; the host's clock says that it is long ago.
    let again = registry.update_at(&trusted, NOW - 400 * DAY).unwrap();
    assert_eq!(again.view().refreshed_at(), NOW + DAY / 2);
    let mut longer = registry;
    longer.now = NOW + 20 * DAY;
    longer.renew();
    let trusted = longer.update(&again).unwrap();
    let stale = trusted.view();
    assert!(stale.resolve(&range("acme/probe"), NOW - 400 * DAY).is_ok());
    let old = Registry::with_acme();
    assert!(old.update_at(&trusted, NOW).is_err());
}

#[test]
fn the_service_renews_what_is_half_over_and_leaves_the_rest() {
    let mut registry = Registry::with_acme();
    let before = registry.online.clone();
    registry.now += DAY / 4;
    registry.renew();
    assert_eq!(registry.online, before);
    registry.now += DAY / 2;
    registry.renew();
    assert_eq!(registry.online.snapshot, before.snapshot);
    assert_eq!(registry.online.timestamp.version(), before.timestamp.version() + 1);
    registry.now += 4 * DAY;
    registry.renew();
    assert_eq!(registry.online.index.version(), before.index.version() + 1);
    registry.update(&registry.enrolled()).unwrap();
}

#[test]
fn online_keys_rotate_and_hosts_follow() {
    let mut registry = Registry::with_acme();
    let trusted = registry.update(&registry.enrolled()).unwrap();
    registry.rotate_online(150);
    let after = registry.update(&trusted).unwrap();
    assert_eq!(after.root().version(), 2);
    assert_eq!(Trusted::from_bytes(&after.to_bytes()).unwrap().view().versions().root, 2);
    let spec = TargetsSpec::read(&registry.online.targets).unwrap();
    assert_eq!(spec.index.keys, [registry.online_keys.index.public()]);
}

#[test]
fn a_bundle_installs_without_a_network_until_its_own_expiry() {
    let registry = Registry::with_acme();
    let operator = role_key(KeyPurpose::Operator, 120);
    let trusted = registry.update(&registry.enrolled()).unwrap();
    let parts = BundleParts {
        trusted: &trusted,
        older_roots: Vec::new(),
        blobs: registry.blobs.values().cloned().collect(),
        sealed_at: NOW,
        expires_at: NOW + 30 * DAY,
    };
    let bytes = parts.seal(&operator).unwrap();
    let host = registry.enrolled();
    let later = NOW + 20 * DAY;
    let bundle = Bundle::read(&bytes, &host, later).unwrap();
    let host = bundle.update(&host).unwrap();
    let host = Trusted::from_bytes(&host.to_bytes()).unwrap();
    let view = host.view();
    let release = view.resolve(&range("acme/probe"), later).unwrap();
    let blob = bundle.blob(release.digest).unwrap();
    view.admit(release, blob.into(), later).unwrap();
    assert!(view.resolve(&range("acme/probe"), NOW + 31 * DAY).is_err());
    let expired = Bundle::read(&bytes, &host, NOW + 30 * DAY).unwrap_err();
    assert!(matches!(expired, BundleError::Expired { .. }), "{expired}");
    let stranger = parts.seal(&role_key(KeyPurpose::Operator, 121)).unwrap();
    assert_eq!(Bundle::read(&stranger, &host, NOW).unwrap_err(), BundleError::Unsealed);
    let forever = BundleParts { expires_at: NOW + 400 * DAY, ..parts };
    assert_eq!(forever.seal(&operator).unwrap_err(), BundleError::Lifetime);
}

#[test]
fn a_bundle_cannot_bring_back_what_a_host_knows_to_be_old() {
    let mut registry = Registry::with_acme();
    let trusted = registry.update(&registry.enrolled()).unwrap();
    let parts = BundleParts {
        trusted: &trusted,
        older_roots: Vec::new(),
        blobs: Vec::new(),
        sealed_at: NOW,
        expires_at: NOW + 30 * DAY,
    };
    let bytes = parts.seal(&role_key(KeyPurpose::Operator, 120)).unwrap();
    let release = trusted.view().releases().next().unwrap().digest;
    registry.publishers(|all| all.revoke_digest(&"acme".parse().unwrap(), release).unwrap());
    let host = registry.update(&trusted).unwrap();
    let bundle = Bundle::read(&bytes, &host, NOW).unwrap();
    let refused = bundle.update(&host).unwrap_err();
    assert!(matches!(refused, MetadataError::Rollback { .. }), "{refused}");
}

#[test]
fn publishers_cannot_be_mixed_up_at_approval() {
    let mut registry = Registry::with_acme();
    registry.publishers(|all| {
        let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let refused = all.approve(&other, key("acme", 1).public()).unwrap_err();
        insta::assert_snapshot!(refused);
        all.approve(&acme, key("acme", 2).public()).unwrap();
        all.revoke_key(&acme, key("acme", 1).id()).unwrap();
        let refused = all.approve(&acme, key("acme", 1).public()).unwrap_err();
        insta::assert_snapshot!(refused);
        assert!(all.revoke_key(&other, key("acme", 1).id()).is_err());
    });
    let view = registry.update(&registry.enrolled()).unwrap().view();
    let acme = &view.publishers()[&"acme".parse().unwrap()];
    assert!(matches!(acme.problem, Some(IndexError::Unsigned { .. })));
}

#[test]
fn a_role_key_reads_back_and_is_never_printed() {
    let key = role_key(KeyPurpose::Targets, 7);
    let text = key.to_file_text();
    let read = sentinel_trust::repository::RoleKey::from_file_text(text.as_bytes()).unwrap();
    assert_eq!((read.purpose(), read.id()), (KeyPurpose::Targets, key.id()));
    let printed = format!("{key:?}");
    assert!(printed.contains("Targets") && !printed.contains("BwcH"), "{printed}");
    for damaged in [text.replace("targets", "all"), text.replace("role-key", "key"), "{}".into()] {
        let refused = sentinel_trust::repository::RoleKey::from_file_text(damaged.as_bytes());
        assert!(matches!(refused, Err(KeyError::NotASecretKey(_))), "{damaged}");
    }
}

#[test]
fn every_file_of_another_length_digest_or_version_than_its_parent_says_is_refused() {
    let registry = Registry::with_acme();
    for role in [Role::Snapshot, Role::Targets, Role::Index] {
        let mut longer = Registry::with_acme();
        let file = registry.online.files().into_iter().find(|file| file.role() == role).unwrap();
        let served = longer.files.get_mut(&file.path()).unwrap();
        served.push(b'\n');
        let refused = longer.update(&longer.enrolled()).unwrap_err();
        assert!(matches!(refused, MetadataError::TooBig { .. }), "{role}: {refused}");
        let served = longer.files.get_mut(&file.path()).unwrap();
        served.pop();
        served.pop();
        served.push(b' ');
        let refused = longer.update(&longer.enrolled()).unwrap_err();
        let digest = matches!(refused, MetadataError::Mismatch { misfit: Misfit::Digest, .. });
        assert!(digest, "{role}: {refused}");
    }
}

#[test]
fn a_revoked_plugin_and_a_revoked_key_stop_what_runs() {
    let mut registry = Registry::with_acme();
    let trusted = registry.update(&registry.enrolled()).unwrap();
    let view = trusted.view();
    let release = view.releases().next().unwrap().clone();
    let bytes = Arc::clone(&registry.blobs[&release.digest]);
    let running = view.admit(&release, bytes, NOW).unwrap();
    let acme = "acme".parse().unwrap();
    registry.publishers(|all| all.revoke_key(&acme, key("acme", 1).id()).unwrap());
    let policy = registry.update(&trusted).unwrap().view().policy().clone();
    assert!(matches!(running.recheck(&policy), Err(TrustError::KeyRevoked { .. })));
    registry.publishers(|all| all.revoke_digest(&acme, release.digest).unwrap());
    let policy = registry.update(&trusted).unwrap().view().policy().clone();
    assert!(matches!(running.recheck(&policy), Err(TrustError::DigestRevoked { .. })));
}
