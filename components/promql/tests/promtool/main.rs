//! Translated rules fire when Debian's `promtool test rules` says that they fire in Prometheus.
//!
//! `SENTINEL_SERVICES` names the list of programs that `cargo xtask services` fetched.
//! `PROMQL_CASES` is how many rules are compared, `PROMQL_SEED` where the random ones begin.

mod expressions;
mod random;
mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;

use plugin_alert_dsl::{AlertDsl, Config};
use random::Random;
use sentinel_sdk::testing::Host;
use sentinel_sdk::{Condition, Evaluator};
use worlds::{Series, world};

/// Rules that are evaluated over the same series.
const RULES_A_WORLD: usize = 40;
/// How often rules are evaluated, in seconds.
const STEP: i64 = 15;
/// Evaluations of each rule.
const STEPS: i64 = 50;
/// Rules compared unless said.
const CASES: usize = 200;

type Labels = BTreeMap<String, String>;

struct Rule {
    expression: String,
    hold: i64,
    /// Which alerts fire at each evaluation.
    firing: Vec<BTreeSet<Labels>>,
}

/// What fires by the translation: nothing where the rule fails at some time, as it does in
/// Prometheus too.
fn firing(expression: &str, hold: i64, world: &[Series]) -> Option<Vec<BTreeSet<Labels>>> {
    let condition = sentinel_promql::condition(expression)
        .unwrap_or_else(|obstacles| panic!("{expression}: {obstacles:?}"));
    let mut evaluator = AlertDsl::configure(Config { max_instances: 10_000 }).unwrap();
    let text = condition.to_string();
    let plan = evaluator.check(&text);
    plan.unwrap_or_else(|found| panic!("{expression}: {condition}: {found:?}"));
    evaluator.load(vec![Condition { rule: "r".to_owned(), text }]).unwrap();
    let host = world.iter().fold(Host::new(), |host, series| {
        let labels: Vec<_> = series.labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
        host.series(series.name, &labels, &series.samples())
    });
    let host = host.install();
    let mut since: BTreeMap<Labels, i64> = BTreeMap::new();
    let mut firing = Vec::new();
    for at in (0..STEPS).map(|step| step * STEP) {
        host.set_time(at * 1_000);
        let outcome = evaluator.evaluate(&[0], at * 1_000).remove(0).ok()?;
        let active: BTreeSet<Labels> =
            outcome.active.into_iter().map(|one| one.labels.into_iter().collect()).collect();
        since.retain(|labels, _| active.contains(labels));
        for labels in active {
            since.entry(labels).or_insert(at);
        }
        let fires = since.iter().filter(|(_, since)| at - **since >= hold);
        firing.push(fires.map(|(labels, _)| labels.clone()).collect());
    }
    Some(firing)
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// A rule file and its test, whose expectations are ours.
fn files(rules: &[Rule], world: &[Series]) -> (String, String) {
    let mut file = String::from("groups:\n- name: g\n  interval: 15s\n  rules:\n");
    let mut test = String::from(
        "rule_files: [rules.yaml]\nevaluation_interval: 15s\ntests:\n- interval: 20s\n  input_series:\n",
    );
    for series in world {
        let _ = writeln!(
            test,
            "  - series: '{}'\n    values: '{}'",
            series.selector(),
            series.values()
        );
    }
    test.push_str("  alert_rule_test:\n");
    for (number, rule) in rules.iter().enumerate() {
        let expression = quoted(&rule.expression);
        let _ =
            writeln!(file, "  - alert: r{number}\n    expr: {expression}\n    for: {}s", rule.hold);
        for (step, firing) in rule.firing.iter().enumerate() {
            let at = step as i64 * STEP;
            let _ =
                writeln!(test, "  - eval_time: {at}s\n    alertname: r{number}\n    exp_alerts:");
            for labels in firing {
                let _ = writeln!(test, "    - exp_labels: {labels:?}");
            }
        }
    }
    (file, test)
}

fn promtool() -> Command {
    let list = std::env::var_os("SENTINEL_SERVICES").expect(
        "SENTINEL_SERVICES is not set; run `cargo xtask services` and name target/services/services.json",
    );
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(list).unwrap()).unwrap();
    let promtool = &list["services"]["promtool"];
    let program = promtool["program"].as_str().expect("promtool is not among the services");
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", promtool["library_path"].as_str().unwrap_or_default());
    command
}

fn number(name: &str, unsaid: usize) -> usize {
    std::env::var(name).ok().and_then(|said| said.parse().ok()).unwrap_or(unsaid)
}

#[test]
fn translated_rules_fire_when_promtool_says_so() {
    let (cases, seed) = (number("PROMQL_CASES", CASES), number("PROMQL_SEED", 1));
    let mut random = Random::new(seed as u64);
    let (mut compared, mut fired) = (0, 0);
    while compared < cases {
        let series = world(&mut random);
        let mut rules = Vec::new();
        while rules.len() < RULES_A_WORLD.min(cases - compared) {
            let expression = expressions::alert(&mut random);
            let hold = random.of(&[0, 0, 15, 60]);
            if let Some(firing) = firing(&expression, hold, &series) {
                fired += usize::from(firing.iter().any(|alerts| !alerts.is_empty()));
                rules.push(Rule { expression, hold, firing });
            }
        }
        let dir =
            std::env::temp_dir().join(format!("sentinel-promql-{}-{compared}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (file, test) = files(&rules, &series);
        std::fs::write(dir.join("rules.yaml"), file).unwrap();
        std::fs::write(dir.join("test.yaml"), test).unwrap();
        let said =
            promtool().args(["test", "rules", "test.yaml"]).current_dir(&dir).output().unwrap();
        assert!(
            said.status.success(),
            "seed {seed}, the files are in {}:\n{}{}",
            dir.display(),
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
        std::fs::remove_dir_all(&dir).unwrap();
        compared += rules.len();
    }
    // Rules that never fire would agree without saying anything.
    assert!(fired * 3 > cases, "only {fired} of {cases} rules fired at all");
}
