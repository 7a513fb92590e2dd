//! What misbehaving plugins take from the process is given back. One test, alone in its
//! process, since it looks at the process's memory.

mod plugins;

use plugins::{Host, plugin, spec};
use serde_json::json;

sentinel_runtime::compile_child_hook!();

/// Resident memory that may remain after the first round, for allocators that keep some.
const SLACK_KIB: u64 = 12 << 10;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_comes_back_after_plugins_that_allocate_trap_and_hang() {
    let host = Host::new();
    let grants = json!({"http": {"origins": ["http://127.0.0.1:9"]}, "kv": {"max_bytes": 65536}});
    let modes = ["behave", "allocate", "overflow-stack", "panic", "spin", "return-too-much"];
    let mut after_first = 0;
    for round in 0..3 {
        let mut slots = Vec::new();
        for (n, mode) in modes.iter().cycle().take(18).enumerate() {
            let name = format!("{mode}-{n}");
            let slot = spec(&name, plugin("hostile"), json!({"mode": mode}), grants.clone());
            slots.push(host.slot(slot).await);
        }
        let calls: Vec<_> = slots
            .iter()
            .cloned()
            .map(|slot| tokio::spawn(async move { slot.collect().await.is_ok() }))
            .collect();
        let mut good = 0;
        for call in calls {
            good += usize::from(call.await.unwrap());
        }
        assert_eq!(good, 3, "those that behave");
        drop(slots);
        if round == 0 {
            after_first = resident_kib();
        }
    }
    let after = resident_kib();
    assert!(
        after <= after_first + SLACK_KIB,
        "{after_first} KiB after one round, {after} after three"
    );
}
