//! Networks that delay, hold, answer no more and cut, between each pair of parts, by seed.

use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom as _;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_faults::proxy::Rule;
use sentinel_faults::site::Options;
use sentinel_faults::{Site, number};
use std::time::Duration;

/// What is done to a wire.
const RULES: [Rule; 4] =
    [Rule::Delay(Duration::from_millis(200)), Rule::Hold, Rule::HalfOpen, Rule::Cut];
/// How long one of them lasts at most, in milliseconds, where `SENTINEL_FAULT_SECONDS` does not say
/// how long all takes together; but the first.
const LONGEST_MS: u64 = 2_000;
/// How long the first lasts at least: beyond the holds of partitions and the lease of rules.
const FIRST: Duration = Duration::from_secs(12);

/// Both wires suffer each rule, beside each other, each in an order by lot.
fn suffer(seed: u64, wires: [&str; 2]) -> Result<()> {
    let mut site = Site::start(&Options::new(seed))?;
    let mut lot = StdRng::seed_from_u64(seed);
    let longest = number("SENTINEL_FAULT_SECONDS", 0) * 1_000 / RULES.len() as u64;
    let longest = longest.max(LONGEST_MS);
    let mut orders = [RULES, RULES];
    orders.iter_mut().for_each(|order| order.shuffle(&mut lot));
    let hint = format!("SENTINEL_SEED={seed}: {wires:?} {orders:?}");
    println!("{hint}");
    for round in 0..RULES.len() {
        let lasts = Duration::from_millis(lot.random_range(longest / 3..longest));
        let lasts = if round == 0 { lasts.max(FIRST) } else { lasts };
        for (wire, order) in wires.iter().zip(&orders) {
            ensure!(site.wire(wire).passed() > 0, "nothing went through {wire}");
            site.wire(wire).set(order[round]);
        }
        std::thread::sleep(lasts);
        // Agents count, whatever is cut.
        site.counts_on().with_context(|| format!("round {round}, {hint}"))?;
        for wire in wires {
            site.wire(wire).set(Rule::Pass);
        }
    }
    println!("{}", site.judge().with_context(|| hint)?);
    Ok(())
}

fn seed(own: u64) -> u64 {
    number("SENTINEL_SEED", own)
}

#[test]
fn agents_and_servers_apart_cost_no_sample() -> Result<()> {
    suffer(seed(11), ["agents to server-1", "agents to server-2"])
}

#[test]
fn servers_and_workers_and_their_bus_apart_cost_no_sample() -> Result<()> {
    suffer(seed(12), ["servers to NATS", "workers to NATS"])
}

#[test]
fn servers_and_workers_and_their_store_apart_cost_no_sample() -> Result<()> {
    suffer(seed(13), ["servers to PostgreSQL", "workers to PostgreSQL"])
}
