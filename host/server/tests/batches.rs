//! Committed records by agent, epoch and number.

mod served;

use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::Store as _;
use sentinel_store::ingest::{Commit, Content};
use serde_json::{Value, json};
use served::{EPOCH, NOW, Served, TOKEN, serve};
use std::sync::Arc;

async fn get(served: &Served, path: &str, accept: &str) -> (u16, Vec<u8>) {
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let url = format!("http://{}{path}", served.server.rest());
    let answer = http.get(url).bearer_auth(TOKEN).header("accept", accept).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

async fn read(served: &Served, path: &str) -> (u16, Value) {
    let (status, body) = get(served, path, "application/json").await;
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn committed_records_are_listed_in_pages_and_dead_ones_give_their_bytes() {
    let served = serve().await;
    let commit = |epoch: Epoch, seq: u64, content: Content| Commit {
        agent: AgentId::new("web-1").unwrap(),
        epoch,
        seq,
        hash: [7; 32],
        content,
    };
    let dead = Content::Dead { payload: vec![0, 255, 9], reason: "not a batch".into() };
    let other = Epoch([2; 16]);
    let commits = vec![
        commit(EPOCH, 1, Content::Skipped { to: 3 }),
        commit(EPOCH, 4, dead),
        commit(EPOCH, 5, Content::Skipped { to: 5 }),
    ];
    served.store.commit(commits, NOW).await.unwrap();
    served.store.commit(vec![commit(other, 1, Content::Skipped { to: 1 })], NOW + 1).await.unwrap();

    let epoch = hex::encode(EPOCH.0);
    let (status, newest) = read(&served, "/v1/batches?agent=web-1").await;
    assert_eq!(status, 200, "{newest}");
    assert_eq!(newest["streams"].as_array().unwrap().len(), 2, "{newest}");
    assert_eq!(newest["batches"][0]["epoch"], hex::encode(other.0), "the newest log");
    let page = format!("/v1/batches?agent=web-1&epoch={epoch}&limit=2");
    let (_, first) = read(&served, &page).await;
    let numbers = |page: &Value| {
        let all = page["batches"].as_array().unwrap().iter();
        all.map(|it| {
            (
                it["sequence"].as_u64().unwrap(),
                it["last"].as_u64().unwrap(),
                it["state"].as_str().unwrap().to_owned(),
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(numbers(&first), [(1, 3, "skipped".to_owned()), (4, 4, "dead".to_owned())]);
    assert_eq!(first["next"], 5);
    let (_, second) = read(&served, &format!("{page}&from=5")).await;
    assert_eq!((numbers(&second).len(), &second["next"]), (1, &Value::Null));

    let one = |sequence: u64| format!("/v1/batches/web-1/{epoch}/{sequence}");
    let (status, shown) = read(&served, &one(4)).await;
    assert_eq!(status, 200);
    assert_eq!(shown["dead"], json!({"at": NOW, "reason": "not a batch", "payload": "AP8J"}));
    assert_eq!(shown["sha256"], "07".repeat(32));
    let bytes = "application/octet-stream";
    assert_eq!(get(&served, &one(4), bytes).await, (200, vec![0, 255, 9]));
    assert_eq!(get(&served, &one(1), bytes).await.0, 406, "its bytes are not kept");
    let nonsense = "/v1/batches/web-1/xyz/1".to_owned();
    for (path, expected) in [
        (one(2), 404),
        (one(6), 404),
        (nonsense, 400),
        ("/v1/batches?agent=web-2".to_owned(), 404),
        ("/v1/batches?agent=A%20B".to_owned(), 400),
        ("/v1/batches?agent=web-1&limit=1001".to_owned(), 400),
        ("/v1/batches?agent=web-1&limit=0".to_owned(), 400),
    ] {
        let (status, body) = read(&served, &path).await;
        assert_eq!(status, expected, "{path}: {body}");
    }
    served.server.shutdown().await;
}

#[tokio::test]
async fn a_record_shows_the_samples_that_it_brought_until_they_are_packed() {
    const ROWS: usize = 1_205;
    let served = serve().await;
    let mut builder = BatchBuilder::new();
    for row in 0..ROWS {
        let of = (row % 100).to_string();
        let labels = [("agent", "web-1"), ("of", of.as_str())];
        let value = if row == 0 { f64::NAN } else { row as f64 / 8.0 };
        builder.push("load", labels, Kind::Gauge, value, NOW + row as i64);
    }
    let batch = Content::Samples(Arc::new(builder.build().unwrap()));
    let commit = |seq, content| Commit {
        agent: AgentId::new("web-1").unwrap(),
        epoch: EPOCH,
        seq,
        hash: [7; 32],
        content,
    };
    let nothing = Content::Samples(Arc::new(BatchBuilder::new().build().unwrap()));
    let skip = Content::Skipped { to: 3 };
    let commits = vec![commit(1, batch), commit(2, nothing), commit(3, skip)];
    served.store.commit(commits, NOW).await.unwrap();

    let one = |rest: &str| format!("/v1/batches/web-1/{}/{rest}", hex::encode(EPOCH.0));
    let row = |row: usize| {
        let value = if row == 0 { json!("NaN") } else { json!(row as f64 / 8.0) };
        let labels = json!({"agent": "web-1", "of": (row % 100).to_string()});
        json!({"name": "load", "labels": labels, "time": NOW + row as i64, "value": value})
    };
    for (asked, rows, more) in [
        ("1", 0..1_000, true),
        ("1?row=1000", 1_000..ROWS, false),
        ("1?row=3&limit=2", 3..5, true),
        ("1?limit=10000", 0..ROWS, false),
        ("1?row=4294967295", 0..0, false),
    ] {
        let (status, body) = read(&served, &one(asked)).await;
        assert_eq!((status, &body["rows"], &body["packed"]), (200, &json!(ROWS), &Value::Null));
        assert_eq!(body["samples"]["more"], more, "{asked}");
        let expected: Vec<Value> = rows.map(row).collect();
        assert_eq!(body["samples"]["rows"], json!(expected), "{asked}");
    }
    let (_, empty) = read(&served, &one("2")).await;
    assert_eq!(empty["samples"], json!({"rows": [], "more": false}), "{empty}");
    let (_, skipped) = read(&served, &one("3")).await;
    assert_eq!((&skipped["samples"], &skipped["packed"]), (&Value::Null, &Value::Null));
    for refused in ["1?limit=0", "1?limit=10001", "1?row=-1"] {
        assert_eq!(get(&served, &one(refused), "application/json").await.0, 400, "{refused}");
    }
    // A list shows which there are; each is asked for by itself.
    let (_, listed) = read(&served, "/v1/batches?agent=web-1").await;
    assert_eq!(listed["batches"][0]["samples"], Value::Null, "{listed}");
    let url = format!("http://{}{}", served.server.rest(), one("1"));
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    assert_eq!(http.get(url).send().await.unwrap().status(), 401, "nobody without a token");

    while served.store.maintain(NOW + 3 * 3_600_000).await.unwrap().1 {}
    let (status, packed) = read(&served, &one("1")).await;
    assert_eq!((status, &packed["samples"]), (200, &Value::Null), "{packed}");
    let said = packed["packed"].as_str().unwrap();
    for part in ["1205 samples", "packed", "/v1/query", "agent=\"web-1\""] {
        assert!(said.contains(part), "{said}");
    }
    served.server.shutdown().await;
}
