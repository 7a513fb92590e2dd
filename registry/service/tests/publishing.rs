//! What the service refuses when something is pushed and published, each by the attack's name.

mod running;

use reqwest::Method;
use running::metadata::{approve, newest, online_keys, targets};
use running::plugins::{component, index, key, listed, plugin, with_manifest};
use running::{Running, digest, header, options};
use sentinel_trust::repository::{IndexedRelease, PublisherIndex, Role};
use sentinel_trust::{Kind, sign};
use serde_json::{Value, json};

async fn published() -> (Running, PublisherIndex) {
    let registry = Running::with(options(), Some(online_keys())).await;
    approve(&registry, &[&key("acme", 1), &key("beta", 2)], (options().clock)()).await;
    let bytes = plugin("acme/probe", "1.0.0");
    assert_eq!(registry.push_plugin("acme/probe", "1.0.0", &bytes).await.status(), 201);
    let (first, signed) = index(None, &key("acme", 1), &[listed(&bytes, &key("acme", 1))]);
    let answer = registry.publish(&signed).await;
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    (registry, first)
}

async fn text(registry: &Running, path: &str) -> (u16, String) {
    let response = registry.anybody(Method::GET, path).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn tag_moved() {
    let (registry, _) = published().await;
    let other = plugin("acme/probe", "1.0.0");
    let other = [other.as_slice(), &[0, 4, 1, b'x', b'y', b'z']].concat();
    let response = registry.push_plugin("acme/probe", "1.0.0", &other).await;
    assert_eq!(response.status(), 403, "a released tag does not move");
    let tag = "/v2/acme/probe/manifests/1.0.0";
    let response = registry.ask(Method::DELETE, tag).send().await.unwrap();
    assert_eq!(response.status(), 403, "nor does it go");
    let manifest = registry.anybody(Method::GET, tag).send().await.unwrap();
    let manifest_digest = header(&manifest, "docker-content-digest").to_owned();
    let manifest: Value = manifest.json().await.unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    for path in [
        format!("/v2/acme/probe/manifests/{manifest_digest}"),
        format!("/v2/acme/probe/blobs/{layer}"),
    ] {
        let response = registry.ask(Method::DELETE, &path).send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
    }
    // Moved in the store itself, it changes nothing of what is published.
    let before = text(&registry, "/api/v1/plugins/acme/probe").await;
    let elsewhere = digest(b"elsewhere");
    std::fs::write(registry.folder.join("repos/acme/probe/_tags/1.0.0"), elsewhere).unwrap();
    assert_eq!(text(&registry, "/api/v1/plugins/acme/probe").await, before);
    assert!(before.1.contains(layer), "{}", before.1);
}

#[tokio::test]
async fn a_manifest_that_differs_from_the_components_real_imports() {
    let registry = Running::start().await;
    let asks = component(Kind::Collector, &["log", "http", "files"]);
    for requests in
        [json!({}), json!({ "http": { "origins": ["https://a.example.com"], "methods": ["GET"] } })]
    {
        let bytes = with_manifest(&asks, "acme/probe", "1.0.0", requests.clone());
        let response = registry.push_plugin("acme/probe", "1.0.0", &bytes).await;
        assert_eq!(response.status(), 400, "{requests}");
        let body = response.text().await.unwrap();
        assert!(body.contains("MANIFEST_INVALID") && body.contains("files"), "{body}");
    }
    let response = registry.anybody(Method::GET, "/v2/acme/probe/manifests/1.0.0").send().await;
    assert_eq!(response.unwrap().status(), 404);
}

#[tokio::test]
async fn a_component_of_another_kind_name_or_version_than_it_says() {
    let registry = Running::start().await;
    let notifier = component(Kind::Notifier, &["log"]);
    let collector = component(Kind::Collector, &["log"]);
    for (says, bytes, repository, tag) in [
        (
            "another kind",
            with_manifest(&notifier, "acme/probe", "1.0.0", json!({})),
            "acme/probe",
            "1.0.0",
        ),
        (
            "another name",
            with_manifest(&collector, "acme/other", "1.0.0", json!({})),
            "acme/probe",
            "1.0.0",
        ),
        (
            "another publisher",
            with_manifest(&collector, "beta/probe", "1.0.0", json!({})),
            "acme/probe",
            "1.0.0",
        ),
        (
            "another version",
            with_manifest(&collector, "acme/probe", "1.0.1", json!({})),
            "acme/probe",
            "1.0.0",
        ),
        (
            "damaged",
            {
                let mut b = plugin("acme/probe", "1.0.0");
                let n = b.len() / 2;
                b[n] ^= 0xff;
                b[n + 1] ^= 0xff;
                b
            },
            "acme/probe",
            "1.0.0",
        ),
    ] {
        let response = registry.push_plugin(repository, tag, &bytes).await;
        assert_eq!(response.status(), 400, "{says}");
    }
    let good = plugin("acme/probe", "1.0.0");
    assert_eq!(registry.push_plugin("acme/probe", "1.0.0", &good).await.status(), 201);
    // What does not say it is a plugin may be anything, and is pullable.
    assert_eq!(registry.push_plugin("acme/foreign", "1.0.0", &collector).await.status(), 201);
    assert_eq!(registry.push_plugin("acme/foreign", "2", b"\0asm\x01\0\0\0").await.status(), 201);
}

#[tokio::test]
async fn wrong_namespace_signing() {
    let (registry, first) = published().await;
    let bytes = plugin("acme/probe", "1.1.0");
    let pushed = registry.push_plugin("acme/probe", "1.1.0", &bytes).await;
    let subject = header(&pushed, "docker-content-digest").to_owned();
    // As a referrer: a key of beta signs what is acme's.
    let mut file: Value =
        serde_json::from_str(&sign(&bytes, &key("acme", 9), None).unwrap().to_json()).unwrap();
    let response =
        registry.push_signature("acme/probe", &subject, file.to_string().as_bytes()).await;
    assert_eq!(response.status(), 400, "a key that nobody approved");
    let theirs = plugin("beta/probe", "1.1.0");
    let theirs = sign(&theirs, &key("beta", 2), None).unwrap();
    file["signatures"] = serde_json::to_value(&theirs.signatures).unwrap();
    let response =
        registry.push_signature("acme/probe", &subject, file.to_string().as_bytes()).await;
    assert_eq!(response.status(), 400, "a key of another publisher");
    let good = sign(&bytes, &key("acme", 1), None).unwrap().to_json();
    let response = registry.push_signature("acme/probe", &subject, good.as_bytes()).await;
    assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
    let referrers = text(&registry, &format!("/v2/acme/probe/referrers/{subject}")).await.1;
    assert!(referrers.contains("application/vnd.sentinel.signature.v1+json"), "{referrers}");
    // In the index: signed by somebody else's key, or of somebody else.
    let mut release = listed(&bytes, &key("acme", 1));
    release.signatures = theirs.signatures;
    let (_, signed) = index(Some(&first), &key("acme", 1), &[release]);
    assert_eq!(registry.publish(&signed).await.status(), 400);
    let (_, signed) = index(Some(&first), &key("acme", 9), &[]);
    let response = registry.publish(&signed).await;
    assert_eq!(response.status(), 422);
    let (_, signed) = index(None, &key("beta", 2), &[]);
    assert_eq!(registry.publish(&signed).await.status(), 403);
    let response =
        registry.ask(Method::PUT, "/api/v1/indexes/beta").body(signed).send().await.unwrap();
    assert_eq!(response.status(), 403, "the token is not beta's");
    assert!(!text(&registry, "/api/v1/plugins/acme/probe").await.1.contains("1.1.0"));
}

#[tokio::test]
async fn typosquat_at_name_creation() {
    let (registry, _) = published().await;
    let (_, token) = registry.store.create_token(Some("acne".parse().unwrap()), 0).await.unwrap();
    let acne = Running {
        token: token.to_string(),
        ..Running::over(&registry.folder, options(), None).await
    };
    let squat = plugin("acne/probe", "1.0.0");
    let response = acne.push_plugin("acne/probe", "1.0.0", &squat).await;
    assert_eq!(response.status(), 403);
    assert!(response.text().await.unwrap().contains("acme/probe"));
    acne.store.allow_name(&"acne/probe".parse().unwrap()).await.unwrap();
    assert_eq!(acne.push_plugin("acne/probe", "1.0.0", &squat).await.status(), 201);
}

#[tokio::test]
async fn a_release_that_was_rewritten_removed_or_comes_out_of_order() {
    let (registry, first) = published().await;
    let acme = key("acme", 1);
    let push = async |version: &str| {
        let bytes = plugin("acme/probe", version);
        assert_eq!(registry.push_plugin("acme/probe", version, &bytes).await.status(), 201);
        listed(&bytes, &acme)
    };
    let newer = push("1.2.0").await;
    let (second, signed) = index(Some(&first), &acme, &[newer]);
    assert_eq!(registry.publish(&signed).await.status(), 201);
    assert_eq!(registry.publish(&signed).await.status(), 409, "the same number again");
    let between = push("1.1.0").await;
    let (_, out_of_order) = index(Some(&second), &acme, &[between]);
    let mut rewritten = listed(&plugin("acme/probe", "1.2.0"), &acme);
    rewritten.size += 1;
    let (_, rewritten) = index(Some(&second), &acme, &[rewritten]);
    let mut removed = second.clone();
    removed.releases.clear();
    let (_, removed) = index(Some(&removed), &acme, &[]);
    let missing = listed(&plugin("acme/probe", "3.0.0"), &acme);
    let (_, missing) = index(Some(&second), &acme, &[missing]);
    for (says, bytes) in [
        ("out of order", &out_of_order),
        ("rewritten", &rewritten),
        ("removed", &removed),
        ("not pushed", &missing),
        ("no index", &b"{}".to_vec()),
    ] {
        assert_eq!(registry.publish(bytes).await.status(), 422, "{says}");
    }
    let older = push("0.9.0").await;
    let (third, signed) = index(Some(&second), &acme, &[older]);
    assert_eq!(registry.publish(&signed).await.status(), 201, "another line has its own order");
    let minor = push("0.8.5").await;
    let (third, signed) = index(Some(&third), &acme, &[minor]);
    assert_eq!(registry.publish(&signed).await.status(), 201, "below 1.0 each minor has");
    let mut yanked = third.releases.iter().find(|one| one.version.minor == 2).unwrap().clone();
    yanked.yanked = true;
    let (_, signed) = index(Some(&third), &acme, &[yanked]);
    assert_eq!(registry.publish(&signed).await.status(), 201);
    let found: Value =
        serde_json::from_str(&text(&registry, "/api/v1/plugins?q=probe").await.1).unwrap();
    assert_eq!(found[0]["version"], "1.0.0", "what is yanked is not offered: {found}");
    assert_eq!(text(&registry, "/api/v1/plugins?q=nothing").await.1, "[]");
}

#[tokio::test]
async fn an_index_that_says_otherwise_of_a_plugin_or_brings_too_many_at_once() {
    let (registry, first) = published().await;
    let acme = key("acme", 1);
    let bytes = plugin("acme/probe", "1.1.0");
    assert_eq!(registry.push_plugin("acme/probe", "1.1.0", &bytes).await.status(), 201);
    let refused = async |releases: &[IndexedRelease]| {
        let (_, signed) = index(Some(&first), &acme, releases);
        let answer = registry.publish(&signed).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    type Change = fn(&mut IndexedRelease);
    let changes: [(&str, Change); 5] = [
        ("size", |one| one.size += 1),
        ("kind", |one| one.kind = Kind::Notifier),
        ("contract", |one| one.contract.patch += 1),
        ("description", |one| one.description.push('!')),
        ("requests", |one| one.requests.system = true),
    ];
    for (what, change) in changes {
        let mut release = listed(&bytes, &acme);
        change(&mut release);
        let (status, said) = refused(&[release]).await;
        assert_eq!(status, 422, "{what}: {said}");
        assert!(said.contains(&format!("pushed: {what}")), "{what}: {said}");
    }
    let one = |minor| listed(&plugin("acme/probe", &format!("4.{minor}.0")), &acme);
    let many: Vec<_> = (0..17).map(one).collect();
    let (status, said) = refused(&many).await;
    assert!(status == 422 && said.contains("publish at most 16 at a time"), "{status} {said}");
}

/// What a kill leaves between a release's record and the commit that lists it: nothing that
/// binds anybody.
#[tokio::test]
async fn a_version_whose_publishing_was_cut_short_may_be_published_again_also_as_other_bytes() {
    let acme = key("acme", 1);
    for again_as_it_was in [true, false] {
        let (registry, first) = published().await;
        let bytes = plugin("acme/probe", "1.1.0");
        assert_eq!(registry.push_plugin("acme/probe", "1.1.0", &bytes).await.status(), 201);
        let (_, signed) = index(Some(&first), &acme, &[listed(&bytes, &acme)]);
        assert_eq!(registry.publish(&signed).await.status(), 201);
        // As if the process had ended before the commit: the newest one is not there.
        let commits = std::fs::read_dir(registry.folder.join("metadata/commits")).unwrap();
        let newest = commits.map(|entry| entry.unwrap().path()).max().unwrap();
        std::fs::remove_file(newest).unwrap();
        let records = registry.folder.join("plugins/acme/probe");
        for entry in std::fs::read_dir(records).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with("1.1.0.") {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let text = text.replace("\"released\":true", "\"released\":false");
                std::fs::write(entry.path(), text).unwrap();
            }
        }
        let registry = Running {
            own: registry.own,
            ..Running::over(&registry.folder, options(), Some(online_keys())).await
        };
        assert!(!text(&registry, "/api/v1/plugins/acme/probe").await.1.contains("1.1.0"));
        let bytes = match again_as_it_was {
            true => bytes,
            false => [bytes.as_slice(), &[0, 4, 1, b'x', b'y', b'z']].concat(),
        };
        assert_eq!(registry.push_plugin("acme/probe", "1.1.0", &bytes).await.status(), 201);
        let (_, signed) = index(Some(&first), &acme, &[listed(&bytes, &acme)]);
        let response = registry.publish(&signed).await;
        assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
        let shown = text(&registry, "/api/v1/plugins/acme/probe").await.1;
        assert!(shown.contains(&digest(&bytes)), "{shown}");
    }
}

#[tokio::test]
async fn nothing_that_a_release_is_made_of_is_deleted() {
    let (registry, _) = published().await;
    let manifest = registry.anybody(Method::GET, "/v2/acme/probe/manifests/1.0.0").send().await;
    let manifest: Value = manifest.unwrap().json().await.unwrap();
    for part in [&manifest["config"], &manifest["layers"][0]] {
        let path = format!("/v2/acme/probe/blobs/{}", part["digest"].as_str().unwrap());
        assert_eq!(registry.ask(Method::DELETE, &path).send().await.unwrap().status(), 403);
    }
    let free = registry.push_blob("acme/probe", b"free").await;
    let path = format!("/v2/acme/probe/blobs/{free}");
    assert_eq!(registry.ask(Method::DELETE, &path).send().await.unwrap().status(), 202);
    // Also a year later, when hosts believe none of it any more.
    let mut later = options();
    let clock = options().clock;
    later.clock = std::sync::Arc::new(move || clock() + 365 * 86_400_000);
    let later = Running::over(&registry.folder, later, None).await;
    let tag = "/v2/acme/probe/manifests/1.0.0";
    assert_eq!(later.ask(Method::DELETE, tag).send().await.unwrap().status(), 403);
}

/// A publisher that begins a new index after its key was stolen cannot give other bytes to
/// what it had released.
#[tokio::test]
async fn a_released_version_keeps_its_bytes_under_a_new_key_and_a_new_index() {
    let (registry, _) = published().await;
    let first_root = newest(&registry, Role::Root);
    let next = key("acme", 3);
    let known = newest(&registry, Role::Targets);
    let until = (options().clock)() + 86_400_000;
    let replaced = targets(&first_root, Some(&known), &[&next], until);
    assert_eq!(registry.bring("targets", replaced.bytes()).await.status(), 201);
    let original = plugin("acme/probe", "1.0.0");
    let other = [original.as_slice(), &[0, 4, 1, b'x', b'y', b'z']].concat();
    let begin = |bytes: &[u8]| {
        let mut empty = PublisherIndex::empty("acme".parse().unwrap());
        empty.number = 7;
        index(Some(&empty), &next, &[listed(bytes, &next)]).1
    };
    assert_eq!(registry.push_plugin("acme/probe", "1.0.0", &other).await.status(), 403);
    let response = registry.publish(&begin(&other)).await;
    assert!(!response.status().is_success());
    let response = registry.publish(&begin(&original)).await;
    assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
}
