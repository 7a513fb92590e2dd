//! The commands against a real server with a real store, found by the run file.

mod program;

use std::fs;

use program::server::{NOW, Wishes};
use program::{Commands, Said, User};

/// A user whose run file leads to a server.
struct Served {
    server: program::server::Served,
    user: User,
}

impl Served {
    fn new() -> Self {
        let user = User::new();
        let server = program::server::Served::start(&user, "", Wishes::default());
        server.is_running(&user);
        Self { server, user }
    }

    /// What a command said, whose port is another at each run.
    fn whole(&self, said: &Said) -> String {
        said.whole().replace(&self.server.url, "http://SERVER")
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let said = self.user.done(&[&["--json"], arguments].concat());
        serde_json::from_str(&said.data).unwrap()
    }
}

#[test]
fn the_run_file_leads_to_the_server_and_its_token() {
    let served = Served::new();
    let status = served.json(&["status"]);
    assert_eq!((status["now"].as_i64(), status["rules"].as_u64()), (Some(NOW), Some(0)));
    let shown = served.user.done(&["status"]);
    assert!(served.whole(&shown).contains("http://SERVER version"), "{}", shown.data);

    // A named server gets the token only where it is the one that runs.
    assert_eq!(served.user.run(&["status", "--server", &served.server.url]).code, 0);
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
    let checked = served.whole(&user.run(&["rules", "check", "rules"]));
    assert!(checked.contains("exit: 1") && checked.contains("rules/b.yaml:4:5: "), "{checked}");
    user.write("rules/b.yaml", file(&[rule("three", "{ok: 1}")]));
    let checked = user.done(&["rules", "check", "rules"]);
    assert_eq!(
        (checked.data.as_str(), served.json(&["rules", "show"])["version"].as_u64()),
        ("", Some(0))
    );
    assert!(checked.talk.contains("3 rules can be applied"), "{}", checked.talk);
    insta::assert_snapshot!("apply-dry-run", apply(&["rules", "--dry-run"]));
    assert_eq!(served.json(&["rules", "show"])["version"], 0);
    // Nobody is there to say yes.
    insta::assert_snapshot!("apply-unasked", apply(&["rules"]));
    assert_eq!(served.json(&["rules", "show"])["version"], 0);
    insta::assert_snapshot!("applied", apply(&["rules", "--yes"]));
    insta::assert_snapshot!("applied-again", apply(&["rules/b.yaml", "rules/a.yaml"]));
    insta::assert_snapshot!("applied-less", apply(&["rules/b.yaml", "--yes"]));
    user.write("rules/b.yaml", file(&[rule("three", "{ok: 1, above: 2}\n    for: 5m")]));
    insta::assert_snapshot!("applied-changed", apply(&["rules/b.yaml", "--yes"]));
    insta::assert_snapshot!("rules", served.whole(&user.run(&["rules", "show"])));
}

#[test]
fn earlier_rules_are_shown_and_applied_again() {
    let served = Served::new();
    let user = &served.user;
    for level in 1..=2 {
        let rule = format!("  - {{name: one, severity: page, condition: {{ok: {level}}}}}\n");
        user.write("rules.yaml", format!("version: 1\nrules:\n{rule}"));
        user.done(&["rules", "apply", "rules.yaml", "--yes"]);
    }
    let version = |version: u64| {
        serde_json::json!({
            "version": version, "applied_at": NOW, "applied_by": "owner", "rules": 1,
        })
    };
    let history = served.json(&["rules", "history"]);
    assert_eq!(history, serde_json::json!([version(2), version(1)]));
    assert_eq!(served.json(&["rules", "history", "--limit", "1"])[0], version(2));
    let file = user.done(&["rules", "show", "--version", "1", "--file"]);
    assert_eq!(file.talk, "version 1, applied 2023-11-14 22:13:20Z by owner\n");
    user.write("1.json", &file.data);
    user.done(&["rules", "apply", "1.json", "--yes"]);
    let (now, first) =
        (served.json(&["rules", "show"]), served.json(&["rules", "show", "--version", "1"]));
    assert_eq!((&now["version"], &now["rules"]), (&3.into(), &first["rules"]));
    assert_eq!(first["rules"][0]["condition"]["ok"], 1);
    let unknown = user.run(&["rules", "show", "--version", "9"]);
    let said = "there is no version 9 of the rules; `sentinel rules history` lists";
    assert!(unknown.code == 1 && unknown.talk.contains(said), "{}", unknown.talk);
}

#[test]
fn a_check_says_what_nobody_sends_and_what_rules_cost() {
    let served = Served::new();
    let user = &served.user;
    let rule = "  - name: one\n    interval: 30s\n    condition:\n      ok: 1\n      reads: cpu_total{a=\"b\"}\n";
    user.write("a.yaml", format!("version: 1\nrules:\n{rule}"));
    let check = |arguments: &[&str]| {
        let all = [&["rules", "check", "a.yaml"], arguments].concat();
        served.whole(&user.run(&all))
    };
    insta::assert_snapshot!("checked", check(&[]));
    assert!(check(&["--deny-warnings"]).contains("exit: 1"), "{}", check(&["--deny-warnings"]));
    let checked = served.json(&["rules", "check", "a.yaml"]);
    assert_eq!((&checked["looked_up"], &checked["rules"]), (&true.into(), &1.into()), "{checked}");
    let read = serde_json::json!({"selector": "cpu_total{a=\"b\"}", "window_ms": 60_000, "series": 0, "samples": 0});
    assert_eq!(checked["costs"][0]["reads"][0], read, "{checked}");
    assert_eq!(
        (&checked["costs"][0]["line"], &checked["costs"][0]["file"]),
        (&3.into(), &"a.yaml".into())
    );
}

#[test]
fn a_check_without_a_server_wants_the_plugins_of_this_machine() {
    let user = User::new();
    user.write("a.yaml", "version: 1\nrules: []\n");
    for arguments in [&["rules", "check", "a.yaml"][..], &["rules", "check", "a.yaml", "--offline"]]
    {
        let said = user.run(arguments);
        assert_eq!((said.code, said.data.as_str()), (2, ""), "{}", said.talk);
        assert!(said.talk.contains("--plugins DIR --trust FILE"), "{}", said.talk);
    }
}

#[test]
fn rules_of_prometheus_are_imported_without_a_server_and_can_be_applied() {
    let user = User::new();
    let rule = "    - { alert: A, expr: 'rate(x_total[5m]) > 1', for: 5m, labels: { a: '{{ $labels.b }}' } }\n";
    user.write("p.yml", format!("groups:\n- rules:\n{rule}    - {{ record: a:b, expr: x }}\n"));
    let said = user.done(&["rules", "import", "p.yml"]);
    let file: sentinel_model::rule::RuleFile = serde_json::from_str(&said.data).unwrap();
    assert_eq!((file.rules[0].name.as_str(), file.rules[0].hold.0), ("A", 300_000));
    assert_eq!(file.rules[0].labels.get("a"), Some("{{ labels.b }}"));
    for part in ["p.yml:4:7: /groups/0/rules/1: is no alerting rule", "1 of 2 rules imported"] {
        assert!(said.talk.contains(part), "{}", said.talk);
    }
}

#[test]
fn a_template_that_is_none_is_refused_with_its_line() {
    let served = Served::new();
    let rule =
        "  - name: a\n    condition: {ok: 1}\n    annotations:\n      summary: '{{ $value }}'\n";
    served.user.write("a.yaml", format!("version: 1\nrules:\n{rule}"));
    let said = served.whole(&served.user.run(&["rules", "check", "a.yaml"]));
    assert!(said.contains("a.yaml:6:7: /rules/0/annotations/summary: "), "{said}");
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
        &["rules", "history"],
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
