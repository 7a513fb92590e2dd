//! The rules in `deploy/rules` are sound, and fire when they should.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, json};

use super::*;

fn json_of(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(items) => items.iter().map(json_of).collect(),
        Yaml::Mapping(fields) => {
            let field = |(key, value): (&Yaml<'_>, &Yaml<'_>)| {
                (key.as_str().expect("keys are texts").to_owned(), json_of(value))
            };
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        other => panic!("{other:?} is nothing that a rule holds"),
    }
}

fn rules() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/rules");
    let mut rules = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".test.yaml") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let file = json_of(&Yaml::load_from_str(&text).unwrap()[0]);
        assert_eq!(file["version"], 1);
        rules.extend(file["rules"].as_array().unwrap().clone());
    }
    rules
}

fn fires(name: &str) -> Vec<String> {
    let rules = rules();
    let rule = rules.iter().find(|rule| rule["name"] == name).expect(name);
    told(&evaluate(&rule["condition"]).unwrap())
}

#[test]
fn every_rule_is_sound_and_read_without_a_warning() {
    let mut names = std::collections::BTreeSet::new();
    for rule in rules() {
        assert!(names.insert(rule["name"].to_string()), "{} stands twice", rule["name"]);
        let plan = check(&rule["condition"].to_string());
        let plan = plan.unwrap_or_else(|found| panic!("{}: {found:?}", rule["name"]));
        assert_eq!(plan.warnings, [], "{}", rule["name"]);
        assert!(
            ["none", "info", "warning", "critical"]
                .contains(&rule["labels"]["severity"].as_str().unwrap())
        );
        assert!(rule["annotations"]["summary"].as_str().unwrap().ends_with('.'));
    }
}

#[test]
fn a_full_disk_fires_unless_it_is_an_image() {
    let mut host = Host::new().at(60_000);
    for (mountpoint, used, read_only) in
        [("/", 98.0, 0.0), ("/iso", 100.0, 1.0), ("/srv", 20.0, 0.0)]
    {
        let labels = [("agent", "a"), ("device", "d"), ("mountpoint", mountpoint), ("type", "t")];
        let mut with_state = labels.to_vec();
        with_state.push(("state", "used"));
        host = host
            .series("system_filesystem_usage_bytes", &with_state, &[(50_000, used)])
            .series("system_filesystem_limit_bytes", &labels, &[(50_000, 100.0)])
            .series("system_filesystem_read_only", &labels, &[(50_000, read_only)]);
    }
    let _host = host.install();
    let expect = [r#"{agent="a",mountpoint="/"} 0.98"#];
    assert_eq!(fires("disk-filling"), expect);
    assert_eq!(fires("disk-full"), expect);
    assert!(fires("filesystem-became-read-only").is_empty());
}

#[test]
fn a_silent_agent_and_a_busy_one_fire() {
    let idle = |of_second: f64| -> Vec<(i64, f64)> {
        (0..60i32).map(|at| (i64::from(at) * 10_000, f64::from(at) * 10.0 * of_second)).collect()
    };
    let cpu = "system_cpu_time_seconds_total";
    let _host = Host::new()
        .at(600_000)
        .series("system_uptime_seconds", &[("agent", "a")], &[(590_000, 7_000.0)])
        .series("system_uptime_seconds", &[("agent", "b")], &[(400_000, 5.0)])
        .series(cpu, &[("agent", "a"), ("cpu", "0"), ("mode", "idle")], &idle(0.05))
        .series(cpu, &[("agent", "a"), ("cpu", "1"), ("mode", "idle")], &idle(0.07))
        .series(cpu, &[("agent", "a"), ("cpu", "1"), ("mode", "user")], &idle(0.93))
        .series(cpu, &[("agent", "b"), ("cpu", "0"), ("mode", "idle")], &idle(0.9))
        .install();
    assert_eq!(fires("agent-silent"), [r#"{agent="b"} 0"#]);
    let busy = fires("cpu-busy");
    assert!(busy.len() == 1 && busy[0].starts_with(r#"{agent="a"} 0.06"#), "{busy:?}");
    assert_eq!(fires("rebooted"), [r#"{agent="b"} 5"#]);
}

#[test]
fn memory_without_swap_counts_as_exhausted_too() {
    for (swap_used, swap_free, expect) in [(90.0, 10.0, 1), (10.0, 90.0, 0), (0.0, 0.0, 1)] {
        let _host = Host::new()
            .at(10_000)
            .series("system_memory_available_bytes", &[("agent", "a")], &[(9_000, 4.0)])
            .series("system_memory_limit_bytes", &[("agent", "a")], &[(9_000, 100.0)])
            .series(
                "system_paging_usage_bytes",
                &[("agent", "a"), ("state", "used")],
                &[(9_000, swap_used)],
            )
            .series(
                "system_paging_usage_bytes",
                &[("agent", "a"), ("state", "free")],
                &[(9_000, swap_free)],
            )
            .install();
        assert_eq!(fires("memory-exhausted").len(), expect, "{swap_used} {swap_free}");
    }
}

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// A series at a fixed distance of samples: the value is a function of the time in seconds.
fn line(until: i64, apart: i64, back: i64, of: impl Fn(f64) -> f64) -> Vec<(i64, f64)> {
    (0..=back / apart)
        .rev()
        .map(|at| until - at * apart)
        .map(|time| (time, of(time as f64 / 1e3)))
        .collect()
}

#[test]
fn a_disk_that_will_be_full_fires_hours_before_and_one_that_grew_overnight() {
    for (a_second, left, expect) in [(-1.0, 10_000.0, 1), (-0.1, 10_000.0, 0), (-1.0, 90_000.0, 0)]
    {
        let free = |seconds: f64| left + (seconds - DAY as f64 / 1e3) * a_second;
        let labels = [("agent", "a"), ("mountpoint", "/")];
        let mut with_state = labels.to_vec();
        with_state.push(("state", "free"));
        let _host = Host::new()
            .at(DAY)
            .series(
                "system_filesystem_usage_bytes",
                &with_state,
                &line(DAY, 60_000, 6 * HOUR, free),
            )
            .series("system_filesystem_limit_bytes", &labels, &[(DAY, 100_000.0)])
            .install();
        assert_eq!(fires("disk-full-within-hours").len(), expect, "{a_second} {left}");
    }
    let mut host = Host::new().at(2 * DAY);
    for (mountpoint, before, now) in [("/", 100.0, 121.0), ("/srv", 100.0, 119.0)] {
        let labels = [("agent", "a"), ("mountpoint", mountpoint), ("state", "used")];
        let samples = [(DAY - 1_000, before), (2 * DAY - 1_000, now)];
        host = host.series("system_filesystem_usage_bytes", &labels, &samples);
    }
    let _host = host.install();
    assert_eq!(fires("disk-grew-since-yesterday"), [r#"{agent="a",mountpoint="/"} 121"#]);
}

#[test]
fn nginx_fires_when_it_is_silent_drops_or_serves_nobody() {
    let agent = |name| [("agent", name)];
    let requests = |a_second: f64| {
        move |seconds: f64| {
            let day = DAY as f64 / 1e3;
            seconds.min(1.5 * day) * 10.0 + (seconds - 1.5 * day).max(0.0) * a_second
        }
    };
    let now = 2 * DAY;
    let _host = Host::new()
        .at(now)
        .series("nginx_requests_total", &agent("a"), &line(now, 60_000, DAY + HOUR, requests(0.5)))
        .series("nginx_requests_total", &agent("b"), &line(now, 60_000, DAY + HOUR, requests(5.0)))
        .series("nginx_requests_total", &agent("c"), &[(now - HOUR, 1.0)])
        .series(
            "nginx_connections_accepted_total",
            &agent("a"),
            &line(now, 15_000, HOUR, |s| s * 2.0),
        )
        .series(
            "nginx_connections_handled_total",
            &agent("a"),
            &line(now, 15_000, HOUR, |s| s * 1.5),
        )
        .series("nginx_connections_accepted_total", &agent("b"), &line(now, 15_000, HOUR, |s| s))
        .series("nginx_connections_handled_total", &agent("b"), &line(now, 15_000, HOUR, |s| s))
        .install();
    assert_eq!(fires("nginx-silent"), [r#"{agent="c"} 0"#]);
    assert_eq!(fires("nginx-drops-connections"), [r#"{agent="a"} 0.5"#]);
    assert_eq!(fires("nginx-traffic-collapsed"), [r#"{agent="a"} 0.5"#]);
}

#[test]
fn databases_fire_when_they_are_down_full_behind_or_locked() {
    let on = |name| [("instance", name)];
    let deadlocks = [("instance", "a"), ("datname", "shop")];
    let _host = Host::new()
        .at(HOUR)
        .series("pg_up", &on("a"), &[(HOUR, 1.0)])
        .series("pg_up", &on("b"), &[(HOUR, 0.0)])
        .series("pg_stat_activity_count", &[("instance", "a"), ("state", "idle")], &[(HOUR, 50.0)])
        .series(
            "pg_stat_activity_count",
            &[("instance", "a"), ("state", "active")],
            &[(HOUR, 40.0)],
        )
        .series("pg_settings_max_connections", &on("a"), &[(HOUR, 100.0)])
        .series("pg_replication_lag_seconds", &on("a"), &[(HOUR, 3.0)])
        .series("pg_replication_lag_seconds", &on("c"), &[(HOUR, 300.0)])
        .series(
            "pg_stat_database_deadlocks_total",
            &deadlocks,
            &line(HOUR, 60_000, HOUR, |s| s / 120.0),
        )
        .install();
    assert_eq!(fires("postgres-down"), [r#"{instance="b"} 0"#]);
    assert_eq!(fires("postgres-connections-nearly-used"), [r#"{instance="a"} 0.9"#]);
    assert_eq!(fires("postgres-replica-behind"), [r#"{instance="c"} 300"#]);
    assert_eq!(fires("postgres-deadlocks"), [r#"{datname="shop",instance="a"} 7"#]);
}

#[test]
fn certificates_fire_two_weeks_before_they_end_and_when_they_have() {
    let expiry = |days: f64| [(100 * DAY, 8_640_000.0 + days * 86_400.0)];
    let on = |name| [("instance", name)];
    let _host = Host::new()
        .at(100 * DAY)
        .series("probe_ssl_earliest_cert_expiry", &on("a"), &expiry(13.0))
        .series("probe_ssl_earliest_cert_expiry", &on("b"), &expiry(15.0))
        .series("probe_ssl_earliest_cert_expiry", &on("c"), &expiry(-1.0))
        .install();
    let soon = [r#"{instance="a"} 1123200"#, r#"{instance="c"} -86400"#];
    assert_eq!(fires("certificate-expires-soon"), soon);
    assert_eq!(fires("certificate-expired"), [r#"{instance="c"} 8553600"#]);
}

#[test]
fn a_budget_that_burns_fires_while_it_burns_and_slow_answers_do() {
    let mut host = Host::new().at(DAY);
    // Two in a hundred fail; those of `b` only until a quarter of an hour ago.
    for (job, end) in [("a", DAY), ("b", DAY - HOUR / 4)] {
        let failed = move |seconds: f64| seconds.min(end as f64 / 1e3) * 0.2;
        host = host
            .series(
                "http_requests_total",
                &[("job", job), ("code", "200")],
                &line(DAY, 30_000, 7 * HOUR, |s| s * 9.8),
            )
            .series(
                "http_requests_total",
                &[("job", job), ("code", "503")],
                &line(DAY, 30_000, 7 * HOUR, failed),
            );
    }
    for (le, a_second) in [("0.5", 9.0), ("2", 10.0), ("+Inf", 10.0)] {
        let labels = [("job", "a"), ("le", le)];
        let name = "http_request_duration_seconds_bucket";
        host = host.series(name, &labels, &line(DAY, 30_000, HOUR, |s| s * a_second));
    }
    let _host = host.install();
    let jobs = |name| fires(name).iter().map(|one| one[..9].to_owned()).collect::<Vec<_>>();
    assert_eq!(jobs("slo-burns-fast"), [r#"{job="a"}"#]);
    assert_eq!(jobs("slo-burns-slowly"), [r#"{job="a"}"#, r#"{job="b"}"#]);
    assert_eq!(jobs("slo-slow-answers"), [r#"{job="a"}"#]);
}

#[test]
fn the_deadman_fires_without_any_data() {
    let _host = Host::new().at(HOUR).install();
    assert_eq!(fires("deadman"), ["{} 1"]);
}
