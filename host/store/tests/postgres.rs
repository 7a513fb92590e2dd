//! What goes wrong with PostgreSQL, and two processes at once.

#[path = "server/mod.rs"]
mod server;

use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::duration::Millis;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::query::TimeRange;
use sentinel_store::{Store, StoreError};
use sentinel_test_services::{Postgres, Services};
use std::sync::Arc;
use std::time::{Duration, Instant};

const T0: i64 = 1_735_689_600_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const SERIES: i64 = 20;
const ALL: TimeRange = TimeRange { start: 0, end: i64::MAX };

fn value(series: i64, seq: u64) -> f64 {
    (series as f64 + 1.0) * (seq as f64) / 4.0
}

/// Record `seq`: every series at minute `seq`, its value a function of both.
fn record(agent: &str, seq: u64) -> Commit {
    let mut builder = BatchBuilder::new();
    for i in 0..SERIES {
        let series = i.to_string();
        let labels = [("i", series.as_str()), ("agent", agent)];
        builder.push("m", labels, Kind::Gauge, value(i, seq), T0 + seq as i64 * MINUTE);
    }
    Commit {
        agent: AgentId::new(agent).unwrap(),
        epoch: Epoch([1; 16]),
        seq,
        hash: [seq as u8; 32],
        content: Content::Samples(Arc::new(builder.build().unwrap())),
    }
}

async fn open(server: &Postgres, options: PostgresOptions) -> PostgresStore {
    let url = PostgresUrl::new(&server.database().unwrap()).unwrap();
    PostgresStore::open(url, options).await.unwrap()
}

async fn committed(store: &PostgresStore, agent: &str) -> u64 {
    let agent = AgentId::new(agent).unwrap();
    store.stream_state(&agent, Epoch([1; 16])).await.unwrap().committed
}

/// Every record up to the committed one is there, once, and nothing else is.
async fn check(store: &PostgresStore, agent: &str) -> u64 {
    let committed = committed(store, agent).await;
    let selector = format!("m{{agent=\"{agent}\"}}").parse().unwrap();
    let found = store.range(&selector, ALL, None).await.unwrap();
    assert_eq!(found.len() as i64, if committed == 0 { 0 } else { SERIES });
    for series in found {
        let i: i64 = series.info.key.labels.get("i").unwrap().parse().unwrap();
        let times: Vec<i64> = (1..=committed).map(|seq| T0 + seq as i64 * MINUTE).collect();
        let values: Vec<f64> = (1..=committed).map(|seq| value(i, seq)).collect();
        assert_eq!((series.points.times, series.points.values), (times, values), "series {i}");
    }
    committed
}

/// Commits until it has happened so often that the database was away; what was acknowledged.
async fn commit_all(store: &PostgresStore, agent: &str, to: u64) -> u64 {
    let (mut seq, mut away) = (1, 0);
    while seq <= to {
        let now = T0 + seq as i64 * MINUTE;
        match store.commit(vec![record(agent, seq)], now).await {
            Ok(outcomes) => {
                // One that was made while the connection broke is told as made, not as known.
                let CommitOutcome::Committed { series } = &outcomes[0] else {
                    panic!("record {seq}: {outcomes:?}")
                };
                assert_eq!(series.len() as i64, SERIES);
                seq += 1;
            }
            Err(StoreError::Unavailable(_)) => away += 1,
            Err(error) => panic!("record {seq}: {error}"),
        }
    }
    away
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_what_it_acknowledged_once_and_the_store_goes_on() {
    let rounds: u64 =
        std::env::var("SENTINEL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let mut server = Postgres::start(&Services::here().unwrap(), &[]).unwrap();
    let store = open(&server, PostgresOptions::default()).await;
    let records = 60 * rounds;
    let committing = tokio::spawn({
        let store = store.clone();
        async move { commit_all(&store, "a", records).await }
    });
    for round in 1..=rounds {
        // Killed at another place of the work each time: while it commits, while it packs.
        while committed(&store, "a").await < 60 * round - 30 + round % 7 {
            tokio::task::yield_now().await;
        }
        let packing = tokio::spawn({
            let store = store.clone();
            async move { store.maintain(T0 + 3 * HOUR).await }
        });
        server.kill();
        let packed = packing.await.unwrap();
        assert!(!matches!(packed, Err(StoreError::Damaged { .. })), "{packed:?}");
        server.begin().unwrap();
    }
    committing.await.unwrap();
    assert_eq!(check(&store, "a").await, records);
    while store.maintain(T0 + 30 * HOUR).await.unwrap().1 {}
    assert_eq!(check(&store, "a").await, records);
    let sizes = store.sizes().await.unwrap();
    let all = records * SERIES as u64;
    assert_eq!((sizes.tail_samples, sizes.packed_samples), (0, all));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_with_the_same_records_one_commits_each() {
    let server = server::shared();
    let url = server.database().unwrap();
    let open = || async {
        let url = PostgresUrl::new(&url).unwrap();
        PostgresStore::open(url, PostgresOptions::default()).await.unwrap()
    };
    let stores = [open().await, open().await];
    let both = stores.clone().map(|store| {
        tokio::spawn(async move {
            let mut mine = 0;
            for seq in 1..=90 {
                let now = T0 + seq as i64 * MINUTE;
                let outcome = store.commit(vec![record("a", seq)], now).await.unwrap().remove(0);
                match outcome {
                    CommitOutcome::Committed { series } => mine += series.len(),
                    CommitOutcome::Duplicate => {}
                    other => panic!("record {seq}: {other:?}"),
                }
                if seq.is_multiple_of(30) {
                    store.maintain(now + 10 * MINUTE).await.unwrap();
                }
            }
            mine
        })
    });
    let mut sum = 0;
    for one in both {
        sum += one.await.unwrap();
    }
    assert_eq!(sum as i64, 90 * SERIES);
    for store in &stores {
        assert_eq!(check(store, "a").await, 90);
    }
    let packing = stores.clone().map(|store| {
        tokio::spawn(async move { store.maintain(T0 + 5 * HOUR).await.unwrap().0.samples_packed })
    });
    for one in packing {
        one.await.unwrap();
    }
    for store in &stores {
        assert_eq!(check(store, "a").await, 90);
        let sizes = store.sizes().await.unwrap();
        assert_eq!((sizes.tail_samples, sizes.packed_samples), (0, 90 * SERIES as u64));
    }
    // What one process makes, the other knows.
    stores[0].commit(vec![record("b", 1)], T0).await.unwrap();
    assert_eq!(check(&stores[1], "b").await, 1);
}

#[tokio::test]
async fn without_a_free_connection_it_is_said_and_work_resumes() {
    let server = Postgres::start(
        &Services::here().unwrap(),
        &["max_connections=8", "client_connection_check_interval=100ms"],
    )
    .unwrap();
    let options = PostgresOptions {
        connections: 2,
        acquire_timeout: Duration::from_secs(5),
        ..PostgresOptions::default()
    };
    let store = open(&server, options).await;
    let (mut sleeping, mut refused) = (Vec::new(), 0);
    sentinel_test_services::wait("all connections to be taken", || {
        if server.query("postgres", "SELECT 1").is_ok() {
            let mut psql = server.psql("postgres");
            sleeping.push(psql.args(["-c", "SELECT pg_sleep(600)"]).spawn().unwrap());
            refused = 0;
        } else {
            refused += 1;
        }
        // For a while: the session of the last question that was answered may have to end yet.
        refused > 30
    })
    .unwrap();
    let refused = store.commit(vec![record("a", 1)], T0).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    for mut child in sleeping {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let free =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%sleep(600)'";
    sentinel_test_services::wait("a connection", || server.query("postgres", free).is_ok())
        .unwrap();
    while let Err(error) = store.commit(vec![record("a", 1)], T0).await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    assert_eq!(check(&store, "a").await, 1);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_given_up_and_writes_nothing() {
    let server = server::shared();
    let options = PostgresOptions {
        // Far below what the obstacles last, and far above what anything else takes.
        statement_timeout: Duration::from_secs(5),
        lock_timeout: Duration::from_secs(2),
        ..PostgresOptions::default()
    };
    let url = server.database().unwrap();
    let store = PostgresStore::open(PostgresUrl::new(&url).unwrap(), options).await.unwrap();
    store.commit(vec![record("a", 1)], T0).await.unwrap();
    for (lock, word) in [("ledger", "lock timeout"), ("pg_sleep", "statement timeout")] {
        let sql = match lock {
            "ledger" => "BEGIN; LOCK TABLE ledger; SELECT 'held'; SELECT pg_sleep(30)".to_owned(),
            _ => "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                  'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'; CREATE TRIGGER slow BEFORE INSERT \
                  ON ledger FOR EACH ROW EXECUTE FUNCTION slow()"
                .to_owned(),
        };
        let mut psql = server.psql(&url).args(["-c", &sql]).spawn().unwrap();
        let held = "SELECT count(*) FROM pg_locks WHERE granted AND relation = 'ledger'::regclass \
                    AND mode = 'AccessExclusiveLock'";
        let database = url.split('?').next().unwrap().rsplit('/').next().unwrap();
        sentinel_test_services::wait("the obstacle", || match lock {
            "ledger" => server.query(database, held).is_ok_and(|n| n == "1"),
            _ => psql.try_wait().unwrap().is_some(),
        })
        .unwrap();
        let refused = store.commit(vec![record("a", 2)], T0).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
        assert!(refused.to_string().contains(word), "{refused}");
        let _ = psql.kill();
        psql.wait().unwrap();
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
        server.query(database, end).unwrap();
        server.query(database, "DROP TRIGGER IF EXISTS slow ON ledger").unwrap();
        assert_eq!(check(&store, "a").await, 1);
    }
    store.commit(vec![record("a", 2)], T0).await.unwrap();
    assert_eq!(check(&store, "a").await, 2);
}

#[tokio::test]
async fn who_reads_for_long_keeps_a_partition_and_holds_nobody_up() {
    let server = server::shared();
    let url = server.database().unwrap();
    let database = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    // Far above what everything takes, if nobody waits for this.
    let options =
        PostgresOptions { lock_timeout: Duration::from_secs(60), ..PostgresOptions::default() };
    let store = PostgresStore::open(PostgresUrl::new(&url).unwrap(), options).await.unwrap();
    store.commit(vec![record("a", 1)], T0 + MINUTE).await.unwrap();
    let reads = "BEGIN; SELECT count(*) FROM batches; SELECT pg_sleep(600)";
    let mut reader = server.psql(&database).args(["-c", reads]).spawn().unwrap();
    let of = "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'AccessShareLock' \
              AND relation = to_regclass('batches_482136') AND pid <> pg_backend_pid()";
    sentinel_test_services::wait("the reader", || {
        server.query(&database, of).is_ok_and(|count| count == "1")
    })
    .unwrap();
    let there = "SELECT to_regclass('batches_482136') IS NOT NULL";
    let since = Instant::now();
    let (done, _) = store.maintain(T0 + 3 * HOUR).await.unwrap();
    store.commit(vec![record("a", 2)], T0 + 3 * HOUR).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
    assert_eq!((done.batches_packed, server.query(&database, there).unwrap().as_str()), (1, "t"));
    reader.kill().unwrap();
    reader.wait().unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND query LIKE '%sleep(600)'";
    server.query(&database, end).unwrap();
    sentinel_test_services::wait("its end", || server.query(&database, of).is_ok_and(|n| n == "0"))
        .unwrap();
    store.maintain(T0 + 3 * HOUR).await.unwrap();
    assert_eq!(server.query(&database, there).unwrap(), "f");
    assert_eq!(check(&store, "a").await, 2);
}

#[tokio::test]
async fn old_samples_go_with_their_partitions_and_leave_no_series() {
    let server = server::shared();
    let url = server.database().unwrap();
    let database = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    let options = PostgresOptions {
        keep_raw: Millis(2 * DAY as u64),
        keep_rollups: Millis(20 * DAY as u64),
        ..PostgresOptions::default()
    };
    let store = PostgresStore::open(PostgresUrl::new(&url).unwrap(), options).await.unwrap();
    let other = PostgresStore::open(PostgresUrl::new(&url).unwrap(), PostgresOptions::default());
    let other = other.await.unwrap();
    let tables = |prefix: &str| {
        let sql = format!(
            "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class \
             WHERE relkind = 'r' AND relname ~ '^{prefix}_'"
        );
        server.query(&database, &sql).unwrap()
    };
    // One sample lies ahead, and waits for its day outside of all partitions.
    let mut builder = BatchBuilder::new();
    builder.push("ahead", [], Kind::Gauge, 5.0, T0 + 4 * DAY);
    let ahead = Content::Samples(Arc::new(builder.build().unwrap()));
    store.commit(vec![record("a", 1)], T0 + MINUTE).await.unwrap();
    store.commit(vec![Commit { content: ahead, ..record("b", 1) }], T0).await.unwrap();
    assert_eq!(tables("batches"), "batches_482136");
    store.maintain(T0 + 3 * HOUR).await.unwrap();
    assert_eq!(
        (tables("batches"), tables("chunks")),
        (String::new(), "chunks_482136 chunks_ahead".into())
    );
    // The day of the one ahead comes, and moves it into a partition.
    let later = Commit { content: record("c", 5_800).content, ..record("c", 1) };
    store.commit(vec![later], T0 + 100 * HOUR).await.unwrap();
    while store.maintain(T0 + 104 * HOUR).await.unwrap().1 {}
    assert_eq!(tables("chunks"), "chunks_482232 chunks_ahead");
    let ahead = store.range(&"ahead".parse().unwrap(), ALL, None).await.unwrap();
    assert_eq!(ahead[0].points.values, [5.0]);
    // Of the first day rollups are left.
    let old = store.range(&"m{agent=\"a\"}".parse().unwrap(), ALL, None).await.unwrap();
    assert_eq!((old.len() as i64, &old[0].points.values[..]), (SERIES, &[value(0, 1)][..]));
    while store.maintain(T0 + 40 * DAY).await.unwrap().1 {}
    assert_eq!(
        (tables("chunks"), tables("rollups")),
        ("chunks_ahead".into(), "rollups_ahead".into())
    );
    assert!(store.series(&"m".parse().unwrap()).await.unwrap().is_empty());
    // Another process, which remembers the series, writes no sample for one that is gone.
    assert!(other.series(&"m".parse().unwrap()).await.unwrap().is_empty());
    other.commit(vec![record("a", 2)], T0 + 40 * DAY).await.unwrap();
    assert_eq!(
        server.query(&database, "SELECT count(*) FROM metrics_time").unwrap(),
        SERIES.to_string()
    );
}

#[tokio::test]
async fn a_database_that_a_newer_version_migrated_is_refused_and_left_as_it_is() {
    let server = server::shared();
    let url = server.database().unwrap();
    let open = || PostgresStore::open(PostgresUrl::new(&url).unwrap(), PostgresOptions::default());
    let store = open().await.unwrap();
    store.commit(vec![record("a", 1)], T0 + MINUTE).await.unwrap();
    store.close().await.unwrap();
    let ask = |sql: &str| server.query(&url, sql).unwrap();
    let migrated = "INSERT INTO _sqlx_migrations \
                    (version, description, success, checksum, execution_time) \
                    VALUES (9999, 'of a newer version', true, '', 0)";
    ask(migrated);
    // Every table, index and view, and every migration.
    let all = "SELECT \
               (SELECT string_agg(format('%s %s', oid, relname), ',' ORDER BY oid) FROM pg_class), \
               (SELECT string_agg(version::text, ',' ORDER BY version) FROM _sqlx_migrations)";
    let before = ask(all);
    let error = open().await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    let said = error.to_string();
    assert!(said.contains("written by a newer version of Sentinel"), "{said}");
    assert_eq!(ask(all), before);
}

#[tokio::test]
async fn a_password_is_in_no_message() {
    let options = PostgresOptions {
        acquire_timeout: Duration::from_millis(300),
        ..PostgresOptions::default()
    };
    for url in
        ["postgres://u:s3cret@127.0.0.1:1/m", "postgres://u:s3cret@localhost/m?host=%2Fnowhere"]
    {
        let url = PostgresUrl::new(url).unwrap();
        let error = PostgresStore::open(url, options.clone()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        let said = format!("{error} {error:?}");
        assert!(!said.contains("s3cret") && said.contains("postgres://u@"), "{said}");
    }
}
