//! This machine, watched, and one rule that says that it is up.

use crate::sentinel::Home;
use anyhow::{Context, Result};

/// A configuration: the machine is looked at every half second, and these notifiers are told.
#[must_use]
pub fn configuration(notifiers: &str) -> String {
    format!(
        "version: 1
worker:
  settle: 1s
  transforms: [{{slot: rows, plugin: sentinel/rows, config: {{rules: []}}}}]
  evaluators: [{{slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {{series: true}}}}]
  notifiers:
{notifiers}agent:
  interval: 500ms
  heartbeat: 500ms
  collectors:
    - {{slot: system, plugin: sentinel/system, grants: {{system: true}}}}
"
    )
}

/// Applies the rule `machine-is-up`, which holds, or the same as it never does.
///
/// # Errors
/// Where it is refused.
pub fn apply(home: &Home, holds: bool) -> Result<()> {
    let above = if holds { "0" } else { "1000000000" };
    let file = home.path().join("rules.yaml");
    std::fs::write(
        &file,
        format!(
            "version: 1
rules:
  - name: machine-is-up
    interval: 1s
    labels: {{severity: critical}}
    annotations: {{summary: It runs & runs.}}
    condition: {{metric: system_uptime_seconds, fn: last, window: 1m, above: {above}}}
"
        ),
    )?;
    let said = home.sentinel(["rules", "apply", "--yes", file.to_str().context("a path")?])?;
    anyhow::ensure!(said.code == 0, "{}", said.err);
    Ok(())
}

/// Keeps a secret of the home.
///
/// # Errors
/// Where it is refused.
pub fn keep_secret(home: &Home, name: &str, secret: &[u8]) -> Result<()> {
    let said = home.sentinel_with(["secret", "set", name], secret)?;
    anyhow::ensure!(said.code == 0, "{}", said.err);
    Ok(())
}
