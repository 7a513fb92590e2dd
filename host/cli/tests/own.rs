//! Plugins of this machine, with the registry inside a real `sentinel up`.

mod program;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use program::{Commands, User, module};
use serde_json::{Value, json};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// `sentinel up` on free ports, without a plugin. Killed when it is dropped.
struct Up(Child);

impl Up {
    fn start(user: &User) -> Self {
        user.write("sentinel.yaml", "version: 1\n");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
        command.env_clear().env("HOME", user.path(".")).current_dir(user.path("."));
        command.args(["up", "--data", "data", "--config", "sentinel.yaml"]);
        for option in ["--listen", "--grpc", "--registry"] {
            command.args([option, "127.0.0.1:0"]);
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let up = Self(child);
        let run = user.path(".local/state/sentinel/up.json");
        let is_up = |run: &Path| {
            let text = std::fs::read_to_string(run).unwrap_or_default();
            let running: Value = serde_json::from_str(&text).unwrap_or_default();
            running["pid"] == up.0.id()
        };
        let begun = Instant::now();
        while !is_up(&run) {
            assert!(begun.elapsed() < PATIENCE, "it is not up");
            std::thread::sleep(Duration::from_millis(20));
        }
        up
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pack(user: &User, version: &str) {
    user.write(
        "plugin.yaml",
        format!(
            "name: acme/toy\nversion: {version}\nkind: transform\ndescription: A toy.\nlicense: MIT\n"
        ),
    );
    let _ = std::fs::remove_file(user.path("toy.wasm"));
    user.done(&["plugin", "pack", "core.wasm", "-m", "plugin.yaml", "-o", "toy.wasm"]);
}

fn list(user: &User) -> Value {
    serde_json::from_str(&user.done(&["plugin", "list", "--json"]).data).unwrap()
}

#[test]
fn a_file_is_published_by_its_publisher_installed_upgraded_and_forgotten() {
    let user = User::new();
    user.write("core.wasm", module::transform(r#"{"type":"object"}"#));
    user.done(&["plugin", "keygen", "--publisher", "acme", "--out", "acme.key"]);
    user.done(&["plugin", "keygen", "--publisher", "other", "--out", "other.key"]);
    pack(&user, "1.2.3");
    let none = user.run(&["plugin", "list"]);
    assert!(none.code == 1 && none.talk.contains("start `sentinel up`"), "{}", none.talk);
    let up = Up::start(&user);
    assert_eq!(list(&user), json!([]));

    let install = ["plugin", "install", "toy.wasm", "--publisher-key"];
    for (key, yes, why) in [
        (None, false, "--publisher-key"),
        (Some("acme.key"), false, "--yes"),
        (Some("other.key"), true, "acme/toy"),
    ] {
        let mut command: Vec<&str> = install[..3].to_vec();
        command.extend(key.iter().flat_map(|key| ["--publisher-key", key]));
        command.extend(yes.then_some("--yes"));
        let said = user.run(&command);
        assert!(said.code == 1 && said.talk.contains(why), "{command:?}: {}", said.talk);
    }
    assert_eq!(list(&user), json!([]));
    let said = user.done(&[&install[..], &["acme.key", "--yes"]].concat());
    assert_eq!(said.data.trim(), "acme/toy@1.2.3", "{}", said.talk);
    let listed = list(&user);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["version"], &listed[0]["ranges"]),
        (&"acme/toy".into(), &"1.2.3".into(), &json!(["acme/toy"])),
        "{listed}"
    );
    assert!(listed[0]["refused"].is_null(), "{listed}");

    // Approved is approved; a version is its bytes for ever.
    pack(&user, "1.3.0");
    let said = user.done(&[&install[..], &["acme.key"]].concat());
    assert!(!said.talk.contains("not approved"), "{}", said.talk);
    assert_eq!(list(&user)[0]["version"], "1.3.0");
    let core = module::transform(r#"{"type":"object","title":"Other"}"#);
    user.write("core.wasm", core);
    pack(&user, "1.3.0");
    let said = user.run(&[&install[..], &["acme.key"]].concat());
    assert!(said.code == 1 && said.talk.contains("raise the version"), "{}", said.talk);

    let said = user.done(&["plugin", "upgrade", "--here"]);
    assert!(said.talk.contains("newest"), "{}", said.talk);
    let missing = user.run(&["plugin", "remove", "acme/toy@9.9.9"]);
    assert_eq!((missing.code, missing.data.as_str()), (1, ""));
    user.done(&["plugin", "remove", "acme/toy"]);
    let listed = list(&user);
    assert_eq!((&listed[0]["name"], &listed[0]["ranges"]), (&"acme/toy".into(), &json!([])));

    // The next start has the registry and what was published; so it is the same fleet.
    drop(up);
    let _up = Up::start(&user);
    assert_eq!(list(&user), listed);
}

/// What a host of the fleet says, as soon as it says it.
fn host_says(user: &User, role: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let said = user.run(&["fleet", "status", "--json"]);
        let status: Value = serde_json::from_str(&said.data).unwrap();
        let hosts = status["hosts"].as_array().unwrap();
        match hosts.iter().find(|host| host["role"] == role && wanted(host)) {
            Some(host) => return host.clone(),
            None => assert!(begun.elapsed() < PATIENCE, "{status}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_fleet_of_an_up_is_decided_by_its_owner_and_a_set_that_cannot_run_is_refused_whole() {
    let user = User::new();
    user.write("core.wasm", module::transform(r#"{"type":"object"}"#));
    user.done(&["plugin", "keygen", "--publisher", "acme", "--out", "acme.key"]);
    pack(&user, "1.0.0");
    let _up = Up::start(&user);
    user.done(&["plugin", "install", "toy.wasm", "--publisher-key", "acme.key", "--yes"]);
    // Its code can do nothing but end in a trap, and so cannot be configured.
    user.done(&["plugin", "install", "acme/toy", "--slot", "rows", "--no-wait"]);
    let worker = host_says(&user, "worker", |host| host["refused"] == 1);
    assert_eq!((&worker["number"], &worker["state"]), (&json!(0), &json!("refused")), "{worker}");
    assert!(worker["problem"].as_str().unwrap().contains("rows"), "{worker}");
    let status = user.run(&["fleet", "status"]);
    assert!(status.code == 1 && status.talk.contains("refused the set"), "{}", status.talk);

    let uninstall = ["plugin", "uninstall", "rows", "--yes", "--note", "it traps"];
    let out = user.done(&[&uninstall[..], &["--timeout", "90s"]].concat());
    assert!(out.talk.contains("runs set 2"), "{}", out.talk);
    host_says(&user, "agent", |host| host["number"] == 2 && host["state"] == "current");
    user.done(&["fleet", "status"]);
    assert!(user.done(&["fleet", "history"]).data.contains("it traps"));
    user.done(&["plugin", "revoke", "acme/toy@1.0.0"]);
    let gone = user.run(&["plugin", "install", "acme/toy", "--slot", "rows"]);
    assert!(gone.code == 1 && gone.talk.contains("revoked"), "{}", gone.talk);
}
