//! The service has no state beside its store: two instances are one registry, and one that is
//! killed leaves nothing half done.

mod running;

use reqwest::Method;
use running::metadata::{approve, believed, online_keys, timed};
use running::plugins::{index, key, listed, plugin};
use running::s3::Buckets;
use running::{Running, digest, header, options};
use sentinel_registry_service::Place;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

#[tokio::test]
async fn two_instances_over_one_store_are_one_registry() {
    one_registry(&Running::start().await).await;
}

async fn one_registry(one: &Running) {
    let other = &one.beside(options(), None).await;
    let begin = one.ask(Method::POST, "/v2/acme/x/blobs/uploads/").send().await.unwrap();
    let upload = header(&begin, "location").to_owned();
    let (first, second) = (vec![1; 2000], vec![2; 1000]);
    let blob = digest(&[first.clone(), second.clone()].concat());
    let patch = other.ask(Method::PATCH, &upload).body(first).send().await.unwrap();
    assert_eq!((patch.status().as_u16(), header(&patch, "range")), (202, "0-1999"));
    let at_one = one.ask(Method::GET, &upload).send().await.unwrap();
    assert_eq!(header(&at_one, "range"), "0-1999");
    let put = one.ask(Method::PUT, &format!("{upload}?digest={blob}")).body(second);
    assert_eq!(put.send().await.unwrap().status(), 201);
    let manifest = one.artifact("acme/x", b"layer").await;
    assert_eq!(other.put_manifest("acme/x", "v1", &manifest).await.status(), 201);
    for registry in [one, other] {
        let pulled = registry.anybody(Method::GET, &format!("/v2/acme/x/blobs/{blob}"));
        assert_eq!(pulled.send().await.unwrap().bytes().await.unwrap().len(), 3000);
        let tags = registry.anybody(Method::GET, "/v2/acme/x/tags/list").send().await.unwrap();
        assert_eq!(tags.json::<Value>().await.unwrap()["tags"][0], "v1");
        // A token of either is one of both.
        assert_eq!(
            one.ask(Method::GET, "/v2/")
                .bearer_auth(&registry.token)
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    assert_eq!(
        one.ask(Method::DELETE, "/v2/acme/x/manifests/v1").send().await.unwrap().status(),
        202
    );
    assert_eq!(
        other.anybody(Method::GET, "/v2/acme/x/manifests/v1").send().await.unwrap().status(),
        404
    );
}

#[tokio::test]
async fn of_two_chunks_at_one_place_one_is_taken() {
    one_chunk(&Running::start().await).await;
}

async fn one_chunk(one: &Running) {
    let other = &one.beside(options(), None).await;
    let begin = one.ask(Method::POST, "/v2/acme/x/blobs/uploads/").send().await.unwrap();
    let upload = header(&begin, "location").to_owned();
    let patch = |registry: &Running, byte: u8| {
        registry.ask(Method::PATCH, &upload).header("content-range", "0-999").body(vec![byte; 1000])
    };
    let (a, b) = tokio::join!(patch(one, 1).send(), patch(other, 2).send());
    let mut statuses = [a.unwrap().status().as_u16(), b.unwrap().status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 416]);
}

#[tokio::test]
async fn a_kill_between_chunk_and_commit_loses_nothing_and_shows_nothing() {
    let bytes = [vec![1; 3000], vec![2; 3000]].concat();
    let blob = digest(&bytes);
    let path = format!("/v2/acme/x/blobs/{blob}");
    let first = Running::start().await;
    let begin = first.ask(Method::POST, "/v2/acme/x/blobs/uploads/").send().await.unwrap();
    let upload = header(&begin, "location").to_owned();
    first.ask(Method::PATCH, &upload).body(bytes[..3000].to_vec()).send().await.unwrap();
    // What a kill in the middle of a write leaves: a part under another name, which is nothing.
    let part = first.blob_file(&blob);
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(part.with_extension("#1"), &bytes[..100]).unwrap();
    let part = format!("{}#1", part.display());
    std::fs::write(part, &bytes[..100]).unwrap();
    // Another process goes on where the first was, which is not even told to stop.
    let second = Running::over(&first.folder, options(), None).await;
    assert_eq!(second.anybody(Method::GET, &path).send().await.unwrap().status(), 404);
    let at = second.ask(Method::GET, &upload).send().await.unwrap();
    assert_eq!(header(&at, "range"), "0-2999");
    let put =
        second.ask(Method::PUT, &format!("{upload}?digest={blob}")).body(bytes[3000..].to_vec());
    assert_eq!(put.send().await.unwrap().status(), 201);
    let pulled = second.anybody(Method::GET, &path).send().await.unwrap();
    assert_eq!(pulled.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn uploads_that_do_not_go_on_and_blobs_that_nobody_has_are_collected_by_age() {
    let registry = Running::start().await;
    let begin = registry.ask(Method::POST, "/v2/acme/x/blobs/uploads/").send().await.unwrap();
    let upload = header(&begin, "location").to_owned();
    registry.ask(Method::PATCH, &upload).body("abc").send().await.unwrap();
    let kept = registry.push_blob("acme/x", b"kept").await;
    let left = registry.push_blob("acme/x", b"left").await;
    let path = format!("/v2/acme/x/blobs/{left}");
    assert_eq!(registry.ask(Method::DELETE, &path).send().await.unwrap().status(), 202);
    let now = (options().clock)();
    assert_eq!(registry.store.collect_uploads(now - 60_000).await.unwrap(), 0);
    assert_eq!(registry.store.collect_blobs(now - 60_000).await.unwrap(), 0);
    assert_eq!(registry.store.collect_uploads(now + 60_000).await.unwrap(), 1);
    assert_eq!(registry.store.collect_blobs(now + 60_000).await.unwrap(), 1);
    assert!(registry.blob_file(&kept).exists() && !registry.blob_file(&left).exists());
    assert_eq!(registry.ask(Method::GET, &upload).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn of_two_that_publish_at_once_over_two_instances_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    none_lost(Place::Folder(folder.path().join("store"))).await;
}

#[tokio::test]
async fn soak_instances_over_a_bucket_are_one_registry_too() {
    let s3 = Buckets::start();
    let at = async |bucket| Running::at(s3.place(bucket), options(), None).await;
    one_registry(&at("registry").await).await;
    one_chunk(&at("chunks").await).await;
    none_lost(s3.place("publishers")).await;
}

async fn none_lost(place: Place) {
    // An instance may go by what it saw a second ago: the clock goes on by two.
    let ahead = Arc::new(AtomicI64::new(0));
    let one = Running::at(place, timed(&ahead), Some(online_keys())).await;
    let publishers = [key("acme", 1), key("beta", 2)];
    approve(&one, &[&publishers[0], &publishers[1]], (options().clock)()).await;
    let other = one.beside(timed(&ahead), Some(online_keys())).await;
    let (_, token) = one.store.create_token(Some("beta".parse().unwrap()), 0).await.unwrap();
    let other = Running { token: token.to_string(), ..other };
    let mut indexes = Vec::new();
    for (registry, key, name) in
        [(&one, &publishers[0], "acme/probe"), (&other, &publishers[1], "beta/disks")]
    {
        let bytes = plugin(name, "1.0.0");
        assert_eq!(registry.push_plugin(name, "1.0.0", &bytes).await.status(), 201);
        indexes.push(index(None, key, &[listed(&bytes, key)]).1);
    }
    let put = |registry: &Running, publisher: &str, index: &[u8]| {
        registry.ask(Method::PUT, &format!("/api/v1/indexes/{publisher}")).body(index.to_vec())
    };
    let (a, b) = tokio::join!(
        put(&one, "acme", &indexes[0]).send(),
        put(&other, "beta", &indexes[1]).send()
    );
    assert_eq!([a.unwrap().status(), b.unwrap().status()], [201, 201]);
    ahead.store(2_000, Ordering::Relaxed);
    // A third instance, without the keys, shows what both published.
    let third = one.beside(timed(&ahead), None).await;
    for registry in [&one, &other, &third] {
        let trusted = believed(registry).await;
        let names: Vec<String> =
            trusted.view().releases().map(|release| release.name.to_string()).collect();
        assert_eq!(names, ["acme/probe", "beta/disks"]);
    }
    let refused = put(&third, "acme", &indexes[0]).send().await.unwrap();
    assert!(!refused.status().is_success());
}
