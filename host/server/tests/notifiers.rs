//! Notifiers of the fleet are changed by sealed sets alone, and by no more than the notifier's own; those of workers'
//! owners are shown and left to them. Plugins of every kind are shown with where they are wanted and where they run.

mod served;

use sentinel_store::Store as _;
use sentinel_trust::fleet::{DesiredSet, FleetId, Group, Operators, SET_FORMAT, Wish, seal};
use sentinel_trust::repository::{KeyPurpose, RoleKey};
use sentinel_trust::{Digest, Grants, Kind};
use serde_json::{Value, json};
use served::{NOW, Served, TOKEN, serve_fleet};

const FLEET: FleetId = FleetId([1; 16]);

fn key(byte: u8) -> RoleKey {
    RoleKey::from_secret(KeyPurpose::Operator, &[byte; 32])
}

async fn serve() -> Served {
    serve_fleet(Operators { fleet: FLEET, keys: vec![key(1).public()] }).await
}

fn wish(slot: &str, kind: Kind, address: &str) -> Wish {
    Wish {
        slot: slot.to_owned(),
        kind,
        plugin: "acme/x".parse().unwrap(),
        range: "*".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        digest: Digest::of(b"x"),
        config: json!({ "address": address }),
        grants: Grants::default(),
        collect: None,
        on_unknown: None,
        disabled: false,
    }
}

fn sealed(number: u64, by: u8, slots: Vec<Wish>) -> String {
    let groups = vec![Group { on: Default::default(), slots }];
    let (by_whom, note) = ("ann".to_owned(), String::new());
    let (format, fleet, made_at) = (SET_FORMAT, FLEET, NOW);
    let set = DesiredSet { format, fleet, number, made_at, by: by_whom, note, groups };
    seal(&set, &key(by)).unwrap()
}

/// The status, the ETag and the body.
async fn ask(
    served: &Served,
    method: &str,
    path: &str,
    if_match: &str,
    body: String,
) -> (u16, String, Value) {
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let url = format!("http://{}{path}", served.server.rest());
    let mut request = http.request(method.parse().unwrap(), url).bearer_auth(TOKEN).body(body);
    if !if_match.is_empty() {
        request = request.header("if-match", if_match);
    }
    let answer = request.send().await.unwrap();
    let tag = answer.headers().get("etag").map(|it| it.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    (status, tag.unwrap_or_default(), answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_notifier_is_made_changed_and_taken_out_by_sets_that_an_operator_sealed() {
    let served = serve().await;
    let pager = |address: &str| wish("pager", Kind::Notifier, address);
    let rows = || wish("rows", Kind::Transform, "");
    const PATH: &str = "/v1/notifiers/pager";
    let change = async |method: &str, tag: &str, set: String| {
        let (status, _, body) = ask(&served, method, PATH, tag, set).await;
        (status, body)
    };
    let shown = async || ask(&served, "GET", PATH, "", String::new()).await;
    assert_eq!(shown().await.0, 404);
    let (status, body) = change("PUT", "\"0\"", sealed(1, 1, vec![pager("a")])).await;
    assert_eq!((status, &body["number"]), (200, &json!(1)), "{body}");
    let (_, tag, body) = shown().await;
    let one = &body["notifiers"][0];
    assert_eq!(
        (tag.as_str(), &one["decided_by"], &one["on"]),
        ("\"1\"", &json!("fleet"), &json!("*"))
    );
    assert_eq!(one["wish"]["config"]["address"], "a");

    for (what, method, tag, set, expected) in [
        ("another was first", "PUT", "\"0\"", sealed(2, 1, vec![pager("b")]), 412),
        ("not the next", "PUT", "", sealed(3, 1, vec![pager("b")]), 409),
        ("replayed", "PUT", "", sealed(1, 1, vec![pager("a")]), 409),
        ("nobody's key", "PUT", "", sealed(2, 2, vec![pager("b")]), 403),
        ("no set", "PUT", "", "{}".to_owned(), 403),
        ("changes more", "PUT", "", sealed(2, 1, vec![pager("b"), rows()]), 422),
        ("takes it out", "PUT", "", sealed(2, 1, Vec::new()), 422),
        ("keeps it", "DELETE", "", sealed(2, 1, vec![pager("b")]), 422),
    ] {
        let (status, body) = change(method, tag, set).await;
        assert_eq!(status, expected, "{what}: {body}");
        assert_eq!(shown().await.1, "\"1\"", "{what}: nothing is changed");
    }
    // Everything at once, and each has its place.
    let (_, body) = change("DELETE", "", sealed(2, 1, vec![pager("b"), rows()])).await;
    assert_eq!(body["problems"].as_array().unwrap().len(), 2, "{body}");

    let trying = format!("{PATH}?dry_run=true");
    let dry = ask(&served, "PUT", &trying, "", sealed(2, 1, vec![pager("b")]));
    assert_eq!(dry.await.0, 200);
    assert_eq!(shown().await.1, "\"1\"", "it was only tried");
    assert_eq!(change("PUT", "\"1\"", sealed(2, 1, vec![pager("b")])).await.0, 200);
    assert_eq!(change("DELETE", "\"2\"", sealed(3, 1, Vec::new())).await.0, 200);
    assert_eq!(shown().await.0, 404);
    assert_eq!(change("DELETE", "", sealed(4, 1, Vec::new())).await.0, 404);
    // Where the fleet's hosts look, the same set is in force.
    let (_, _, fleet) = ask(&served, "GET", "/v1/fleet", "", String::new()).await;
    assert_eq!(fleet["number"], 3);
    let audit = served.store.audit(i64::MAX, 100).await.unwrap();
    let done = |it: &&sentinel_store::access::Audit| it.outcome.as_deref() == Some("200");
    assert_eq!(audit.iter().filter(done).count(), 4, "{audit:?}");
    served.server.shutdown().await;
}

#[tokio::test]
async fn a_notifier_of_a_workers_owner_is_shown_and_is_nobody_elses() {
    let served = serve().await;
    let slot = json!({"name": "pager", "kind": "notifier", "plugin": "acme/x", "version": "1.0.0", "state": "running"});
    let evaluator = json!({"name": "rules", "kind": "evaluator"});
    let said = json!({"labels": {"worker": "one"}, "slots": [slot, evaluator]}).to_string();
    served.store.save_status("worker/one", &said, NOW).await.unwrap();
    served.store.save_status("worker/two", "nonsense", NOW).await.unwrap();
    let (status, _, body) = ask(&served, "GET", "/v1/notifiers", "", String::new()).await;
    assert_eq!((status, body["notifiers"].as_array().unwrap().len()), (200, 1), "{body}");
    let one = &body["notifiers"][0];
    assert_eq!((&one["slot"], &one["decided_by"]), (&json!("pager"), &json!("host")));
    assert_eq!(one["workers"][0]["worker"], "one");
    let set = sealed(1, 1, vec![wish("pager", Kind::Notifier, "a")]);
    let (status, _, body) = ask(&served, "PUT", "/v1/notifiers/pager", "", set).await;
    assert_eq!(status, 422, "{body}");
    assert!(
        body["problems"][0]["message"].as_str().unwrap().contains("the worker one has"),
        "{body}"
    );
    served.server.shutdown().await;
}

#[tokio::test]
async fn plugins_are_shown_by_release_with_where_they_are_wanted_and_where_they_run() {
    let mut served = serve().await;
    let (_, agent) = served.enrol().await;
    drop(agent);
    let (status, _, none) = ask(&served, "GET", "/v1/plugins", "", String::new()).await;
    assert_eq!((status, none), (200, json!({"number": 0, "plugins": []})));
    let wanted = |version: &str, disabled| {
        let version = version.parse().unwrap();
        Wish { version, disabled, ..wish("pager", Kind::Notifier, "a") }
    };
    let rows = wish("rows", Kind::Transform, "");
    let set = sealed(1, 1, vec![wanted("1.10.0", true), rows]);
    assert_eq!(ask(&served, "PUT", "/v1/fleet", "", set).await.0, 200);
    let digest = Digest::of(b"x").to_string();
    let slot = |name: &str, kind: &str, plugin: &str, state: &str| {
        json!({"name": name, "kind": kind, "plugin": plugin, "version": "1.0.0",
            "digest": digest, "state": state, "calls": 7})
    };
    let mut given_up = slot("mine", "notifier", "acme/other", "empty");
    given_up["reason"] = json!("it failed five times");
    let said = json!({"slots": [slot("rows", "transform", "acme/x", "running"), given_up]});
    served.store.save_status("worker/one", &said.to_string(), NOW).await.unwrap();
    served.store.save_status("worker/two", "nonsense", NOW).await.unwrap();
    let report = json!({"slots": [slot("load", "collector", "acme/load", "running")]}).to_string();
    let id = sentinel_model::ids::AgentId::new("web-1").unwrap();
    let beat = sentinel_store::agents::Heartbeat { id, version: "1".into(), report };
    served.store.save_heartbeat(beat, NOW + 1).await.unwrap();
    let (_, _, body) = ask(&served, "GET", "/v1/plugins", "", String::new()).await;
    let release = |plugin: &str, version: &str, kind: &str, wanted: Value, slots: Value| {
        json!({"plugin": plugin, "version": version, "digest": digest, "kind": kind,
            "wanted": wanted, "slots": slots})
    };
    let at = |host: &str, role: &str, at: i64, slot: &str, state: &str| json!({"host": host, "role": role, "at": at, "slot": slot, "state": state});
    let mut empty = at("one", "worker", NOW, "mine", "empty");
    empty["reason"] = json!("it failed five times");
    let load = at("web-1", "agent", NOW + 1, "load", "running");
    let rows = at("one", "worker", NOW, "rows", "running");
    let wish = |slot: &str, disabled| json!([{"slot": slot, "on": "*", "disabled": disabled}]);
    let expected = json!({"number": 1, "plugins": [
        release("acme/load", "1.0.0", "collector", json!([]), json!([load])),
        release("acme/other", "1.0.0", "notifier", json!([]), json!([empty])),
        release("acme/x", "1.0.0", "transform", wish("rows", false), json!([rows])),
        release("acme/x", "1.10.0", "notifier", wish("pager", true), json!([])),
    ]});
    assert_eq!(body, expected);
    let (_, _, one) = ask(&served, "GET", "/v1/plugins?name=acme/load", "", String::new()).await;
    assert_eq!(one["plugins"], json!([expected["plugins"][0]]), "{one}");
    served.server.shutdown().await;
}
