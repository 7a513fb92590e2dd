//! The commands against a real server with a real store, found by the run file.

mod program;

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use program::{Said, User};
use sentinel_bus::{EmbeddedBus, EmbeddedOptions};
use sentinel_model::ids::SlotName;
use sentinel_server::enrolment::EnrolmentTokens;
use sentinel_server::keywrap::KeyWrap;
use sentinel_server::{Listeners, RuleChecker, RuleDiagnostic, Server, ServerOptions, ServerParts};
use sentinel_store::sqlite::{SqliteStore, StoreOptions};

const NOW: i64 = 1_700_000_000_000;
const TOKEN: &str = "sat_000000000000000000000000";

/// Refuses conditions without `ok`, and has something to say about those with `odd`.
struct Rules;

#[async_trait]
impl RuleChecker for Rules {
    async fn check(
        &self,
        _: &SlotName,
        condition: &serde_json::Value,
    ) -> Result<Vec<RuleDiagnostic>, String> {
        let say = |message: &str, error| {
            vec![RuleDiagnostic { path: String::new(), message: message.to_owned(), error }]
        };
        Ok(match (condition.get("ok"), condition.get("odd")) {
            (None, _) => say("not ok", true),
            (_, Some(_)) => say("odd", false),
            _ => Vec::new(),
        })
    }

    fn applied(&self) {}
}

/// A user whose run file leads to a server.
struct Served {
    user: User,
    url: String,
    server: Option<Server>,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    fn new() -> Self {
        let user = User::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(serve(&user));
        let url = format!("http://{}", server.rest());
        user.write("api.token", TOKEN);
        fs::create_dir_all(user.path(".local/state/sentinel")).unwrap();
        let running = serde_json::json!({
            "server": url, "grpc": url, "data": user.path("."), "pid": std::process::id(),
            "token_file": user.path("api.token"),
        });
        user.write(".local/state/sentinel/up.json", running.to_string());
        Self { user, url, server: Some(server), runtime }
    }

    /// What a command said, whose port is another at each run.
    fn whole(&self, said: &Said) -> String {
        said.whole().replace(&self.url, "http://SERVER")
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let said = self.user.done(&[&["--json"], arguments].concat());
        serde_json::from_str(&said.data).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown());
        }
    }
}

async fn serve(user: &User) -> Server {
    let store = SqliteStore::open(user.path("sentinel.db"), StoreOptions::default()).await.unwrap();
    let bus = user.path("bus");
    fs::create_dir(&bus).unwrap();
    let parts = ServerParts {
        store: Arc::new(store),
        bus: Arc::new(EmbeddedBus::open(&bus, EmbeddedOptions::default()).unwrap()),
        wrap: Arc::new(KeyWrap::open(&user.path("server.key")).unwrap()),
        tokens: Arc::new(EnrolmentTokens::open(&user.path("enrolment.json")).unwrap()),
        operators: None,
        enrolment: None,
        rules: Arc::new(Rules),
        registry: prometheus::Registry::new(),
        clock: Arc::new(|| NOW),
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any).await.unwrap();
    let options = ServerOptions { listeners, hosts: Vec::new(), token: TOKEN.to_owned() };
    Server::start(options, parts).await.unwrap()
}

#[test]
fn the_run_file_leads_to_the_server_and_its_token() {
    let served = Served::new();
    let status = served.json(&["status"]);
    assert_eq!((status["now"].as_i64(), status["rules"].as_u64()), (Some(NOW), Some(0)));
    let shown = served.user.done(&["status"]);
    assert!(served.whole(&shown).contains("http://SERVER version"), "{}", shown.data);

    // A named server gets the token only where it is the one that runs.
    assert_eq!(served.user.run(&["status", "--server", &served.url]).code, 0);
    let wrong = served.user.run_with(&["status"], &[("SENTINEL_TOKEN", "wrong")], "");
    insta::assert_snapshot!(served.whole(&wrong));
}

#[test]
fn rules_are_applied_whole_or_every_problem_is_said() {
    let served = Served::new();
    let user = &served.user;
    let rule =
        |name: &str, condition: &str| format!("  - name: {name}\n    condition: {condition}\n");
    let file = |rules: &[String]| format!("version: 1\nrules:\n{}", rules.concat());
    fs::create_dir(user.path("rules")).unwrap();
    user.write("rules/a.yaml", file(&[rule("one", "{ok: 1}"), rule("two", "{ok: 1, odd: 1}")]));
    user.write("rules/b.yaml", file(&[rule("three", "{}"), rule("one", "{ok: 1}")]));
    let apply =
        |arguments: &[&str]| served.whole(&user.run(&[&["rules", "apply"], arguments].concat()));
    insta::assert_snapshot!("apply-refused", apply(&["rules"]));
    user.write("rules/b.yaml", file(&[rule("three", "{ok: 1}")]));
    insta::assert_snapshot!("apply-dry-run", apply(&["rules", "--dry-run"]));
    assert_eq!(served.json(&["rules", "show"])["version"], 0);
    insta::assert_snapshot!("applied", apply(&["rules"]));
    insta::assert_snapshot!("applied-again", apply(&["rules/b.yaml", "rules/a.yaml"]));
    insta::assert_snapshot!("applied-less", apply(&["rules/b.yaml"]));
    insta::assert_snapshot!("rules", served.whole(&user.run(&["rules", "show"])));
}

#[test]
fn what_is_empty_says_so_and_exits_with_0() {
    let served = Served::new();
    for arguments in [
        &["query", "nothing"][..],
        &["metrics", "no"],
        &["alerts"],
        &["alerts", "history"],
        &["alerts", "notifications", "--limit", "3"],
        &["rules", "show"],
        &["agents"],
    ] {
        let said = served.user.done(arguments);
        assert_eq!(said.data, "", "{arguments:?}");
        assert!(!said.talk.is_empty() && !said.talk.contains("error"), "{arguments:?}");
        assert!(!served.json(arguments).is_null(), "{arguments:?}");
    }
}

#[test]
fn a_token_is_made_within_its_bounds() {
    let served = Served::new();
    let made = served.user.done(&["token", "create", "--uses", "2", "--valid-for", "90m"]);
    insta::assert_snapshot!(made.talk, @"2 agents may enrol with it until 2023-11-14 23:43:20Z");
    assert_eq!(made.data.lines().count(), 1);
    assert_eq!(served.user.run(&["token", "create", "--uses", "0"]).code, 1);
    assert_eq!(served.user.run(&["agents", "approve", "nobody"]).code, 1);
}

#[test]
fn a_selector_that_is_none_says_where() {
    let served = Served::new();
    insta::assert_snapshot!(served.whole(&served.user.run(&["query", "a{b="])));
    insta::assert_snapshot!(served.whole(&served.user.run(&["query", "a", "--last", "0s"])));
}
