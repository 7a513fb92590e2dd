//! `kill -9` of any process at random under load: nothing that was synced is lost, nothing is
//! stored twice, and alerts are what comes of what each evaluation saw. One test a seed, so that
//! they run beside each other.

use anyhow::{Context, Result, ensure};
use sentinel_faults::schedule::strikes;
use sentinel_faults::site::{Options, VICTIMS};
use sentinel_faults::{Embedded, Site, number};
use std::time::Duration;

/// How long a seed lasts, in seconds, where `SENTINEL_FAULT_SECONDS` says nothing.
const SECONDS: u64 = 60;

fn seconds() -> Duration {
    Duration::from_secs(number("SENTINEL_FAULT_SECONDS", SECONDS))
}

/// One seed on NATS and PostgreSQL.
fn production(seed: u64, lasts: Duration) -> Result<()> {
    let hint = format!("SENTINEL_SEED={seed} SENTINEL_FAULT_SECONDS={}", lasts.as_secs());
    println!("{hint}");
    let mut site = Site::start(&Options::new(seed))?;
    let strikes = strikes(seed, VICTIMS, lasts);
    for (number, strike) in strikes.iter().enumerate() {
        let struck = site.strike(strike);
        struck.with_context(|| format!("strike {number}, {strike:?}, {hint}\n{}", site.logs()))?;
    }
    let report = site.judge().with_context(|| format!("{hint}\n{strikes:#?}"))?;
    println!("{} strikes; {report}", strikes.len());
    ensure!(site.stored()? > 10 * lasts.as_secs(), "{hint}: no load: {report}\n{}", site.logs());
    Ok(())
}

/// One seed on the embedded pair.
fn embedded(seed: u64, lasts: Duration) -> Result<()> {
    let mut embedded = Embedded::start()?;
    let hint = format!("SENTINEL_SEED={seed} SENTINEL_FAULT_SECONDS={}", lasts.as_secs());
    println!("{hint}");
    for (number, strike) in strikes(seed, &["up"], lasts).into_iter().enumerate() {
        // Every other time it has begun to count; else it may be killed while it begins.
        if number % 2 == 0 {
            embedded.counts_on()?;
        }
        std::thread::sleep(strike.after);
        embedded.up().kill();
        std::thread::sleep(strike.down);
        embedded.up().start()?;
    }
    println!("{}", embedded.judge().with_context(|| hint)?);
    Ok(())
}

/// The seed of a test: its own, unless one is given.
fn seed(own: u64) -> u64 {
    number("SENTINEL_SEED", own)
}

#[test]
fn any_process_is_killed_by_seed_1_and_each_sample_is_there_once() -> Result<()> {
    production(seed(1), seconds())
}

#[test]
fn any_process_is_killed_by_seed_2_and_each_sample_is_there_once() -> Result<()> {
    production(seed(2), seconds())
}

#[test]
fn any_process_is_killed_by_seed_3_and_each_sample_is_there_once() -> Result<()> {
    production(seed(3), seconds())
}

#[test]
fn any_process_is_killed_by_seed_4_and_each_sample_is_there_once() -> Result<()> {
    production(seed(4), seconds())
}

#[test]
fn any_process_is_killed_by_seed_5_and_each_sample_is_there_once() -> Result<()> {
    production(seed(5), seconds())
}

#[test]
fn the_one_process_is_killed_by_seed_1_and_each_sample_is_there_once() -> Result<()> {
    embedded(seed(1), seconds())
}

#[test]
fn the_one_process_is_killed_by_seed_2_and_each_sample_is_there_once() -> Result<()> {
    embedded(seed(2), seconds())
}

#[test]
fn the_one_process_is_killed_by_seed_3_and_each_sample_is_there_once() -> Result<()> {
    embedded(seed(3), seconds())
}

#[test]
fn the_one_process_is_killed_by_seed_4_and_each_sample_is_there_once() -> Result<()> {
    embedded(seed(4), seconds())
}

#[test]
fn the_one_process_is_killed_by_seed_5_and_each_sample_is_there_once() -> Result<()> {
    embedded(seed(5), seconds())
}

/// Of `cargo xtask soak`: seeds that nobody has seen.
#[test]
fn soak_any_process_is_killed_for_ten_minutes_and_each_sample_is_there_once() -> Result<()> {
    production(seed(rand::random_range(6..1 << 32)), Duration::from_secs(600))
}
