//! Attacks that the service meets, each by its name. What hosts meet besides is in the trust
//! crate's and the client's tests: they believe signatures, not the registry.

mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use running::plugins::{
    approve, component, index, key, listed, online_keys, plugin, with_manifest,
};
use running::{Running, code, digest, header, options};
use sentinel_trust::{Kind, sign};
use serde_json::{Value, json};

async fn published() -> (Running, sentinel_trust::repository::PublisherIndex) {
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
async fn digest_swap_in_the_blob_store() {
    let registry = Running::start().await;
    for size in [10_usize, 3 << 20] {
        let blob = registry.push_blob("acme/thing", &vec![7; size]).await;
        let path = format!("/v2/acme/thing/blobs/{blob}");
        assert_eq!(registry.anybody(Method::GET, &path).send().await.unwrap().status(), 200);
        // Another instance has nothing in memory: it must look at what the store has now.
        let other = Running::over(&registry.folder, options(), None).await;
        std::fs::write(registry.blob_file(&blob), vec![8; size]).unwrap();
        let response = other.anybody(Method::GET, &path).send().await.unwrap();
        if response.status() == 200 {
            assert!(response.bytes().await.is_err(), "the answer must be cut, {size} bytes");
        } else {
            assert_eq!(response.status(), 500);
            assert_eq!(code(response).await, "INTERNAL");
        }
        // Pushing it again mends it.
        registry.push_blob("acme/thing", &vec![7; size]).await;
        let response = other.anybody(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.bytes().await.unwrap(), vec![7; size]);
    }
}

#[tokio::test]
async fn truncated_blob_in_the_store() {
    let registry = Running::start().await;
    for size in [10_usize, 3 << 20] {
        let blob = registry.push_blob("acme/thing", &vec![7; size]).await;
        std::fs::write(registry.blob_file(&blob), vec![7; size / 2]).unwrap();
        let path = format!("/v2/acme/thing/blobs/{blob}");
        let response = registry.anybody(Method::GET, &path).send().await.unwrap();
        assert!(response.status() == 500 || response.bytes().await.is_err(), "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_upload() {
    let registry = Running::start().await;
    let bytes = vec![7; 100_000];
    let blob = digest(&bytes);
    let mut stream = TcpStream::connect(registry.registry.address()).unwrap();
    let head = format!(
        "POST /v2/acme/thing/blobs/uploads/?digest={blob} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        registry.token,
        bytes.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..50_000]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer));
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    let path = format!("/v2/acme/thing/blobs/{blob}");
    assert_eq!(registry.anybody(Method::HEAD, &path).send().await.unwrap().status(), 404);
    assert!(!registry.blob_file(&blob).exists());
}

#[tokio::test]
async fn oversized_blobs_and_manifests() {
    let registry = Running::start().await;
    let most = usize::try_from(options().limits.blob_bytes).unwrap();
    let too_large = vec![7; most + 1];
    let post =
        |query: &str| registry.ask(Method::POST, &format!("/v2/acme/thing/blobs/uploads/{query}"));
    let query = format!("?digest={}", digest(&too_large));
    let response = post(&query).body(too_large.clone()).send().await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(code(response).await, "SIZE_INVALID");
    // A length that is not announced, and one that grows chunk by chunk, are no way around.
    let begin = post("").send().await.unwrap();
    let upload = header(&begin, "location").to_owned();
    let half = vec![7; most / 2 + 1];
    let patch = || registry.ask(Method::PATCH, &upload).body(half.clone());
    assert_eq!(patch().send().await.unwrap().status(), 202);
    assert_eq!(patch().send().await.unwrap().status(), 413);
    let pieces = (0..8).map(|_| Ok::<_, std::io::Error>(vec![7_u8; 1 << 20]));
    let stream = reqwest::Body::wrap_stream(tokio_stream_of(pieces.collect()));
    let response = post(&query).body(stream).send().await;
    assert!(response.is_err() || response.unwrap().status() == 413);
    let manifest = json!({ "schemaVersion": 2, "annotations": { "a": "x".repeat(5 << 20) } });
    let response = registry.put_manifest("acme/thing", "latest", &manifest).await;
    assert_eq!(response.status(), 413);
    assert!(
        registry.folder.join("blobs").read_dir().map_or(true, |mut all| all.all(|one| {
            one.unwrap()
                .path()
                .read_dir()
                .unwrap()
                .all(|two| two.unwrap().path().read_dir().unwrap().next().is_none())
        })),
        "nothing of what was refused stays"
    );
}

fn tokio_stream_of(
    pieces: Vec<Result<Vec<u8>, std::io::Error>>,
) -> impl futures::Stream<Item = Result<Vec<u8>, std::io::Error>> + Send + 'static {
    futures::stream::iter(pieces)
}

/// Whether the registry closes a connection by itself, within a generous time.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).is_ok() || rest.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_loris() {
    let registry = Running::start().await;
    let address = registry.registry.address();
    let token = registry.token.clone();
    let checked = tokio::task::spawn_blocking(move || {
        for sent in [
            String::new(),
            "GET /v2/ HTTP/1.1\r\nHost: x\r\n".to_owned(),
            format!(
                "POST /v2/acme/thing/blobs/uploads/?digest=sha256:{} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\nabc",
                "0".repeat(64)
            ),
        ] {
            let began = Instant::now();
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(sent.as_bytes()).unwrap();
            assert!(is_closed(&mut stream), "{sent:?} was waited for");
            assert!(began.elapsed() < Duration::from_secs(20));
        }
        // A request that goes well, and then nothing: an idle connection is not kept either.
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(is_closed(&mut stream));
    });
    checked.await.unwrap();
}

#[tokio::test]
async fn connections_of_one_address_are_bounded() {
    let mut few = options();
    few.limits.connections_per_address = 2;
    few.limits.head = Duration::from_secs(20);
    let registry = Running::with(few, None).await;
    let address = registry.registry.address();
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let answered = tokio::task::spawn_blocking(move || {
        let mut answers = Vec::new();
        for mut stream in held {
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            answers.push((start, stream));
        }
        let mut third = TcpStream::connect(address).unwrap();
        let mut rest = Vec::new();
        third.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let closed = third.read_to_end(&mut rest);
        (answers.len(), closed.is_ok() && rest.is_empty())
    });
    assert_eq!(answered.await.unwrap(), (2, true));
}

#[tokio::test]
async fn path_traversal_in_names() {
    let registry = Running::start().await;
    let (_, token) = registry.store.create_token(Some("acme".parse().unwrap()), 0).await.unwrap();
    let address = registry.registry.address();
    let outside = registry.folder.parent().unwrap().join("secret");
    std::fs::write(&outside, "secret").unwrap();
    for path in [
        "/v2/acme/../../secret/manifests/x",
        "/v2/acme/%2e%2e/%2e%2e/manifests/secret",
        "/v2/acme/x/manifests/..%2f..%2f..%2fsecret",
        "/v2/acme/x/manifests/../../../../secret",
        "/v2/acme/x/blobs/sha256:..%2f..%2fsecret",
        "/v2/acme/x/blobs/uploads/..%2f..%2fauth",
        "/metadata/../auth/tokens",
        "/metadata/publishers/../../../secret",
        "/metadata/%2e%2e/%2e%2e/secret",
        "/api/v1/plugins/..%2f..%2fauth/tokens",
        "/api/v1/indexes/..%2f..%2fsecret",
    ] {
        // By hand: clients tidy such paths up.
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
            *token
        );
        let answer = tokio::task::spawn_blocking(move || {
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        assert!(!answer.contains("secret\""), "{path}: {answer}");
    }
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
    for (requests, status) in [
        (json!({}), 400),
        (json!({ "http": { "origins": "from-config", "methods": ["GET"] } }), 400),
    ] {
        let Ok(bytes) = std::panic::catch_unwind(|| {
            with_manifest(&asks, "acme/probe", "1.0.0", requests.clone())
        }) else {
            continue;
        };
        let response = registry.push_plugin("acme/probe", "1.0.0", &bytes).await;
        assert_eq!(response.status(), status, "{requests}");
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
async fn guessing_tokens_and_asking_too_often() {
    let mut few = options();
    few.rates.failures.burst = 3.0;
    few.rates.failures.per_second = 0.0;
    let registry = Running::with(few, None).await;
    let guess = || registry.anybody(Method::GET, "/v2/").bearer_auth("srt_x").send();
    for _ in 0..3 {
        assert_eq!(guess().await.unwrap().status(), 401);
    }
    let refused = guess().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(!header(&refused, "retry-after").is_empty());
    let right = registry.ask(Method::GET, "/v2/").send().await.unwrap();
    assert_eq!(right.status(), 429, "a right one is not looked at either");
    assert_eq!(registry.anybody(Method::GET, "/v2/").send().await.unwrap().status(), 401);
    let mut few = options();
    few.rates.address.burst = 2.0;
    few.rates.address.per_second = 0.0;
    let registry = Running::with(few, None).await;
    let ask = || registry.anybody(Method::GET, "/v2/acme/x/tags/list").send();
    let statuses =
        [ask().await, ask().await, ask().await].map(|one| one.unwrap().status().as_u16());
    assert_eq!(statuses, [404, 404, 429]);
}

#[tokio::test]
async fn a_listener_that_others_could_read() {
    let mut open = options();
    open.listen = ([0, 0, 0, 0], 0).into();
    let store = sentinel_registry_service::Store::open(&sentinel_registry_service::Place::Folder(
        tempfile::tempdir().unwrap().path().into(),
    ));
    let refused = sentinel_registry_service::serve(open, store.unwrap(), None).await;
    assert!(refused.err().unwrap().to_string().contains("without TLS"));
}
