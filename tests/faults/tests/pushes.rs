//! Pushes that are duplicated, reordered, delayed, truncated, tampered with, replayed and lost on
//! the way: what agents synced is there once.

use anyhow::{Context, Result, ensure};
use sentinel_faults::middle::Lie;
use sentinel_faults::site::Options;
use sentinel_faults::{Site, number, until};

/// How often each lie is told at least.
const EACH: u64 = 3;

#[test]
fn pushes_that_are_played_false_cost_no_sample_and_double_none() -> Result<()> {
    let seed = number("SENTINEL_SEED", 21);
    println!("SENTINEL_SEED={seed}");
    let mut site = Site::start(&Options { middle: true, ..Options::new(seed) })?;
    let each = EACH.max(number("SENTINEL_FAULT_SECONDS", 0) / 4);
    site.lie(true);
    let told = until("every lie is told", || {
        let told = site.told();
        Ok(Lie::ALL.iter().all(|lie| told.get(lie).is_some_and(|&n| n >= each)).then_some(told))
    })
    .with_context(|| format!("{:?}\n{}", site.told(), site.logs()))?;
    site.lie(false);
    let report = site.judge().with_context(|| format!("SENTINEL_SEED={seed}: {told:?}"))?;
    println!("{told:?}; {report}");
    // Nobody gave up a record: it would lie in the agent's folder.
    for agent in ["agent-1", "agent-2"] {
        let dead = site.path().join(agent).join("dead");
        ensure!(!dead.exists(), "{} is there\n{}", dead.display(), site.logs());
    }
    Ok(())
}
