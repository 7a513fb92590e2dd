//! What becomes of NATS and PostgreSQL: whatever it is, each sample is there once.

use anyhow::{Context, Result, ensure};
use sentinel_faults::site::Options;
use sentinel_faults::{Site, number, until};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// PostgreSQL notices that a client is gone while it works for it: locks and connections are free
/// again as soon as a [`Session`] is dropped.
const NOTICES: &str = "client_connection_check_interval=200ms";
/// All connections that PostgreSQL gives, where they are to be taken.
const CONNECTIONS: usize = 24;
/// How many are asked for at a time.
const AT_ONCE: usize = 4;
/// How long a worker stands still in soak.
const STILL: Duration = Duration::from_secs(60);

/// How many commits wait for a lock with a part of their transaction done.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND backend_xid IS NOT NULL AND query LIKE 'INSERT INTO %'";

/// A `psql` that has a connection and does not end by itself. Killed when it is dropped.
struct Session(Child);

impl Session {
    fn begin(mut psql: Command, sql: &str) -> Result<Self> {
        psql.args(["--command", sql]);
        psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(psql.spawn()?))
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn seed() -> u64 {
    let seed = number("SENTINEL_SEED", 1);
    println!("SENTINEL_SEED={seed}");
    seed
}

/// What PostgreSQL answers, as the superuser.
fn sql(site: &mut Site, sql: &str) -> Result<String> {
    let database = site.database().to_owned();
    site.postgres().query(&database, sql)
}

#[test]
fn nats_that_comes_back_empty_costs_no_sample() -> Result<()> {
    let mut site = Site::start(&Options::new(seed()))?;
    for _ in 0..2 {
        site.counts_on()?;
        site.nats().kill_and_forget()?;
        // Agents are told to wait, and keep what they count.
        site.counts_on()?;
        site.nats().start_again()?;
        site.judge()?;
    }
    // With a worker that dies with it, which had taken what it had not committed.
    site.role_mut("worker-1").kill();
    site.nats().kill_and_forget()?;
    site.counts_on()?;
    println!("{}", site.judge()?);
    Ok(())
}

#[test]
fn postgresql_that_dies_within_a_transaction_leaves_nothing_of_it() -> Result<()> {
    let mut site = Site::start(&Options::new(seed()))?;
    for table in ["ledger", "batches"] {
        let _session = lock(&mut site, table)?;
        site.postgres().kill();
        site.counts_on()?;
        println!("{}", site.judge().with_context(|| table)?);
    }
    Ok(())
}

#[test]
fn postgresql_that_comes_back_on_a_slow_disk_costs_no_sample() -> Result<()> {
    let mut site = Site::start(&Options::new(seed()))?;
    // Each transaction waits a tenth of a second before it is on the disk.
    for setting in ["commit_delay = 100000", "commit_siblings = 0"] {
        sql(&mut site, &format!("ALTER SYSTEM SET {setting}"))?;
    }
    site.postgres().kill();
    site.counts_on()?;
    site.revive()?;
    let delay = sql(&mut site, "SHOW commit_delay")?;
    ensure!(delay == "100000", "PostgreSQL has a commit_delay of {delay}");
    site.until_committed()?;
    println!("{}", site.judge()?);
    Ok(())
}

#[test]
fn soak_postgresql_without_a_free_connection_costs_no_sample() -> Result<()> {
    let options = Options { postgres: &["max_connections=24", NOTICES], ..Options::new(seed()) };
    let mut site = Site::start(&options)?;
    let database = site.database().to_owned();
    let sleeps = "SELECT pg_sleep(600)";
    // What Sentinel has is taken from it again and again, by one that never gives its own back.
    let take = "DO $$ BEGIN LOOP PERFORM pg_stat_clear_snapshot(); \
                PERFORM pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
                AND query NOT LIKE '%pg_sleep%'; PERFORM pg_sleep(0.05); END LOOP; END $$";
    let taker = Session::begin(site.postgres().psql(&database), take)?;
    let mut sessions = Vec::new();
    let mut refused = 0;
    until("all connections are taken, and a worker has none to commit with", || {
        sessions.retain_mut(|session: &mut Session| !session.has_ended());
        // The last ones are for the superuser, which everybody is here: so all can be taken.
        for _ in sessions.len()..(CONNECTIONS - 1).min(sessions.len() + AT_ONCE) {
            sessions.push(Session::begin(site.postgres().psql(&database), sleeps)?);
        }
        if let Err(error) = sql(&mut site, "SELECT 1") {
            refused += u32::from(error.to_string().contains("too many clients"));
        }
        // Whether agents are told depends on how much of theirs is accepted and waits already.
        let says = |name: &str| site.log(name).contains("the store does not take samples");
        Ok((refused > 3 && (says("worker-1") || says("worker-2"))).then_some(()))
    })
    .with_context(|| format!("refused {refused} times\n{}", site.logs()))?;
    site.counts_on()?;
    drop((taker, sessions));
    println!("refused {refused} times; {}", site.judge()?);
    Ok(())
}

/// What keeps whoever commits waiting in the middle of its transaction, with what stands before
/// that table done. Waits until somebody does.
fn lock(site: &mut Site, table: &str) -> Result<Session> {
    let lock = format!("BEGIN; LOCK TABLE {table} IN SHARE MODE; SELECT pg_sleep(600)");
    let database = site.database().to_owned();
    let session = Session::begin(site.postgres().psql(&database), &lock)?;
    until("a commit waits in the middle of a transaction", || {
        Ok((sql(site, WAITING)? != "0").then_some(()))
    })
    .with_context(|| format!("{table}\n{}", site.logs()))?;
    Ok(session)
}

#[test]
fn a_worker_that_stood_still_beyond_its_hold_commits_nothing_twice() -> Result<()> {
    let mut site = Site::start(&Options::new(seed()))?;
    for name in ["worker-1", "worker-2"] {
        site.counts_on()?;
        site.role_mut(name).pause()?;
        // The other has all partitions once the hold is over.
        site.until_committed()?;
        site.role_mut(name).resume()?;
        println!("{}", site.judge().with_context(|| name)?);
    }
    Ok(())
}

#[test]
fn soak_a_worker_that_stood_still_for_a_minute_commits_nothing_twice() -> Result<()> {
    let mut site = Site::start(&Options::new(seed()))?;
    for name in ["worker-1", "worker-2"] {
        site.counts_on()?;
        site.role_mut(name).pause()?;
        let since = Instant::now();
        site.until_committed()?;
        // The fault itself: it has lost its hold and its lease, and NATS waits for its answers no more.
        std::thread::sleep(STILL.saturating_sub(since.elapsed()));
        site.role_mut(name).resume()?;
        println!("{}", site.judge().with_context(|| name)?);
    }
    Ok(())
}

#[test]
fn a_worker_that_stands_still_within_a_transaction_does_not_hold_the_others_up() -> Result<()> {
    let mut site = Site::start(&Options { postgres: &[NOTICES], ..Options::new(seed()) })?;
    // The one that stands still has everything.
    site.role_mut("worker-2").kill();
    site.until_committed()?;
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' \
                AND backend_xid IS NOT NULL AND query LIKE 'INSERT INTO ledger%'";
    until("PostgreSQL waits for it in the middle of a transaction", || {
        let session = lock(&mut site, "ledger")?;
        site.role_mut("worker-1").pause()?;
        drop(session);
        until("its statement is over", || Ok((sql(&mut site, WAITING)? == "0").then_some(())))?;
        let waits = sql(&mut site, idle)? != "0";
        // Where the machine is so slow that the statement did not get its lock in time, again.
        if !waits {
            site.role_mut("worker-1").resume()?;
        }
        Ok(waits.then_some(()))
    })
    .with_context(|| site.logs())?;
    site.role_mut("worker-2").start()?;
    site.until_committed()?;
    site.role_mut("worker-1").resume()?;
    println!("{}", site.judge()?);
    Ok(())
}
