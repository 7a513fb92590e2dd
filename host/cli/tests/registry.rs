//! A registry from its first key to a plugin on a host without a network, by the commands that
//! its owner, a publisher and an operator use, against the real service.

mod program;

use std::os::unix::fs::PermissionsExt;

use program::registry::{Everybody, Registry};
use program::{Commands, module};
use sentinel_trust::repository::{KeyPurpose, RoleKey};
use serde_json::Value;

/// A user whose folder has a core module to pack.
fn everybody() -> Everybody {
    let all = Everybody::new();
    all.user.write("core.wasm", module::transform(r#"{"type":"object"}"#));
    all
}

impl Everybody {
    /// Packs `acme/toy` of a version.
    fn pack(&self, version: &str) {
        self.user.write("plugin.yaml", format!(
            "name: acme/toy\nversion: {version}\nkind: transform\ndescription: A toy.\nlicense: MIT\n"
        ));
        self.done(&["plugin", "pack", "core.wasm", "--manifest", "plugin.yaml", "-o", "toy.wasm"]);
    }

    fn publish(&self, version: &str) {
        self.pack(version);
        self.done(&["plugin", "publish", "toy.wasm", "--key", "acme.key"]);
    }
}

#[test]
fn a_registry_begins_publishes_and_is_searched() {
    let all = everybody();
    for key in ["offline/root.key", "offline/targets.key", "registry/keys/timestamp.key"] {
        let mode = std::fs::metadata(all.user.path(key)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{key}");
    }
    let again = all.run(&["registry", "--data", "registry", "init", "--offline", "offline"]);
    assert_eq!(again.code, 1, "{}", again.talk);
    all.pack("1.0.0");
    all.done(&["plugin", "keygen", "--publisher", "acme", "--out", "early.key"]);
    all.user.write("token", "none");
    let token = all.user.path("token");
    std::fs::set_permissions(token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let early = all.run(&["plugin", "publish", "toy.wasm", "--key", "early.key"]);
    assert!(early.talk.contains("sentinel registry approve acme ed25519:"), "{}", early.talk);
    all.approve_acme();
    all.publish("1.0.0");
    let twice = all.done(&["plugin", "publish", "toy.wasm", "--key", "acme.key"]);
    assert!(twice.talk.contains("already"), "{}", twice.talk);
    all.publish("1.1.0");
    let found = all.json(&["plugin", "search", "toy"]);
    assert_eq!(found[0]["newest"], "1.1.0");
    assert_eq!(found[0]["versions"], serde_json::json!(["1.1.0", "1.0.0"]));
    all.done(&["plugin", "yank", "acme/toy@1.1.0", "--key", "acme.key"]);
    assert_eq!(all.json(&["plugin", "search"])[0]["newest"], "1.0.0");
    let status = all.json(&["registry", "status"]);
    assert_eq!(status["publishers"][0]["releases"], 2);
    let roles: Vec<_> =
        status["files"].as_array().unwrap().iter().map(|f| f["role"].clone()).collect();
    assert_eq!(roles, ["root", "timestamp", "snapshot", "targets", "index"]);
}

#[test]
fn other_bytes_under_a_published_version_are_refused() {
    let all = everybody();
    all.approve_acme();
    all.publish("1.0.0");
    all.user.write("core.wasm", module::transform(r#"{"type":"object","title":"other"}"#));
    all.pack("1.0.0");
    let refused = all.run(&["plugin", "publish", "toy.wasm", "--key", "acme.key"]);
    assert_eq!(refused.code, 1);
    assert!(refused.talk.contains("a release never changes"), "{}", refused.talk);
}

#[test]
fn a_revoked_plugin_and_key_are_found_by_nobody() {
    let all = everybody();
    all.approve_acme();
    all.publish("1.0.0");
    all.publish("1.1.0");
    let unknown = all.run(&["plugin", "revoke", "acme/toy@9.9.9", "--key", "offline/targets.key"]);
    assert!(unknown.talk.contains("acme/toy has no release 9.9.9"), "{}", unknown.talk);
    all.publish("1.2.0");
    let keyless = all.run(&["plugin", "revoke", "acme/toy@1.2.0"]);
    assert!(keyless.talk.contains("the targets key of the registry is needed"), "{}", keyless.talk);
    all.done(&["plugin", "revoke", "acme/toy@1.2.0", "--key", "offline/targets.key"]);
    assert_eq!(all.json(&["plugin", "search"])[0]["newest"], "1.1.0");
    let digest = |version: &str| {
        all.pack(version);
        let found = all.json(&["plugin", "publish", "toy.wasm", "--key", "acme.key"]);
        found["digest"].as_str().unwrap().to_owned()
    };
    let newest = digest("1.1.0");
    all.done(&["registry", "revoke", "acme", "--digest", &newest, "--key", "offline/targets.key"]);
    assert_eq!(all.json(&["plugin", "search"])[0]["newest"], "1.0.0");
    let status = all.json(&["registry", "status"]);
    let key = status["publishers"][0]["keys"][0].as_str().unwrap().to_owned();
    all.done(&[
        "registry",
        "revoke",
        "acme",
        "--revoked-key",
        &key,
        "--key",
        "offline/targets.key",
    ]);
    assert_eq!(all.json(&["plugin", "search"]), serde_json::json!([]));
    let refused = all.run(&["plugin", "publish", "toy.wasm", "--key", "acme.key"]);
    assert!(refused.talk.contains("does not know the key"), "{}", refused.talk);
}

#[test]
fn every_key_rotates_and_those_who_know_the_registry_follow() {
    let mut all = everybody();
    all.approve_acme();
    all.publish("1.0.0");
    for (role, version) in [("root", 2), ("targets", 3), ("online", 4)] {
        let (keys, out) = (format!("new-{role}"), format!("signed-{role}"));
        let mut arguments = vec!["registry", "rotate", role, "--new-keys", &keys, "--out", &out];
        arguments.extend(["--root-key", "offline/root.key"]);
        if role == "online" {
            arguments.extend(["--targets-key", "offline/targets.key"]);
        }
        let signed = all.json(&arguments);
        let files: Vec<_> =
            signed["signed"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
        let folder = if role == "online" { "registry/keys" } else { "offline" };
        for key in std::fs::read_dir(all.user.path(&keys)).unwrap() {
            let key = key.unwrap();
            let to = all.user.path(folder).join(key.file_name());
            std::fs::rename(key.path(), to).unwrap();
        }
        all.registry.child.kill().unwrap();
        all.registry.child.wait().unwrap();
        let install = ["registry", "--data", "registry", "install"];
        all.user.done(&[&install[..], &files[..]].concat());
        // Its address stays what others know it by, whatever its port.
        let known = known(&all.user);
        all.registry = Registry::start(&all.user);
        let status = all.json(&["registry", "status", "--known", &known]);
        assert_eq!(status["files"][0]["version"], version, "{role}");
    }
    all.publish("1.1.0");
    let key = all.run(&["registry", "renew", "targets", "--key", "offline/root.key"]);
    assert!(key.talk.contains("is a key for root"), "{}", key.talk);
    all.done(&["registry", "renew", "targets", "--key", "offline/targets.key"]);
    let root = |status: &Value| status["files"][0]["expires_at"].clone();
    let before = root(&all.json(&["registry", "status"]));
    all.done(&["registry", "renew", "root", "--key", "offline/root.key"]);
    // For a year, as at the beginning: not for as long as targets.
    let after = root(&all.json(&["registry", "status"]));
    assert!(after.as_i64() >= before.as_i64(), "{before} {after}");
}

/// The folder of what the user knows of the registry, of whichever there is.
fn known(user: &program::User) -> String {
    let folder = user.path(".local/share/sentinel/registries");
    let first = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    first.path().to_str().unwrap().to_owned()
}

#[test]
fn a_bundle_reaches_a_host_without_a_network() {
    let all = everybody();
    all.approve_acme();
    all.publish("1.0.0");
    let operator = RoleKey::generate(KeyPurpose::Operator).unwrap();
    let file = all.user.write("operator.key", operator.to_file_text().as_bytes());
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let public = operator.public().to_string();
    all.done(&["registry", "enrolment", "--operator", &public, "--out", "hosts.json"]);
    all.done(&[
        "plugin",
        "bundle",
        "create",
        "acme/toy@^1",
        "--operator-key",
        "operator.key",
        "-o",
        "b.bundle",
    ]);
    // On another machine: nothing listens there.
    let install = |file: &str, enrolment: &str| {
        all.user.run(&[
            "plugin",
            "bundle",
            "install",
            file,
            "--registry",
            "http://127.0.0.1:1",
            "--enrolment",
            enrolment,
            "--known",
            &format!("known-by-{enrolment}"),
        ])
    };
    let said = install("b.bundle", "hosts.json");
    assert_eq!((said.code, said.data.as_str()), (0, "acme/toy@1.0.0\n"), "{}", said.talk);
    let unsealed = install("b.bundle", "registry/enrolment.json");
    assert!(unsealed.talk.contains("not sealed by an operator"), "{}", unsealed.talk);
    let mut bytes = std::fs::read(all.user.path("b.bundle")).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    all.user.write("damaged.bundle", bytes);
    let damaged = install("damaged.bundle", "hosts.json");
    assert!(damaged.talk.contains("cut short or changed"), "{}", damaged.talk);
}
