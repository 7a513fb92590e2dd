use proptest::prelude::*;
use sentinel_sdk::config as json;
use sentinel_sdk::http::{HttpError, Method, Response};
use sentinel_sdk::testing::Host;
use sentinel_sdk::{Alert, Label, Retry, Status};
use serde_json::Value;

use super::*;

const URL: &str = "https://hooks.example:8443/in/s3cr3t-path?token=abcdef";
const NOW: i64 = 1_614_265_330_999;

fn label(key: &str, value: &str) -> Label {
    (key.to_owned(), value.to_owned())
}

fn alert(rule: &str) -> Alert {
    Alert {
        fingerprint: "9f86d081884c7d65".to_owned(),
        rule: rule.to_owned(),
        status: Status::Firing,
        labels: vec![label("agent", "web-1"), label("mountpoint", "/")],
        annotations: vec![label("summary", "The disk is \"full\".")],
        value: 0.93,
        starts_at: NOW - 60_000,
        ends_at: None,
    }
}

fn notification(alerts: Vec<Alert>) -> Notification {
    Notification {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
        time: NOW,
        status: Status::Firing,
        group: vec![label("agent", "web-1")],
        alerts,
        attempt: 2,
        may_be_repeat: true,
        link: "https://sentinel.example/alerts".to_owned(),
    }
}

fn plugin(more: &str) -> Webhook {
    let config = format!(r#"{{"url": "{URL}"{more}}}"#);
    json::parse(&config).and_then(Webhook::configure).unwrap()
}

fn deliver(answer: Result<Response, HttpError>) -> Result<Receipt, DeliveryError> {
    let _host = Host::new().at(NOW).server(move |_| answer.clone()).install();
    plugin("").notify(notification(vec![alert("disk-full")]))
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let headers = headers.iter().map(|(key, value)| label(key, value)).collect();
    Response { status, headers, body: body.as_bytes().to_vec() }
}

#[test]
fn the_request_bears_the_headers_and_a_signature_that_verifies() {
    let host = Host::new().at(NOW).key("hook", "a key").answer(URL, 204, "").install();
    let receipt = plugin(r#", "secret": "hook", "timeout": "2s", "headers": {"X-Team": "ops"}"#)
        .notify(notification(vec![alert("disk-full")]))
        .unwrap();
    assert_eq!(receipt.message, "https://hooks.example:8443 answered 204");
    let request = &host.requests()[0];
    assert_eq!((request.method, request.timeout_ms), (Method::Post, 2_000));
    let header = |name: &str| {
        let found = request.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("webhook-id"), Some(id));
    assert_eq!(header("webhook-timestamp"), Some("1614265330"));
    assert_eq!(header("X-Team"), Some("ops"));
    let expect = signature::of("hook", id, 1_614_265_330, &request.body).unwrap();
    assert_eq!(header("webhook-signature"), Some(expect.as_str()));
}

#[test]
fn without_a_secret_there_is_no_signature() {
    let host = Host::new().answer(URL, 200, "ok").install();
    plugin("").notify(notification(vec![alert("a")])).unwrap();
    let request = &host.requests()[0];
    assert!(request.headers.iter().all(|(key, _)| key != "webhook-signature"));
}

#[test]
fn what_cannot_be_signed_is_not_sent() {
    let host = Host::new().answer(URL, 200, "").install();
    let refused = plugin(r#", "secret": "gone""#).notify(notification(vec![alert("a")]));
    let Err(DeliveryError::Retry(Retry { message: said, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert!(said.contains("the key \"gone\" is not granted"), "{said}");
    assert!(host.requests().is_empty());
}

#[test]
fn the_body_is_the_documented_one() {
    let mut over = alert("load");
    over.status = Status::Resolved;
    over.value = f64::NAN;
    over.ends_at = Some(NOW);
    let body: Value =
        serde_json::from_slice(&payload::body(&notification(vec![alert("disk-full"), over])))
            .unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap());
    let schema = jsonschema::draft202012::new(&payload_schema()).unwrap();
    assert!(schema.is_valid(&body), "{:?}", schema.validate(&body));
}

#[test]
fn the_checked_in_schema_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/payload.schema.json");
    let text = serde_json::to_string_pretty(&payload_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == text, "{path} is stale; run the test with UPDATE_SCHEMA=1");
}

#[test]
fn each_answer_decides_as_the_table_says() {
    use DeliveryError::{Permanent, Retry as Again, Unknown};
    let date = [("Retry-After", "Thu, 25 Feb 2021 15:03:00 GMT")];
    for (answer, expect) in [
        (Ok(response(200, &[], "ok")), "done"),
        (Ok(response(299, &[], "")), "done"),
        (Ok(response(429, &[("retry-after", "7")], "")), "again in 7000 ms"),
        (Ok(response(503, &date, "")), "again in 49001 ms"),
        (Ok(response(503, &[("retry-after", "soon")], "")), "again"),
        (Ok(response(500, &[], "oh")), "again"),
        (Ok(response(408, &[], "")), "again"),
        (Ok(response(425, &[], "")), "again"),
        (Ok(response(301, &[("location", "/x")], "")), "never: a redirect"),
        (Ok(response(308, &[], "")), "never: a redirect"),
        (Ok(response(400, &[], "bad")), "never: answered 400: bad"),
        (Ok(response(401, &[], "")), "never: check the headers"),
        (Ok(response(404, &[], "")), "never: check the path"),
        (Ok(response(410, &[], "")), "never: the receiver is gone"),
        (Ok(response(999, &[], "")), "never: answered 999"),
        (Err(HttpError::Connect("refused".into())), "again"),
        (Err(HttpError::Tls("expired".into())), "again"),
        (Err(HttpError::Timeout), "unknown: (10000 ms)"),
        (Err(HttpError::Broken("reset".into())), "unknown: reset"),
        (Err(HttpError::TooLarge(9)), "unknown: the cap of 9 bytes"),
        (Err(HttpError::Denied("not granted".into())), "never: not granted"),
        (Err(HttpError::Invalid("no".into())), "never: malformed"),
    ] {
        let told = format!("{answer:?}");
        let (got, said) = match deliver(answer) {
            Ok(receipt) => ("done".to_owned(), receipt.message),
            Err(Again(Retry { message, after_ms: None })) => ("again".to_owned(), message),
            Err(Again(Retry { message, after_ms: Some(wait) })) => {
                (format!("again in {wait} ms"), message)
            }
            Err(Unknown(message)) => ("unknown".to_owned(), message),
            Err(Permanent(message)) => ("never".to_owned(), message),
        };
        let (decision, words) = expect.split_once(": ").unwrap_or((expect, ""));
        assert_eq!(got, decision, "{told}");
        assert!(said.contains(words), "{said} lacks {words}");
        assert!(said.starts_with("https://hooks.example:8443"), "{said}");
    }
}

#[test]
fn messages_hold_nothing_of_the_url_behind_its_origin() {
    let echo = "Cannot POST /in/s3cr3t-path?token=abcdef\u{1b}[31m";
    for status in [400, 404, 500, 410] {
        let said = match deliver(Ok(response(status, &[], echo))).unwrap_err() {
            DeliveryError::Retry(retry) => retry.message,
            DeliveryError::Permanent(said) | DeliveryError::Unknown(said) => said,
        };
        assert!(!said.contains("s3cr3t") && !said.contains("abcdef"), "{said}");
        assert!(!said.contains('\u{1b}') && said.contains("Cannot POST"), "{said}");
    }
    let long = "x".repeat(9_000);
    let DeliveryError::Permanent(said) = deliver(Ok(response(400, &[], &long))).unwrap_err() else {
        panic!()
    };
    assert!(said.len() < 1_024 && said.ends_with('…'), "{said}");
}

#[test]
fn configs_are_checked_all_at_once() {
    for (config, expect) in [
        (r#"{"url": "https://h/x?{{secret:a}}"}"#, Ok(())),
        (r#"{"url": "HTTP://[::1]:80", "timeout": "60s", "format": "sentinel"}"#, Ok(())),
        (r#"{"url": "https://h", "headers": {"Authorization": "{{secret:a}}"}}"#, Ok(())),
        (r#"{"url": "ftp://h"}"#, Err("/url: is no http or https URL")),
        (r#"{"url": "https:///x"}"#, Err("/url: is no http or https URL")),
        (r#"{"url": "https://u:p@h/"}"#, Err("/url: holds a user or a password")),
        (r#"{"url": "https://{{secret:h}}/"}"#, Err("/url: holds a secret in its host")),
        (r#"{"url": "https://h/ x"}"#, Err("/url: holds blanks")),
        (r#"{"url": "https://h", "timeout": "61s"}"#, Err("/timeout: \"61s\" is no wait")),
        (r#"{"url": "https://h", "secret": ""}"#, Err("/secret: names no key")),
        (r#"{"url": "https://h", "secret": "whsec_x"}"#, Err("/secret: is a secret itself")),
        (r#"{"url": "https://h", "format": "xml"}"#, Err("/format: unknown variant `xml`")),
        (r#"{"url": "https://h", "format": "alertmanager", "receiver": "x"}"#, Ok(())),
        (r#"{"url": "https://h", "receiver": "x"}"#, Err("/receiver: means something with")),
        (r#"{"url": "https://h", "format": "alertmanager", "receiver": ""}"#, Err("/receiver: is")),
        (r#"{"url": "https://h", "headers": {"Webhook-Id": ""}}"#, Err("/headers/Webhook-Id: `w")),
        (r#"{"url": "https://h", "headers": {"a b": ""}}"#, Err("/headers/a b: is no header name")),
        (r#"{"url": "https://h", "headers": {"a": "x\ny"}}"#, Err("/headers/a: its value holds")),
        (r#"{"url": "https://h", "headers": {"A": "", "a": ""}}"#, Err("/headers/a: `a` stands")),
        (r#"{"ulr": "https://h"}"#, Err("/ulr: unknown field `ulr`")),
    ] {
        match (json::parse(config).and_then(Target::of), expect) {
            (Ok(_), Ok(())) => {}
            (Err(found), Err(said)) => {
                assert!(found[0].to_string().starts_with(said), "{found:?}");
                assert!(!found[0].message.contains("u:p@"), "{found:?}");
            }
            (made, _) => panic!("{config}: {made:?}"),
        }
    }
    let wrong = r#"{"url": "x", "timeout": "x", "secret": "", "headers": {"host": ""}}"#;
    assert_eq!(json::parse(wrong).and_then(Target::of).unwrap_err().len(), 4);
}

#[test]
fn the_body_of_alertmanager_is_its_version_4() {
    let mut over = alert("load");
    over.status = Status::Resolved;
    over.labels = vec![label("agent", "web-1"), label("cpu", "0")];
    over.ends_at = Some(NOW);
    let mut told = notification(vec![alert("disk-full"), over]);
    told.group.insert(0, label("team", "\"ops\""));
    let body: Value = serde_json::from_slice(&alertmanager::body(&told, "pager")).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap());
    let host = Host::new().answer(URL, 200, "").install();
    plugin(r#", "format": "alertmanager", "receiver": "pager""#).notify(told).unwrap();
    let sent: Value = serde_json::from_slice(&host.requests()[0].body).unwrap();
    assert_eq!(sent, body);
}

#[test]
fn alerts_that_do_not_fit_are_counted() {
    let mut long = alert("long");
    long.annotations = vec![label("description", &"ö".repeat(4_000))];
    let body = payload::body(&notification(vec![long; 1_000]));
    assert!(body.len() <= payload::MAX_BODY_BYTES);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let told = body["data"]["alerts"].as_array().unwrap();
    let left = body["data"]["truncated_alerts"].as_u64().unwrap();
    assert!(told.len() > 50 && told.len() as u64 + left == 1_000, "{}", told.len());
    assert_eq!(told[0]["truncated"], true);
    let text = told[0]["annotations"]["description"].as_str().unwrap();
    assert!(text.ends_with('…') && text.len() < 2_100);
}

fn texts() -> impl Strategy<Value = Vec<Label>> {
    let text = prop_oneof![
        "[a-z]{0,8}",
        (0usize..100_000, prop::sample::select(vec!["\u{1}", "x", "\"", "€"]))
            .prop_map(|(times, text)| text.repeat(times)),
    ];
    prop::collection::vec(("[a-z]{1,6}", text), 0..70)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_the_alerts_hold_the_body_is_bounded_valid_and_tells_one(
        group in texts(), labels in texts(), annotations in texts(), count in 1usize..40,
        value in any::<f64>(), time in any::<i64>(),
    ) {
        let mut one = alert("a");
        (one.labels, one.annotations, one.value, one.starts_at) =
            (labels, annotations, value, time);
        let mut many = notification(vec![one; count]);
        many.group = group;
        let body = payload::body(&many);
        prop_assert!(body.len() <= payload::MAX_BODY_BYTES, "{}", body.len());
        let body: Value = serde_json::from_slice(&body).unwrap();
        let told = body["data"]["alerts"].as_array().unwrap().len();
        prop_assert!(told >= 1);
        prop_assert_eq!(told as u64 + body["data"]["truncated_alerts"].as_u64().unwrap(), count as u64);
        let body = alertmanager::body(&many, "pager");
        prop_assert!(body.len() <= payload::MAX_BODY_BYTES, "{}", body.len());
        let body: Value = serde_json::from_slice(&body).unwrap();
        let told = body["alerts"].as_array().unwrap().len();
        prop_assert!(told >= 1);
        prop_assert_eq!(told as u64 + body["truncatedAlerts"].as_u64().unwrap(), count as u64);
    }
}
