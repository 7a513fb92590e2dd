//! Rules see every agent, whichever worker commits what it says and whichever evaluates.
//!
//! Each agent says the same value all the time, another one than the others, and an average over all
//! of them is one that no part of them has. So a worker that evaluates over its own partitions alone
//! gives another number, and an alert of its own.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::counter::now;
use sentinel_e2e::roles::{Apart, Role};
use sentinel_e2e::sentinel::{Home, Up};
use sentinel_e2e::{eventually, given};
use sentinel_test_services::{Nats, Postgres, Services};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);
/// What a worker says that begins to evaluate.
const KEEPS: &str = "this worker keeps alerts from now on";
/// How often rules are evaluated before what came of it is looked at.
const CALLS: u32 = 5;

/// An agent of each of the two partitions, in their order, and what it says.
const AGENTS: [(&str, u32); 2] = [("web-0", 10), ("web-1", 50)];
/// Whoever comes later, by its partition, and what it says.
const NEWCOMERS: [&str; 2] = ["web-2", "web-3"];
const NEWCOMER_SAYS: u32 = 150;

/// (10 + 50) / 2 and (10 + 50 + 150) / 3; whatever else is somebody left out.
const RULES: &str = "version: 1
rules:
  - name: of-two
    interval: 1s
    condition: {metric: sentinel_test_wave, window: 1h, by: [role], combine: avg, equals: 30}
  - name: of-three
    interval: 1s
    condition: {metric: sentinel_test_wave, window: 1h, by: [role], combine: avg, equals: 70}
  - name: astray
    interval: 1s
    condition:
      all:
        - {metric: sentinel_test_wave, window: 1h, by: [role], combine: avg, not_equals: 30}
        - {metric: sentinel_test_wave, window: 1h, by: [role], combine: avg, not_equals: 70}
";

/// What agents collect.
const AGENT: &str = "version: 1
agent:
  id: NAME
  interval: 200ms
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      labels: {role: web}
      config: {slot: counter, rows: 5, waves: 1}
      grants: {kv: {max_bytes: 4096}}
";

/// What workers do: they make the wave of each agent a line.
fn config(database: &str, nats: &Nats) -> String {
    let later = NEWCOMERS.map(|name| (name, NEWCOMER_SAYS));
    let line = |(agent, says): (&str, u32)| {
        format!(
            "          - scale: {{select: {{name: sentinel_test_wave, labels: [{{label: agent, \
             value: {agent}}}]}}, factor: 0, offset: {says}}}\n"
        )
    };
    let lines: String = AGENTS.into_iter().chain(later).map(line).collect();
    format!(
        "version: 1
store: {database}
bus: {}
nats: {{partitions: 2, max_bytes: 67108864}}
worker:
  settle: 0s
  self_watch: {{enabled: false}}
  evaluators: [{{slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {{series: true}}}}]
  transforms:
    - slot: rows
      plugin: sentinel/rows
      config:
        rules:
{lines}",
        nats.url(),
    )
}

/// The partitions that a worker reads, by what it says.
fn reads(log: &str) -> BTreeSet<usize> {
    let mut reads = BTreeSet::new();
    for line in log.lines() {
        let number = line.split_once("partition=").and_then(|(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
        });
        let Some(partition) = number else { continue };
        if line.contains("reads a partition") {
            reads.insert(partition);
        } else if line.contains("gives a partition") || line.contains("may read this partition") {
            reads.remove(&partition);
        }
    }
    reads
}

/// What happened to alerts, of which rule and to what; in no order, since rules of one moment have
/// none.
async fn history(server: &Up<'_>) -> Result<Vec<(String, String)>> {
    let answer = server.get("/v1/alerts/history?limit=100").await?;
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let all = answer["transitions"].as_array().context("transitions")?;
    let mut all: Vec<_> = all.iter().map(|one| (text(one, "rule"), text(one, "to"))).collect();
    all.sort();
    Ok(all)
}

/// Waits until so much happened to alerts, and sees that it is this.
async fn until_history(server: &Up<'_>, wanted: &[(&str, &str)]) -> Result<()> {
    let mut wanted: Vec<_> =
        wanted.iter().map(|&(rule, to)| (rule.to_owned(), to.to_owned())).collect();
    wanted.sort();
    let reached = eventually("so much happened to alerts", SOON, || async {
        let history = history(server).await?;
        Ok((history.len() >= wanted.len()).then_some(history))
    });
    let history = reached.await.with_context(|| format!("{wanted:?}"))?;
    ensure!(history == wanted, "{history:?} instead of {wanted:?}");
    Ok(())
}

/// The alert of a rule that fires: its group and its value.
async fn firing(server: &Up<'_>, rule: &str) -> Result<(Value, f64)> {
    let answer = server.get("/v1/alerts").await?;
    let all = answer["alerts"].as_array().context("alerts")?;
    let found = all.iter().find(|one| one["rule"] == rule && one["state"] == "firing");
    let found = found.with_context(|| format!("{rule} does not fire: {answer}"))?;
    Ok((found["labels"]["role"].clone(), found["value"].as_f64().context("value")?))
}

/// Everything that runs, and what is asked of it.
struct Rig<'h> {
    apart: Apart<'h>,
    server: Up<'h>,
    postgres: &'h Postgres,
    database: String,
    /// Of workers and agents.
    names: Vec<&'static str>,
    agents: Vec<(&'static str, Role)>,
}

impl Rig<'_> {
    fn logs(&self) -> String {
        let names = ["server"].iter().chain(&self.names);
        names.map(|name| self.apart.log(name)).collect::<Vec<_>>().join("\n")
    }

    fn worker(&mut self, name: &'static str) -> Result<Role> {
        self.names.push(name);
        self.apart.worker(name)
    }

    /// An agent, let in.
    async fn agent(&self, name: &'static str) -> Result<(&'static str, Role)> {
        let config = AGENT.replace("NAME", name);
        Ok((name, self.apart.agent_named(&self.server, name, &config).await?))
    }

    /// Waits until each of these two has one of the partitions.
    async fn until_shared(&self, workers: [&str; 2]) -> Result<()> {
        let shared = || async {
            let [first, second] = workers.map(|name| reads(&self.apart.log(name)));
            Ok((first.len() == 1 && second.len() == 1 && first != second).then_some(()))
        };
        eventually("each worker has a partition", SOON, shared).await.with_context(|| self.logs())
    }

    /// Waits until what every agent says from now on is stored.
    async fn until_stored(&self) -> Result<()> {
        let since = now();
        for (name, _) in &self.agents {
            let selector = format!("sentinel_test_wave{{agent=\"{name}\"}}");
            eventually(&format!("{name} is stored"), SOON, || async {
                let found = self.server.samples(&selector, since, now() + 60_000).await?;
                Ok(found.iter().any(|series| !series.is_empty()).then_some(()))
            })
            .await
            .with_context(|| self.logs())?;
        }
        Ok(())
    }

    /// Waits until the rules were evaluated again and again from now on.
    async fn until_evaluated(&self) -> Result<()> {
        let sql = format!("SELECT count(*) FROM evaluations WHERE at > {} AND settled", now());
        eventually("rules are evaluated", SOON, || async {
            let calls: u32 = self.postgres.query(&self.database, &sql)?.parse()?;
            Ok((calls >= CALLS).then_some(()))
        })
        .await
        .with_context(|| self.logs())
    }

    /// Holds all that ever happened to alerts against what is wanted, and the value of the rule
    /// that fires.
    async fn judge(&self, wanted: &[(&str, &str)], rule: &str, value: f64) -> Result<()> {
        until_history(&self.server, wanted).await.with_context(|| self.logs())?;
        let fires = firing(&self.server, rule).await.with_context(|| self.logs())?;
        ensure!(fires == ("web".into(), value), "{fires:?} instead of {value}\n{}", self.logs());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_average_is_over_all_agents_whichever_workers_read_and_evaluate() -> Result<()> {
    let services = Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?;
    let home = Home::new()?.with_only(&["alert-dsl", "counter", "rows"])?;
    let nats = Nats::start(&services, &home.path().join("nats"))?;
    let postgres = Postgres::start(&services, &[])?;
    let database = postgres.database()?;
    // It lends its registry, to which the checkout's plugins are published.
    home.configure("version: 1\n")?;
    let up = home.up().await?;
    let apart = Apart::new(&home, &up, &config(&database, &nats))?;
    let server = apart.server().await?;
    let (names, agents) = (Vec::new(), Vec::new());
    let mut rig = Rig { apart, server, postgres: &postgres, database, names, agents };
    let (one, two) = (rig.worker("one")?, rig.worker("two")?);
    let [first, second] = AGENTS.map(|(name, _)| rig.agent(name));
    let agents = tokio::try_join!(first, second)?;
    rig.agents.extend([agents.0, agents.1]);
    rig.until_shared(["one", "two"]).await?;
    rig.until_stored().await?;
    rig.apart.apply(&rig.server, RULES)?;
    rig.judge(&[("of-two", "firing")], "of-two", 30.0).await?;

    // Whoever evaluates is killed: the other one has everything, and sees the same.
    let one_keeps = rig.apart.log("one").contains(KEEPS);
    let (killed, _stays, other) = if one_keeps { (one, two, "two") } else { (two, one, "one") };
    drop(killed);
    rig.until_stored().await?;
    rig.until_evaluated().await?;
    rig.judge(&[("of-two", "firing")], "of-two", 30.0).await?;

    // Somebody comes whom another worker reads than the one that evaluates.
    let _three = rig.worker("three")?;
    rig.until_shared([other, "three"]).await?;
    let partition = reads(&rig.apart.log("three")).first().copied().context("a partition")?;
    let newcomer = rig.agent(NEWCOMERS[partition]).await?;
    rig.agents.push(newcomer);
    rig.until_stored().await?;
    let then = [("of-two", "firing"), ("of-three", "firing"), ("of-two", "resolved")];
    rig.judge(&then, "of-three", 70.0).await
}
