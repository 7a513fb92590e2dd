//! The repository metadata through the service's own addresses: who may bring what, and that it
//! never grows old while nobody publishes.

mod running;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use reqwest::Method;
use running::metadata::{
    DAY, approve, believed, believed_at, newest, now, online_keys, role, root, root_key, targets,
    timed,
};
use running::plugins::{index, key, listed, plugin};
use running::{Running, code, options};
use sentinel_trust::repository::{KeyPurpose, Role};

#[tokio::test]
async fn targets_that_are_wrong_old_changed_or_too_large() {
    let registry = Running::with(options(), Some(online_keys())).await;
    let (acme, beta) = (key("acme", 1), key("beta", 2));
    let (first_root, first) = approve(&registry, &[&acme], now()).await;
    let until = now() + 90 * DAY;
    let second = targets(&first_root, Some(&first), &[&acme, &beta], until);
    assert_eq!(registry.bring("targets", second.bytes()).await.status(), 201);
    let commits = registry.commits();
    let text = String::from_utf8(second.bytes().to_vec()).unwrap();
    let other = targets(&first_root, Some(&first), &[&acme], until);
    let third = targets(&first_root, Some(&second), &[&acme], until);
    let third_text = String::from_utf8(third.bytes().to_vec()).unwrap();
    for (says, bytes, status) in [
        ("the one before", first.bytes().to_vec(), 422),
        ("another of the same version", other.bytes().to_vec(), 422),
        ("changed after it was signed", third_text.replace("\"acme\"", "\"evil\"").into(), 422),
        ("a higher version by hand", text.replace("\"version\": 2", "\"version\": 9").into(), 422),
        ("no metadata", b"{}".to_vec(), 422),
        ("too large", vec![b' '; (8 << 20) + 1], 413),
    ] {
        let response = registry.bring("targets", &bytes).await;
        assert_eq!(response.status(), status, "{says}: {}", response.text().await.unwrap());
    }
    let as_root = registry.bring("root", third.bytes()).await;
    assert_eq!(as_root.status(), 422, "targets are no root");
    for role in ["index", "snapshot", "timestamp", "other", "..%2froot"] {
        assert_eq!(registry.bring(role, third.bytes()).await.status(), 404, "{role}");
    }
    assert_eq!(registry.commits(), commits, "what was refused left a commit");
    assert_eq!(believed(&registry).await.view().versions().targets, 2);
    assert_eq!(registry.bring("targets", third.bytes()).await.status(), 201);
}

#[tokio::test]
async fn what_is_in_force_brought_again_by_anybody_makes_no_commit() {
    let registry = Running::with(options(), Some(online_keys())).await;
    let (root, targets) = approve(&registry, &[&key("acme", 1)], now()).await;
    let commits = registry.commits();
    for _ in 0..3 {
        assert_eq!(registry.bring("root", root.bytes()).await.status(), 201);
        assert_eq!(registry.bring("targets", targets.bytes()).await.status(), 201);
    }
    assert_eq!(registry.commits(), commits);
}

#[tokio::test]
async fn a_root_that_the_root_key_did_not_sign() {
    let registry = Running::with(options(), Some(online_keys())).await;
    let (first, _) = approve(&registry, &[&key("acme", 1)], now()).await;
    let thief = role(KeyPurpose::Root, 201);
    let until = now() + 365 * DAY;
    let forged = root(Some(&first), &thief, &[&thief, &root_key()], until);
    let forged: serde_json::Value = serde_json::from_slice(forged.bytes()).unwrap();
    // In either order of the two: what is left is not what the root in force asks for.
    let alone = |keep: usize| {
        let mut json = forged.clone();
        json["signatures"] = serde_json::json!([forged["signatures"][keep]]);
        json.to_string().into_bytes()
    };
    let second = root(Some(&first), &root_key(), &[&root_key()], until);
    let third = root(Some(&second), &root_key(), &[&root_key()], until);
    for (says, bytes, status) in [
        ("signed by one of the old and the new key", alone(0), 422),
        ("signed by the other alone", alone(1), 422),
        ("one was left out", third.bytes().to_vec(), 422),
        ("too large", vec![b' '; (256 << 10) + 1], 413),
    ] {
        assert_eq!(registry.bring("root", &bytes).await.status(), status, "{says}");
    }
    for good in [&second, &third] {
        assert_eq!(registry.bring("root", good.bytes()).await.status(), 201);
    }
    assert_eq!(believed(&registry).await.view().versions().root, 3);
}

/// Expired metadata is believed by nobody, and gives nobody a right that he had not.
#[tokio::test]
async fn an_expired_registry_is_taken_over_by_nobody_and_renewed_by_its_owner() {
    let ahead = Arc::new(AtomicI64::new(0));
    let registry = Running::with(timed(&ahead), Some(online_keys())).await;
    let acme = key("acme", 1);
    let (first, _) = approve(&registry, &[&acme], now()).await;
    let bytes = plugin("acme/probe", "1.0.0");
    assert_eq!(registry.push_plugin("acme/probe", "1.0.0", &bytes).await.status(), 201);
    let (_, published) = index(None, &acme, &[listed(&bytes, &acme)]);
    assert_eq!(registry.publish(&published).await.status(), 201);
    // Two years on, with a service that knows nothing but its store.
    ahead.store(800 * DAY, Ordering::Relaxed);
    let later = now() + 800 * DAY;
    let registry = Running {
        own: registry.own,
        ..Running::over(&registry.folder, timed(&ahead), Some(online_keys())).await
    };
    assert!(believed_at(&registry, later).await.is_err());
    let thief = role(KeyPurpose::Root, 201);
    let until = later + 365 * DAY;
    let forged = root(Some(&first), &thief, &[&thief, &root_key()], until);
    let mut json: serde_json::Value = serde_json::from_slice(forged.bytes()).unwrap();
    for keep in 0..2 {
        let mut alone = json.clone();
        let signature = json["signatures"][keep].clone();
        alone["signatures"] = serde_json::json!([signature]);
        assert_eq!(registry.bring("root", alone.to_string().as_bytes()).await.status(), 422);
    }
    json["signatures"] = serde_json::json!([]);
    assert_eq!(registry.bring("root", json.to_string().as_bytes()).await.status(), 422);
    // Nor may a publisher begin its history anew while nobody can say what it was.
    let (_, rewritten) = index(None, &acme, &[]);
    assert_eq!(registry.publish(&rewritten).await.status(), 422);
    let tag = "/v2/acme/probe/manifests/1.0.0";
    assert_eq!(registry.ask(Method::DELETE, tag).send().await.unwrap().status(), 403);
    // Its owner installs a new root and new targets together.
    let renewed = root(Some(&first), &root_key(), &[&root_key()], until);
    let known = newest(&registry, Role::Targets);
    let new_targets = targets(&renewed, Some(&known), &[&acme], later + 90 * DAY);
    sentinel_registry_service::install_metadata(
        &registry.store,
        online_keys(),
        Some(&renewed),
        Some(&new_targets),
        later,
    )
    .await
    .unwrap();
    ahead.fetch_add(2_000, Ordering::Relaxed);
    let names: Vec<String> = believed_at(&registry, later)
        .await
        .unwrap()
        .view()
        .releases()
        .map(|release| release.name.to_string())
        .collect();
    assert_eq!(names, ["acme/probe"], "what was published before is published still");
}

#[tokio::test]
async fn metadata_is_renewed_before_it_expires_while_nobody_publishes() {
    let ahead = Arc::new(AtomicI64::new(0));
    let mut options = timed(&ahead);
    options.limits.renew_every = Duration::from_millis(50);
    let registry = Running::with(options.clone(), Some(online_keys())).await;
    approve(&registry, &[&key("acme", 1)], now()).await;
    // Another instance over the same store renews too, and a third only serves.
    let other = Running::over(&registry.folder, options.clone(), Some(online_keys())).await;
    let third = Running::over(&registry.folder, options, None).await;
    for half_day in 1..=18 {
        ahead.fetch_add(DAY / 2 + 60_000, Ordering::Relaxed);
        for registry in [&registry, &other, &third] {
            // The renewing is waited for, until a host believes it. Time goes on meanwhile,
            // since an instance may go by what it saw a second ago.
            let mut tries = 0;
            while let Err(error) =
                believed_at(registry, now() + ahead.load(Ordering::Relaxed)).await
            {
                tries += 1;
                assert!(tries < 2_000, "after {half_day} half days: {error}");
                ahead.fetch_add(1_000, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    let versions = believed_at(&third, now() + ahead.load(Ordering::Relaxed)).await.unwrap();
    let versions = versions.view().versions();
    assert!(versions.timestamp >= 9 && versions.snapshot >= 3 && versions.index >= 3);
    assert!(registry.commits() < 60, "two that renew do not make a commit for every look");
}

#[tokio::test]
async fn of_two_next_indexes_of_one_publisher_over_two_instances_one_is_taken() {
    let one = Running::with(options(), Some(online_keys())).await;
    let acme = key("acme", 1);
    approve(&one, &[&acme], now()).await;
    let other = Running::over(&one.folder, options(), Some(online_keys())).await;
    let mut known = None;
    for round in 0..8_u32 {
        // The same version as other bytes, of which one is released and the other never.
        let version = format!("1.{round}.0");
        let plain = plugin("acme/probe", &version);
        let padded = [&plain[..], &[0, 4, 1, b'x', b'y', b'z']].concat();
        let mut both = Vec::new();
        for bytes in [&plain, &padded] {
            assert_eq!(one.push_plugin("acme/probe", &version, bytes).await.status(), 201);
            both.push(index(known.as_ref(), &acme, &[listed(bytes, &acme)]));
        }
        // The tag means one of them; the index that lists the other is refused, whoever is
        // first, and so is one of two that list the same.
        let (right, wrong) = (&both[1], &both[0]);
        let (a, b) = tokio::join!(one.publish(&right.1), other.publish(&right.1));
        let c = other.publish(&wrong.1).await;
        let mut statuses = [a.status().as_u16(), b.status().as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "round {round}");
        assert!(!c.status().is_success());
        let trusted = believed(&one).await;
        let digests: Vec<String> =
            trusted.view().releases().map(|one| one.digest.to_string()).collect();
        assert!(digests.contains(&running::digest(&padded)));
        assert!(!digests.contains(&running::digest(&plain)));
        known = Some(right.0.clone());
    }
}

#[tokio::test]
async fn many_large_bodies_at_once_are_told_to_come_again() {
    let mut small = options();
    small.limits.held_bytes = 1 << 20;
    let registry = Running::with(small, Some(online_keys())).await;
    approve(&registry, &[&key("acme", 1)], now()).await;
    let refused = registry.bring("targets", &vec![b' '; 2 << 20]).await;
    assert_eq!(refused.status(), 429);
    assert!(!running::header(&refused, "retry-after").is_empty());
    assert_eq!(code(refused).await, "TOOMANYREQUESTS");
    // Those who show a token have room of their own.
    let put = registry.ask(Method::PUT, "/api/v1/indexes/acme").body(vec![b' '; 1 << 19]);
    assert_eq!(put.send().await.unwrap().status(), 422);
}
