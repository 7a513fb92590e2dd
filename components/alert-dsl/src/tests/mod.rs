mod checking;
mod expression_reference;
mod expressions;
mod random;
mod reference;
mod schema;
mod semantics;
mod starter_rules;

use sentinel_sdk::testing::{Host, Installed};
use sentinel_sdk::{Condition as Text, Diagnostic, Evaluator, Failure, Outcome, Plan};
use serde_json::Value;

use super::{AlertDsl, Config};

fn plugin() -> AlertDsl {
    AlertDsl::configure(Config { max_instances: 10_000 }).unwrap()
}

fn check(text: &str) -> Result<Plan, Vec<Diagnostic>> {
    plugin().check(text)
}

fn loaded(conditions: &[Value]) -> AlertDsl {
    let mut plugin = plugin();
    let text = |(at, condition): (usize, &Value)| Text {
        rule: format!("rule-{at}"),
        text: condition.to_string(),
    };
    let conditions = conditions.iter().enumerate().map(text).collect();
    plugin.load(conditions).unwrap_or_else(|found| panic!("{found:?}"));
    plugin
}

fn evaluate(condition: &Value) -> Result<Outcome, Failure> {
    let at = sentinel_sdk::clock::now();
    loaded(std::slice::from_ref(condition)).evaluate(&[0], at).remove(0)
}

/// `{agent="a"} 0.93`, one a line.
fn told(outcome: &Outcome) -> Vec<String> {
    let instance = |instance: &sentinel_sdk::Instance| {
        let labels: Vec<_> =
            instance.labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        format!("{{{}}} {}", labels.join(","), instance.value)
    };
    outcome.active.iter().map(instance).collect()
}

/// Two agents with two disks each, at 100 s.
fn disks() -> Installed {
    let mut host = Host::new().at(100_000);
    for (agent, disk, used, limit, load) in [
        ("a", "/", 95.0, 100.0, Some(9.0)),
        ("a", "/home", 10.0, 100.0, None),
        ("b", "/", 50.0, 100.0, Some(1.0)),
        ("b", "/srv", 99.0, 100.0, None),
        ("c", "/", 97.0, 100.0, None),
    ] {
        let labels = [("agent", agent), ("disk", disk), ("state", "used")];
        host = host.series("used", &labels, &[(10_000, used - 5.0), (90_000, used)]).series(
            "size",
            &labels[..2],
            &[(90_000, limit)],
        );
        if let Some(load) = load {
            host = host.series("load", &labels[..1], &[(90_000, load)]);
        }
    }
    host.install()
}
