//! Server, workers and agent as processes of their own, over a real NATS and a real PostgreSQL.

use anyhow::{Context, Result};
use sentinel_e2e::counter::{Counted, now};
use sentinel_e2e::roles::Apart;
use sentinel_e2e::sentinel::{Home, Up};
use sentinel_e2e::{eventually, given};
use sentinel_test_services::{Nats, Postgres, Services};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

/// Waits for samples from after a moment; the highest.
async fn samples_since(apart: &Apart<'_>, server: &Up<'_>, since: i64, what: &str) -> Result<u64> {
    eventually(what, SOON, || async { Ok(Counted::since(server, since).await?.last()) })
        .await
        .with_context(|| ["server", "one", "two", "agent"].map(|name| apart.log(name)).join("\n"))
}

fn config(store: &str, bus: &str) -> String {
    format!(
        "version: 1
store: {store}
bus: {bus}
nats: {{partitions: 3, max_bytes: 67108864}}
agent:
  interval: 100ms
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {{slot: counter, rows: 200, series: 7}}
      grants: {{kv: {{max_bytes: 4096}}}}
worker:
  settle: 0s
  transforms: [{{slot: rows, plugin: sentinel/rows, config: {{rules: []}}}}]
"
    )
}

/// The workers by name, and whether each keeps alerts.
async fn keeping(server: &Up<'_>) -> Result<Vec<(bool, String)>> {
    let status = server.get("/v1/status").await?;
    let workers = status["workers"].as_array().context("workers")?;
    let keeps = |one: &serde_json::Value| {
        let name = one["status"]["name"].as_str().unwrap_or_default().to_owned();
        (one["status"]["keeps_alerts"] == true, name)
    };
    let is_worker = |one: &&serde_json::Value| {
        one["name"].as_str().is_some_and(|name| name.starts_with("worker/"))
    };
    let mut keeping: Vec<_> = workers.iter().filter(is_worker).map(keeps).collect();
    keeping.sort_by(|one, other| one.1.cmp(&other.1));
    Ok(keeping)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_up_whose_bus_and_store_are_elsewhere_is_one_worker_among_others() -> Result<()> {
    let services = Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?;
    let home = Home::new()?;
    let nats = Nats::start(&services, &home.path().join("nats"))?;
    let postgres = Postgres::start(&services, &[])?;
    let config = config(&postgres.database()?, &nats.url());
    home.configure(&config)?;
    let began = now() - 60_000;
    let up = home.up().await?;
    std::fs::copy(home.data().join("server.key"), home.path().join("agents.key"))?;
    let apart = Apart::new(&home, &up, &config)?;
    // Whoever asks first keeps them.
    eventually("it keeps alerts itself", SOON, || async {
        Ok((keeping(&up).await? == [(true, "local".to_owned())]).then_some(()))
    })
    .await
    .with_context(|| home.log())?;
    let _one = apart.worker("one")?;
    eventually("one of both keeps alerts", SOON, || async {
        Ok((keeping(&up).await? == [(true, "local".to_owned()), (false, "one".to_owned())])
            .then_some(()))
    })
    .await
    .with_context(|| apart.log("one"))?;
    let last = samples_since(&apart, &up, now() + 1000, "samples with two workers").await?;
    Counted::since(&up, began).await?.assert_each_once(last, "no seed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_and_a_nats_that_comes_back_empty_lose_and_double_no_sample()
-> Result<()> {
    let services = Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?;
    let home = Home::new()?;
    let mut nats = Nats::start(&services, &home.path().join("nats"))?;
    let postgres = Postgres::start(&services, &[])?;
    // It lends its registry, to which the checkout's plugins are published.
    home.configure("version: 1\n")?;
    let up = home.up().await?;
    let config = config(&postgres.database()?, &nats.url());
    let apart = Apart::new(&home, &up, &config)?;
    let began = now() - 60_000;
    let server = apart.server().await?;
    let one = apart.worker("one")?;
    let _agent = apart.agent(&server).await?;
    samples_since(&apart, &server, began, "samples come").await?;
    // Whoever asks first keeps alerts.
    eventually("the first worker keeps alerts", SOON, || async {
        Ok((keeping(&server).await? == [(true, "one".to_owned())]).then_some(()))
    })
    .await
    .with_context(|| apart.log("one"))?;
    let two = apart.worker("two")?;
    // They share the partitions, and one of them keeps alerts.
    eventually("the second worker has its share", SOON, || async {
        let (one, two) = (apart.log("one"), apart.log("two"));
        let shares = one.contains("gives a partition") && two.contains("reads a partition");
        Ok((shares && two.contains("this one stands by")).then_some(()))
    })
    .await
    .with_context(|| ["one", "two"].map(|name| apart.log(name)).join("\n"))?;
    eventually("one of both keeps alerts", SOON, || async {
        Ok((keeping(&server).await? == [(true, "one".to_owned()), (false, "two".to_owned())])
            .then_some(()))
    })
    .await?;

    // The first is killed, and the other reads all and keeps alerts.
    drop(one);
    samples_since(&apart, &server, now() + 1000, "the second worker takes over").await?;
    eventually("the other keeps alerts", SOON, || async {
        Ok(keeping(&server).await?.contains(&(true, "two".to_owned())).then_some(()))
    })
    .await
    .with_context(|| apart.log("two"))?;
    let one = apart.worker("one")?;
    // NATS comes back empty under the one that works.
    nats.kill_and_forget()?;
    nats.start_again()?;
    samples_since(&apart, &server, now() + 1000, "samples after an empty NATS").await?;
    // And while nobody works.
    drop((one, two));
    // Meanwhile agents go on sending.
    tokio::time::sleep(Duration::from_millis(700)).await;
    nats.kill_and_forget()?;
    nats.start_again()?;
    let _last_one = apart.worker("one")?;
    let last = samples_since(&apart, &server, now() + 1000, "samples in the end").await?;
    Counted::since(&server, began).await?.assert_each_once(last, "no seed");
    Ok(())
}
