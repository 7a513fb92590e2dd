//! Another language of conditions is another component: no host knows one.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::eventually;
use sentinel_e2e::receiver::Receiver;
use sentinel_e2e::sentinel::Home;
use serde_json::Value;
use std::time::Duration;

const KEY: &[u8] = b"known to the host and the receiver";
const SOON: Duration = Duration::from_secs(90);

/// One wave: 0 for three collections, then 1 for as many.
const AGENT: &str = "version: 1
agent:
  interval: 1s
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {slot: counter, rows: 10, waves: 1}
      grants: {kv: {max_bytes: 4096}}
";

const RULE: &str = "version: 1
rules:
  - name: high-wave
    evaluator: plain
    interval: 1s
    labels: {severity: info}
    annotations: {summary: \"wave {{ labels.wave }} is at {{ value }}\"}
    condition: sentinel_test_wave > 0.5
";

fn worker(receiver: &Receiver, evaluators: &str) -> String {
    format!(
        "worker:\n  settle: 0s\n  self_watch: {{enabled: false}}\n  evaluators:\n{evaluators}{}",
        receiver.notifiers()
    )
}

const FIRST: &str = "    - {slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {series: true}}\n";
const SECOND: &str = "    - {slot: plain, plugin: sentinel/threshold, grants: {series: true}}\n";

/// What `rules check` says of the file, with how it ended.
fn checked(home: &Home, file: &str) -> Result<(i32, String)> {
    let said = home.sentinel(["rules", "check", file])?;
    Ok((said.code, said.err))
}

/// The alert of a message that came.
fn alert(body: &Value) -> &Value {
    &body["data"]["alerts"][0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_another_language_is_checked_applied_told_and_resolved_by_the_same_host()
-> Result<()> {
    let receiver = Receiver::start(KEY).await?;
    let plugins = ["alert-dsl", "threshold", "counter", "webhook"];
    let home = Home::new()?.with_only(&plugins)?;
    home.configure(&format!("{AGENT}{}", worker(&receiver, FIRST)))?;
    let up = home.up().await?;
    let said = home.sentinel_with(["secret", "set", "webhook-key"], KEY)?;
    ensure!(said.code == 0, "{}", said.err);
    let path = home.path().join("rules.yaml");
    std::fs::write(&path, RULE)?;
    let file = path.to_str().context("path")?;

    // Nobody here knows the language yet.
    let (code, said) = checked(&home, file)?;
    let place = "rules.yaml:4:5: /rules/0/evaluator: ";
    ensure!(code == 1 && said.contains(place) && said.contains("the worker has"), "{code}: {said}");
    // Its component comes while everything runs.
    home.configure(&format!("{AGENT}{}", worker(&receiver, &format!("{FIRST}{SECOND}"))))?;
    eventually("the evaluator runs", SOON, || async {
        let (code, said) = checked(&home, file)?;
        ensure!(code == 0, "{said}");
        Ok(Some(()))
    })
    .await
    .with_context(|| home.log())?;

    // What is wrong with a condition, the component says; what of that is stored, the host.
    for (condition, place, why) in [
        ("sentinel_test_wave above 1", "8:5", r#""above" is neither `>` nor `<`"#),
        ("{metric: sentinel_test_wave, above: 1}", "8:5", "is no text; write for example"),
    ] {
        std::fs::write(&path, RULE.replace("sentinel_test_wave > 0.5", condition))?;
        let (code, said) = checked(&home, file)?;
        let place = format!("rules.yaml:{place}: /rules/0/condition: ");
        ensure!(code == 1 && said.contains(&place) && said.contains(why), "{code}: {said}");
        let applied = home.sentinel(["rules", "apply", "--yes", file])?;
        ensure!(applied.code == 1 && applied.err.contains(why), "{}", applied.err);
    }
    std::fs::write(&path, RULE.replace("sentinel_test_wave >", "sentinel_test_wav >"))?;
    let meant = "did you mean \"sentinel_test_wave\"?";
    eventually("samples of the wave", SOON, || async {
        let (code, said) = checked(&home, file)?;
        ensure!(code == 0 && said.contains(meant), "{code}: {said}");
        Ok(Some(()))
    })
    .await?;

    std::fs::write(&path, RULE)?;
    let applied = home.sentinel(["rules", "apply", "--yes", file])?;
    ensure!(applied.code == 0, "{}", applied.err);
    let told = eventually("a message that it fires and one that it is over", SOON, || async {
        let all: Vec<Value> = receiver.received().into_iter().map(|one| one.body).collect();
        let of = |state: &str| all.iter().find(|body| alert(body)["status"] == state).cloned();
        Ok(of("firing").zip(of("resolved")))
    })
    .await
    .with_context(|| format!("{:?}\n{}", receiver.received(), home.log()))?;
    for body in [&told.0, &told.1] {
        let alert = alert(body);
        ensure!(alert["rule"] == "high-wave" && alert["labels"]["wave"] == "0", "{body}");
        ensure!(alert["annotations"]["summary"] == "wave 0 is at 1", "{body}");
    }

    // The same tools serve its author.
    let config = home.path().join("sentinel.yaml");
    let config = config.to_str().context("path")?;
    let explained = home.json(&["rules", "explain", "high-wave", "--config", config])?;
    let question = &explained["questions"][0];
    ensure!(question["selector"] == "sentinel_test_wave", "{explained}");
    ensure!(question["series"][0]["labels"]["wave"] == "0", "{explained}");
    let alone = home.sentinel(["rules", "explain", "high-wave"])?;
    ensure!(alone.code == 1 && alone.err.contains("--config"), "{}", alone.err);
    let replayed = home.json(&["rules", "replay", file, "--last", "10m", "--config", config])?;
    ensure!(replayed["rules"][0]["fired"].as_u64() >= Some(1), "{replayed}");
    ensure!(up.stop().await?.success(), "{}", home.log());
    Ok(())
}
