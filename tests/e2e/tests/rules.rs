//! The tools for authors of rules, with the plugins and the samples of a `sentinel up`.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::eventually;
use sentinel_e2e::sentinel::Home;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

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
    assert!(up.stop().await?.success());
    Ok(())
}
