//! What `status` makes of canned answers.

use super::*;

const LOOK: Look = Look { color: false, width: 120 };

fn empty() -> serde_json::Value {
    serde_json::json!({
        "version": "0.1.0", "now": 1_700_000_100_000_i64, "started_at": 1_700_000_000_000_i64,
        "agents": [], "workers": [], "bus_messages": 0, "bus_bytes": 0,
        "store": { "bytes": 4096, "series": 0, "tail_samples": 0, "packed_samples": 0 },
        "rules_version": 0, "rules": 0, "alerts": {},
    })
}

fn busy() -> serde_json::Value {
    let mut body = empty();
    body["agents"] = serde_json::json!([
        {
            "id": "0f3c9a5e", "hostname": "web-1", "version": "0.1.0", "state": "approved",
            "labels": {}, "registered_at": 0, "last_seen": 1_700_000_095_000_i64,
            "report": {
                "offsets": [
                    { "epoch": "aa", "written": 9, "synced": 9, "accepted": 9, "committed": 9, "bytes": 0 },
                    { "epoch": "bb", "written": 1234, "synced": 1233, "accepted": 1230, "committed": 1200, "bytes": 1_572_864 },
                ],
                "slots": [
                    {
                        "name": "system", "plugin": "sentinel/system", "version": "0.1.0",
                        "digest": "sha256:00", "kind": "collector", "generation": 2, "state": "running",
                        "calls": 123_456, "failures": { "trap": 1, "timeout": 2 },
                        "last_error": [1_700_000_000_000_i64, "old"], "memory_bytes": 1_114_112,
                        "latency_ms": { "p50": 0.5, "p90": 1.0, "p99": 1.234, "max": 9.0 },
                        "rolled_back": { "version": "0.2.0", "reason": "it trapped" },
                    },
                    {
                        "name": "nginx", "plugin": "acme/nginx", "version": "1.0.0", "generation": 1,
                        "state": "quarantined", "until": 1_700_000_200_000_i64, "calls": 7,
                        "failures": { "trap": 5 },
                        "reason": "slot nginx: acme/nginx@1.0.0: collect: panicked\n  0: parse\u{1b}[2J",
                    },
                    {
                        "name": "mysql", "plugin": "acme/mysql@^1", "kind": "collector",
                        "state": "failed", "reason": "no registry lists acme/mysql",
                    },
                ],
                "warnings": ["secrets are kept with a key that lies beside them"],
            },
        },
        {
            "id": "77aa0001", "hostname": "web-2", "version": "0.1.0", "state": "waiting",
            "labels": {}, "registered_at": 0, "last_seen": null, "report": null,
        },
    ]);
    body["workers"] = serde_json::json!([{
        "name": "worker/local", "at": 1_700_000_000_000_i64,
        "status": {
            "sandbox": { "landlock": "none", "seccomp": "full", "missing": ["this kernel has no landlock"] },
            "slots": [], "problems": { "rows": "there is no plugin sentinel/rows" },
            "ingest": { "waiting": 3, "samples": 1_234_567, "store_trouble": "the disk is full" },
            "rules": { "evaluated": 11, "errors": { "high-cpu": "no such function" }, "failing": 1, "missed": 2, "active_alerts": 1 },
            "notifications": [{ "notifier": "webhook", "open": 2, "oldest": 0, "last_failure": "HTTP 500" }],
        },
    }]);
    body["store"]["engine"] = "PostgreSQL 17.6 (plain: declarative partitions)".into();
    body["bus_messages"] = 1.into();
    body["bus_bytes"] = 2048.into();
    body["rules"] = 12.into();
    body["rules_version"] = 3.into();
    body["alerts"] = serde_json::json!({ "firing": 1, "pending": 2 });
    body
}

fn shown(body: serde_json::Value) -> String {
    text(&serde_json::from_value(body).unwrap(), "http://127.0.0.1:8080", LOOK)
}

#[test]
fn a_server_without_anything_says_what_comes_next() {
    insta::assert_snapshot!(shown(empty()));
}

#[test]
fn a_busy_server_shows_offsets_slots_and_everything_to_look_at() {
    insta::assert_snapshot!(shown(busy()));
}

#[test]
fn a_report_of_another_shape_is_left_out_and_the_rest_is_shown() {
    let mut body = busy();
    body["agents"][0]["report"] = serde_json::json!("of another version");
    body["workers"] = serde_json::json!([]);
    insta::assert_snapshot!(shown(body));
}
