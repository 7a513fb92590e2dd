//! `sentinel wal inspect`: a log is shown as it is, from whichever folder is named.

mod program;

use program::{Commands as _, User};
use sentinel_wal::{Log, Options};
use std::fs;
use std::path::Path;

fn log(folder: &Path) -> Log {
    let options = Options { segment_bytes: 4096, max_bytes: 1 << 20, ..Options::default() };
    Log::open(folder, options).unwrap().0
}

fn fill(log: &Log, records: u8) {
    for n in 0..records {
        log.append_blocking(&[n; 900]).unwrap();
    }
}

#[test]
fn a_log_is_shown_from_its_own_folder_and_from_those_above() {
    let user = User::new();
    for (data, under) in [("plain", ""), ("of-an-agent", "log"), ("of-an-up", "agent/log")] {
        let data = user.path(data);
        let folder = data.join(under);
        fs::create_dir_all(&folder).unwrap();
        let log = log(&folder);
        let epoch = log.epoch();
        fill(&log, 6);
        log.accept(epoch, 5).unwrap();
        log.commit(epoch, 1).unwrap();
        let named = data.to_str().unwrap();
        let running = user.done(&["wal", "inspect", named]);
        let holder = format!("by process {}", std::process::id());
        assert!(running.data.contains(&holder), "{}", running.data);
        assert!(running.data.contains("being written"), "{}", running.data);
        log.close().unwrap();
        let said = user.done(&["wal", "inspect", named]);
        let offsets = "written 6, synced 6, accepted 5, committed 1; 5 to be committed";
        assert!(said.data.contains(offsets), "{}", said.data);
        assert!(said.data.contains("it was closed cleanly"), "{}", said.data);
        assert_eq!(said.talk, "");
        let said = user.done(&["wal", "inspect", named, "--json"]);
        let body: serde_json::Value = serde_json::from_str(&said.data).unwrap();
        assert_eq!(body["epochs"][0]["epoch"], epoch.to_string());
        assert_eq!(body["epochs"][0]["waiting"], 5);
        assert_eq!(body["epochs"][0]["segments"].as_array().unwrap().len(), 2);
        assert_eq!(body["meta"], "intact");
    }
}

#[test]
fn damage_is_said_and_a_folder_without_a_log_too() {
    let user = User::new();
    let folder = user.path("log");
    let log = log(&folder);
    fill(&log, 5);
    log.close().unwrap();
    let first = folder.join("00000000000000000001.seg");
    let mut bytes = fs::read(&first).unwrap();
    bytes[64 + 944 + 100] ^= 1;
    fs::write(&first, bytes).unwrap();
    let said = user.done(&["wal", "inspect", folder.to_str().unwrap()]);
    assert!(said.data.contains("2 to 2: damaged"), "{}", said.data);
    assert!(said.talk.starts_with("warning: 1 record of epoch"), "{}", said.talk);
    let nowhere = user.path("nowhere");
    let said = user.run(&["wal", "inspect", nowhere.to_str().unwrap()]);
    assert_eq!((said.code, said.data.as_str()), (1, ""));
    assert!(said.talk.contains("there is no agent's log in"), "{}", said.talk);
    assert!(!nowhere.exists());
}
