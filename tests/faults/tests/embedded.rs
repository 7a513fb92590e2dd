//! The same faults on the embedded pair: one `sentinel up`, which two agents of other machines
//! joined. (It is killed in `kill`; its disk is full in `tests/e2e/tests/disk_full.rs`.)

use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom as _;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_faults::middle::Lie;
use sentinel_faults::proxy::Rule;
use sentinel_faults::{Embedded, number, until};
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;
/// How often each lie is told at least.
const EACH: u64 = 3;
/// How long it stands still: beyond the time after which an agent gives a request up.
const STILL: Duration = Duration::from_secs(12);

fn seed(own: u64) -> u64 {
    let seed = number("SENTINEL_SEED", own);
    println!("SENTINEL_SEED={seed}");
    seed
}

#[test]
fn agents_apart_from_the_one_process_or_before_one_that_stands_still_lose_nothing() -> Result<()> {
    let seed = seed(31);
    let mut embedded = Embedded::joined(seed, false)?;
    let mut lot = StdRng::seed_from_u64(seed);
    let mut rules =
        [Rule::Delay(Duration::from_millis(200)), Rule::Hold, Rule::HalfOpen, Rule::Cut];
    rules.shuffle(&mut lot);
    for rule in rules {
        ensure!(embedded.wire().passed() > 0, "nothing went over the wire");
        embedded.wire().set(rule);
        std::thread::sleep(Duration::from_millis(lot.random_range(700..2_000)));
        embedded.counts_on().with_context(|| format!("{rules:?}"))?;
        embedded.wire().set(Rule::Pass);
    }
    println!("{}", embedded.judge().with_context(|| format!("{rules:?}"))?);
    embedded.up().pause()?;
    std::thread::sleep(STILL);
    embedded.others_count_on()?;
    embedded.up().resume()?;
    println!("{}", embedded.judge()?);
    Ok(())
}

#[test]
fn pushes_to_the_one_process_that_are_played_false_cost_no_sample_and_double_none() -> Result<()> {
    let mut embedded = Embedded::joined(seed(32), true)?;
    embedded.lie(true);
    let told = until("every lie is told", || {
        let told = embedded.told();
        Ok(Lie::ALL.iter().all(|lie| told.get(lie).is_some_and(|&n| n >= EACH)).then_some(told))
    })
    .with_context(|| format!("{:?}", embedded.told()))?;
    embedded.lie(false);
    println!("{told:?}; {}", embedded.judge().with_context(|| format!("{told:?}"))?);
    for agent in ["agent-1", "agent-2"] {
        let dead = embedded.path().join(agent).join("dead");
        ensure!(!dead.exists(), "{agent} gave up a record: {}", dead.display());
    }
    Ok(())
}

#[test]
fn agents_of_the_one_process_whose_clocks_are_wrong_by_hours_lose_nothing() -> Result<()> {
    let mut embedded = Embedded::joined(seed(33), false)?;
    for (one, two) in [(-5, 3), (1, -7)] {
        for (name, hours) in [("agent-1", one), ("agent-2", two)] {
            embedded.agent_mut(name).kill();
            embedded.agent_mut(name).set_clock(hours * HOUR_MS);
        }
        // Alerts go on: the clock of its own agent is right.
        println!("{}", embedded.judge().with_context(|| format!("{one} h and {two} h"))?);
    }
    Ok(())
}
