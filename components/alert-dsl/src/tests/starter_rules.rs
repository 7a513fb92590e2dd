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
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/rules/host.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let file = json_of(&Yaml::load_from_str(&text).unwrap()[0]);
    assert_eq!(file["version"], 1);
    file["rules"].as_array().unwrap().clone()
}

fn fires(name: &str) -> Vec<String> {
    let rules = rules();
    let rule = rules.iter().find(|rule| rule["name"] == name).expect(name);
    told(&evaluate(&rule["condition"]).unwrap())
}

#[test]
fn every_rule_is_sound_and_read_without_a_warning() {
    for rule in rules() {
        let plan = check(&rule["condition"].to_string());
        let plan = plan.unwrap_or_else(|found| panic!("{}: {found:?}", rule["name"]));
        assert_eq!(plan.warnings, [], "{}", rule["name"]);
        assert!(
            ["info", "warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap())
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
