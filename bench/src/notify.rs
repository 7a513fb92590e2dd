//! From a committed sample to the notifier that tells of it: no `for`, no `group_wait`.

use crate::alerts::{Alerting, gauges, quantile_ms, rule};
use crate::row::{Better, Row};
use anyhow::{Result, ensure};
use sentinel_model::ids::AgentId;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Samples whose way is measured.
const SAMPLES: usize = 600;
/// Rules, each of which reads one series: the samples come to one after the other.
const RULES: usize = 20;
/// Between two samples. It is no part of the 200 ms in which commits are gathered, nor they of it.
const EVERY: Duration = Duration::from_millis(73);
/// How long the last notification may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn measure() -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<Vec<Row>> {
    let metric = |n: usize| format!("flag_{n}");
    let rules = (0..RULES).map(|n| rule(&metric(n), &metric(n), json!({}))).collect();
    let routes = json!({
        "notify": ["hook"], "group_by": ["..."], "group_wait": "0s", "group_interval": "0s",
    });
    let alerting = Alerting::start(&["hook"], routes, rules).await?;
    alerting.in_force(RULES).await?;
    let agent = AgentId::new("agent-0")?;
    let mut sent: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    let mut tick = tokio::time::interval(EVERY);
    let mut commits = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES {
        tick.tick().await;
        let name = metric(sample % RULES);
        // Every sample begins an alert or ends one.
        let value = f64::from(u8::from((sample / RULES).is_multiple_of(2)));
        let batch = gauges([(name.as_str(), "0".to_owned(), value)])?;
        let seq = sample as u64 + 1;
        let began = Instant::now();
        alerting.publish(&agent, seq, &batch).await?;
        alerting.committed(&agent, seq).await?;
        commits.push(began.elapsed());
        // Looked for every millisecond, so that it may have been committed so much before.
        sent.entry(name).or_default().push(Instant::now() - Duration::from_millis(1));
    }
    let receiver = &alerting.receiver;
    receiver.until("every sample is told of", PATIENCE, |came| came.told.len() >= SAMPLES).await?;
    let mut took = Vec::with_capacity(SAMPLES);
    receiver.look(|came| -> Result<()> {
        let mut told: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for one in &came.told {
            told.entry(&one.rule).or_default().push(one);
        }
        for (name, sent) in &sent {
            let told = told.remove(name.as_str()).unwrap_or_default();
            ensure!(told.len() == sent.len(), "{name}: {} of {} told", told.len(), sent.len());
            for (at, (told, sent)) in told.into_iter().zip(sent).enumerate() {
                ensure!(told.fires == at.is_multiple_of(2), "{name}: {at} was told out of turn");
                took.push(told.at.saturating_duration_since(*sent));
            }
        }
        Ok(())
    })?;
    let missed = alerting.worker.status().await.rules.missed;
    alerting.worker.shutdown().await;
    took.sort();
    commits.sort();
    let p99 = quantile_ms(&took, 0.99);
    let detail = json!({
        "samples": took.len(), "p50_ms": quantile_ms(&took, 0.5), "p99_ms": p99,
        "max_ms": quantile_ms(&took, 1.0), "rules": RULES, "evaluations missed": missed,
        "publish to commit, p99_ms": quantile_ms(&commits, 0.99),
    });
    Ok(vec![Row::new("notify-p99-ms", p99, (Better::Lower, 500.0), "ms", detail)])
}
