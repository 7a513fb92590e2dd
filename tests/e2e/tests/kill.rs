//! Nothing is lost and nothing counted twice, whatever is killed.

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_e2e::receiver::Receiver;
use sentinel_e2e::sentinel::{Home, Up};
use sentinel_e2e::{count, eventually};
use std::collections::BTreeMap;
use std::time::Duration;

const KEY: &[u8] = b"known to the host and the receiver";
const SOON: Duration = Duration::from_secs(90);

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as i64
}

fn config(receiver: &Receiver) -> String {
    format!(
        "version: 1
agent:
  interval: 100ms
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {{slot: counter, rows: 200, series: 7}}
      grants: {{kv: {{max_bytes: 4096}}}}
worker:
  transforms: [{{slot: rows, plugin: sentinel/rows, config: {{rules: []}}}}]
  evaluators: [{{slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {{series: true}}}}]
  notifiers:
    - slot: webhook
      plugin: sentinel/webhook
      config: {{url: \"{origin}/hook\", secret: webhook-key}}
      grants:
        http: {{origins: [\"{origin}\"], methods: [POST]}}
        mac: {{keys: [webhook-key]}}
",
        origin = receiver.origin()
    )
}

/// Fires and resolves again and again as the counter goes up.
const RULES: &str = "version: 1
rules:
  - name: counting
    interval: 1s
    condition: {metric: sentinel_test_counter, fn: last, window: 1m, above: 0}
";

/// The counter's values as they are stored, each with how often.
async fn counted(up: &Up<'_>, since: i64) -> Result<BTreeMap<u64, u32>> {
    let mut values = BTreeMap::new();
    for series in up.samples("sentinel_test_counter", since, now() + 60_000).await? {
        for (_, value) in series {
            *values.entry(value as u64).or_insert(0) += 1;
        }
    }
    Ok(values)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_random_moments_loses_and_doubles_no_synced_sample() -> Result<()> {
    let kills = count("SENTINEL_KILLS", 5);
    let seed = count("SENTINEL_SEED", rand::random::<u32>() as usize) as u64;
    println!("SENTINEL_SEED={seed} SENTINEL_KILLS={kills}");
    let mut lot = StdRng::seed_from_u64(seed);
    let receiver = Receiver::start(KEY).await?;
    let home = Home::new()?;
    home.configure(&config(&receiver))?;
    let began = now() - 60_000;
    let rules = home.path().join("rules.yaml");
    std::fs::write(&rules, RULES)?;
    for kill in 0..kills {
        let up = home.up().await.with_context(|| format!("start {kill}"))?;
        if kill == 0 {
            let said = home.sentinel_with(["secret", "set", "webhook-key"], KEY)?;
            ensure!(said.code == 0, "{}", said.err);
            let said = home.sentinel(["rules", "apply", rules.to_str().context("path")?])?;
            ensure!(said.code == 0, "{}", said.err);
        }
        tokio::time::sleep(Duration::from_millis(lot.random_range(300..4000))).await;
        up.kill()?;
    }
    let up = home.up().await?;
    // The count goes on: whatever was synced before the last kill lies below what comes now.
    let started = now();
    let last = eventually("samples from after the last kill", SOON, || async {
        let fresh = counted(&up, started + 2000).await?;
        Ok(fresh.last_key_value().map(|(value, _)| *value))
    })
    .await
    .with_context(|| home.log())?;
    let values = counted(&up, began).await?;
    let missing: Vec<u64> = (1..=last).filter(|value| !values.contains_key(value)).collect();
    let doubled: Vec<u64> =
        values.iter().filter(|(_, n)| **n > 1).map(|(value, _)| *value).collect();
    assert!(
        missing.is_empty(),
        "lost, seed {seed}: {} of {last}: {:?} …",
        missing.len(),
        &missing[..missing.len().min(10)]
    );
    assert!(doubled.is_empty(), "doubled, seed {seed}: {:?}", &doubled[..doubled.len().min(10)]);

    let told = eventually("the alert is told", SOON, || async {
        let told: Vec<_> = receiver
            .received()
            .into_iter()
            .filter(|r| r.body.to_string().contains("firing"))
            .collect();
        Ok((!told.is_empty()).then_some(told))
    })
    .await?;
    let mut firing = BTreeMap::new();
    for one in told {
        *firing.entry(one.id).or_insert(0) += 1;
    }
    let incidents = up.get("/v1/alerts/history?limit=10000").await?;
    let fired = incidents["transitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|t| t["to"] == "firing")
        .count();
    assert!(
        fired >= 1 && firing.len() <= fired,
        "{} ids for {fired} firings: repeats bear the same id",
        firing.len()
    );
    let open = up.get("/v1/notifications?limit=10000").await?;
    for one in open["notifications"].as_array().into_iter().flatten() {
        assert_ne!(one["state"], "dead", "{one}");
    }
    assert!(up.stop().await?.success());
    Ok(())
}
