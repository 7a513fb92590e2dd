use super::*;
use serde_json::json;

#[derive(Deserialize)]
struct File {
    routes: Option<RouteConfig>,
    #[serde(default)]
    inhibit: Vec<InhibitConfig>,
    #[serde(default)]
    mute_times: BTreeMap<String, Vec<SpanConfig>>,
}

fn read(file: serde_json::Value) -> Result<Routing, Vec<Problem>> {
    let file: File = serde_json::from_value(file).unwrap();
    let config = RoutingConfig {
        routes: file.routes.as_ref(),
        inhibit: &file.inhibit,
        mute_times: &file.mute_times,
    };
    config.read()
}

#[test]
fn every_problem_is_said_at_once_with_its_path() {
    let problems = read(json!({
        "routes": {
            "match": ["a=b"], "continue": true, "group_by": ["...", "agent"],
            "routes": [
                {"notify": ["x"]},
                {"match": ["nothing"], "mute": ["nights"]},
                {"match": ["a=b"], "escalate": [
                    {"after": "5m", "notify": []}, {"after": "5m", "notify": ["boss"]},
                ]},
            ],
        },
        "inhibit": [{"source": [], "target": ["a=~["]}],
        "mute_times": {"week/end": [{"weekdays": ["x"]}]},
    }))
    .unwrap_err();
    let mut paths: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    paths.sort_unstable();
    let expected = [
        "/inhibit/0/source",
        "/inhibit/0/target/0",
        "/mute_times/week~1end/0/weekdays/0",
        "/routes/continue",
        "/routes/group_by",
        "/routes/match",
        "/routes/routes/0/match",
        "/routes/routes/1/match/0",
        "/routes/routes/1/mute/0",
        "/routes/routes/2/escalate/0/notify",
        "/routes/routes/2/escalate/1/after",
    ];
    assert_eq!(paths, expected, "{problems:#?}");
}

#[test]
fn the_depth_and_the_number_of_routes_are_bounded() {
    let mut deep = json!({"match": ["a=b"]});
    for _ in 0..MAX_DEPTH {
        deep = json!({"match": ["a=b"], "routes": [deep]});
    }
    let problems = read(json!({"routes": {"routes": [deep]}})).unwrap_err();
    assert!(problems.iter().any(|(_, text)| text.contains("deep")), "{problems:?}");
    let many = vec![json!({"match": ["a=b"]}); MAX_ROUTES];
    let problems = read(json!({"routes": {"routes": many}})).unwrap_err();
    assert!(problems[0].1.contains("1001 routes"), "{problems:?}");
}
