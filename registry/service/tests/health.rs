//! What those who watch a registry are told.

mod running;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use reqwest::Method;
use running::metadata::{approve, now, online_keys, timed};
use running::plugins::key;
use running::{Running, options};

async fn asked(registry: &Running, path: &str) -> (u16, String) {
    let response = registry.anybody(Method::GET, path).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_registry_is_ready_once_it_was_begun_and_not_while_its_store_is_gone() {
    // An answer stands for a second: the clock goes on by more.
    let ahead = Arc::new(AtomicI64::new(0));
    let later = || ahead.fetch_add(2_000, Ordering::Relaxed);
    let registry = Running::with(timed(&ahead), Some(online_keys())).await;
    assert_eq!(asked(&registry, "/healthz").await, (200, "ok\n".to_owned()));
    let (status, why) = asked(&registry, "/ready").await;
    assert_eq!(status, 503);
    assert!(why.contains("sentinel registry init"), "{why}");
    approve(&registry, &[&key("acme", 1)], now()).await;
    later();
    assert_eq!(asked(&registry, "/ready").await, (200, "ready\n".to_owned()));
    let (metadata, away) = (registry.folder.join("metadata"), registry.folder.join("away"));
    std::fs::rename(&metadata, &away).unwrap();
    later();
    let (status, why) = asked(&registry, "/ready").await;
    assert_eq!(status, 503);
    assert!(why.contains("the registry's store"), "{why}");
    assert_eq!(asked(&registry, "/healthz").await.0, 200, "it runs all the same");
    std::fs::rename(&away, &metadata).unwrap();
    later();
    assert_eq!(asked(&registry, "/ready").await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn what_is_asked_taken_and_given_is_counted_without_a_name() {
    let registry = Running::start().await;
    let blob = registry.push_blob("acme/thing", b"hello blob").await;
    let pulled = asked(&registry, &format!("/v2/acme/thing/blobs/{blob}")).await;
    assert_eq!(pulled, (200, "hello blob".to_owned()));
    assert_eq!(asked(&registry, "/v2/").await.0, 401);
    let (status, text) = asked(&registry, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "sentinel_registry_requests_total{method=\"write\",route=\"uploads\",status=\"2xx\"} 1",
        "sentinel_registry_requests_total{method=\"read\",route=\"blobs\",status=\"2xx\"} 1",
        "sentinel_registry_requests_total{method=\"read\",route=\"base\",status=\"4xx\"} 1",
        "sentinel_registry_request_seconds_count{route=\"blobs\"} 1",
        "sentinel_registry_refused_total{code=\"UNAUTHORIZED\"} 1",
        "sentinel_registry_taken_bytes_total 10",
        "sentinel_registry_uploads_under_way 0",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
    }
    let served =
        text.lines().find_map(|one| one.strip_prefix("sentinel_registry_served_bytes_total "));
    assert!(served.unwrap().parse::<u64>().unwrap() >= 10, "{text}");
    for secret in ["acme", &blob, &registry.token] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[tokio::test]
async fn who_asks_too_often_is_counted_and_health_is_told_nevertheless() {
    let mut few = options();
    few.rates.address.burst = 1.0;
    few.rates.address.per_second = 0.0;
    let registry = Running::with(few, None).await;
    let tags = "/v2/acme/x/tags/list";
    let statuses = [asked(&registry, tags).await.0, asked(&registry, tags).await.0];
    assert_eq!(statuses, [404, 429]);
    assert_eq!(asked(&registry, "/healthz").await.0, 200);
    assert_eq!(asked(&registry, "/ready").await.0, 503, "it was never begun");
    let (status, text) = asked(&registry, "/metrics").await;
    assert_eq!(status, 200);
    let line = "sentinel_registry_refused_total{code=\"TOOMANYREQUESTS\"} 1";
    assert!(text.lines().any(|one| one == line), "{text}");
}
