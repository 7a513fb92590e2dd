//! Agents over REST: one of them, and all of them.

mod served;

use reqwest::header::HeaderMap;
use serde_json::Value;
use served::{Served, TOKEN, serve};

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
