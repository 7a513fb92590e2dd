//! Agents over REST: one of them, and all of them in pages, as other lists have them too.

mod served;

use reqwest::header::{HeaderMap, LINK};
use sentinel_model::attention::Silence;
use sentinel_store::Store as _;
use sentinel_store::alerting::Act;
use serde_json::{Value, json};
use served::{NOW, Served, TOKEN, serve};

async fn ask(served: &Served, path: &str) -> (u16, HeaderMap, Value) {
    let url = format!("http://{}{path}", served.server.rest());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).bearer_auth(TOKEN).send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn one_agent_is_shown_as_the_list_has_it_or_is_said_not_to_be_there() {
    let mut served = serve().await;
    served.enrol_as("web-1", "a").await;
    served.enrol_as("web-2", "b").await;
    let (_, _, all) = ask(&served, "/v1/agents").await;
    let (status, _, one) = ask(&served, "/v1/agents/web-2").await;
    assert_eq!((status, &one), (200, &all[1]));
    assert_eq!((&one["id"], &one["state"]), (&"web-2".into(), &"approved".into()));
    let (status, _, unknown) = ask(&served, "/v1/agents/web-3").await;
    let said = unknown["error"].as_str().unwrap();
    assert!(status == 404 && said.contains("there is no agent web-3"), "{status} {said}");
    assert_eq!(ask(&served, "/v1/agents/WEB-3").await.0, 400);
    served.server.shutdown().await;
}

#[tokio::test]
async fn the_status_says_which_engine_keeps_it_all() {
    let served = serve().await;
    let (status, _, all) = ask(&served, "/v1/status").await;
    let engine = all["store"]["engine"].as_str().unwrap_or_default();
    assert!(status == 200 && engine.starts_with("SQLite in "), "{status} {all}");
    served.server.shutdown().await;
}

/// Every page of a list, by the links from each to the next: what a field of its entries says. The
/// entries stand in a field of the body, or are the body.
async fn pages(served: &Served, first: &str, (list, field): (&str, &str)) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = Some(first.to_owned());
    while let Some(path) = next {
        let (status, headers, body) = ask(served, &path).await;
        assert_eq!(status, 200, "{path}: {body}");
        let entries = if list.is_empty() { &body } else { &body[list] };
        let text = |entry: &Value| entry[field].as_str().unwrap().to_owned();
        pages.push(entries.as_array().unwrap().iter().map(text).collect());
        next = headers.get(LINK).map(|link| {
            let target = link.to_str().unwrap().strip_prefix('<').unwrap();
            target.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
        });
    }
    pages
}

#[tokio::test]
async fn agents_and_hosts_come_in_pages_that_lead_to_the_next() {
    let mut served = serve().await;
    for (id, machine) in [("web-2", "a"), ("db-1", "b"), ("web-1", "c")] {
        served.enrol_as(id, machine).await;
    }
    let id = ("", "id");
    assert_eq!(pages(&served, "/v1/agents", id).await, [["db-1", "web-1", "web-2"]]);
    assert_eq!(pages(&served, "/v1/agents?limit=3", id).await, [["db-1", "web-1", "web-2"]]);
    let by_two = pages(&served, "/v1/agents?limit=2", id).await;
    assert_eq!(by_two, [vec!["db-1", "web-1"], vec!["web-2"]]);
    assert_eq!(pages(&served, "/v1/agents?after=nobody", id).await, [["web-1", "web-2"]]);

    // Workers come after all agents.
    for worker in ["worker/b", "worker/a", "own"] {
        served.store.save_status(worker, "{}", NOW).await.unwrap();
    }
    let host = ("hosts", "host");
    let whole = ["db-1", "web-1", "web-2", "a", "b"];
    assert_eq!(pages(&served, "/v1/fleet/status", host).await, [whole]);
    for limit in 1..=5 {
        let first = format!("/v1/fleet/status?limit={limit}");
        let expected: Vec<_> = whole.chunks(limit).map(<[&str]>::to_vec).collect();
        assert_eq!(pages(&served, &first, host).await, expected, "{limit}");
    }
    served.server.shutdown().await;
}

#[tokio::test]
async fn silences_and_plugins_come_in_pages_that_lead_to_the_next() {
    let served = serve().await;
    for (id, lasts) in [("sil_b", 5), ("sil_a", 5), ("sil_c", 9), ("sil_over", 0)] {
        let silence = Silence {
            id: id.into(),
            matchers: vec!["a=b".into()],
            starts_at: NOW - 1,
            ends_at: NOW + lasts,
            author: "ann".into(),
            reason: "r".into(),
            created_at: NOW - 1,
            ended_by: None,
        };
        served.store.act(Act::Silence(silence), NOW).await.unwrap();
    }
    let id = ("silences", "id");
    let by_two = pages(&served, "/v1/silences?limit=2", id).await;
    assert_eq!(by_two, [vec!["sil_c", "sil_a"], vec!["sil_b"]]);
    let all = pages(&served, "/v1/silences?all=true&limit=3", id).await;
    assert_eq!(all, [vec!["sil_c", "sil_a", "sil_b"], vec!["sil_over"]]);

    let slot = |plugin: &str, version: &str| {
        json!({"name": "s", "kind": "collector", "plugin": plugin, "version": version,
            "digest": "sha256:0", "state": "running"})
    };
    let endless = "x".repeat(300);
    let slots = [
        slot("acme/b", "2.0.0"),
        slot("acme/b", "1.0.0"),
        slot("a\"&,<é", "1"),
        slot(&endless, "1"),
    ];
    let said = json!({"slots": slots}).to_string();
    served.store.save_status("worker/one", &said, NOW).await.unwrap();
    let plugin = ("plugins", "plugin");
    let by_one = pages(&served, "/v1/plugins?limit=1", plugin).await;
    assert_eq!(by_one, [["a\"&,<é"], ["acme/b"], ["acme/b"]]);
    let named = pages(&served, "/v1/plugins?name=acme/b&limit=1", ("plugins", "version")).await;
    assert_eq!(named, [["1.0.0"], ["2.0.0"]]);
    served.server.shutdown().await;
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    let served = serve().await;
    for list in ["agents", "fleet/status", "silences", "plugins"] {
        for (question, said) in [
            ("limit=0", "limit is 0; write 1 to 1000"),
            ("limit=1001", "limit is 1001; write 1 to 1000"),
            ("after=NO%20WHERE", "after is \"NO WHERE\", where no page ends"),
        ] {
            let path = format!("/v1/{list}?{question}");
            let (status, _, refused) = ask(&served, &path).await;
            let error = refused["error"].as_str().unwrap_or_default();
            assert!(status == 400 && error.contains(said), "{path}: {status} {refused}");
        }
    }
    served.server.shutdown().await;
}
