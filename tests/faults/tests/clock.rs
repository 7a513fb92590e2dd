//! An agent whose clock is wrong by hours loses nothing, and alerts are what comes of its samples.

use anyhow::{Context, Result, ensure};
use sentinel_faults::site::Options;
use sentinel_faults::{Site, number};
use std::collections::BTreeSet;

const HOUR_MS: i64 = 3_600_000;
/// Bytes of `2026-01-31T23`, with which each line of a log begins.
const DATE_AND_HOUR: usize = 13;

#[test]
fn agents_whose_clocks_are_wrong_by_hours_lose_nothing() -> Result<()> {
    let seed = number("SENTINEL_SEED", 1);
    println!("SENTINEL_SEED={seed}");
    let mut site = Site::start(&Options::new(seed))?;
    // Three hours ahead and one: an hour that ends between the two does not make them the same.
    for (behind, ahead) in [(-5, 3), (1, -7)] {
        for (name, hours) in [("agent-1", behind), ("agent-2", ahead)] {
            site.role_mut(name).kill();
            site.role_mut(name).set_clock(hours * HOUR_MS);
        }
        site.revive()?;
        // Rules look back from the workers' time, a minute at most. What is dated hours ahead comes
        // into that hours later, and who is behind counts on slowly from its last row's time until
        // it is a minute late: alerts end, and may have nothing to fire about.
        let judged = site.judge_without_waves();
        println!("{}", judged.with_context(|| format!("{behind} h and {ahead} h"))?);
    }
    // They were wrong: each has had three clocks, by its own word, and what was counted hours from
    // now is stored there. (The counter never goes back: what it counts behind its last row has
    // that one's time.)
    for name in ["agent-1", "agent-2"] {
        let log = site.log(name);
        let hours: BTreeSet<_> = log.lines().filter_map(|line| line.get(..DATE_AND_HOUR)).collect();
        ensure!(hours.len() >= 3, "{name} has had the hours {hours:?}");
    }
    let sql = "SELECT count(DISTINCT hour) FROM metrics_time WHERE name = 'sentinel_test_counter'";
    let database = site.database().to_owned();
    let hours: u32 = site.postgres().query(&database, sql)?.parse()?;
    ensure!(hours >= 3, "samples lie in {hours} different hours only");
    Ok(())
}
