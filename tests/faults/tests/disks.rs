//! Full disks: nobody who has none left loses or doubles anything, and everybody goes on once there
//! is room again.

use anyhow::{Context, Result};
use sentinel_faults::site::Options;
use sentinel_faults::{Site, number, until};

fn seed() -> u64 {
    let seed = number("SENTINEL_SEED", 1);
    println!("SENTINEL_SEED={seed}");
    seed
}

/// What the system says where a file cannot grow.
const NO_SPACE: &str = "No space left on device";
/// What a server says where NATS refuses a message, and where the stream lost what it had
/// acknowledged and has no room to be made anew.
const BUS_REFUSES: [&str; 2] = ["the bus is full; agents wait", "the bus cannot be used"];
/// What a worker says that cannot commit.
const REFUSED: &str = "the store does not take samples";
/// What PostgreSQL says where it gives up everything at once.
const PANIC: &str = "PANIC:";
/// Begins another file of PostgreSQL's log of changes, whatever there is to be written.
const NEXT_FILE: &str = "SELECT pg_logical_emit_message(false, 'next', 'file'), pg_switch_wal()";

/// Whether one of these processes said something.
fn said(site: &Site, names: [&str; 2], words: &str) -> bool {
    names.iter().any(|name| site.log(name).contains(words))
}

#[test]
fn nats_whose_disk_is_full_takes_nothing_and_costs_no_sample() -> Result<()> {
    let mut site = Site::start(&Options { nats_disk: Some(16), ..Options::new(seed()) })?;
    // What nobody reads piles up: a queue that is emptied as fast as it is filled needs no room.
    for worker in ["worker-1", "worker-2"] {
        site.role_mut(worker).kill();
    }
    let began = ["server-1", "server-2"].map(|name| (name, site.log(name).len()));
    until("a server says that the bus takes nothing", || {
        // What NATS gives up meanwhile is taken too.
        site.disk("nats").fill()?;
        let is_refused = |(name, from): &(&str, usize)| {
            let log = site.log_from(name, *from);
            BUS_REFUSES.iter().any(|words| log.contains(words))
        };
        Ok(began.iter().any(is_refused).then_some(()))
    })
    .with_context(|| site.logs())?;
    // Agents keep what they count.
    site.counts_on()?;
    site.disk("nats").empty()?;
    println!("{}", site.judge()?);
    Ok(())
}

#[test]
fn postgresql_whose_disk_is_full_costs_no_sample() -> Result<()> {
    let mut site = Site::start(&Options { postgres_disk: Some(160), ..Options::new(seed()) })?;
    // Its tables cannot grow: transactions fail, and PostgreSQL lives.
    until("a worker says that PostgreSQL has no room, and one that it cannot commit", || {
        site.disk("postgres").fill()?;
        // Whoever keeps alerts may be the first to have no room.
        let workers = ["worker-1", "worker-2"];
        Ok((said(&site, workers, NO_SPACE) && said(&site, workers, REFUSED)).then_some(()))
    })
    .with_context(|| site.logs())?;
    site.counts_on()?;
    site.disk("postgres").empty()?;
    println!("{}", site.judge()?);

    // It cannot write down what changes: PostgreSQL falls, and does not come up before there is room.
    let database = site.database().to_owned();
    until("PostgreSQL falls", || {
        site.disk("postgres").fill()?;
        // Whatever it answers: what it does is looked at.
        let _ = site.postgres().query(&database, NEXT_FILE);
        Ok(site.postgres().log().contains(PANIC).then_some(()))
    })
    .with_context(|| site.logs())?;
    site.counts_on()?;
    site.disk("postgres").empty()?;
    println!("{}", site.judge()?);
    Ok(())
}

#[test]
fn a_server_and_a_worker_on_full_disks_do_all_the_work_also_after_a_start() -> Result<()> {
    let roles = ["server-2", "worker-2"];
    let role_disks = &roles.map(|name| (name, 16));
    let mut site = Site::start(&Options { role_disks, ..Options::new(seed()) })?;
    for role in roles {
        site.disk(role).fill()?;
    }
    for other in ["server-1", "worker-1"] {
        site.role_mut(other).kill();
    }
    site.until_committed()?;
    for role in roles {
        site.role_mut(role).kill();
        site.role_mut(role).start()?;
    }
    site.until_committed()?;
    for role in roles {
        site.disk(role).empty()?;
    }
    println!("{}", site.judge()?);
    Ok(())
}

#[test]
fn an_agent_on_a_full_disk_loses_nothing_that_it_synced_and_goes_on() -> Result<()> {
    let role_disks = &[("agent-1", 32)];
    let mut site = Site::start(&Options { role_disks, ..Options::new(seed()) })?;
    until("the agent says that it has no room", || {
        site.disk("agent-1").fill()?;
        Ok(said(&site, ["agent-1"; 2], NO_SPACE).then_some(()))
    })
    .with_context(|| site.logs())?;
    // What it cannot write down it takes up again where it was, also after a start.
    site.role_mut("agent-1").kill();
    site.disk("agent-1").empty()?;
    site.role_mut("agent-1").start()?;
    println!("{}", site.judge()?);
    Ok(())
}
