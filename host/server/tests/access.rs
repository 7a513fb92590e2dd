//! Who may call what, what is written down of it, and agents that ask to be let in.

mod served;

use sentinel_server::Listeners;
use sentinel_server::access::Role;
use sentinel_server::access::hash;
use sentinel_server::access::roles::{Need, TABLE};
use sentinel_server::code::code;
use sentinel_server::rate::{Limits, Rate};
use sentinel_wire::v1::RegisterRequest;
use serde_json::{Value, json};
use served::{NOW, Served, TOKEN, serve, serve_by, serve_limited};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tonic::Code;

async fn ask(served: &Served, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let url = format!("http://{}{path}", served.server.rest());
    // Without the system's certificates, which take long to read.
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let request = http.request(method.parse().unwrap(), url).json(&body);
    let request = if token.is_empty() { request } else { request.bearer_auth(token) };
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}

async fn token(served: &Served, role: Role) -> String {
    let body = json!({"name": format!("for {role}"), "role": role});
    let (status, made) = ask(served, TOKEN, "POST", "/v1/api-tokens", body).await;
    assert_eq!(status, 200, "{made}");
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_role_reaches_what_the_table_says_and_nothing_beyond() {
    let served = serve().await;
    for role in Role::ALL {
        let token = token(&served, role).await;
        for one in TABLE {
            let Need::Token(least) = one.need else { continue };
            let path = one.path.replace("{number}", "1").replace(['{', '}'], "");
            let (status, answer) = ask(&served, &token, one.method, &path, Value::Null).await;
            let said = answer["error"].as_str().unwrap_or_default();
            let refused = status == 403 && said.contains("needs the role");
            assert_eq!(refused, role < least, "{role}: {one:?}: {status} {said}");
            assert_ne!(status, 401, "{one:?}");
        }
    }
    for one in TABLE {
        for nobody in ["", "sat_unknown", "a.b.c"] {
            let (status, _) = ask(&served, nobody, one.method, one.path, Value::Null).await;
            let expected = match one.need {
                Need::Nothing => 200,
                // JSON is no message of an agent's.
                Need::Signature => 400,
                Need::Token(_) => 401,
            };
            assert_eq!(status, expected, "{nobody:?} {one:?}");
        }
    }
    served.server.shutdown().await;
}

#[tokio::test]
async fn a_change_is_written_down_with_who_where_and_what_became_of_it() {
    let served = serve().await;
    let (viewer, operator) =
        (token(&served, Role::Viewer).await, token(&served, Role::Operator).await);
    let silence = json!({"matchers": ["a=b"], "for": "2h", "author": "ann", "reason": "r"});
    for (token, path) in
        [(&operator, "/v1/silences"), (&viewer, "/v1/silences"), (&viewer, "/v1/silences/preview")]
    {
        ask(&served, token, "POST", path, silence.clone()).await;
    }
    let (_, listed) = ask(&served, TOKEN, "GET", "/v1/audit", Value::Null).await;
    let line = |it: &Value| {
        assert_eq!(it["address"], "127.0.0.1");
        let text = |key: &str| it[key].as_str().unwrap().to_owned();
        let who = text("who");
        format!("{} {} {}", who.split(" (").next().unwrap(), text("what"), text("outcome"))
    };
    let lines: Vec<String> = listed.as_array().unwrap().iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "for viewer POST /v1/silences 403",
            "for operator POST /v1/silences 200",
            "owner POST /v1/api-tokens 200",
            "owner POST /v1/api-tokens 200",
        ]
    );
    let last = &listed[3]["id"];
    let older = format!("/v1/audit?before={last}");
    assert_eq!(ask(&served, TOKEN, "GET", &older, Value::Null).await.1, json!([]));
    assert_eq!(ask(&served, TOKEN, "GET", "/v1/audit?limit=0", Value::Null).await.0, 400);
    served.server.shutdown().await;
}

#[tokio::test]
async fn a_token_that_is_revoked_serves_no_longer() {
    let served = serve().await;
    let viewer = token(&served, Role::Viewer).await;
    assert_eq!(ask(&served, &viewer, "GET", "/v1/status", Value::Null).await.0, 200);
    let (_, tokens) = ask(&served, TOKEN, "GET", "/v1/api-tokens", Value::Null).await;
    assert!(!tokens.to_string().contains(&viewer), "{tokens}");
    let path = format!("/v1/api-tokens/{}", tokens[0]["id"].as_str().unwrap());
    assert_eq!(ask(&served, TOKEN, "DELETE", &path, Value::Null).await.0, 200);
    assert_eq!(ask(&served, TOKEN, "DELETE", &path, Value::Null).await.0, 404);
    assert_eq!(ask(&served, &viewer, "GET", "/v1/status", Value::Null).await.0, 401);
    for body in [
        json!({"name": "", "role": "viewer"}),
        json!({"name": "a\u{7}", "role": "viewer"}),
        json!({"name": "a", "role": "viewer", "valid_for": "0s"}),
        json!({"name": "a", "role": "viewer", "valid_for": "9999w"}),
    ] {
        let (status, answer) = ask(&served, TOKEN, "POST", "/v1/api-tokens", body).await;
        assert_eq!(status, 400, "{answer}");
    }
    served.server.shutdown().await;
}

#[tokio::test]
async fn an_agent_without_a_token_is_let_in_once_its_code_is_approved() {
    let mut served = serve().await;
    let mine = format!("sac_{}", "x".repeat(32));
    let request = RegisterRequest {
        token: mine.clone(),
        agent_id: "web-1".into(),
        hw_id: "a".repeat(64),
        hostname: "web-1.example".into(),
        nonce: vec![1; 16],
        ..RegisterRequest::default()
    };
    for _ in 0..2 {
        let waits = served.client.register(request.clone()).await.unwrap_err();
        assert_eq!(waits.code(), Code::FailedPrecondition, "{waits}");
    }
    let (_, asking) = ask(&served, TOKEN, "GET", "/v1/tokens", Value::Null).await;
    let shown = code(&hash(&mine));
    assert_eq!(asking.as_array().unwrap().len(), 1, "{asking}");
    assert_eq!((&asking[0]["id"], &asking[0]["waiting"]), (&json!(shown), &json!(true)));
    assert_eq!(asking[0]["hostname"], "web-1.example");
    let approve = async |code: &str| {
        ask(&served, TOKEN, "POST", &format!("/v1/tokens/{code}/approve"), Value::Null).await.0
    };
    assert_eq!(approve("AAAA-AAAA").await, 404);
    assert_eq!(approve("nonsense").await, 404);
    assert_eq!(approve(&shown.to_lowercase().replace('-', "")).await, 200);
    assert_eq!(approve(&shown).await, 404, "once");
    assert!(served.client.register(request.clone()).await.unwrap().into_inner().approved);
    let another = RegisterRequest { agent_id: "web-2".into(), ..request };
    let refused = served.client.register(another).await.unwrap_err();
    assert_ne!(refused.code(), Code::Ok, "it was good for one agent");
    let (_, audit) = ask(&served, TOKEN, "GET", "/v1/audit", Value::Null).await;
    assert_eq!(audit[0]["what"], "enrol web-1 on web-1.example");
    assert_eq!(audit[0]["outcome"], "enrolled");
    served.server.shutdown().await;
}

#[tokio::test]
async fn a_code_that_was_not_approved_in_time_lets_nobody_in_until_the_agent_asks_anew() {
    let time = Arc::new(AtomicI64::new(NOW));
    let clock = Arc::clone(&time);
    let mut served = serve_by(Arc::new(move || clock.load(Ordering::SeqCst))).await;
    let mine = format!("sac_{}", "x".repeat(32));
    let shown = code(&hash(&mine));
    let request = RegisterRequest {
        token: mine,
        agent_id: "web-1".into(),
        hw_id: "a".repeat(64),
        nonce: vec![1; 16],
        ..RegisterRequest::default()
    };
    let path = format!("/v1/tokens/{shown}/approve");
    const QUARTER: i64 = 15 * 60 * 1000;
    let waits = served.client.register(request.clone()).await.unwrap_err();
    assert_eq!(waits.code(), Code::FailedPrecondition);
    time.fetch_add(QUARTER, Ordering::SeqCst);
    assert_eq!(ask(&served, TOKEN, "POST", &path, Value::Null).await.0, 404, "its time is over");
    // The agent comes again, and has as long once more; then as long to come once it is approved.
    let waits = served.client.register(request.clone()).await.unwrap_err();
    assert_eq!(waits.code(), Code::FailedPrecondition);
    time.fetch_add(QUARTER - 1, Ordering::SeqCst);
    assert_eq!(ask(&served, TOKEN, "POST", &path, Value::Null).await.0, 200);
    time.fetch_add(QUARTER, Ordering::SeqCst);
    let late = served.client.register(request.clone()).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition, "it came too late, and asks anew: {late}");
    assert_eq!(ask(&served, TOKEN, "POST", &path, Value::Null).await.0, 200);
    assert!(served.client.register(request).await.unwrap().into_inner().approved);
    served.server.shutdown().await;
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, None).await.unwrap();
    let url = listeners.addresses().grpc_url().parse().unwrap();
    let rate = |per_second, burst| Rate { per_second, burst };
    let limits = Limits { requests: rate(1, 1), strangers: rate(1, 2), ..Limits::default() };
    let served = serve_limited(listeners, url, limits).await;
    let viewer = token(&served, Role::Viewer).await;
    let mut statuses = Vec::new();
    for token in [viewer.as_str(), "sat_unknown", "sat_unknown", TOKEN] {
        statuses.push(ask(&served, token, "GET", "/v1/status", Value::Null).await.0);
    }
    assert_eq!(statuses, [200, 401, 429, 200], "the owner is never kept out");
    // Whether its token is still remembered or not.
    let url = format!("http://{}/v1/status", served.server.rest());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(url).bearer_auth(&viewer).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
    served.server.shutdown().await;
}
