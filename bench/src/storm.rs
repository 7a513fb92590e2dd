//! A storm: 50,000 alerts that fire within a minute, told in groups, while another receiver has to
//! be told of one thing after the other.
//!
//! It runs in a child of its own, so that its memory is that of a worker alone, with what makes the
//! samples and takes the webhooks.

use crate::alerts::{Alerting, Came, gauges, quantile_ms, rule};
use crate::cpu;
use crate::row::{Better, Row};
use anyhow::{Context, Result, ensure};
use sentinel_model::ids::AgentId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The hidden argument under which this binary is the child.
pub(crate) const STORM_CHILD: &str = "internal-storm";

/// Agents whose alerts all fire with one batch.
const AGENTS: usize = 25;
/// Rules, and series that each has of an agent.
const RULES: usize = 50;
const SERIES: usize = 40;
const ALERTS: usize = AGENTS * RULES * SERIES;
/// How long the storm comes up.
const STORM: Duration = Duration::from_secs(60);
/// How long the other receiver has nothing to be told of in between.
const STEADY: Duration = Duration::from_millis(500);
/// How long everything may take to be told after the storm.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest that the other receiver may wait.
const MAX_DELAY_MS: f64 = 5_000.0;
/// The most memory.
const LIMIT_MIB: f64 = 512.0;

/// What the child prints.
#[derive(Debug, Serialize, Deserialize)]
struct Storm {
    peak_rss_mib: f64,
    rss_before_mib: f64,
    lost: usize,
    messages: usize,
    groups: usize,
    fired_within_s: f64,
    told_within_s: f64,
    missed: u64,
    others: usize,
    others_p50_ms: f64,
    others_max_ms: f64,
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut child = Command::new(std::env::current_exe()?);
    let output = child.arg(STORM_CHILD).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the storm ended with {}", output.status);
    let storm: Storm = serde_json::from_slice(&output.stdout).context("what the storm printed")?;
    let mut detail = serde_json::to_value(&storm)?;
    detail["alerts"] = ALERTS.into();
    detail["others_limit_ms"] = MAX_DELAY_MS.into();
    let limit = (Better::Lower, LIMIT_MIB);
    let row = Row::new("storm-rss-mib", storm.peak_rss_mib, limit, "MiB", detail);
    Ok(vec![row.and(storm.lost == 0 && storm.others_max_ms <= MAX_DELAY_MS)])
}

/// The child.
pub(crate) fn child() -> Result<()> {
    let storm = tokio::runtime::Runtime::new()?.block_on(run())?;
    println!("{}", serde_json::to_string(&storm)?);
    Ok(())
}

fn rules() -> Vec<Value> {
    let rule_of = |n: usize| {
        let name = format!("storm_{n}");
        rule(&name, &name, json!({"severity": "page"}))
    };
    let mut rules: Vec<Value> = (0..RULES).map(rule_of).collect();
    rules.push(rule("steady", "steady", json!({"team": "other"})));
    rules
}

/// All series of an agent, with one value.
async fn publish(alerting: &Alerting, agent: &AgentId, seq: u64, value: f64) -> Result<()> {
    let names: Vec<String> = (0..RULES).map(|n| format!("storm_{n}")).collect();
    let rows = names.iter().flat_map(|name| (0..SERIES).map(move |n| (name, n)));
    let batch = gauges(rows.map(|(name, n)| (name.as_str(), n.to_string(), value)))?;
    alerting.publish(agent, seq, &batch).await
}

fn of_other(came: &Came) -> usize {
    came.told.iter().filter(|one| one.rule == "steady").count()
}

/// Has the other receiver told of one thing after the other; how long each took, its commit
/// included.
async fn steady(alerting: &Alerting, until: &tokio::sync::Notify) -> Result<Vec<Duration>> {
    let agent = AgentId::new("steady")?;
    let (mut waits, mut tick) = (Vec::new(), tokio::time::interval(STEADY));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ended = until.notified();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return Ok(waits),
            _ = tick.tick() => {}
        }
        let value = f64::from(u8::from(waits.len().is_multiple_of(2)));
        let batch = gauges([("steady", "0".to_owned(), value)])?;
        let (began, many) = (Instant::now(), waits.len() + 1);
        alerting.publish(&agent, many as u64, &batch).await?;
        let receiver = &alerting.receiver;
        receiver.until("the other is told", PATIENCE, |came| of_other(came) >= many).await?;
        waits.push(began.elapsed());
    }
}

/// Fires everything, and waits until all of it is told.
async fn storm(alerting: &Alerting, agents: &[AgentId]) -> Result<(f64, f64)> {
    let began = Instant::now();
    let mut tick = tokio::time::interval(STORM / AGENTS as u32);
    for agent in agents {
        tick.tick().await;
        publish(alerting, agent, 2, 1.0).await?;
    }
    for agent in agents {
        alerting.committed(agent, 2).await?;
    }
    let fired = began.elapsed().as_secs_f64();
    let (mut told, mut read) = (BTreeSet::new(), 0);
    let all = |came: &Came| {
        let new = came.told[read..].iter().filter(|one| one.rule.starts_with("storm_"));
        told.extend(new.map(|one| one.fingerprint));
        read = came.told.len();
        told.len() >= ALERTS
    };
    alerting.receiver.until("all alerts are told", PATIENCE, all).await?;
    Ok((fired, began.elapsed().as_secs_f64()))
}

async fn run() -> Result<Storm> {
    let routes = json!({
        "notify": ["storm"], "group_by": ["rule"], "group_wait": "5s", "group_interval": "15s",
        "routes": [{
            "match": ["team=other"], "notify": ["other"], "group_by": ["..."],
            "group_wait": "0s", "group_interval": "0s",
        }],
    });
    let alerting = Alerting::start(&["storm", "other"], routes, rules()).await?;
    alerting.in_force(RULES + 1).await?;
    let agents: Vec<AgentId> =
        (0..AGENTS).map(|n| AgentId::new(&format!("agent-{n}"))).collect::<Result<_, _>>()?;
    for agent in &agents {
        publish(&alerting, agent, 1, 0.0).await?;
    }
    for agent in &agents {
        alerting.committed(agent, 1).await?;
    }
    let own = std::process::id();
    let before = cpu::resident_mib(own)?;
    let over = tokio::sync::Notify::new();
    let stormy = async {
        let storm = storm(&alerting, &agents).await;
        over.notify_one();
        storm
    };
    let (storm, waits) = tokio::join!(stormy, steady(&alerting, &over));
    let ((fired, told), mut waits) = (storm?, waits?);
    waits.sort();
    let status = alerting.worker.status().await.rules;
    let peak = cpu::peak_mib(own)?;
    alerting.worker.shutdown().await;
    Ok(alerting.receiver.look(|came| {
        let stormy = came.told.iter().filter(|one| one.rule.starts_with("storm_"));
        let (mut alerts, mut messages) = (BTreeSet::new(), BTreeSet::new());
        for one in stormy {
            alerts.insert(one.fingerprint);
            messages.insert(one.request);
        }
        Storm {
            peak_rss_mib: peak,
            rss_before_mib: before,
            lost: ALERTS - alerts.len(),
            messages: messages.len(),
            groups: status.groups,
            fired_within_s: fired,
            told_within_s: told,
            missed: status.missed,
            others: waits.len(),
            others_p50_ms: quantile_ms(&waits, 0.5),
            others_max_ms: quantile_ms(&waits, 1.0),
        }
    }))
}
