//! What becomes of NATS and PostgreSQL: whatever it is, each sample is there once.

use anyhow::{Context, Result, ensure};
use sentinel_faults::site::Options;
use sentinel_faults::{Site, number, until};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// PostgreSQL notices that a client is gone while it works for it: locks and connections are free
/// again as soon as a [`Session`] is dropped.
const NOTICES: &str = "client_connection_check_interval=200ms";
/// How many connections PostgreSQL has where they are to be taken.
const CONNECTIONS: &str = "max_connections=32";
/// How many of them are asked for at a time.
const AT_ONCE: usize = 4;
/// What PostgreSQL logs of whoever gets none, and is not its superuser.
const NONE_LEFT: &str = "connection slots are reserved";
/// What a worker says of the lease that it cannot keep, and of the one that it cannot ask for.
/// (That it cannot commit it says only where something waits, and servers without a connection take
/// nothing.)
const NO_LEASE: [&str; 2] =
    ["the lease of who keeps alerts could not be kept", "the store does not say who keeps alerts"];
/// How long a worker stands still in soak.
const STILL: Duration = Duration::from_secs(60);

/// How many commits wait for a row in the middle of their transaction.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND backend_xid IS NOT NULL AND query LIKE 'WITH moved%'";

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
    // A commit waits for the first where it begins, and for the second with all of it written.
    for table in ["streams", "shapes"] {
        let _session = lock(&mut site, table)?;
        site.postgres().kill();
        site.counts_on()?;
        println!("{}", site.judge().with_context(|| table)?);
    }
    Ok(())
}

#[test]
fn postgresql_that_fails_over_to_a_standby_on_a_slow_disk_costs_no_sample() -> Result<()> {
    let mut site = Site::start(&Options::new(seed()))?;
    site.counts_on()?;
    // There, each transaction waits a tenth of a second before it is on the disk.
    site.fail_over(&["commit_delay=100000", "commit_siblings=0"])?;
    let delay = sql(&mut site, "SHOW commit_delay")?;
    ensure!(delay == "100000", "PostgreSQL has a commit_delay of {delay}");
    site.until_committed()?;
    println!("{}", site.judge()?);
    Ok(())
}

#[test]
fn postgresql_without_a_free_connection_costs_no_sample() -> Result<()> {
    let options = Options { postgres: &[CONNECTIONS, NOTICES], ..Options::new(seed()) };
    let mut site = Site::start(&options)?;
    let began = ["worker-1", "worker-2"].map(|name| (name, site.log(name).len()));
    let taken = take_all_connections(&mut site)?;
    let before = refusals(&mut site);
    until("nobody of Sentinel's has a connection", || {
        let is_without = |(name, from): &(&str, usize)| {
            let log = site.log_from(name, *from);
            NO_LEASE.iter().any(|words| log.contains(words))
        };
        let workers = began.iter().all(is_without);
        let is_refused = workers && refusals(&mut site) > before;
        Ok((is_refused && !site.is_ready(0) && !site.is_ready(1)).then_some(()))
    })
    .with_context(|| site.logs())?;
    site.counts_on()?;
    drop(taken);
    println!("{}", site.judge()?);
    Ok(())
}

/// How often PostgreSQL had no connection for somebody who is not its superuser.
fn refusals(site: &mut Site) -> usize {
    site.postgres().log().matches(NONE_LEFT).count()
}

/// Takes all connections that PostgreSQL has for those who are not its superuser. Meanwhile the
/// site's database gives none, so that nobody of Sentinel's comes first; afterwards it would.
fn take_all_connections(site: &mut Site) -> Result<Vec<Session>> {
    sql(site, "CREATE ROLE taker LOGIN")?;
    sql(site, "ALTER DATABASE test0 CONNECTION LIMIT 0")?;
    let all = "SELECT current_setting('max_connections')::int \
               - current_setting('superuser_reserved_connections')::int";
    let all: usize = sql(site, all)?.parse()?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'site'";
    let taken = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'taker'";
    let mut sessions: Vec<Session> = Vec::new();
    until("all connections are taken", || {
        // Whoever is refused for a moment, since somebody else is just being refused, tries again.
        sessions.retain_mut(|session| !session.has_ended());
        sql(site, end)?;
        if sql(site, taken)?.parse::<usize>()? == all {
            return Ok(Some(()));
        }
        for _ in sessions.len()..all.min(sessions.len() + AT_ONCE) {
            let mut psql = site.postgres().psql("postgres");
            psql.args(["--username", "taker"]);
            sessions.push(Session::begin(psql, "SELECT pg_sleep(600)")?);
        }
        Ok(None)
    })
    .with_context(|| site.logs())?;
    until("the database gives connections that are not there", || {
        sql(site, "ALTER DATABASE test0 CONNECTION LIMIT -1").map(Some)
    })?;
    Ok(sessions)
}

/// What keeps whoever commits waiting in the middle of its transaction, for the rows of a table. Waits until somebody
/// does.
fn lock(site: &mut Site, table: &str) -> Result<Session> {
    let lock = format!("BEGIN; SELECT FROM {table} FOR UPDATE; SELECT pg_sleep(600)");
    let database = site.database().to_owned();
    let session = Session::begin(site.postgres().psql(&database), &lock)?;
    until("a commit waits in the middle of a transaction", || {
        Ok((sql(site, WAITING)? != "0").then_some(()))
    })
    .with_context(|| format!("{table}\n{}", site.logs()))?;
    Ok(session)
}

#[test]
fn a_worker_that_stood_still_for_a_minute_commits_nothing_twice() -> Result<()> {
    let mut site = Site::start(&Options::new(seed()))?;
    // For a minute, and then not a moment longer than until the other has its partitions.
    for (name, still) in [("worker-1", STILL), ("worker-2", Duration::ZERO)] {
        site.counts_on()?;
        site.role_mut(name).pause()?;
        let since = Instant::now();
        // The other has all partitions once the hold is over.
        site.until_committed()?;
        // The fault itself: it has lost its hold and its lease, and NATS waits for its answers no more.
        std::thread::sleep(still.saturating_sub(since.elapsed()));
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
                AND backend_xid IS NOT NULL AND query LIKE 'WITH moved%'";
    until("PostgreSQL waits for it in the middle of a transaction", || {
        let session = lock(&mut site, "shapes")?;
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
