//! What SQL sees of PostgreSQL's levels, and how each keeps packed samples. TimescaleDB's Community edition is
//! soak's (`SENTINEL_TIMESCALE`).

#[path = "server/mod.rs"]
mod server;
#[path = "server/timescale.rs"]
mod timescale;

use sentinel_model::alert::{Alert, AlertState, Fingerprint};
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::duration::Millis;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_model::series::Labels;
use sentinel_store::Store;
use sentinel_store::alerting::AlertingChange;
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::postgres::{Level, PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::query::TimeRange;
use sentinel_test_services::Postgres;
use std::sync::Arc;
use timescale::Edition;

/// 2025-01-01 00:00 UTC.
const T0: i64 = 1_735_689_600_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const SERIES: i64 = 20;
const ALL: TimeRange = TimeRange { start: 0, end: i64::MAX };

fn value(series: i64, seq: u64) -> f64 {
    (series as f64 + 1.0) * (seq as f64) / 4.0
}

fn content(builder: BatchBuilder) -> Content {
    Content::Samples(Arc::new(builder.build().unwrap()))
}

fn record(agent: &str, seq: u64, content: Content) -> Commit {
    let (agent, epoch) = (AgentId::new(agent).unwrap(), Epoch([1; 16]));
    Commit { agent, epoch, seq, hash: [seq as u8; 32], content }
}

/// Every series at a time, its value a function of both.
fn samples(minute: u64) -> Content {
    let mut builder = BatchBuilder::new();
    for i in 0..SERIES {
        let series = i.to_string();
        let time = T0 + minute as i64 * MINUTE;
        builder.push("m", [("i", series.as_str())], Kind::Gauge, value(i, minute), time);
    }
    content(builder)
}

fn one(name: &str, value: f64, time: i64) -> Content {
    let mut builder = BatchBuilder::new();
    builder.push(name, [], Kind::Gauge, value, time);
    content(builder)
}

async fn commit(store: &PostgresStore, commit: Commit, now: i64) {
    let outcome = store.commit(vec![commit], now).await.unwrap().remove(0);
    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
}

async fn maintain(store: &PostgresStore, now: i64) {
    while store.maintain(now).await.unwrap().1 {}
}

async fn values(store: &PostgresStore, selector: &str) -> Vec<f64> {
    let found = store.range(&selector.parse().unwrap(), ALL, None).await.unwrap();
    found.into_iter().flat_map(|series| series.points.values).collect()
}

/// A database, with the ways to look at it.
struct Rig {
    server: Arc<Postgres>,
    url: String,
}

impl Rig {
    fn plain() -> Self {
        let server = server::shared();
        let url = server.database().unwrap();
        Self { server, url }
    }

    fn of(edition: Edition) -> Self {
        let server = timescale::shared(edition);
        let url = timescale::database(&server);
        Self { server, url }
    }

    /// A database of a server that has the extension, without it.
    fn without_extension() -> Self {
        let server = timescale::shared(Edition::Apache);
        let url = server.database().unwrap();
        Self { server, url }
    }

    async fn open(&self) -> PostgresStore {
        let options = PostgresOptions {
            keep_raw: Millis(2 * DAY as u64),
            keep_rollups: Millis(20 * DAY as u64),
            ..PostgresOptions::default()
        };
        PostgresStore::open(PostgresUrl::new(&self.url).unwrap(), options).await.unwrap()
    }

    fn ask(&self, sql: &str) -> String {
        self.server.query(&self.url, sql).unwrap()
    }

    /// First hours of the chunks of a hypertable.
    fn chunks(&self, table: &str) -> String {
        self.ask(&format!(
            "SELECT coalesce(string_agg(range_start_integer::text, ' ' ORDER BY range_start_integer), '') \
             FROM timescaledb_information.chunks WHERE hypertable_name = '{table}_hyper'"
        ))
    }
}

fn alert(rule: &str, state: AlertState) -> Alert {
    let labels: Labels = [("host", "web-1")].into_iter().collect();
    Alert {
        fingerprint: Fingerprint::of(rule, &labels),
        rule: rule.into(),
        state,
        labels,
        annotations: Labels::default(),
        summary: "too much of it".into(),
        value: 1.0,
        active_since: T0,
        fired_at: None,
        last_active: T0,
        resolved_at: (state == AlertState::Resolved).then_some(T0 + 5),
        incident: 1,
    }
}

/// The views of what counts most, of the newest values, and of alerts that are not over.
async fn people_see_what_is_going_on(rig: &Rig) {
    let store = rig.open().await;
    // The view of the last day asks PostgreSQL's clock.
    let now: i64 = rig.ask("SELECT (extract(epoch FROM now()) * 1000)::bigint").parse().unwrap();
    for (seq, age) in [(1, 3 * HOUR), (2, 3 * HOUR - 1), (3, 0)] {
        let mut builder = BatchBuilder::new();
        for i in ["0", "1"] {
            builder.push("many", [("i", i)], Kind::Gauge, seq as f64, now - age);
        }
        if seq == 1 {
            builder.push("few", [], Kind::Gauge, 7.0, now - age);
        }
        commit(&store, record("a", seq, content(builder)), now - age).await;
    }
    maintain(&store, now).await;
    let top = rig.ask("SELECT name, series, samples FROM metrics_top");
    assert_eq!(top, "many|2|4\nfew|1|1");
    let recent = "SELECT name, labels->>'i', value, extract(epoch FROM time) * 1000 = {} \
                  FROM metrics_recent ORDER BY 1, 2";
    assert_eq!(rig.ask(&recent.replace("{}", &now.to_string())), "many|0|3|t\nmany|1|3|t");
    let alerts = vec![
        alert("hot", AlertState::Firing),
        alert("full", AlertState::Pending),
        alert("over", AlertState::Resolved),
    ];
    store.save_alerting(AlertingChange { alerts, ..AlertingChange::default() }).await.unwrap();
    let active = rig.ask(
        "SELECT rule, state, labels->>'host', summary, since FROM alerts_active ORDER BY rule",
    );
    let rest = "web-1|too much of it|2025-01-01 00:00:00+00";
    assert_eq!(active, format!("full|pending|{rest}\nhot|firing|{rest}"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn people_see_with_sql_what_counts_most_what_is_newest_and_what_is_wrong() {
    people_see_what_is_going_on(&Rig::plain()).await;
}

#[tokio::test]
async fn people_see_the_same_of_hypertables() {
    people_see_what_is_going_on(&Rig::of(Edition::Apache)).await;
}

#[tokio::test]
async fn soak_people_see_the_same_of_community_hypertables() {
    people_see_what_is_going_on(&Rig::of(Edition::Community)).await;
}

/// The same statements and answers on every level.
async fn people_read_every_sample(rig: &Rig, level: Level, said: &str) {
    let store = rig.open().await;
    assert_eq!(store.level(), level);
    assert!(store.describe().contains(said), "{}", store.describe());
    for minute in 1..=90 {
        commit(&store, record("a", minute, samples(minute)), T0 + minute as i64 * MINUTE).await;
    }
    // Values of every form: whole, with decimals, wide, odd.
    let odd = [f64::NAN, -0.0, f64::INFINITY, 0.1 + 0.2, 1e17, -4e9, 12.25, 4096.0];
    let mut builder = BatchBuilder::new();
    for (i, value) in (0..).zip(odd) {
        builder.push("odd", [("nul", "a\0b")], Kind::Gauge, value, T0 + i);
    }
    builder.push("far", [], Kind::Gauge, 1.0, i64::MAX);
    commit(&store, record("b", 1, content(builder)), T0).await;
    for round in 0..2 {
        let sum: f64 = (1..=90).map(|minute| value(3, minute)).sum();
        let found = rig.ask(
            "SELECT count(*), sum(value), min(time), max(hour) FROM metrics_time \
             WHERE name = 'm' AND labels->>'i' = '3'",
        );
        let expected = format!("90|{sum}|2025-01-01 00:01:00+00|2025-01-01 01:00:00+00");
        assert_eq!(found.replace(".000", ""), expected, "round {round}");
        let found = rig.ask(
            "SELECT count(*) FROM metrics_time WHERE name = 'm' \
             AND hour = '2025-01-01 00:00+00' AND time > '2025-01-01 00:30+00'",
        );
        assert_eq!(found, (29 * SERIES).to_string(), "round {round}");
        let found = rig.ask(
            "SELECT string_agg(value::text, ' ' ORDER BY time) FROM metrics_time WHERE name = 'odd'",
        );
        assert_eq!(found, "NaN -0 Infinity 0.30000000000000004 1e+17 -4000000000 12.25 4096");
        assert_eq!(rig.ask("SELECT count(*) FROM metrics_time WHERE name = 'far'"), "1");
        maintain(&store, T0 + 3 * HOUR).await;
    }
    assert_eq!(rig.ask("SELECT count(*) FROM metrics_raw"), "0");
    let found = rig.ask(
        "SELECT hour, count, min, max, last FROM metrics_hourly WHERE name = 'm' \
         AND labels->>'i' = '0' ORDER BY hour LIMIT 1",
    );
    assert_eq!(found, "2025-01-01 00:00:00+00|59|0.25|14.75|14.75");
    // A label with what PostgreSQL cannot keep comes back as it was.
    let series = store.series(&"odd".parse().unwrap()).await.unwrap();
    assert_eq!(series[0].key.labels.get("nul"), Some("a\0b"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn people_read_every_sample_with_sql_packed_or_not() {
    people_read_every_sample(&Rig::plain(), Level::Plain, "(plain: declarative partitions) at")
        .await;
}

#[tokio::test]
async fn people_read_every_sample_of_hypertables_as_of_partitions() {
    let said = " Apache: hypertables) at";
    people_read_every_sample(&Rig::of(Edition::Apache), Level::TimescaleApache, said).await;
}

#[tokio::test]
async fn soak_people_read_every_sample_of_community_hypertables_as_of_partitions() {
    let said = " Community: hypertables, old rollups compressed) at";
    people_read_every_sample(&Rig::of(Edition::Community), Level::TimescaleCommunity, said).await;
}

async fn samples_go_and_come(edition: Edition) {
    let rig = Rig::of(edition);
    let store = rig.open().await;
    commit(&store, record("a", 1, samples(1)), T0 + MINUTE).await;
    commit(&store, record("b", 1, one("ahead", 5.0, T0 + 4 * DAY)), T0).await;
    maintain(&store, T0 + 3 * HOUR).await;
    assert_eq!((rig.chunks("chunks"), rig.chunks("rollups")), ("482136".into(), "481992".into()));
    assert_eq!(rig.ask("SELECT count(*) FROM chunks_ahead"), "1", "no chunk of its own");
    // Its day comes, and with a late sample of its hour it is still there once.
    commit(&store, record("c", 1, samples(5_800)), T0 + 100 * HOUR).await;
    commit(&store, record("b", 2, one("ahead", 6.0, T0 + 4 * DAY + 1)), T0 + 100 * HOUR).await;
    maintain(&store, T0 + 104 * HOUR).await;
    assert_eq!(rig.chunks("chunks"), "482232");
    assert_eq!(rig.ask("SELECT count(*) FROM chunks_ahead"), "0");
    assert_eq!(values(&store, "ahead").await, [5.0, 6.0]);
    // Of the first day rollups are left.
    assert_eq!(values(&store, "m{i=\"3\"}").await, [value(3, 1), value(3, 5_800)]);
    maintain(&store, T0 + 40 * DAY).await;
    assert_eq!((rig.chunks("chunks"), rig.chunks("rollups")), (String::new(), String::new()));
    assert_eq!(rig.chunks("chunk_times"), "");
    assert!(store.series(&"m".parse().unwrap()).await.unwrap().is_empty());
    store.close().await.unwrap();
}

#[tokio::test]
async fn old_samples_go_with_their_chunks_and_those_ahead_come_in() {
    samples_go_and_come(Edition::Apache).await;
}

#[tokio::test]
async fn soak_old_samples_go_with_their_community_chunks_and_those_ahead_come_in() {
    samples_go_and_come(Edition::Community).await;
}

#[tokio::test]
async fn soak_rollups_of_community_are_compressed_once_they_are_final_and_read_as_before() {
    let rig = Rig::of(Edition::Community);
    let store = rig.open().await;
    for hour in 0..24 {
        let now = T0 + hour as i64 * HOUR;
        commit(&store, record("a", hour + 1, samples(60 * hour + 1)), now).await;
    }
    maintain(&store, T0 + DAY + 2 * HOUR).await;
    let compressed = "SELECT count(*) FROM timescaledb_information.chunks \
                      WHERE hypertable_name = 'rollups_hyper' AND is_compressed";
    let job = rig.ask(
        "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'rollups_hyper'",
    );
    let run = format!("CALL run_job({job})");
    rig.ask(&run);
    assert_eq!(rig.ask(compressed), "0", "late samples may still change them");
    // The week of the first day lies below the floor of raw samples.
    let hourly = "SELECT string_agg(concat_ws('|', hour, count, min, max, sum, last), ' ' ORDER BY hour) \
                  FROM metrics_hourly WHERE name = 'm' AND labels->>'i' = '7'";
    let before = rig.ask(hourly);
    maintain(&store, T0 + 4 * DAY).await;
    rig.ask(&run);
    assert_eq!(rig.ask(compressed), "1");
    assert_eq!(rig.ask(hourly), before);
    let lasts: Vec<f64> = (0..24).map(|hour| value(7, 60 * hour + 1)).collect();
    assert_eq!(values(&store, "m{i=\"7\"}").await, lasts);
    maintain(&store, T0 + 40 * DAY).await;
    assert_eq!((rig.chunks("rollups"), rig.ask(hourly)), (String::new(), String::new()));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_database_that_gains_timescale_stays_as_it_is_and_goes_on() {
    let rig = Rig::without_extension();
    let store = rig.open().await;
    assert!(store.describe().contains("(plain: declarative partitions)"), "{}", store.describe());
    commit(&store, record("a", 1, samples(1)), T0).await;
    store.close().await.unwrap();
    rig.ask("CREATE EXTENSION timescaledb");
    let store = rig.open().await;
    let said = store.describe();
    assert!(
        said.contains("Apache: not used, the tables are older: declarative partitions"),
        "{said}"
    );
    commit(&store, record("a", 2, samples(2)), T0).await;
    maintain(&store, T0 + 3 * HOUR).await;
    assert_eq!(values(&store, "m{i=\"3\"}").await, [value(3, 1), value(3, 2)]);
    maintain(&store, T0 + 40 * DAY).await;
    assert_eq!(rig.ask("SELECT count(*) FROM chunks"), "0");
    store.close().await.unwrap();
}

async fn a_database_loses_timescale(edition: Edition) {
    let rig = Rig::of(edition);
    let store = rig.open().await;
    commit(&store, record("a", 1, samples(1)), T0).await;
    maintain(&store, T0 + 3 * HOUR).await;
    store.close().await.unwrap();
    rig.ask("DROP EXTENSION timescaledb CASCADE");
    let store = rig.open().await;
    let said = store.describe();
    assert!(said.contains("(plain: tables that were hypertables)"), "{said}");
    assert_eq!(values(&store, "m{i=\"3\"}").await, Vec::<f64>::new(), "gone with it");
    let later = T0 + 5 * HOUR;
    commit(&store, record("a", 2, samples(300)), later).await;
    maintain(&store, later + 3 * HOUR).await;
    assert_eq!(values(&store, "m{i=\"3\"}").await, [value(3, 300)]);
    assert_eq!(rig.ask("SELECT count(*) FROM metrics_time WHERE name = 'm'"), SERIES.to_string());
    maintain(&store, T0 + 40 * DAY).await;
    assert_eq!(rig.ask("SELECT count(*) FROM chunks"), "0");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_database_that_loses_timescale_says_so_and_goes_on_with_what_comes() {
    a_database_loses_timescale(Edition::Apache).await;
}

#[tokio::test]
async fn soak_a_database_that_loses_community_timescale_goes_on_with_what_comes() {
    a_database_loses_timescale(Edition::Community).await;
}
