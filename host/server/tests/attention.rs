//! Silences, acknowledgements, dead letters and tests of notifiers, over REST.

mod served;

use sentinel_alerting::delivery;
use sentinel_model::alert::{
    Alert, AlertState, Delivery, DeliveryState, Fingerprint, Notification, NotificationStatus,
};
use sentinel_model::attention::Attempt;
use sentinel_model::ids::SlotName;
use sentinel_model::series::Labels;
use sentinel_store::Store as _;
use sentinel_store::alerting::{AlertingChange, NotificationFilter};
use serde_json::{Value, json};
use served::{NOW, Served, serve};

fn alert(agent: &str) -> Alert {
    let labels: Labels = [("agent", agent)].into_iter().collect();
    Alert {
        fingerprint: Fingerprint::of("cpu", &labels),
        rule: "cpu".into(),
        state: AlertState::Firing,
        annotations: Labels::default(),
        labels,
        summary: String::new(),
        value: 1.0,
        active_since: NOW,
        fired_at: Some(NOW),
        last_active: NOW,
        resolved_at: None,
        incident: 3,
    }
}

async fn with_alerts() -> Served {
    let served = serve().await;
    let alerts = vec![alert("web-1"), alert("web-2")];
    let change = AlertingChange { alerts, ..AlertingChange::default() };
    served.store.save_alerting(change).await.unwrap();
    served
}

/// Asks; the status and the body.
async fn ask(served: &Served, method: &str, path: &str, body: Value) -> (u16, Value) {
    let url = format!("http://{}{path}", served.server.rest());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.request(method.parse().unwrap(), url).bearer_auth("t".repeat(20));
    let request = if body.is_null() { request } else { request.json(&body) };
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

async fn get(served: &Served, path: &str) -> Value {
    let (status, body) = ask(served, "GET", path, Value::Null).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn post(served: &Served, path: &str, body: Value) -> (u16, Value) {
    ask(served, "POST", path, body).await
}

fn rules(alerts: &Value) -> Vec<&str> {
    let alerts = alerts.as_array().unwrap().iter();
    alerts.map(|alert| alert["labels"]["agent"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_silence_is_previewed_made_listed_and_ended() {
    let served = with_alerts().await;
    let matchers = json!(["agent=web-1"]);
    let (status, seen) = post(&served, "/v1/silences/preview", json!({"matchers": matchers})).await;
    assert_eq!((status, rules(&seen["alerts"])), (200, vec!["web-1"]));
    assert!(get(&served, "/v1/silences").await["silences"].as_array().unwrap().is_empty());
    let body = json!({"matchers": matchers, "for": "2h", "author": "ann", "reason": "new disks"});
    let (status, made) = post(&served, "/v1/silences", body).await;
    assert_eq!((status, rules(&made["alerts"])), (200, vec!["web-1"]), "{made}");
    assert_eq!(made["silence"]["ends_at"], NOW + 2 * 3_600_000);
    let id = made["silence"]["id"].as_str().unwrap().to_owned();
    let alerts = get(&served, "/v1/alerts").await;
    let silenced = alert("web-1").fingerprint.to_string();
    assert_eq!(alerts["silenced"], json!({silenced: [id]}));
    let one = format!("/v1/silences/{id}");
    assert_eq!(get(&served, &one).await, made);
    let path = format!("/v1/silences/{id}/expire");
    let (status, _) = post(&served, &path, json!({"by": "bob"})).await;
    assert_eq!(status, 200);
    let (status, again) = post(&served, &path, json!({"by": "bob"})).await;
    assert_eq!(status, 409, "{again}");
    assert!(get(&served, "/v1/silences").await["silences"].as_array().unwrap().is_empty());
    let all = get(&served, "/v1/silences?all=true").await;
    assert_eq!(all["silences"][0]["ended_by"], "bob");
    let over = get(&served, &one).await;
    assert_eq!((&over["silence"], &over["alerts"]), (&all["silences"][0], &json!([])));
    let (status, unknown) = ask(&served, "GET", "/v1/silences/sil_0", Value::Null).await;
    let said = unknown["error"].as_str().unwrap();
    assert!(status == 404 && said.contains("there is no silence \"sil_0\""), "{status} {said}");
}

#[tokio::test]
async fn a_silence_that_says_too_little_or_too_much_is_refused_with_what_to_do() {
    let served = with_alerts().await;
    let good = json!({"matchers": ["a=b"], "for": "2h", "author": "ann", "reason": "r"});
    for (key, value, said) in [
        ("matchers", json!([]), "say which"),
        ("matchers", json!(["agent"]), "label=\"value\""),
        ("matchers", json!(["agent=~["]), "regular expression"),
        ("for", json!("soon"), "write numbers with units"),
        ("for", json!("0"), "at most"),
        ("for", json!("99w"), "at most"),
        ("author", json!(" "), "the author is missing"),
        ("reason", json!(""), "the reason is missing"),
        ("reason", json!("x".repeat(3_000)), "at most 2000"),
    ] {
        let mut body = good.clone();
        body[key] = value.clone();
        let (status, answer) = post(&served, "/v1/silences", body).await;
        let error = answer["error"].as_str().unwrap();
        assert!(status == 400 && error.contains(said), "{key} {value}: {status} {error}");
    }
    assert_eq!(post(&served, "/v1/silences", good).await.0, 200);
}

#[tokio::test]
async fn an_alert_is_acknowledged_handed_over_and_released() {
    let served = with_alerts().await;
    let path = |what: &str| format!("/v1/alerts/{}/{what}", alert("web-1").fingerprint);
    let (status, first) = post(&served, &path("acknowledge"), json!({"by": "ann"})).await;
    assert_eq!((status, &first["acknowledgement"]["owner"]), (200, &json!("ann")));
    let hand_over = json!({"by": "ann", "to": "bob", "note": "my shift ends", "for": "8h"});
    let (_, second) = post(&served, &path("acknowledge"), hand_over).await;
    let second = &second["acknowledgement"];
    assert_eq!((&second["owner"], &second["incident"]), (&json!("bob"), &json!(3)));
    assert_eq!(second["until"], NOW + 8 * 3_600_000);
    let over = json!([{"from": "ann", "to": "bob", "note": "my shift ends", "at": NOW}]);
    assert_eq!(second["before"], over);
    let alerts = get(&served, "/v1/alerts").await;
    assert_eq!(alerts["acknowledgements"][0]["owner"], "bob");
    assert_eq!(post(&served, &path("release"), json!({"by": "bob"})).await.0, 200);
    assert_eq!(post(&served, &path("release"), json!({"by": "bob"})).await.0, 409);
    let unknown = "/v1/alerts/0000000000000001/acknowledge";
    let (status, answer) = post(&served, unknown, json!({"by": "ann"})).await;
    assert!(status == 404 && answer["error"].as_str().unwrap().contains("sentinel alerts"));
}

fn letter(id: &str, state: DeliveryState) -> Delivery {
    let notification = Notification {
        id: id.into(),
        notifier: SlotName::new("pager").unwrap(),
        time: NOW,
        status: NotificationStatus::Firing,
        group: Labels::default(),
        alerts: vec![alert("web-1")],
    };
    Delivery { state, attempts: 7, ..delivery::open(notification) }
}

#[tokio::test]
async fn dead_letters_are_shown_sent_again_and_dropped() {
    let served = with_alerts().await;
    let attempt = Attempt {
        number: 7,
        at: NOW,
        took_ms: 3,
        outcome: "permanent".into(),
        message: "410".into(),
        may_be_repeat: false,
    };
    let change = AlertingChange {
        decided: vec![
            letter("n1", DeliveryState::Dead),
            letter("n2", DeliveryState::Dead),
            letter("n3", DeliveryState::Delivered),
        ],
        attempts: vec![("n1".into(), attempt)],
        ..AlertingChange::default()
    };
    served.store.save_alerting(change).await.unwrap();
    let listed = get(&served, "/v1/dead-letters").await;
    assert_eq!(listed["notifications"].as_array().unwrap().len(), 2);
    let shown = get(&served, "/v1/notifications/n1").await;
    assert_eq!(shown["attempts"][0]["message"], "410");
    assert_eq!(shown["delivery"]["notification"]["alerts"][0]["rule"], "cpu");
    let by = json!({"by": "ann"});
    let (status, again) = post(&served, "/v1/notifications/n1/retry", by.clone()).await;
    assert_eq!((status, &again["delivery"]["state"]), (200, &json!("pending")));
    assert_eq!(again["delivery"]["attempts"], 0);
    let (status, dropped) = post(&served, "/v1/notifications/n2/drop", by.clone()).await;
    assert_eq!((status, &dropped["delivery"]["state"]), (200, &json!("dropped")));
    for (id, status) in [("n1", 409), ("n2", 409), ("n3", 409), ("n4", 404)] {
        let (found, body) =
            post(&served, &format!("/v1/notifications/{id}/retry"), by.clone()).await;
        assert_eq!(found, status, "{id}: {body}");
    }
    assert!(get(&served, "/v1/dead-letters").await["notifications"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_test_of_a_notifier_goes_into_the_journal() {
    let served = with_alerts().await;
    let by = json!({"by": "ann"});
    let (status, none) = post(&served, "/v1/notifiers/pager/test", by.clone()).await;
    assert!(status == 404 && none["error"].as_str().unwrap().contains("there are: none"), "{none}");
    let says = json!({"slots": [
        {"name": "pager", "kind": "notifier"}, {"name": "rows", "kind": "transform"},
    ]});
    served.store.save_status("worker/w", &says.to_string(), NOW).await.unwrap();
    let (status, other) = post(&served, "/v1/notifiers/rows/test", by.clone()).await;
    assert!(status == 404 && other["error"].as_str().unwrap().contains("there are: pager"));
    let (status, begun) = post(&served, "/v1/notifiers/pager/test", by).await;
    assert_eq!(status, 200, "{begun}");
    let filter = NotificationFilter::OpenOf(SlotName::new("pager").unwrap());
    let open = served.store.notifications(filter, 9).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(begun["id"], open[0].notification.id);
    assert_eq!(open[0].notification.alerts[0].labels.get("test"), Some("true"));
}
