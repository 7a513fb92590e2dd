//! `wasi:http` of a plugin: the same gate as the contract's own `http`, and nothing beside it.

mod plugins;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use plugins::{Host, plugin, plugin_with, spec};
use sentinel_runtime::{Services, Slot};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

sentinel_runtime::compile_child_hook!();

/// Answers everything alike and remembers what it was asked.
async fn server(body: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let (mut sent, mut part) = (Vec::new(), [0; 65_536]);
                loop {
                    let read = stream.read(&mut part).await.unwrap_or(0);
                    sent.extend_from_slice(&part[..read]);
                    let text = String::from_utf8_lossy(&sent).into_owned();
                    let length = |head: &str| {
                        let line = head.lines().find_map(|l| l.strip_prefix("content-length: "));
                        line.map_or(0, |length| length.parse().unwrap())
                    };
                    let whole =
                        text.split_once("\r\n\r\n").is_some_and(|(h, b)| b.len() >= length(h));
                    if whole {
                        kept.lock().push(text);
                        break;
                    }
                    if read == 0 {
                        return;
                    }
                }
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (authority, seen)
}

/// What a collection came to: status and body of each answer, or the failure's words.
async fn collected(slot: &Slot) -> Result<Vec<(f64, String)>, String> {
    let collected = slot.collect().await.map_err(|error| error.to_string())?;
    let rows = collected.batches.iter().flat_map(|batch| {
        batch
            .rows()
            .map(|row| {
                let body =
                    row.labels().find(|(key, _)| *key == "body").map_or("", |(_, value)| value);
                (row.value(), body.to_owned())
            })
            .collect::<Vec<_>>()
    });
    Ok(rows.collect())
}

async fn asked(host: &Host, config: Value, grants: Value) -> Result<Vec<(f64, String)>, String> {
    let secrets = BTreeMap::from([("token".to_owned(), b"s3cret".to_vec())]);
    let services = Services { secrets: Arc::new(secrets), ..Services::none() };
    let slot = host.slot_with(spec("fetcher", plugin("fetcher"), config, grants), services).await;
    collected(&slot).await
}

fn granted(origin: &str) -> Value {
    json!({"http": {"origins": [origin], "methods": ["GET", "POST"]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_asks_over_wasi_where_it_may_and_nowhere_else() {
    let host = Host::new();
    let (authority, seen) = server("fine").await;
    let origin = format!("http://{authority}");
    let config = json!({"authority": authority, "path": "/a?b"});
    let answers = asked(&host, config.clone(), granted(&origin)).await.unwrap();
    assert_eq!(answers, [(200.0, "fine".to_owned())]);
    let elsewhere = asked(&host, config, granted("http://127.0.0.1:9")).await.unwrap_err();
    assert!(elsewhere.contains("HttpRequestDenied"), "{elsewhere}");
    let reading = json!({"http": {"origins": [origin]}});
    let post = json!({"authority": authority, "path": "/", "post": 10});
    let refused = Slot::start(
        &host.runtime,
        spec("fetcher", plugin("fetcher"), post.clone(), reading),
        Services::none(),
    );
    assert!(refused.await.is_err(), "POST is asked for and not granted");
    let posted = asked(&host, post, granted(&origin)).await.unwrap();
    assert_eq!(posted, [(200.0, "fine".to_owned())]);
    let seen = seen.lock();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].starts_with("GET /a?b HTTP/1.1\r\n"), "{seen:?}");
    assert!(seen[1].ends_with("\r\n\r\nxxxxxxxxxx"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wasi_http_is_the_permission_http() {
    let host = Host::new();
    let config = json!({"authority": "127.0.0.1:9", "path": "/"});
    let start = async |component| {
        let spec = spec("fetcher", component, config.clone(), json!({}));
        Slot::start(&host.runtime, spec, Services::none()).await.err().map(|e| e.to_string())
    };
    let ungranted = start(plugin("fetcher")).await.unwrap();
    assert!(ungranted.contains("http.origins"), "{ungranted}");
    let bytes = plugins::plugin_bytes("fetcher");
    let unasked = std::panic::catch_unwind(|| {
        plugin_with("fetcher", |manifest| manifest.requests.http = None)
    });
    assert!(unasked.is_err(), "{} bytes: a manifest that hides an import was taken", bytes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_filled_in_and_never_come_back() {
    let host = Host::new();
    let (authority, seen) = server("you said s3cret").await;
    let origin = format!("http://{authority}");
    let mut grants = granted(&origin);
    grants["http"]["secrets"] =
        json!([{"name": "token", "origin": origin, "place": {"header": "x-token"}}]);
    let config = json!({"authority": authority, "path": "/", "token": "{{secret:token}}"});
    let answers = asked(&host, config.clone(), grants).await.unwrap();
    assert_eq!(answers, [(200.0, "you said ***".to_owned())]);
    assert!(seen.lock()[0].contains("x-token: s3cret\r\n"));
    let denied = asked(&host, config, granted(&origin)).await.unwrap_err();
    assert!(denied.contains("HttpRequestDenied"), "{denied}");
    assert_eq!(seen.lock().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_answers_and_requests_at_once_are_bounded() {
    let host = Host::new();
    let (authority, seen) = server("0123456789").await;
    let origin = format!("http://{authority}");
    let large = json!({"authority": authority, "path": "/", "post": (4 << 20) + 1});
    let refused = asked(&host, large, granted(&origin)).await.unwrap_err();
    assert!(refused.contains("a body above"), "{refused}");
    assert_eq!(seen.lock().len(), 0);
    let mut grants = granted(&origin);
    grants["http"]["response_bytes"] = json!(9);
    let config = json!({"authority": authority, "path": "/"});
    let capped = asked(&host, config.clone(), grants.clone()).await.unwrap_err();
    assert!(capped.contains("HttpResponseBodySize"), "{capped}");
    // So large an answer that there is room for one.
    grants["http"]["response_bytes"] = json!(64 << 20);
    let mut two = config.clone();
    two["at_once"] = json!(2);
    let full = asked(&host, two.clone(), grants.clone()).await.unwrap_err();
    assert!(full.contains("ConnectionLimitReached"), "{full}");
    grants["http"]["response_bytes"] = json!(32 << 20);
    assert_eq!(asked(&host, two, grants).await.unwrap().len(), 2);
}
