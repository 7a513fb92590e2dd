//! The tools for authors of rules, with the plugins and the samples of a `sentinel up`.

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use sentinel_e2e::guide::{self, Guide};
use sentinel_e2e::sentinel::{Home, Up, publisher_key};
use sentinel_e2e::{eventually, given};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

const CONFIG: &str = "version: 1
agent:
  interval: 500ms
  collectors: [{slot: system, plugin: sentinel/system, grants: {system: true}}]
worker:
  settle: 1s
  self_watch: {enabled: false}
  evaluators: [{slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {series: true}}]
";

const RULES: &str = "version: 1
rules:
  - {name: runs, interval: 1s, labels: {severity: info}, condition: {metric: system_uptime_seconds, by: [agent], combine: max, above: 0}}
  - {name: waits, interval: 1s, for: 1h, condition: {metric: system_uptime_seconds, by: [agent], combine: max, above: 0}}
  - {name: quiet, interval: 1s, condition: {metric: system_uptime_seconds, by: [agent], combine: max, below: 0}}
";

const TESTS: &str = "version: 1
rules: [r.yaml]
tests:
  - name: a machine that runs is told of
    only: [runs]
    series: [{series: 'system_uptime_seconds{agent=\"a\"}', values: 10+60x3}]
    expect: [{at: 1m, alerts: [{rule: runs, state: STATE, labels: {agent: a, severity: info}, value: 70}]}]
    notifications: [{at: 0s, to: everybody, status: firing, alerts: [{rule: runs}]}]
";

fn of<'v>(report: &'v Value, rule: &str) -> Result<&'v Value> {
    let rules = report["rules"].as_array().context("rules")?;
    rules.iter().find(|one| one["rule"] == rule).context("the rule")
}

/// Misspelled in every way that a check knows, and one that is right.
const SLIPS: &str = "version: 1
rules:
  - name: right
    condition: {metric: system_uptime_seconds, by: [agent], combine: max, above: 0}
  - name: metric
    condition: {metric: system_uptime_second, above: 0}
  - name: label
    condition:
      metric: system_cpu_time_seconds_total
      match: {mod: idle}
      fn: rate
      window: 5m
      above: 0
";

/// What a check says of names, by what the `up` has stored, and without it.
async fn checks_what_is_stored(home: &Home) -> Result<()> {
    let file = home.path().join("slips.yaml");
    std::fs::write(&file, SLIPS)?;
    let file = file.display().to_string();
    let checked = eventually("samples of the processor's time", SOON, || async {
        let checked = home.json(&["rules", "check", &file])?;
        let costs = checked["costs"].as_array().context("costs")?;
        let known = costs.first().is_some_and(|one| one["samples"].as_u64() > Some(1));
        let labels = checked["warnings"].to_string().contains("has the label");
        Ok((known && labels).then_some(checked))
    })
    .await?;
    let warnings = checked["warnings"].as_array().context("warnings")?;
    let said = |at: usize| (warnings[at]["line"].as_u64(), warnings[at]["message"].as_str());
    ensure!(warnings.len() == 2, "{checked}");
    let (line, metric) = said(0);
    ensure!(line == Some(6), "{checked}");
    let meant = "did you mean \"system_uptime_seconds\"?";
    ensure!(metric.is_some_and(|said| said.ends_with(meant)), "{checked}");
    let (line, label) = said(1);
    ensure!(line == Some(9), "{checked}");
    let meant = "has the label \"mod\"; did you mean \"mode\"?";
    ensure!(label.is_some_and(|said| said.ends_with(meant)), "{checked}");
    ensure!(checked["costs"][0]["series"] == 1 && checked["problems"] == json!([]), "{checked}");

    let alone = home.sentinel(["rules", "check", "--offline", &file])?;
    ensure!(alone.code == 0 && alone.err.contains("were not looked up"), "{}", alone.err);
    ensure!(alone.out.contains("right") && alone.err.contains("0 warnings"), "{}", alone.out);
    Ok(())
}

/// What stands between a person and the server, and lets another be first: between what was shown
/// and what is to be put in force.
struct Between {
    server: String,
    first: Mutex<Option<Command>>,
}

async fn pass_on(
    State(between): State<Arc<Between>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, [(header::HeaderName, &'static str); 1], Bytes), String> {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if asked["dry_run"] == false {
        let first = between.first.lock().unwrap().take();
        let first = first.ok_or("it is put in force twice")?;
        let said = tokio::task::spawn_blocking(move || { first }.output()).await;
        let said = said.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if !said.status.success() {
            return Err(format!("the first is refused: {said:?}"));
        }
    }
    let mut request = reqwest::Client::new().request(method, format!("{}{uri}", between.server));
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let answer = request.body(body).send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| error.to_string())?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], body))
}

/// Each looks at what would change, and one is first.
async fn of_two_who_apply_the_second_undoes_nothing(home: &Home, up: &Up<'_>) -> Result<()> {
    let apply = |name: &str, more: &[&str]| -> Result<Command> {
        let path = home.path().join(format!("{name}.yaml"));
        let rule =
            format!("{{name: of-{name}, condition: {{metric: system_uptime_seconds, above: 0}}}}");
        std::fs::write(&path, format!("version: 1\nrules: [{rule}]\n"))?;
        let mut command = home.command();
        command.args(["rules", "apply", "--yes"]).arg(&path).args(more).stdin(Stdio::null());
        Ok(command)
    };
    let in_force = async || -> Result<(u64, String)> {
        let rules = up.get("/v1/rules").await?;
        let name = rules["rules"][0]["name"].as_str().context("a rule")?.to_owned();
        Ok((rules["version"].as_u64().context("a version")?, name))
    };
    let (before, _) = in_force().await?;
    let first = Mutex::new(Some(apply("ann", &[])?));
    let between = Arc::new(Between { server: up.server().to_owned(), first });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let router = Router::new().fallback(pass_on).with_state(Arc::clone(&between));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let mut second = apply("bob", &["--server", &address])?;
    second.env("SENTINEL_TOKEN", up.token());
    let said = tokio::task::spawn_blocking(move || second.output()).await??;
    serving.abort();
    let words = String::from_utf8_lossy(&said.stderr);
    let version = before + 1;
    let found = format!("version {version} of the rules is in force");
    let refusal = format!("not {before}: somebody else was first");
    for part in [&found, &refusal, "look at the difference again"] {
        ensure!(words.contains(part), "{part}: {words}");
    }
    ensure!(said.status.code() == Some(1) && said.stdout.is_empty(), "{said:?}");
    ensure!(in_force().await? == (version, "of-ann".to_owned()), "nothing was changed");
    // Looked at again, it is built upon.
    let said = apply("bob", &[])?.output()?;
    ensure!(said.status.success(), "{said:?}");
    ensure!(in_force().await? == (version + 1, "of-bob".to_owned()));
    Ok(())
}

/// Every command and every file of the guides, as they stand there.
async fn the_guides_show_what_can_be_done(home: &Home) -> Result<()> {
    let folder = home.path();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    let check = |args: &[&str], name: &str| -> Result<()> {
        let name = folder.join(name);
        let args = args.iter().map(AsRef::as_ref).chain([name.as_os_str()]);
        let said = home.sentinel(args)?;
        ensure!(said.code == 0, "{}: {}{}", name.display(), said.out, said.err);
        Ok(())
    };
    let routing = Guide::read("host/alerting/ROUTING.md")?;
    let [configuration, rule] = routing.blocks("yaml")?;
    write("routing.yaml", configuration)?;
    write("rule.yaml", &format!("version: 1\nrules:\n{rule}"))?;
    check(&["rules", "check"], "rule.yaml")?;
    let rules = folder.join("rule.yaml").display().to_string();
    check(&["rules", "replay", &rules, "--last", "1m", "--config"], "routing.yaml")?;

    let language = Guide::of_source("components/alert-dsl/src/lib.rs")?;
    let conditions = language.blocks::<4>("yaml")?.concat();
    let conditions = format!("\n{conditions}").replace('\n', "\n    ");
    let mut number = 0;
    let mut rules = "version: 1\nrules:".to_owned();
    for condition in conditions.split("\n    condition:").skip(1) {
        number += 1;
        rules += &format!("\n  - name: of-the-guide-{number}\n    condition:{condition}");
    }
    write("language.yaml", &rules)?;
    let path = folder.join("language.yaml").display().to_string();
    let checked = home.json(&["rules", "check", &path])?;
    ensure!(checked["problems"] == json!([]), "{checked}");
    ensure!(checked["costs"].as_array().map(Vec::len) == Some(number) && number >= 8, "{checked}");

    let page = Guide::read("host/alerting/RULES.md")?;
    // The last two are about another language: `language.rs` has a whole one.
    let [tests, answers, _, _] = page.blocks("yaml")?;
    let rule = |name: &str, condition: &str| {
        format!(
            "version: 1\nrules: [{{name: {name}, interval: 30s, condition: {{{condition}}}}}]\n"
        )
    };
    write("disks.yaml", &rule("disk-full", "metric: disk_used_ratio, above: 0.95"))?;
    write("my.test.yaml", tests)?;
    write("hot.yaml", &rule("hot", "metric: temperature, above: 80"))?;
    // The beginning of the same file, for another rule that no route keeps waiting.
    let (head, _) = tests.split_once("answers:").context("answers")?;
    let head = head.replace("disks.yaml", "hot.yaml").replace("  routes:", "  # routes:");
    write("hot.test.yaml", &format!("{head}{answers}"))?;
    check(&["rules", "test"], "hot.test.yaml")?;
    symlink(guide::checkout().join("deploy"), folder.join("deploy"))?;
    symlink(given("SENTINEL_PLUGINS", "plugins"), folder.join("plugins"))?;
    let public = std::fs::read_to_string(publisher_key().with_extension("pub"))?;
    let trust = format!("publishers: {{sentinel: {{keys: [\"{}\"]}}}}\n", public.trim());
    write("trust.yaml", &trust)?;
    write(
        "prometheus.yml",
        "groups: [{name: g, rules: [{alert: Down, expr: up == 0, for: 5m}]}]\n",
    )?;
    // What is explained is in force.
    check(&["rules", "apply", "--yes"], "deploy/rules")?;
    for block in page.blocks::<4>("sh")? {
        guide::run(home, folder, block, |line| {
            // All that is shipped is tested elsewhere, and nothing is stored of seven days ago.
            let line = line.replace("/*.test.yaml", "/host.test.yaml");
            Ok(line.replace("--last 7d", "--last 1m").replace("--last 1d", "--last 1m"))
        })?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_tested_replayed_and_explained_with_what_a_running_sentinel_has() -> Result<()> {
    let home = Home::new()?;
    home.configure(CONFIG)?;
    let up = home.up().await?;
    let folder = home.path().join("rules");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("r.yaml"), RULES)?;
    let tests = folder.join("r.test.yaml");
    let (folder, tests) = (folder.display().to_string(), tests.display().to_string());

    std::fs::write(&tests, TESTS.replace("STATE", "firing"))?;
    let passed = home.sentinel(["rules", "test", &tests])?;
    assert_eq!((passed.code, passed.out.as_str()), (0, ""), "{}", passed.err);
    assert!(passed.err.contains("1 test passed"), "{}", passed.err);
    std::fs::write(&tests, TESTS.replace("STATE", "pending"))?;
    let failed = home.sentinel(["rules", "test", &tests])?;
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.out.contains("r.test.yaml:7:32: "), "{}", failed.out);
    assert!(failed.out.contains("- state: pending\n      + state: firing"), "{}", failed.out);
    std::fs::write(&tests, "version: 1\nrulez: []\n")?;
    let broken = home.sentinel(["rules", "test", &tests])?;
    assert_eq!(broken.code, 2, "{}", broken.err);
    assert!(broken.err.contains("r.test.yaml:2:1: /rulez: "), "{}", broken.err);
    let schema = home.json(&["rules", "schema", "tests"])?;
    assert!(schema["properties"]["tests"].is_object(), "{schema}");

    checks_what_is_stored(&home).await?;
    // Nobody is there to say yes.
    let unasked = home.sentinel(["rules", "apply", &folder])?;
    ensure!(unasked.code == 1 && unasked.err.contains("--yes"), "{}", unasked.err);
    // A file of tests beside the rules holds none.
    let applied = home.json(&["rules", "apply", "--yes", &folder])?;
    assert_eq!(
        (&applied["version"], applied["added"].as_array().map(Vec::len)),
        (&Value::from(1), Some(3))
    );
    let again = home.sentinel(["rules", "apply", &folder])?;
    assert!(again.code == 0 && again.err.contains("version 1 stays in force"), "{}", again.err);
    let firing = eventually("a rule that fires and one that waits", SOON, || async {
        let runs = home.json(&["rules", "explain", "runs"])?;
        let waits = home.json(&["rules", "explain", "waits"])?;
        let is = |one: &Value, state: &str| one["alerts"][0]["state"] == state;
        // What a worker says of itself is stored every few seconds.
        let evaluated = runs["evaluated"][0]["version"] == 1;
        Ok((is(&runs, "firing") && is(&waits, "pending") && evaluated).then_some((runs, waits)))
    })
    .await?;
    let (runs, waits) = firing;
    let question = &runs["questions"][0];
    assert_eq!(question["selector"], "system_uptime_seconds", "{runs}");
    assert!(question["series"][0]["value"].as_f64().is_some_and(|value| value > 0.0), "{runs}");
    assert!(runs["holds"][0]["labels"]["agent"].is_string(), "{runs}");
    // Without a route a rule is told at once, once, to whom there is: here that is nobody.
    let way = &runs["alerts"][0]["ways"][0];
    assert_eq!((&way["notify"], &way["held"][0]["why"]), (&json!([]), &json!("nobody")), "{runs}");
    assert_eq!(waits["alerts"][0]["ways"][0]["held"][0]["why"], "not-firing", "{waits}");
    let left = waits["alerts"][0]["fires_in_ms"].as_i64().context("fires_in_ms")?;
    assert!((3_000_000..=3_600_000).contains(&left), "{waits}");
    let quiet = home.sentinel(["rules", "explain", "quiet"])?;
    for part in ["the condition holds for nothing", "system_uptime_seconds", "1 series"] {
        assert!(quiet.code == 0 && quiet.out.contains(part), "{part}: {}{}", quiet.out, quiet.err);
    }
    let none = home.sentinel(["rules", "explain", "none"])?;
    assert!(none.code == 1 && none.err.contains("there is no rule \"none\""), "{}", none.err);

    let replayed = home.json(&["rules", "replay", &folder, "--last", "10m"])?;
    let runs = of(&replayed, "runs")?;
    assert!(runs["fired"].as_u64() >= Some(1) && runs["pages"].as_u64() >= Some(1), "{replayed}");
    assert_eq!(runs["firing_now"], 1, "{replayed}");
    assert_eq!(of(&replayed, "waits")?["fired"], 0, "{replayed}");
    assert_eq!(of(&replayed, "quiet")?["fired"], 0, "{replayed}");
    of_two_who_apply_the_second_undoes_nothing(&home, &up).await?;
    the_guides_show_what_can_be_done(&home).await?;
    assert!(up.stop().await?.success());
    Ok(())
}
