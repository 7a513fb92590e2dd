//! Files of tests, run on the built evaluator and notifiers.

mod lab;

use lab::Lab;
use sentinel_rule_tests::{FileReport, run_file};
use std::path::Path;

sentinel_runtime::compile_child_hook!();

const RULES: &str = r#"version: 1
rules:
  - name: hot
    for: 2m
    labels: { severity: page }
    annotations: { summary: "{{ labels.machine }} is at {{ value }}" }
    condition: { metric: load, by: [machine], combine: max, above: 5 }
  - name: down
    notify: [pager]
    condition: { metric: up, by: [machine], combine: max, below: 1 }
"#;

fn assert_passed(report: &FileReport) {
    for test in &report.tests {
        assert_eq!(test.problems, [""; 0], "{}", test.name);
        assert!(test.evaluations > 0, "{} evaluated nothing", test.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_rules_do_what_their_tests_say_and_each_has_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/rules");
    let mut lab = Lab::new(&["alert-dsl", "webhook"]);
    let (mut names, mut expectations) = (Vec::new(), String::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if path.to_string_lossy().ends_with(".test.yaml") {
            assert_passed(&run_file(&mut lab.rig, &path).await.unwrap());
            expectations.push_str(&text);
        } else {
            names.extend(
                text.lines().filter_map(|l| Some(l.strip_prefix("  - name: ")?.to_owned())),
            );
        }
    }
    assert!(names.len() >= 28, "{names:?}");
    for name in names {
        let fires = format!("rule: {name}, state: firing");
        let in_lines = format!("rule: {name}\n            state: firing");
        let is_tested = expectations.contains(&fires) || expectations.contains(&in_lines);
        assert!(is_tested, "no test in deploy/rules shows that {name} fires");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_language_is_another_component_beside_the_first() {
    let mut lab = Lab::new(&["alert-dsl", "fixtures/threshold"]);
    lab.write(
        "plain.yaml",
        "version: 1\nrules:\n  - { name: warm, evaluator: plain, for: 1m, condition: load > 5 }\n",
    );
    lab.write("rules.yaml", RULES);
    let text = r#"version: 1
rules: [rules.yaml, plain.yaml]
worker:
  evaluators:
    - { slot: alert-dsl, plugin: sentinel/alert-dsl, grants: { series: true } }
    - { slot: plain, plugin: sentinel/threshold, grants: { series: true } }
tests:
  - name: the same series fires a rule of each
    only: [hot, warm]
    series:
      - { series: 'load{machine="a"}', values: 9x6 0x6 }
      - { series: 'load{machine="b"}', values: 1x12 }
    expect:
      - at: 30s
        alerts:
          - { rule: warm, state: pending, labels: { machine: a }, value: 9 }
          - { rule: hot, state: pending, labels: { machine: a, severity: page }, value: 9 }
      - at: 90s
        alerts:
          - { rule: warm, state: firing, labels: { machine: a } }
          - { rule: hot, state: pending, labels: { machine: a, severity: page } }
      - at: 3m
        alerts:
          - { rule: warm, state: firing, labels: { machine: a } }
          - { rule: hot, state: firing, labels: { machine: a, severity: page } }
      - { at: 8m, alerts: [] }
"#;
    assert_passed(&lab.run("both.test.yaml", text).await.unwrap());
    // Each reads its own language alone, and says itself what is wrong.
    lab.write(
        "plain.yaml",
        "version: 1\nrules:\n  - { name: warm, evaluator: plain, condition: load above 5 }\n",
    );
    let said = lab.run("both.test.yaml", text).await.unwrap_err();
    assert!(said.contains("plain.yaml:3:"), "{said}");
    assert!(said.contains(r#""above" is neither `>` nor `<`"#), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_groups_silences_and_acknowledgements_are_those_of_a_worker() {
    let mut lab = Lab::new(&["alert-dsl"]);
    lab.write("rules.yaml", RULES);
    let report = lab.run("routes.test.yaml", r#"version: 1
rules: [rules.yaml]
worker:
  routes:
    notify: [chat]
    group_by: [severity]
    group_wait: 30s
    group_interval: 5m
    repeat_interval: 10m
    routes:
      - match: ['severity="page"']
        notify: [chat]
        group_by: [severity]
        escalate: [{ after: 4m, notify: [boss] }]
tests:
  - name: two alerts are one message, what is down tells its own, and all of it ends
    series:
      - { series: 'load{machine="a"}', values: 9x9 0x10 }
      - { series: 'load{machine="b"}', values: 9x9 0x10 }
      - { series: 'up{machine="a"}', values: "0x1 1x18" }
    notifications:
      - { at: 30s, to: pager, status: firing, alerts: [{ rule: down, labels: { machine: a } }] }
      - at: 2m30s
        to: chat
        status: firing
        group: { severity: page }
        alerts:
          - { rule: hot, labels: { machine: a, severity: page } }
          - { rule: hot, labels: { machine: b, severity: page } }
      - { at: 5m30s, to: pager, status: resolved, alerts: [{ rule: down }] }
      - { at: 6m30s, to: boss, status: firing, alerts: [{ rule: hot }, { rule: hot }] }
      - { at: 10m, to: chat, status: resolved, alerts: [{ rule: hot }, { rule: hot }] }
      - { at: 10m, to: boss, status: resolved, alerts: [{ rule: hot }, { rule: hot }] }
  - name: nobody is told of what is silenced until the silence ends
    only: [hot]
    series: [{ series: 'load{machine="a"}', values: 9x20 }]
    acts: [{ at: 1m, silence: ['machine="a"'], for: 7m }]
    until: 10m
    expect:
      - { at: 3m, alerts: [{ rule: hot, state: firing, labels: { machine: a, severity: page }, annotations: { summary: a is at 9 } }] }
    notifications:
      - { at: 8m, to: chat, status: firing, alerts: [{ rule: hot }] }
  - name: what somebody has in hand is neither repeated nor escalated
    only: [hot]
    series: [{ series: 'load{machine="a"}', values: 9x20 }]
    acts: [{ at: 3m, acknowledge: { rule: hot, labels: { machine: a, severity: page } } }]
    notifications:
      - { at: 2m30s, to: chat, status: firing, alerts: [{ rule: hot }] }
"#).await.unwrap();
    assert_passed(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notifier_is_called_as_it_is_and_what_it_sends_goes_no_further() {
    let mut lab = Lab::new(&["alert-dsl", "slack", "smtp"]);
    lab.write("rules.yaml", RULES);
    let file = |text: &str, answers: &str| {
        format!(
            r##"version: 1
rules: [rules.yaml]
worker:
  notifiers:
    - slot: chat
      plugin: sentinel/slack
      config: {{ webhook: "https://hooks.slack.example/services/{{{{secret:hook}}}}" }}
      grants:
        http: {{ origins: ["https://hooks.slack.example"], methods: [POST], secrets: [{{ name: hook, origin: "https://hooks.slack.example", place: url }}] }}
        kv: {{ max_bytes: 1048576 }}
{answers}
tests:
  - name: a machine that is hot
    only: [hot]
    series: [{{ series: 'load{{machine="a"}}', values: 9x3 }}]
    notifications:
      - at: 2m
        to: chat
        status: firing
        alerts: [{{ rule: hot }}]
{text}
"##
        )
    };
    let sends = |word: &str| {
        format!(
            "        sends: [{{ method: POST, url: \"https://hooks.slack.example/services/{{{{secret:{word}}}}}\" }}]"
        )
    };
    let right = lab.run("slack.test.yaml", &file(&sends("hook"), "")).await.unwrap();
    assert_passed(&right);
    let wrong = lab.run("slack.test.yaml", &file(&sends("other"), "")).await.unwrap();
    let said = wrong.tests[0].problems.concat();
    assert!(said.contains("slack.test.yaml:21:17: /tests/0/notifications/0/sends/0: "), "{said}");
    assert!(said.contains("- \"https://hooks.slack.example/services/{{secret:other}}\""), "{said}");
    let down = "answers: { chat: { status: 503, body: away } }";
    let failed = lab.run("slack.test.yaml", &file("", down)).await.unwrap();
    let said = failed.tests[0].problems.concat();
    assert!(
        said.contains("it was not delivered: to be tried again") && said.contains("503"),
        "{said}"
    );
    let expected = lab.run("slack.test.yaml", &file("        fails: '503'", down)).await.unwrap();
    assert_passed(&expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_receiver_refuses_for_now_is_sent_again_under_the_same_id_until_it_is_taken() {
    let mut lab = Lab::new(&["alert-dsl", "webhook"]);
    lab.write("rules.yaml", RULES);
    let file = |answers: &str, attempts: &str| {
        format!(
            r#"version: 1
rules: [rules.yaml]
worker:
  notifiers:
    - slot: chat
      plugin: sentinel/webhook
      config: {{ url: "https://chat.example/hook" }}
      grants:
        http: {{ origins: ["https://chat.example"], methods: [POST] }}
        mac: {{ keys: [chat] }}
answers: {{ chat: {answers} }}
tests:
  - name: a machine that is hot
    only: [hot]
    until: 5m
    series: [{{ series: 'load{{machine="a"}}', values: 9x3 }}]
    notifications:
      - at: 2m
        to: chat
        status: firing
        alerts: [{{ rule: hot }}]
        attempts:
{attempts}
"#
        )
    };
    let one = |at: &str, fails: &str| {
        let id = "ntf_c8ba30f3790915dc956b2bd3c82a90b3";
        format!("          - {{ at: {at}, {fails}sends: [{{ headers: {{ webhook-id: {id} }} }}] }}")
    };
    let twice = "[{ status: 503 }, { status: 503 }, { status: 204 }]";
    let attempts = [one("2m", "fails: '503', "), one("2m1s", "fails: '503', "), one("2m3s", "")];
    assert_passed(&lab.run("again.test.yaml", &file(twice, &attempts.join("\n"))).await.unwrap());

    let report = lab.run("again.test.yaml", &file(twice, &attempts[..2].join("\n"))).await.unwrap();
    let said = report.tests[0].problems.concat();
    assert!(said.contains("nobody expects 1 further attempts"), "{said}");
    let later = [one("2m", "fails: '429', "), one("2m30s", "")];
    let wish = "[{ status: 429, headers: { retry-after: '30' } }, { status: 204 }]";
    assert_passed(&lab.run("again.test.yaml", &file(wish, &later.join("\n"))).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_said_with_its_place_and_both_sides() {
    let mut lab = Lab::new(&["alert-dsl"]);
    lab.write("rules.yaml", RULES);
    let report = lab
        .run(
            "wrong.test.yaml",
            r#"version: 1
rules: [rules.yaml]
tests:
  - name: it is wrong in every way
    series: [{ series: 'load{machine="a"}', values: 9x5 }]
    expect:
      - at: 1m
        alerts: [{ rule: hot, state: firing, labels: { machine: a, severity: page }, value: 8 }]
      - at: 3m
        alerts: [{ rule: hot, state: firing, labels: { machine: b, severity: page } }]
    notifications:
      - { at: 3m, to: everybody, status: firing, alerts: [{ rule: hot }] }
"#,
        )
        .await
        .unwrap();
    let said = report.tests[0].problems.join("\n");
    let expected = r#"wrong.test.yaml:8:18: /tests/0/expect/0/alerts/0: at 1m: hot{machine="a", severity="page"}
    - state: firing
    + state: pending
    - value: 8
    + value: 9
wrong.test.yaml:10:18: /tests/0/expect/1/alerts/0: at 3m: it is neither pending nor firing
    - hot{machine="b", severity="page"} firing
    + hot{machine="a", severity="page"} firing, value 9, since 0s
wrong.test.yaml:10:9: /tests/0/expect/1/alerts: at 3m: nobody expects
    + hot{machine="a", severity="page"} firing, value 9, since 0s
wrong.test.yaml:12:9: /tests/0/notifications/0: everybody is not told this at 3m
    + at 2m to everybody: firing, group {severity="page"}
    +   firing hot{machine="a", severity="page"}
wrong.test.yaml:11:5: /tests/0/notifications: nobody expects
    + at 2m to everybody: firing, group {severity="page"}
    +   firing hot{machine="a", severity="page"}"#;
    assert_eq!(said, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_which_nothing_can_be_made_has_everything_said_and_runs_nothing() {
    let mut lab = Lab::new(&["alert-dsl"]);
    lab.write("rules.yaml", RULES);
    lab.write(
        "odd.yaml",
        "version: 1\nrules:\n  - { name: odd, condition: { metric: x, abvoe: 1 } }\n",
    );
    let said = lab
        .run(
            "a.test.yaml",
            r#"version: 1
rules: [rules.yaml]
tests:
  - name: nothing of it is right
    only: [hto]
    start: tomorrow
  - name: nor of this
    only: [hto]
    series:
      - { series: 'load{machine=~"a"}', values: 9x5 }
      - { series: 'load{machine="a"}', values: 9y5 }
    acts: [{ at: 1m, silence: [machine] }]
"#,
        )
        .await
        .unwrap_err();
    for part in [
        "a.test.yaml:6:5: /tests/0/start: \"tomorrow\" is no time",
        "a.test.yaml:8:12: /tests/1/only/0: there is no rule \"hto\"",
        "a.test.yaml:10:11: /tests/1/series/0/series: ",
        "a.test.yaml:11:40: /tests/1/series/1/values: \"9y5\" is no value",
        "/tests/1/acts/0/silence/0: ",
        "a silence needs a `for`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for (text, part) in [
        ("version: 1\nrules: [odd.yaml]\ntests: []\n", "odd.yaml:3:"),
        ("version: 1\nrules: [none.yaml]\ntests: []\n", "none.yaml:1:1: it cannot be read"),
        (
            "version: 1\nrules: []\ntests: []\nworker: { settle: 2h }\n",
            "b.test.yaml:4:11: /worker/settle: ",
        ),
        (
            "version: 1\nrules: []\ntests: []\nworker: { notifiers: [{ slot: a, plugin: sentinel/none }] }\n",
            "sentinel/none is not to be had",
        ),
        (
            "version: 1\nrules: []\ntests: []\nworker: { notifiers: [{ slot: a, plugin: sentinel/alert-dsl }] }\n",
            "is of the kind evaluator, and this slot is for a notifier",
        ),
    ] {
        let said = lab.run("b.test.yaml", text).await.unwrap_err();
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_published_schema_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/test-file.schema.json");
    let text = serde_json::to_string_pretty(&sentinel_rule_tests::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == text, "{path} is stale; run the test with UPDATE_SCHEMA=1");
}
