use proptest::prelude::*;
use sentinel_sdk::config as json;
use sentinel_sdk::testing::{Host, Installed};
use sentinel_sdk::{Alert, Label, Status};
use sentinel_test_notifiers::notifications::{NOW, alert, label, notification, over, wild};
use sentinel_test_notifiers::pagerduty as fake;
use sentinel_test_notifiers::{Fault, Faulty, Shared, answering, deliver};

use super::*;

const CONFIG: &str = r#"{"routing_key": "pagerduty-key"}"#;

type Service = Shared<Faulty<fake::PagerDuty>>;

fn plugin() -> PagerDuty {
    json::parse(CONFIG).and_then(PagerDuty::configure).unwrap()
}

fn service(faults: &[Fault]) -> (Service, Installed) {
    let service = Shared::new(Faulty::first(fake::PagerDuty::default(), faults));
    let host = Host::new().at(NOW).server(answering(&service)).install();
    (service, host)
}

fn with_labels(one: Alert, labels: Vec<Label>) -> Alert {
    Alert { labels, ..one }
}

#[test]
fn an_event_is_the_documented_one() {
    let mut told = notification("ntf_1", vec![alert("9f86d081", "disk-full")]);
    told.may_be_repeat = true;
    let event = event::event("{{secret:pagerduty-key}}", "sentinel/", &told, &told.alerts[0]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&event).unwrap());
}

#[test]
fn what_fires_is_triggered_once_and_resolved_under_its_key() {
    let (service, host) = service(&[]);
    let mut plugin = plugin();
    let (a, b) = (alert("a", "disk"), alert("b", "disk"));
    for (id, alerts) in [
        ("n1", vec![a.clone(), b.clone()]),
        ("n2", vec![a.clone(), b.clone()]),
        ("n3", vec![over(a), b]),
    ] {
        deliver(&host, &mut plugin, &notification(id, alerts)).last.unwrap();
    }
    service.look(|faulty| {
        let told = &faulty.service;
        assert_eq!(told.calls, ["sentinel/a", "sentinel/b"]);
        assert_eq!(told.resolved, ["sentinel/a"]);
        assert_eq!(told.open.keys().collect::<Vec<_>>(), ["sentinel/b"]);
    });
    let key = r#""routing_key":"{{secret:pagerduty-key}}""#;
    assert!(String::from_utf8_lossy(&host.requests()[0].body).contains(key));
}

#[test]
fn severities_are_mapped_and_sources_found() {
    let (service, host) = service(&[]);
    let alerts =
        [("critical", "critical"), ("page", "critical"), ("P2", "error"), ("x", "warning")];
    let alerts: Vec<Alert> = alerts
        .iter()
        .map(|(severity, expect)| {
            let labels = vec![label("severity", severity), label("host", "db-1")];
            with_labels(alert(&format!("{severity}-{expect}"), "r"), labels)
        })
        .collect();
    deliver(&host, &mut plugin(), &notification("n", alerts)).last.unwrap();
    service.look(|faulty| {
        for (key, event) in &faulty.service.open {
            let expect = key.rsplit('-').next().unwrap();
            assert_eq!(event["payload"]["severity"], expect, "{key}");
            assert_eq!(event["payload"]["source"], "db-1");
        }
    });
}

#[test]
fn a_storm_beyond_the_rate_goes_out_in_parts_and_nothing_is_sent_twice() {
    let (service, host) = service(&[]);
    service.look(|faulty| faulty.service.limit = Some(50));
    let mut plugin = plugin();
    let alerts: Vec<Alert> = (0..100).map(|at| alert(&at.to_string(), "disk")).collect();
    let told = notification("storm", alerts);
    let Err(DeliveryError::Retry(retry)) = plugin.notify(told.clone()) else {
        panic!("taken beyond the rate")
    };
    assert_eq!(retry.after_ms, Some(30_000));
    service.look(|faulty| faulty.service.a_minute_later());
    plugin.notify(told).unwrap();
    service
        .look(|faulty| assert_eq!((faulty.service.events, faulty.service.open.len()), (100, 100)));
    assert!(host.requests().len() <= 120, "{}", host.requests().len());
}

#[test]
fn what_is_refused_for_good_is_said_with_pagerdutys_reason() {
    let (service, _host) = service(&[]);
    service.look(|faulty| faulty.service.routing_key = "another".to_owned());
    let refused = plugin().notify(notification("n", vec![alert("a", "disk")]));
    let Err(DeliveryError::Permanent(said)) = refused else { panic!("{refused:?}") };
    assert!(said.contains("'routing_key' is incorrect"), "{said}");
}

#[test]
fn of_several_errors_the_one_that_decides_is_told() {
    use DeliveryError::{Permanent, Unknown};
    let again = |after_ms| DeliveryError::Retry(Retry { message: String::new(), after_ms });
    for (one, other, expect) in [
        (again(Some(5)), again(Some(9)), again(Some(9))),
        (again(None), Unknown("u".into()), again(None)),
        (Permanent("p".into()), again(None), again(None)),
        (Unknown("u".into()), Permanent("p".into()), Unknown("u".into())),
    ] {
        assert_eq!(worse(Some(one), other), expect);
    }
}

#[test]
fn configs_are_checked_all_at_once() {
    let key = "e93facc04764012d7bfb002500d5d1a6";
    for (config, expect) in [
        (CONFIG.to_owned(), ""),
        (format!(r#"{{"routing_key": "{key}"}}"#), "/routing_key: is a key itself"),
        (r#"{"routing_key": ""}"#.to_owned(), "/routing_key: names no secret"),
        (r#"{"routing_key": "k", "api": "x"}"#.to_owned(), "/api: is no http"),
        (r#"{"routing_key": "k", "timeout": "0s"}"#.to_owned(), "/timeout: \"0s\""),
        (r#"{"routing_key": "k", "dedup_prefix": "\n"}"#.to_owned(), "/dedup_prefix: is longer"),
        ("{}".to_owned(), "missing field `routing_key`"),
    ] {
        let made = json::parse(&config).and_then(PagerDuty::configure);
        let said = made.err().map(|found| found[0].to_string()).unwrap_or_default();
        assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_alerts_come_pagerduty_takes_them(told in wild()) {
        let (service, host) = service(&[]);
        let delivered = deliver(&host, &mut plugin(), &told.0);
        let refused = service.look(|faulty| faulty.service.refused.clone());
        prop_assert!(delivered.last.is_ok(), "{:?} {:?}", delivered, refused);
    }

    #[test]
    fn whatever_fails_each_alert_calls_somebody_once(seed in any::<u64>()) {
        let service = Shared::new(Faulty::seeded(fake::PagerDuty::default(), seed, 90));
        let host = Host::new().at(NOW).server(answering(&service)).install();
        let mut plugin = plugin();
        for at in 0..6 {
            let alerts = (0..5).map(|one| alert(&format!("{}-{one}", at / 2), "disk"));
            let alerts: Vec<Alert> = if at % 2 == 0 { alerts.collect() } else { alerts.map(over).collect() };
            prop_assert!(alerts.iter().all(|one| (one.status == Status::Firing) == (at % 2 == 0)));
            let told = notification(&format!("n{at}"), alerts);
            prop_assert!(deliver(&host, &mut plugin, &told).last.is_ok());
        }
        service.look(|faulty| {
            let told = &faulty.service;
            let mut calls = told.calls.clone();
            calls.sort();
            calls.dedup();
            assert_eq!((calls.len(), told.calls.len()), (15, 15), "each alert calls once");
            assert_eq!((told.resolved.len(), told.open.len()), (15, 0));
        });
    }
}
