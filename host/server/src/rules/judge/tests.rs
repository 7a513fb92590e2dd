use super::*;
use crate::api::FileBody;
use crate::rules::{RuleChecker, RuleDiagnostic, RuleVerdict, read};
use async_trait::async_trait;
use sentinel_model::ids::SlotName;
use sentinel_model::series::{Labels, Selector};

/// A language of its own: `{"asks": "selector", "over": milliseconds}`, several in `"all"`.
struct Language;

#[async_trait]
impl RuleChecker for Language {
    async fn check(&self, _: &SlotName, condition: &Value) -> Result<RuleVerdict, String> {
        let mut verdict = RuleVerdict::default();
        let all = condition["all"].as_array().cloned().unwrap_or_else(|| vec![condition.clone()]);
        for one in &all {
            let selector = one["asks"].as_str().unwrap_or_default().parse::<Selector>();
            let window_ms = one["over"].as_u64().unwrap_or(60_000);
            match selector {
                Ok(selector) => verdict.reads.push(RuleRead { selector, window_ms }),
                Err(why) => verdict.diagnostics.push(RuleDiagnostic {
                    path: "/asks".into(),
                    message: why.to_string(),
                    error: true,
                }),
            }
        }
        Ok(verdict)
    }

    fn applied(&self) {}
}

/// Disks of two agents, a sample every 10 s; a counter that nobody sends any more.
fn stored() -> Stored {
    let disk = |agent: &str, disk: &str| SeriesKey {
        name: "disk_used_ratio".into(),
        labels: [("agent", agent), ("disk", disk)].into_iter().collect::<Labels>(),
    };
    let disks = vec![disk("web-1", "sda"), disk("web-1", "sdb"), disk("web-2", "sda")];
    let old = SeriesKey { name: "old_total".into(), labels: Labels::default() };
    let metrics = [
        ("disk_used_ratio", Metric { series: disks, live: 1.0, per_minute: 6.0 }),
        ("old_total", Metric { series: vec![old], live: 0.0, per_minute: 0.0 }),
    ];
    let names = ["disk_used_ratio", "old_total", "uncounted"].map(str::to_owned);
    let metrics = metrics.into_iter().map(|(name, one)| (name.to_owned(), one));
    Stored { names: names.into_iter().collect(), metrics: metrics.collect() }
}

async fn checked(text: &str, stored: Option<&Stored>) -> CheckedBody {
    let file = FileBody { name: "r.yaml".into(), text: text.into() };
    CheckedBody::of(read(&Language, &[file]).await, stored)
}

/// What is warned of a selector, with its place.
async fn warned(selector: &str) -> Vec<String> {
    let text = format!(
        "version: 1\nrules:\n  - name: a\n    condition:\n      over: 600000\n      asks: '{selector}'\n"
    );
    let found = checked(&text, Some(&stored())).await;
    assert!(found.problems.is_empty() && found.looked_up, "{:?}", found.problems);
    let said = |one: &crate::api::ProblemBody| {
        format!("{}:{}:{}: {}", one.file, one.line, one.column, one.message)
    };
    found.warnings.iter().map(said).collect()
}

#[tokio::test]
async fn what_is_not_stored_is_told_where_it_stands_with_what_was_meant() {
    for (selector, expected) in [
        ("disk_used_ratio", vec![]),
        ("disk_used_ratio{agent=\"web-1\", disk!=\"sdb\"}", vec![]),
        ("disk_used_ratio{zone=\"\"}", vec![]),
        ("uncounted", vec![]),
        (
            "disk_usd_ratio",
            vec![
                "nothing is stored under the name \"disk_usd_ratio\"; did you mean \"disk_used_ratio\"?",
            ],
        ),
        ("nginx_requests", vec!["nothing is stored under the name \"nginx_requests\""]),
        ("old_total", vec!["no sample of \"old_total\" came within the last hour"]),
        (
            "disk_used_ratio{dsk!=\"sda\"}",
            vec!["no series of \"disk_used_ratio\" has the label \"dsk\"; did you mean \"disk\"?"],
        ),
        (
            "disk_used_ratio{zone=\"a\", disk=~\"nvme.*\"}",
            vec![
                "no series of \"disk_used_ratio\" has the label \"zone\"; there is \"agent\", \"disk\"",
                "no series of \"disk_used_ratio\" has disk=~\"nvme.*\"; there is \"sda\", \"sdb\"",
            ],
        ),
        (
            "disk_used_ratio{agent=\"web-2\", disk=\"sdb\"}",
            vec!["no series is selected by disk_used_ratio{agent=\"web-2\", disk=\"sdb\"}"],
        ),
    ] {
        let expected: Vec<String> =
            expected.into_iter().map(|said| format!("r.yaml:6:7: {said}")).collect();
        assert_eq!(warned(selector).await, expected, "{selector}");
    }
}

#[tokio::test]
async fn a_cost_is_the_series_the_samples_in_the_windows_and_the_evaluations() {
    let text = "version: 1\nrules:\n  - {name: a, interval: 30s, condition: {asks: disk_used_ratio, over: 600000}}\n  - name: b\n    interval: 1m\n    condition: {all: [{asks: 'disk_used_ratio{agent=\"web-1\"}', over: 60000}, {asks: uncounted}]}\n";
    let found = checked(text, Some(&stored())).await;
    let of = |cost: &CostBody| (cost.line, cost.evaluations, cost.series, cost.samples);
    // Every 30 s, and at 6 commits a minute of each of two agents.
    assert_eq!(of(&found.costs[0]), (3, 14.0, Some(3), Some(180)));
    // What was not looked at leaves the whole open.
    assert_eq!(of(&found.costs[1]), (4, 1.0, None, None));
    assert_eq!(found.costs[1].reads[0].series, Some(2));
    assert_eq!(found.costs[1].reads[1].series, None);

    let found = checked(text, None).await;
    assert_eq!(of(&found.costs[0]), (3, 2.0, None, None));
    assert!(!found.looked_up && found.warnings.is_empty(), "{:?}", found.warnings);
}

#[tokio::test]
async fn a_dear_rule_is_said_to_be_with_what_makes_it_so() {
    let wide = |series: usize, per_minute: f64| {
        let key = |i: usize| SeriesKey {
            name: "m".into(),
            labels: [("agent".to_owned(), format!("host-{i}"))].into_iter().collect(),
        };
        let metric = Metric { series: (0..series).map(key).collect(), live: 1.0, per_minute };
        Stored { names: ["m".to_owned()].into(), metrics: [("m".to_owned(), metric)].into() }
    };
    let day = 86_400_000_u64;
    for (series, per_minute, over, expected) in [
        (100, 6.0, day, None),
        (20_001, 1.0, 60_000, Some("it reads 20001 series, more than 20000: select fewer")),
        (2_000, 6.0, day, Some("about 17280000 samples lie in its windows, more than 10000000")),
        (5_000, 6.0, 60_000, Some("it reads 5000 series about 304 times a minute")),
        // A worker keeps no more of one series, however long the window is.
        (100, 600.0, 30 * day, None),
    ] {
        let text = format!(
            "version: 1\nrules:\n  - {{name: a, interval: 15s, condition: {{asks: m, over: {over}}}}}\n"
        );
        let found = checked(&text, Some(&wide(series, per_minute))).await;
        let said = found.warnings.first().map(|one| one.message.as_str());
        match expected {
            Some(part) => assert!(said.is_some_and(|said| said.starts_with(part)), "{said:?}"),
            None => assert_eq!(said, None, "{series} {per_minute} {over}"),
        }
    }
}

#[tokio::test]
async fn problems_of_some_files_hide_nothing_of_the_others() {
    let text = "version: 1\nrules:\n  - {name: a, interval: 1ms, condition: {asks: '1'}}\n  - {name: a, condition: {asks: gone}}\n";
    let files = [
        FileBody { name: "b.yaml".into(), text: text.into() },
        FileBody { name: "a.yaml".into(), text: "rulez: []".into() },
    ];
    let found = CheckedBody::of(read(&Language, &files).await, Some(&stored()));
    let places: Vec<String> = found
        .problems
        .iter()
        .map(|one| format!("{}:{} {}", one.file, one.line, one.path))
        .collect();
    assert_eq!(
        places,
        [
            "a.yaml:1 ",
            "a.yaml:1 ",
            "a.yaml:1 /rulez",
            "b.yaml:3 /rules/0/interval",
            "b.yaml:3 /rules/0/condition/asks",
            "b.yaml:4 /rules/1/name",
        ]
    );
    assert_eq!(found.warnings.len(), 1);
    assert_eq!(found.costs.len(), 1);
}

#[test]
fn a_name_is_found_wherever_a_language_writes_it() {
    use serde_json::json;
    for (condition, path) in [
        (json!({"metric": "up"}), "/metric"),
        (json!({"expr": "rate(up[5m]) > 1"}), "/expr"),
        (json!({"expr": "startup + ups + up:x"}), ""),
        (json!({"any": [{"metric": "down"}, {"a/b": {"of": "up{x=\"1\"}"}}]}), "/any/1/a~1b/of"),
        (json!(null), ""),
    ] {
        assert_eq!(place_of(&condition, "up"), path, "{condition}");
    }
}
