//! The four kinds with the plugins that are shipped.

mod plugins;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use plugins::{Host, plugin, plugin_with, spec};
use sentinel_model::alert::{Alert, AlertState, Fingerprint, Notification, NotificationStatus};
use sentinel_model::series::Labels;
use sentinel_runtime::evaluator::{Answer, CheckError, Condition, Query, QueryError, SeriesSource};
use sentinel_runtime::notifier::NotifyError;
use sentinel_runtime::{Services, SlotSpec};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

sentinel_runtime::compile_child_hook!();

/// Two series: `7` for one machine, `70` for another.
#[derive(Default)]
struct TwoSeries {
    asked: Mutex<Vec<(i64, String, u64)>>,
}

impl SeriesSource for TwoSeries {
    fn ask(&self, at: i64, queries: &[Query]) -> Vec<Result<Answer, QueryError>> {
        let mut asked = self.asked.lock();
        let answer = |query: &Query| {
            asked.push((at, query.selector.to_string(), query.window_ms));
            Ok(Answer { series: vec![1, 2], value: vec![7.0, 70.0] })
        };
        queries.iter().map(answer).collect()
    }

    fn labels_of(&self, ids: &[u64]) -> Vec<Labels> {
        ids.iter().map(|id| [("machine", format!("m{id}"))].into_iter().collect()).collect()
    }
}

fn evaluator() -> SlotSpec {
    spec("alert-dsl", plugin("alert-dsl"), json!({}), json!({"series": true}))
}

const HOT: &str = r#"{"metric": "load", "fn": "avg", "window": "1m", "above": 50}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evaluator_checks_loads_and_evaluates_and_keeps_its_conditions_over_a_swap() {
    let host = Host::new();
    let series = Arc::new(TwoSeries::default());
    let services =
        Services { series: Arc::clone(&series) as Arc<dyn SeriesSource>, ..Services::none() };
    let slot = host.slot_with(evaluator(), services).await;
    let plan = slot.check(HOT).await.unwrap();
    assert_eq!(plan.needs.len(), 1);
    assert_eq!((plan.needs[0].selector.name.as_str(), plan.needs[0].window_ms), ("load", 60_000));
    let refused = slot.check(r#"{"metric": "load"}"#).await.unwrap_err();
    assert!(matches!(&refused, CheckError::Refused(said) if !said.is_empty()), "{refused}");
    let condition = |rule: &str| Condition { rule: rule.into(), text: HOT.into() };
    slot.load_conditions(vec![condition("a"), condition("b")]).await.unwrap();
    for generation in 1..=2 {
        let outcomes = slot.evaluate(vec![1, 0, 1], 1_000_000).await.unwrap();
        assert_eq!(outcomes.len(), 3);
        for outcome in outcomes {
            let outcome = outcome.unwrap();
            assert_eq!((outcome.series_read, outcome.active.len()), (2, 1));
            let active = &outcome.active[0];
            assert_eq!(active.labels, [("machine".to_owned(), "m2".to_owned())]);
            assert_eq!(active.value, 70.0);
        }
        assert_eq!(slot.status().generation, generation);
        let newer = plugin_with("alert-dsl", |manifest| manifest.version.patch += 1);
        if generation == 1 {
            slot.swap(SlotSpec { component: newer, ..evaluator() }).await.unwrap();
        }
    }
    let asked = series.asked.lock();
    assert!(asked.iter().all(|question| *question == (1_000_000, "load".to_owned(), 60_000)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_reads_the_machine() {
    let host = Host::new();
    let slot =
        host.slot(spec("system", plugin("system"), json!({}), json!({"system": true}))).await;
    let collected = slot.collect().await.unwrap();
    let names: Vec<&str> =
        collected.batches.iter().flat_map(|b| b.rows().map(|row| row.name())).collect();
    for name in ["system_cpu_time_seconds_total", "system_memory_usage_bytes"] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
}

fn notification() -> Notification {
    let labels: Labels = [("machine", "m2")].into_iter().collect();
    Notification {
        id: "n-1".into(),
        notifier: "webhook".parse().unwrap(),
        time: 1_760_000_000_000,
        status: NotificationStatus::Firing,
        group: Labels::default(),
        alerts: vec![Alert {
            fingerprint: Fingerprint::of("hot", &labels),
            rule: "hot".into(),
            state: AlertState::Firing,
            labels,
            annotations: Labels::default(),
            summary: "it is hot".into(),
            value: 70.0,
            active_since: 1,
            fired_at: Some(2),
            last_active: 3,
            resolved_at: None,
            incident: 1,
        }],
    }
}

/// Answers one request with a status and gives what was sent.
async fn receive(listener: tokio::net::TcpListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut sent, mut part) = (Vec::new(), [0; 4096]);
    while !sent.ends_with(b"}") {
        let length = stream.read(&mut part).await.unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&sent));
        sent.extend_from_slice(&part[..length]);
    }
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(sent).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notifier_delivers_signed_or_says_what_to_do_next() {
    let host = Host::new();
    let secrets = BTreeMap::from([("hook".to_owned(), b"key".to_vec())]);
    let services = Services { secrets: Arc::new(secrets), ..Services::none() };
    for (status, delivered) in [("204 No Content", true), ("503 Busy", false)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({"url": format!("{origin}/hook"), "secret": "hook"});
        let grants = json!({
            "http": {"origins": [origin], "methods": ["POST"]},
            "mac": {"keys": ["hook"]},
        });
        let webhook = spec("webhook", plugin("webhook"), config, grants);
        let slot = host.slot_with(webhook, services.clone()).await;
        let receiver = tokio::spawn(receive(listener, status));
        let told = slot.notify(&notification(), 1, false, "http://localhost/").await;
        let sent = receiver.await.unwrap();
        for part in ["POST /hook", "webhook-id: n-1", "webhook-signature: v1,", "it is hot"] {
            assert!(sent.contains(part), "no {part:?} in {sent}");
        }
        match told {
            Ok(_) => assert!(delivered),
            Err(NotifyError::Retry { .. }) => assert!(!delivered),
            Err(other) => panic!("{other}"),
        }
        assert_eq!(slot.status().failures, [].into());
    }
}
