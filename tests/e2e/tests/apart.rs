//! Server, workers and agent as processes of their own, over a real NATS and a real PostgreSQL.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::counter::{Counted, now};
use sentinel_e2e::sentinel::{Home, Up};
use sentinel_e2e::{eventually, given};
use sentinel_test_services::{Nats, Postgres, Services, free_port};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

/// A role's process. Killed when it is dropped.
struct Role {
    child: Child,
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that the roles are told.
struct Apart<'h> {
    home: &'h Home,
    config: PathBuf,
    registry: String,
    rest: u16,
    grpc: u16,
}

impl Apart<'_> {
    fn command(&self, role: &str, name: &str) -> Result<Command> {
        let log = self.log_file(name);
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = self.home.command();
        command.arg(role).arg("--config").arg(&self.config);
        command.arg("--data").arg(self.home.path().join(name));
        command.arg("--registry").arg(&self.registry);
        command.arg("--enrolment").arg(self.home.data().join("registry/enrolment.json"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("{name}.log"))
    }

    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.log_file(name)).unwrap_or_default();
        format!("{name}:\n{text}")
    }

    async fn server(&self) -> Result<Up<'_>> {
        let mut command = self.command("server", "server")?;
        command.arg("--key").arg(self.home.path().join("agents.key"));
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.rest));
        command.arg("--grpc").arg(format!("127.0.0.1:{}", self.grpc));
        let child = command.spawn()?;
        let address = format!("http://127.0.0.1:{}", self.rest);
        let ready = format!("{address}/ready");
        eventually("the server is ready", SOON, || async {
            Ok(reqwest::get(&ready).await?.status().is_success().then_some(()))
        })
        .await
        .with_context(|| self.log("server"))?;
        let token = std::fs::read_to_string(self.home.path().join("server/api.token"))?;
        Ok(self.home.serving(child, address, token.trim().to_owned()))
    }

    fn worker(&self, name: &str) -> Result<Role> {
        let mut command = self.command("worker", name)?;
        command.arg("--key").arg(self.home.path().join("agents.key")).args(["--name", name]);
        Ok(Role { child: command.spawn()? })
    }

    async fn agent(&self, server: &Up<'_>) -> Result<Role> {
        let request = reqwest::Client::new().post(format!("{}/v1/tokens", server.server()));
        let request =
            request.bearer_auth(server.token()).header("content-type", "application/json");
        let answer = request.body(r#"{"uses": 1, "valid_for": "1h"}"#).send().await?;
        let made: Value = serde_json::from_str(&answer.error_for_status()?.text().await?)?;
        let token = self.home.path().join("token");
        std::fs::write(&token, made["token"].as_str().context("token")?)?;
        let mut command = self.command("agent", "agent")?;
        command.arg("--join").arg(format!("http://127.0.0.1:{}", self.grpc));
        command.arg("--token-file").arg(token);
        Ok(Role { child: command.spawn()? })
    }

    /// Waits for samples from after a moment; the highest.
    async fn samples_since(&self, server: &Up<'_>, since: i64, what: &str) -> Result<u64> {
        eventually(what, SOON, || async { Ok(Counted::since(server, since).await?.last()) })
            .await
            .with_context(|| {
                ["server", "one", "two", "agent"].map(|name| self.log(name)).join("\n")
            })
    }
}

/// Which workers have said of themselves that they work.
async fn at_work(server: &Up<'_>) -> Result<Vec<String>> {
    let status = server.get("/v1/status").await?;
    let workers = status["workers"].as_array().context("workers")?;
    Ok(workers.iter().map(|one| one["name"].to_string()).collect())
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
    let config = home.path().join("apart.yaml");
    std::fs::write(
        &config,
        format!(
            "version: 1
store: {}
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
worker:
  settle: 0s
  transforms: [{{slot: rows, plugin: sentinel/rows, config: {{rules: []}}}}]
",
            postgres.database()?,
            nats.url()
        ),
    )?;
    let apart = Apart {
        home: &home,
        config,
        registry: up.registry()?,
        rest: free_port()?,
        grpc: free_port()?,
    };
    let began = now() - 60_000;
    let server = apart.server().await?;
    let one = apart.worker("one")?;
    let _agent = apart.agent(&server).await?;
    apart.samples_since(&server, began, "samples come").await?;
    let two = apart.worker("two")?;
    eventually("the second worker stands by", SOON, || async {
        Ok(apart.log("two").contains("this one stands by").then_some(()))
    })
    .await
    .with_context(|| apart.log("two"))?;
    let at_work = at_work(&server).await?;
    ensure!(!at_work.iter().any(|name| name.contains("two")), "{at_work:?}");

    // The worker is killed, and the other takes over.
    drop(one);
    apart.samples_since(&server, now() + 1000, "the second worker takes over").await?;
    let one = apart.worker("one")?;
    // NATS comes back empty under the one that works.
    nats.kill_and_forget()?;
    nats.start_again()?;
    apart.samples_since(&server, now() + 1000, "samples after an empty NATS").await?;
    // And while nobody works.
    drop((one, two));
    // Meanwhile agents go on sending.
    tokio::time::sleep(Duration::from_millis(700)).await;
    nats.kill_and_forget()?;
    nats.start_again()?;
    let _last_one = apart.worker("one")?;
    let last = apart.samples_since(&server, now() + 1000, "samples in the end").await?;
    Counted::since(&server, began).await?.assert_each_once(last, "no seed");
    Ok(())
}
