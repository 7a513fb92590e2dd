//! Nothing is lost and nothing counted twice, whatever is killed; and every alert is told.

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_e2e::counter::{Counted, now};
use sentinel_e2e::receiver::Receiver;
use sentinel_e2e::sentinel::Home;
use sentinel_e2e::told::{conclusion, judge};
use sentinel_e2e::{count, eventually};
use std::time::Duration;

const KEY: &[u8] = b"known to the host and the receiver";
const SOON: Duration = Duration::from_secs(90);

fn config(receiver: &Receiver) -> String {
    format!(
        "version: 1
agent:
  interval: 100ms
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {{slot: counter, rows: 200, series: 7, waves: 8}}
      grants: {{kv: {{max_bytes: 4096}}}}
worker:
  settle: 0s
  self_watch: {{enabled: false}}
  transforms: [{{slot: rows, plugin: sentinel/rows, config: {{rules: []}}}}]
  evaluators: [{{slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {{series: true}}}}]
{}",
        receiver.notifiers()
    )
}

/// They fire and resolve at almost every evaluation: many alerts of one rule at once, one of
/// each alone, and one that is pending before it fires.
const RULES: &str = "version: 1
rules:
  - name: counting
    interval: 1s
    condition: {metric: sentinel_test_counter, fn: last, window: 1m, above: 0}
  - name: waves
    interval: 1s
    condition: {metric: sentinel_test_wave, window: 1m, above: 0.5}
  - name: wave
    interval: 1s
    condition: {metric: sentinel_test_wave, match: {wave: \"1\"}, window: 1m, above: 0.5}
  - name: held
    interval: 1s
    for: 1s
    condition: {metric: sentinel_test_wave, match: {wave: \"7\"}, window: 1m, below: 0.5}
";

const NO_RULES: &str = "version: 1\nrules: []\n";

fn apply(home: &Home, rules: &str) -> Result<()> {
    let file = home.path().join("rules.yaml");
    std::fs::write(&file, rules)?;
    let said = home.sentinel(["rules", "apply", "--yes", file.to_str().context("path")?])?;
    ensure!(said.code == 0, "{}", said.err);
    Ok(())
}

/// A moment to kill at: any, or (every third time) while a webhook has arrived and nobody
/// knows.
async fn moment(kill: usize, lot: &mut StdRng, receiver: &Receiver) -> Result<()> {
    if kill % 3 < 2 {
        let refusals = vec![503; lot.random_range(0..3)];
        receiver.answer_next(&refusals);
        tokio::time::sleep(Duration::from_millis(lot.random_range(300..4000))).await;
        return Ok(());
    }
    let before = receiver.received().len();
    receiver.mute(true);
    eventually("a webhook that is not answered", SOON, || async {
        let arrived = receiver.received().split_off(before);
        Ok(arrived.iter().any(|request| request.answered == 0).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_random_moments_loses_and_doubles_no_synced_sample_and_no_alert() -> Result<()> {
    let kills = count("SENTINEL_KILLS", 5);
    let seed = count("SENTINEL_SEED", rand::random::<u32>() as usize) as u64;
    let hint = format!("SENTINEL_SEED={seed} SENTINEL_KILLS={kills}");
    println!("{hint}");
    let mut lot = StdRng::seed_from_u64(seed);
    let receiver = Receiver::start(KEY).await?;
    let home = Home::new()?;
    home.configure(&config(&receiver))?;
    let began = now() - 60_000;
    for kill in 0..kills {
        let up = home.up().await.with_context(|| format!("start {kill}, {hint}"))?;
        if kill == 0 {
            let said = home.sentinel_with(["secret", "set", "webhook-key"], KEY)?;
            ensure!(said.code == 0, "{}", said.err);
            apply(&home, RULES)?;
        }
        moment(kill, &mut lot, &receiver).await.with_context(|| format!("kill {kill}, {hint}"))?;
        up.kill()?;
        receiver.mute(false);
    }
    let up = home.up().await?;
    // The count goes on: whatever was synced before the last kill lies below what comes now.
    let started = now();
    let last = eventually("samples from after the last kill", SOON, || async {
        Ok(Counted::since(&up, started + 2000).await?.last())
    })
    .await
    .with_context(|| home.log())?;
    Counted::since(&up, began).await?.assert_each_once(last, &hint);

    apply(&home, NO_RULES)?;
    let news = conclusion(&up).await.with_context(|| hint.clone())?;
    let told = judge(&news, &receiver.received()).with_context(|| hint.clone())?;
    println!("{} transitions told, {} repeats", news.len(), told.repeats);
    // The oracle had something to judge: at least what was held back came again.
    assert!(told.repeats >= kills / 3, "{hint}: {} repeats", told.repeats);
    assert!(news.len() >= 2 * kills, "{hint}: {} transitions", news.len());
    assert!(up.stop().await?.success());
    Ok(())
}

/// Kills of one run while an `up` begins its registry and publishes.
const EARLY: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_while_the_registry_is_begun_and_filled_leaves_nothing_half_published() -> Result<()>
{
    let kills = count("SENTINEL_KILLS", EARLY);
    let seed = count("SENTINEL_SEED", rand::random::<u32>() as usize) as u64;
    let hint = format!("SENTINEL_SEED={seed} SENTINEL_KILLS={kills}");
    println!("{hint}");
    let mut lot = StdRng::seed_from_u64(seed);
    let home = Home::new()?;
    home.configure("version: 1\nagent: {collectors: [{slot: s, plugin: sentinel/system, grants: {system: true}}]}\n")?;
    for kill in 0..kills {
        let mut child = home.up_command().stderr(std::process::Stdio::null()).spawn()?;
        // From before the first file is made to after the last plugin is published.
        let last = 400 * (kill % EARLY + 1) as u64;
        tokio::time::sleep(Duration::from_millis(lot.random_range(0..last))).await;
        child.kill()?;
        child.wait()?;
    }
    let up = home.up().await.with_context(|| hint.clone())?;
    let listed = home.json(&["plugin", "list"]).with_context(|| hint.clone())?;
    let listed = listed.as_array().context("list")?;
    for plugin in listed {
        ensure!(plugin["refused"].is_null(), "{hint}: {plugin}");
    }
    let built = |name: &str| listed.iter().any(|one| one["name"] == name);
    for name in ["alert-dsl", "nginx", "rows", "system", "webhook", "counter", "hostile"] {
        ensure!(built(&format!("sentinel/{name}")), "{hint}: {name} is not published: {listed:?}");
    }
    up.until("the collector runs", "/v1/status", SOON, |status| {
        let slots = status["agents"][0]["report"]["slots"].as_array()?;
        slots.iter().any(|slot| slot["state"] == "running").then_some(())
    })
    .await
    .with_context(|| hint.clone())?;
    ensure!(!home.log().contains("is not published"), "{hint}: {}", home.log());
    assert!(up.stop().await?.success());
    Ok(())
}
