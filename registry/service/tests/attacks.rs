//! Attacks that the service meets, each by its name. What hosts meet besides is in the trust
//! crate's and the client's tests: they believe signatures, not the registry.

mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use running::{Running, code, digest, hasty, header, options};
use serde_json::json;

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
    let registry = Running::with(hasty(), None).await;
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

/// Drops of one byte, or pieces without end: neither makes an upload long to list.
#[tokio::test]
async fn an_upload_in_too_many_chunks() {
    let mut many = options();
    many.rates.token.burst = 1e6;
    let registry = Running::with(many, None).await;
    let begin = registry.ask(Method::POST, "/v2/acme/thing/blobs/uploads/").send().await.unwrap();
    let upload = header(&begin, "location").to_owned();
    // As if 1024 had come: what they hold does not matter.
    let id = upload.rsplit_once('/').unwrap().1;
    for at in 0..1024 {
        std::fs::write(registry.folder.join(format!("uploads/{id}/{at:020}")), "x").unwrap();
    }
    let refused = registry.ask(Method::PATCH, &upload).body("y").send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("larger ones"));
    let whole = digest("x".repeat(1024).as_bytes());
    let put = registry.ask(Method::PUT, &format!("{upload}?digest={whole}")).send().await;
    assert_eq!(put.unwrap().status(), 201, "what came is taken");
}

#[tokio::test]
async fn a_referrer_with_large_annotations() {
    let registry = Running::start().await;
    let subject = registry.artifact("acme/thing", b"subject").await;
    let put = registry.put_manifest("acme/thing", "v1", &subject).await;
    let subject_digest = header(&put, "docker-content-digest").to_owned();
    let mut referrer = registry.artifact("acme/thing", b"referrer").await;
    referrer["subject"] = json!({
        "mediaType": running::OCI_MANIFEST, "digest": subject_digest, "size": 1,
    });
    for (bytes, status) in [(1 << 10, 201), (17 << 10, 400)] {
        referrer["annotations"] = json!({ "note": "x".repeat(bytes) });
        let response = registry.put_manifest("acme/thing", "note", &referrer).await;
        assert_eq!(response.status(), status, "{bytes} bytes");
    }
    // Without a subject nothing lists them.
    referrer.as_object_mut().unwrap().remove("subject");
    assert_eq!(registry.put_manifest("acme/thing", "note", &referrer).await.status(), 201);
}
