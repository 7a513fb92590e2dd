//! The bus on a real NATS: nothing is lost and nothing counted twice, whatever becomes of it.

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_e2e::counter::{Counted, now};
use sentinel_e2e::sentinel::Home;
use sentinel_e2e::{count, eventually, given};
use sentinel_test_services::{Nats, Services};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

fn start(folder: &Path) -> Result<Nats> {
    Nats::start(&Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?, folder)
}

fn config(nats: &Nats) -> String {
    format!(
        "version: 1
bus: {}
nats: {{partitions: 3, max_bytes: 67108864}}
agent:
  interval: 100ms
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {{slot: counter, rows: 200, series: 7}}
      grants: {{kv: {{max_bytes: 4096}}}}
worker: {{settle: 0s}}
",
        nats.url()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_killed_and_started_again_with_and_without_its_data_loses_and_doubles_no_sample()
-> Result<()> {
    let kills = count("SENTINEL_KILLS", 4);
    let seed = count("SENTINEL_SEED", rand::random::<u32>() as usize) as u64;
    let hint = format!("SENTINEL_SEED={seed} SENTINEL_KILLS={kills}");
    println!("{hint}");
    let mut lot = StdRng::seed_from_u64(seed);
    let home = Home::new()?;
    let mut nats = start(&home.path().join("nats"))?;
    home.configure(&config(&nats))?;
    let began = now() - 60_000;
    let mut up = home.up().await?;
    for kill in 0..kills {
        let before = now();
        eventually("samples come", SOON, || async {
            Ok(Counted::since(&up, before).await?.last())
        })
        .await
        .with_context(|| format!("kill {kill}, {hint}\n{}", home.log()))?;
        tokio::time::sleep(Duration::from_millis(lot.random_range(0..1500))).await;
        // Everything dies once in a while, with its bus or without.
        let everything = kill % 2 == 1;
        let left = if everything {
            up.kill()?;
            None
        } else {
            Some(up)
        };
        if kill % 4 < 2 {
            nats.kill_and_forget()?;
        } else {
            nats.kill();
        }
        // Long enough that the agent is told to wait.
        tokio::time::sleep(Duration::from_millis(lot.random_range(0..2500))).await;
        nats.start_again()?;
        up = match left {
            Some(up) => up,
            None => home.up().await.with_context(|| format!("kill {kill}, {hint}"))?,
        };
    }
    let after = now();
    let last = eventually("samples from after the last kill", SOON, || async {
        Ok(Counted::since(&up, after + 1000).await?.last())
    })
    .await
    .with_context(|| format!("{hint}\n{}", home.log()))?;
    Counted::since(&up, began).await?.assert_each_once(last, &hint);
    assert!(up.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn the_stream_is_made_and_checked_by_the_script() -> Result<()> {
    let home = Home::new()?;
    let nats = start(&home.path().join("nats"))?;
    let file = home.configure(&config(&nats))?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/nats-setup.sh");
    let run = |args: &[&str]| -> Result<(bool, String)> {
        let mut command = Command::new(script);
        let program = given("SENTINEL_BIN", "debug/sentinel");
        let output = command
            .env("SENTINEL", program)
            .env("SENTINEL_CONFIG", &file)
            .args(args)
            .output()
            .context(script)?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (good, said) = run(&[])?;
    ensure!(good && said.contains("stream sentinel_metrics: 3 partitions"), "{said}");
    let (good, said) = run(&["--check"])?;
    ensure!(good, "{said}");
    home.configure(&config(&nats).replace("partitions: 3,", "partitions: 3, max_messages: 99,"))?;
    let (good, said) = run(&["--check"])?;
    ensure!(!good && said.contains("max_messages: 1000000 instead of 99"), "{said}");
    let (good, said) = run(&[])?;
    ensure!(good && said.contains("changed: max_messages"), "{said}");
    let (good, said) = run(&["--check", "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&said).context(said)?;
    ensure!(good && report["differences"] == serde_json::json!([]), "{report}");

    home.configure("version: 1\n")?;
    let (good, said) = run(&[])?;
    ensure!(!good && said.contains("no `bus: nats://HOST:PORT`"), "{said}");
    Ok(())
}
