//! Rules over REST: two who apply at once, and what a store that has samples knows of them.

mod served;

use reqwest::{Client, StatusCode};
use sentinel_server::api::{AppliedBody, ApplyBody, FileBody};
use served::{Served, TOKEN, serve};

/// Somebody with a connection of their own.
struct Person {
    client: Client,
    name: &'static str,
    url: String,
}

impl Person {
    fn new(name: &'static str, served: &Served) -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        Self { client, name, url: format!("http://{}/v1/rules", served.server.rest()) }
    }

    /// Rules of this person's and round's.
    fn body(&self, round: u64, if_version: Option<u64>, dry_run: bool) -> ApplyBody {
        let rule = format!("  - {{name: {}, for: {round}m, condition: {{}}}}\n", self.name);
        let text = format!("version: 1\nrules:\n{rule}");
        let files = vec![FileBody { name: format!("{}.yaml", self.name), text }];
        ApplyBody { files, dry_run, if_version }
    }

    async fn put(&self, body: &ApplyBody) -> (StatusCode, String) {
        self.put_as(TOKEN, body).await
    }

    async fn put_as(&self, token: &str, body: &ApplyBody) -> (StatusCode, String) {
        let answer = self.client.put(&self.url).bearer_auth(token).json(body).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// The version that this person's difference is to.
    async fn looks(&self, round: u64) -> u64 {
        let (status, text) = self.put(&self.body(round, None, true)).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str::<AppliedBody>(&text).unwrap().version
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_apply_what_they_looked_at_together_one_is_first_and_the_other_undoes_nothing() {
    let served = serve().await;
    let (ann, bob) = (Person::new("ann", &served), Person::new("bob", &served));
    for round in 1..=20 {
        let (of_ann, of_bob) = (ann.looks(round).await, bob.looks(round).await);
        assert_eq!((of_ann, of_bob), (round - 1, round - 1));
        let (of_ann, of_bob) =
            (ann.body(round, Some(of_ann), false), bob.body(round, Some(of_bob), false));
        let (of_ann, of_bob) = tokio::join!(ann.put(&of_ann), bob.put(&of_bob));
        let (winner, second) = match (of_ann.0, of_bob.0) {
            (StatusCode::OK, StatusCode::CONFLICT) => ("ann", of_bob.1),
            (StatusCode::CONFLICT, StatusCode::OK) => ("bob", of_ann.1),
            both => panic!("round {round}: {both:?}: {} {}", of_ann.1, of_bob.1),
        };
        assert!(second.contains("somebody else was first; nothing was changed"), "{second}");
        let url = &ann.url;
        let rules = ann.client.get(url).bearer_auth(TOKEN).send().await.unwrap();
        let rules: serde_json::Value = rules.json().await.unwrap();
        assert_eq!(
            (&rules["version"], &rules["rules"][0]["name"]),
            (&round.into(), &winner.into())
        );
        assert_eq!(rules["rules"].as_array().map(Vec::len), Some(1), "{rules}");
    }
    served.server.shutdown().await;
}

#[tokio::test]
async fn who_is_refused_is_told_who_was_first() {
    let served = serve().await;
    let (ann, bob) = (Person::new("ann", &served), Person::new("bob", &served));
    let tokens = ann.url.replace("/v1/rules", "/v1/api-tokens");
    let wish = serde_json::json!({"name": "ann of databases", "role": "operator"});
    let made = ann.client.post(tokens).bearer_auth(TOKEN).json(&wish).send().await.unwrap();
    let made: serde_json::Value = made.json().await.unwrap();
    let token = made["token"].as_str().unwrap();
    let looked = bob.looks(1).await;
    assert_eq!(ann.put_as(token, &ann.body(1, Some(looked), false)).await.0, StatusCode::OK);
    // Who only looks, or applies what is there already, puts nothing in force.
    bob.looks(2).await;
    assert_eq!(bob.put(&ann.body(1, None, false)).await.0, StatusCode::OK);
    let (status, said) = bob.put(&bob.body(1, Some(looked), false)).await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    let first = "version 1 of the rules is in force, applied by ann of databases (api-";
    assert!(said.contains(first), "{said}");
    assert!(said.contains("), not 0: somebody else was first; nothing was changed"), "{said}");
    let rules = bob.client.get(&bob.url).bearer_auth(TOKEN).send().await.unwrap();
    let rules: serde_json::Value = rules.json().await.unwrap();
    let by = rules["applied_by"].as_str().unwrap();
    assert!(by.starts_with("ann of databases (api-"), "{rules}");
    served.server.shutdown().await;
}

#[tokio::test]
async fn the_versions_that_are_kept_are_listed_and_shown_with_who_applied_them() {
    let served = serve().await;
    let ann = Person::new("ann", &served);
    for round in 1..=3 {
        assert_eq!(ann.put(&ann.body(round, None, false)).await.0, StatusCode::OK);
    }
    let ask = async |path: &str| {
        let url = format!("{}{path}", ann.url);
        let answer = ann.client.get(url).bearer_auth(TOKEN).send().await.unwrap();
        (answer.status(), answer.json::<serde_json::Value>().await.unwrap())
    };
    let (_, all) = ask("/history").await;
    let versions: Vec<_> = all.as_array().unwrap().iter().map(|one| &one["version"]).collect();
    assert_eq!(versions, [3, 2, 1]);
    assert!(all.as_array().unwrap().iter().all(|one| one["applied_by"] == "owner"), "{all}");
    assert_eq!(ask("/history?limit=1").await.1, serde_json::json!([all[0]]));
    let (status, second) = ask("/versions/2").await;
    assert_eq!((status, &second["version"]), (StatusCode::OK, &2.into()));
    assert_eq!(
        (&second["rules"][0]["for"], &second["applied_by"]),
        (&"2m".into(), &"owner".into())
    );
    let (status, unknown) = ask("/versions/4").await;
    let said = unknown["error"].as_str().unwrap();
    assert!(status == StatusCode::NOT_FOUND && said.contains("no version 4"), "{said}");
    served.server.shutdown().await;
}
