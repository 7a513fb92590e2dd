//! The program agrees with alerts that were worked out by hand, and finds what is planted.
//!
//! Two agents have a wave each. `held` warns of each of them that is high for two seconds, `both`
//! at once where both are.

use anyhow::{Context, Result, ensure};
use sentinel_model::alert::{
    Alert, AlertState, Delivery, DeliveryState, Fingerprint, Notification, NotificationStatus,
    Transition,
};
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch, SlotName};
use sentinel_model::rule::{Rule, RuleSet};
use sentinel_model::series::Labels;
use sentinel_oracle::alerts::Report;
use sentinel_store::Store;
use sentinel_store::alerting::AlertingChange;
use sentinel_store::evaluations::Evaluation;
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_test_services::{Postgres, Services};
use serde_json::json;
use sqlx::Connection as _;
use std::process::Command;
use std::sync::Arc;

const T0: i64 = 1_735_689_600_000;
const SECOND: i64 = 1_000;
/// The waves of both agents, second by second.
const WAVES: [(f64, f64); 9] =
    [(0., 0.), (1., 0.), (1., 1.), (1., 1.), (1., 0.), (0., 0.), (0., 0.), (1., 0.), (0., 0.)];
/// The second in which a sample that is high comes after the evaluation's position.
const LATE: i64 = 6;

/// What becomes of that sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    /// The evaluation does not see it.
    Unseen,
    /// It may have, and did not.
    PerhapsUnseen,
    /// It may have, and did.
    PerhapsSeen,
}

/// One transition: second, rule, agent, states, incident, value.
type Step = (i64, &'static str, &'static str, Option<AlertState>, Option<AlertState>, u64, f64);

/// What happens, worked out by hand.
fn history(late: Late) -> Vec<Step> {
    use AlertState::{Firing, Pending, Resolved};
    let again = if late == Late::PerhapsSeen { LATE } else { 7 };
    vec![
        (1, "held", "a", None, Some(Pending), 0, 1.0),
        (2, "both", "", None, Some(Firing), 1, 2.0),
        (2, "held", "b", None, Some(Pending), 0, 1.0),
        (3, "held", "a", Some(Pending), Some(Firing), 1, 1.0),
        (4, "both", "", Some(Firing), Some(Resolved), 1, 2.0),
        (4, "held", "b", Some(Pending), None, 0, 1.0),
        (5, "held", "a", Some(Firing), Some(Resolved), 1, 1.0),
        (again, "held", "a", None, Some(Pending), 1, 1.0),
        (8, "held", "a", Some(Pending), None, 1, 1.0),
    ]
}

fn rules() -> Result<RuleSet> {
    let rule = |name: &str, changes: serde_json::Value| -> Result<Rule> {
        let mut rule = json!({"name": name, "interval": "1s", "notify": ["pager"], "condition": {
            "metric": "sentinel_test_wave", "match": {"wave": "0"}, "window": "1m"}});
        for (key, value) in changes.as_object().context("changes")? {
            match key.as_str() {
                "for" => rule[key] = value.clone(),
                _ => rule["condition"][key] = value.clone(),
            }
        }
        Ok(serde_json::from_value(rule)?)
    };
    let both = rule("both", json!({"by": ["wave"], "combine": "sum", "at_least": 2}))?;
    let held = rule("held", json!({"for": "2s", "above": 0.5}))?;
    Ok(RuleSet { version: 1, applied_at: T0, rules: vec![both, held] })
}

fn labels(agent: &str) -> Labels {
    match agent {
        "" => [("wave", "0")].into_iter().collect(),
        agent => [("agent", agent), ("slot", "counter"), ("wave", "0")].into_iter().collect(),
    }
}

/// Commits waves at a time.
async fn commit(store: &dyn Store, seq: u64, time: i64, waves: &[(&str, f64)]) -> Result<()> {
    let mut builder = BatchBuilder::new();
    for (agent, value) in waves {
        let labels = [("agent", *agent), ("slot", "counter"), ("wave", "0")];
        builder.push("sentinel_test_wave", labels, Kind::Gauge, *value, time);
        builder.push("another", labels, Kind::Gauge, 1.0, time);
    }
    let commit = Commit {
        agent: AgentId::new("host")?,
        epoch: Epoch([1; 16]),
        seq,
        hash: [seq as u8; 32],
        content: Content::Samples(Arc::new(builder.build()?)),
    };
    let outcome = store.commit(vec![commit], T0 + seq as i64).await?;
    ensure!(matches!(outcome[0], CommitOutcome::Committed { .. }), "{outcome:?}");
    Ok(())
}

/// An alert as it stands after a step; of `held` with the times of `a`.
fn alert((second, rule, agent, _, to, incident, value): Step) -> Alert {
    let labels = labels(agent);
    let state = to.unwrap_or(AlertState::Resolved);
    let (fired, over) = if rule == "both" { (2, 4) } else { (3, 5) };
    Alert {
        fingerprint: Fingerprint::of(rule, &labels),
        rule: rule.to_owned(),
        state,
        labels,
        annotations: Labels::default(),
        summary: "it is high".to_owned(),
        value,
        active_since: T0 + SECOND * if rule == "both" { 2 } else { 1 },
        fired_at: Some(T0 + fired * SECOND),
        last_active: T0 + second * SECOND,
        resolved_at: (state == AlertState::Resolved).then_some(T0 + over * SECOND),
        incident,
    }
}

fn delivery(step: Step) -> Result<Delivery> {
    let (second, rule, _, _, to, ..) = step;
    let firing = to == Some(AlertState::Firing);
    let notification = Notification {
        id: format!("ntf_{rule}_{second}"),
        notifier: SlotName::new("pager")?,
        time: T0 + second * SECOND,
        status: if firing { NotificationStatus::Firing } else { NotificationStatus::Resolved },
        group: Labels::default(),
        alerts: vec![alert(step)],
    };
    Ok(Delivery {
        next_attempt: notification.time,
        opened_at: notification.time,
        notification,
        state: DeliveryState::Pending,
        attempts: 0,
        may_be_repeat: false,
        message: String::new(),
    })
}

/// What is stored of one second.
fn change(steps: &[Step], evaluation: Evaluation) -> Result<AlertingChange> {
    let transition = |&(second, rule, agent, from, to, incident, value): &Step| Transition {
        fingerprint: Fingerprint::of(rule, &labels(agent)),
        rule: rule.to_owned(),
        incident,
        from,
        to,
        at: T0 + second * SECOND,
        value,
        rules_version: 1,
    };
    let is_news =
        |step: &&Step| step.3 == Some(AlertState::Firing) || step.4 == Some(AlertState::Firing);
    let news = steps.iter().filter(is_news).copied();
    Ok(AlertingChange {
        transitions: steps.iter().map(transition).collect(),
        decided: news.map(delivery).collect::<Result<_>>()?,
        evaluations: vec![evaluation],
        ..AlertingChange::default()
    })
}

/// Plants everything.
async fn plant(store: &dyn Store, late: Late) -> Result<()> {
    store.save_rules(&rules()?).await?;
    let (history, mut seq) = (history(late), 0);
    for (second, (a, b)) in (0..).zip(WAVES) {
        let at = T0 + second * SECOND;
        seq += 1;
        commit(store, seq, at - 100, &[("a", a), ("b", b)]).await?;
        let (position, mut until) = (store.tail_end().await?, None);
        if second == LATE {
            seq += 1;
            commit(store, seq, at - 50, &[("a", 1.0)]).await?;
            until = Some(store.tail_end().await?).filter(|_| late != Late::Unseen);
        }
        let evaluation = Evaluation {
            term: 1,
            number: second,
            evaluator: SlotName::new("alert-dsl")?,
            at,
            rules_version: 1,
            rules: "0-1".to_owned(),
            failed: String::new(),
            settled: true,
            position,
            until,
        };
        let steps: Vec<Step> = history.iter().filter(|step| step.0 == second).copied().collect();
        store.save_alerting(change(&steps, evaluation)?).await?;
    }
    let (both, held) = (alert(history[4]), alert(history[6]));
    let since = history[7].0;
    let held = Alert { active_since: T0 + since * SECOND, ..held };
    let alerts = vec![both, held];
    store.save_alerting(AlertingChange { alerts, ..AlertingChange::default() }).await?;
    Ok(())
}

/// What the program says of a database, and its exit code.
fn ask(store: &str) -> Result<(i32, Report)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel-oracle"));
    let output = command.args(["--json", "--alerts", "--store", store]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().context("a signal")?;
    Ok((code, serde_json::from_slice(&output.stdout).context(said)?))
}

/// The transition by which `held` fires.
const FIRES: &str = r#"transition LIKE '%"rule":"held"%"to":"firing"%'"#;

/// What is wrong, a statement that makes it so, and what is said of it.
fn wrongs() -> Vec<(&'static str, String, &'static str)> {
    let at = T0 + 3 * SECOND;
    let bits = [1.0_f64, 2.0].map(f64::to_bits);
    let of = |agent: &str| Fingerprint::of("held", &labels(agent));
    vec![
        (
            "a transition was removed",
            format!("DELETE FROM transitions WHERE {FIRES}"),
            "expected pending → firing, incident 1",
        ),
        (
            "a transition was doubled",
            format!("INSERT INTO transitions (at, transition) SELECT at, transition || ' ' FROM transitions WHERE {FIRES}"),
            "no evaluation came to that",
        ),
        (
            "a transition was moved",
            format!(r#"UPDATE transitions SET transition = replace(transition, '"at":{at}', '"at":{}') WHERE {FIRES}"#, at + 1),
            "expected pending → firing, incident 1",
        ),
        (
            "a transition has another value",
            format!("UPDATE transitions SET transition = replace(transition, '{}', '{}') WHERE {FIRES}", bits[0], bits[1]),
            "value 2, at",
        ),
        (
            "a transition was invented",
            format!("INSERT INTO transitions (at, transition) SELECT at, replace(transition, '{}', '{}') FROM transitions WHERE {FIRES}", of("a"), of("b")),
            "no evaluation came to that",
        ),
        (
            "an evaluation saw less",
            "UPDATE evaluations SET position = (SELECT position FROM evaluations WHERE number = 0) WHERE number = 2".to_owned(),
            "expected nothing",
        ),
        (
            "two evaluated at once",
            "UPDATE evaluations SET term = 2 WHERE number = 3".to_owned(),
            "whose term is over",
        ),
        (
            "an alert is gone",
            r#"DELETE FROM alerts WHERE alert LIKE '%"rule":"both"%'"#.to_owned(),
            "expected an alert",
        ),
        (
            "an alert is in another state",
            r#"UPDATE alerts SET alert = replace(alert, '"state":"resolved"', '"state":"firing"')"#.to_owned(),
            "expected an alert of",
        ),
        (
            "a notification was deleted",
            "DELETE FROM notifications WHERE id = 'ntf_held_5'".to_owned(),
            "expected a notification to pager: incident 1 is resolved",
        ),
        (
            "a notification was doubled",
            "UPDATE notifications SET notification = (SELECT notification FROM notifications WHERE id = 'ntf_both_2') WHERE id = 'ntf_held_3'".to_owned(),
            "once more",
        ),
    ]
}

/// Asks of a database as it is; the report has to hold, and to have compared all of it.
fn agrees(place: &str, unsure: u64) -> Result<()> {
    let (code, report) = ask(place)?;
    ensure!(code == 0 && report.holds(), "{code}: {report}");
    let compared = (report.evaluations, report.transitions, report.fired, report.resolved);
    ensure!(compared == (9, 9, 2, 2), "{report}");
    let stored = (report.alerts, report.notifications, report.told, report.unsure);
    ensure!(stored == (2, 4, 4, unsure), "{report}");
    Ok(())
}

fn differs(place: &str, words: &str) -> Result<()> {
    let (code, report) = ask(place)?;
    ensure!(code == 1 && report.to_string().contains(words), "{code}, {words:?}: {report}");
    Ok(())
}

#[tokio::test]
async fn what_is_planted_in_sqlite_is_found_and_what_is_right_is_not() -> Result<()> {
    // Of both rules nobody knows what was seen.
    let right = [(Late::Unseen, 0), (Late::PerhapsUnseen, 2), (Late::PerhapsSeen, 2)];
    for (late, unsure) in right {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("sentinel.db");
        let store = SqliteStore::open(&path, StoreOptions::default()).await?;
        let place = path.to_str().context("a path")?;
        plant(&store, late).await?;
        agrees(place, unsure).with_context(|| format!("{late:?}"))?;
        while store.maintain(T0 + 5_400 * SECOND).await?.1 {}
        let (code, report) = ask(place)?;
        // The last one saw all that is packed; of what the others saw nobody can tell.
        ensure!((code, report.evaluations, report.too_old) == (0, 1, 8), "{code}: {report}");
        ensure!((report.transitions, report.told) == (9, 4), "{code}: {report}");
    }
    let folder = tempfile::tempdir()?;
    let right = folder.path().join("right.db");
    let store = SqliteStore::open(&right, StoreOptions::default()).await?;
    plant(&store, Late::Unseen).await?;
    store.close().await?;
    for (number, (wrong, sql, words)) in wrongs().into_iter().enumerate() {
        let path = folder.path().join(format!("wrong{number}.db"));
        std::fs::copy(&right, &path)?;
        let place = path.to_str().context("a path")?;
        let mut connection =
            sqlx::sqlite::SqliteConnection::connect(&format!("sqlite://{place}")).await?;
        let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
        ensure!(done.rows_affected() > 0, "{wrong}: nothing was changed");
        connection.close().await?;
        differs(place, words).context(wrong)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_planted_in_postgresql_is_found_and_what_is_right_is_not() -> Result<()> {
    let server = Postgres::start(&Services::here()?, &[])?;
    let right = server.database()?;
    let store = PostgresStore::open(PostgresUrl::new(&right)?, PostgresOptions::default()).await?;
    plant(&store, Late::Unseen).await?;
    agrees(&right, 0)?;
    // Nobody may be connected to what is copied.
    store.close().await?;
    for (number, (wrong, sql, words)) in wrongs().into_iter().enumerate() {
        let name = format!("wrong{number}");
        server.query("postgres", &format!("CREATE DATABASE {name} TEMPLATE test0"))?;
        server.query(&name, &sql).context(wrong)?;
        differs(&server.url(&name), words).context(wrong)?;
    }
    Ok(())
}
