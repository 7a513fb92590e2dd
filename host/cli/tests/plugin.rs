//! From a core module to a signed plugin, by the commands that authors use.

mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use program::{Commands, User, module};
use sentinel_trust::{PublicKey, TrustPolicy, verify};

const SCHEMA: &str = r#"{"type":"object","properties":{"keep":{"type":"string","description":"What to keep."}},"required":["keep"]}"#;

const MANIFEST: &str = "\
name: acme/toy
version: 1.2.3
kind: transform
description: >-
  Keeps what it is told
  to keep.
license: Apache-2.0
authors: [Somebody]
limits:
  call_ms: 2500
";

/// An author with a module, a manifest and a key.
fn author() -> User {
    let user = User::new();
    user.write("core.wasm", module::transform(SCHEMA));
    user.write("plugin.yaml", MANIFEST);
    user.done(&["plugin", "keygen", "--publisher", "acme", "--out", "acme.key"]);
    user
}

fn pack(user: &User) {
    user.done(&["plugin", "pack", "core.wasm", "--manifest", "plugin.yaml", "-o", "toy.wasm"]);
}

/// Digests and key ids differ from run to run, or from build to build.
fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("sha256:[0-9a-f]{64}", "sha256:[digest]");
    settings.add_filter("ed25519:[A-Za-z0-9+/]{43}=", "ed25519:[key]");
    settings.add_filter(r"(key:? |key_id: )[0-9a-f]{16}", "${1}[id]");
    settings.add_filter(r"[0-9.]+ KiB\)", "[size])");
    settings.add_filter(r"(?m)^(size +)[0-9.]+ KiB", "${1}[size]");
    settings
}

#[test]
fn a_module_becomes_a_plugin_that_a_host_trusts() {
    let user = author();
    settings().bind(|| {
        let packed = user.run(&[
            "plugin",
            "pack",
            "core.wasm",
            "--manifest",
            "plugin.yaml",
            "-o",
            "toy.wasm",
        ]);
        insta::assert_snapshot!("packed", packed.whole());
        insta::assert_snapshot!(
            "signed",
            user.run(&["plugin", "sign", "toy.wasm", "--key", "acme.key"]).whole()
        );
        insta::assert_snapshot!("inspected", user.run(&["plugin", "inspect", "toy.wasm"]).whole());
    });

    let key = user.done(&["plugin", "keygen", "--publisher", "acme", "--out", "other.key"]).data;
    let other: PublicKey = key.trim().parse().unwrap();
    let signed = fs::read(user.path("toy.wasm.sig")).unwrap();
    let bytes = fs::read(user.path("toy.wasm")).unwrap();
    let text = fs::read_to_string(user.path("acme.key")).unwrap();
    let text: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ours: PublicKey = text["public"].as_str().unwrap().parse().unwrap();
    let judge = |key| {
        verify(bytes.clone().into(), &signed, &TrustPolicy::trusting("acme".parse().unwrap(), key))
    };
    let verified = judge(ours).unwrap();
    assert_eq!(verified.manifest().description, "Keeps what it is told to keep.");
    assert_eq!(
        serde_json::Value::from(verified.manifest().config_schema.clone()).to_string().len(),
        SCHEMA.len()
    );
    assert!(judge(other).is_err());
}

#[test]
fn a_key_is_private_and_never_overwritten() {
    let user = author();
    let before = fs::read(user.path("acme.key")).unwrap();
    assert_eq!(fs::metadata(user.path("acme.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let again = user.run(&["plugin", "keygen", "--publisher", "acme", "--out", "acme.key"]);
    insta::assert_snapshot!(again.whole());
    assert_eq!(fs::read(user.path("acme.key")).unwrap(), before);
}

#[test]
fn keygen_prints_the_public_key_and_nothing_else_as_data() {
    let user = User::new();
    settings().bind(|| {
        insta::assert_snapshot!(
            user.run(&["plugin", "keygen", "--publisher", "acme", "--out", "k"]).whole()
        );
    });
}

#[test]
fn a_key_that_others_may_read_signs_nothing() {
    let user = author();
    pack(&user);
    fs::set_permissions(user.path("acme.key"), fs::Permissions::from_mode(0o644)).unwrap();
    insta::assert_snapshot!(user.run(&["plugin", "sign", "toy.wasm", "--key", "acme.key"]).whole());
    assert!(!user.path("toy.wasm.sig").exists());
}

#[test]
fn another_publishers_plugin_is_not_signed() {
    let user = author();
    pack(&user);
    user.done(&["plugin", "keygen", "--publisher", "evil", "--out", "evil.key"]);
    settings().bind(|| {
        insta::assert_snapshot!(
            user.run(&["plugin", "sign", "toy.wasm", "--key", "evil.key"]).whole()
        );
    });
    assert!(!user.path("toy.wasm.sig").exists());
}

#[test]
fn packing_again_gives_the_same_bytes_and_drops_the_old_signature() {
    let user = author();
    pack(&user);
    let first = fs::read(user.path("toy.wasm")).unwrap();
    user.done(&["plugin", "sign", "toy.wasm", "--key", "acme.key"]);
    pack(&user);
    assert_eq!(fs::read(user.path("toy.wasm")).unwrap(), first);
    assert!(!user.path("toy.wasm.sig").exists());
    // A component is taken as it is; its manifest is replaced.
    user.done(&["plugin", "pack", "toy.wasm", "--manifest", "plugin.yaml", "-o", "again.wasm"]);
    assert_eq!(fs::read(user.path("again.wasm")).unwrap(), first);
}

#[test]
fn a_manifest_with_problems_has_them_all_said_with_their_lines() {
    let user = author();
    user.write(
        "plugin.yaml",
        MANIFEST.replace("kind: transform", "kind: nothing").replace("license", "licence"),
    );
    insta::assert_snapshot!(
        user.run(&["plugin", "pack", "core.wasm", "-m", "plugin.yaml", "-o", "x.wasm"]).whole()
    );
    assert!(!user.path("x.wasm").exists());
}

#[test]
fn a_guest_of_wasi_is_packed_whose_runtime_asks_for_the_time_before_it_describes_itself() {
    let user = author();
    user.write("core.wasm", module::transform_of_wasi(SCHEMA));
    pack(&user);
    let shown = user.done(&["plugin", "inspect", "toy.wasm"]).data;
    assert!(shown.contains("wasi:clocks/monotonic-clock@0.2.9"), "{shown}");
}

#[test]
fn a_plugin_that_no_host_would_run_is_not_packed() {
    for (name, manifest, core) in [
        ("kind", MANIFEST.replace("kind: transform", "kind: collector"), module::transform(SCHEMA)),
        ("request", format!("{MANIFEST}requests:\n  system: true\n"), module::transform(SCHEMA)),
        ("schema", MANIFEST.to_owned(), module::transform("[]")),
        ("not-wasm", MANIFEST.to_owned(), b"#!/bin/sh".to_vec()),
        ("wasi-keyvalue", MANIFEST.to_owned(), module::transform_of_wasi_keyvalue(SCHEMA)),
        ("empty-module", MANIFEST.to_owned(), b"\0asm\x01\0\0\0".to_vec()),
    ] {
        let user = author();
        user.write("plugin.yaml", manifest);
        user.write("core.wasm", core);
        let said = user.run(&["plugin", "pack", "core.wasm", "-m", "plugin.yaml", "-o", "x.wasm"]);
        insta::assert_snapshot!(format!("refused-{name}"), said.whole());
        assert!(!user.path("x.wasm").exists(), "{name}");
    }
}

#[test]
fn inspect_judges_by_a_policy_where_one_is_given() {
    let user = author();
    pack(&user);
    user.done(&["plugin", "sign", "toy.wasm", "--key", "acme.key"]);
    let key = fs::read_to_string(user.path("acme.key")).unwrap();
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    let policy = |publisher: &str| {
        format!(
            "publishers:\n  {publisher}:\n    keys: [\"{}\"]\n",
            key["public"].as_str().unwrap()
        )
    };
    user.write("good.yaml", policy("acme"));
    user.write("bad.yaml", policy("somebody"));
    let judged = |trust: &str| {
        let said = user.run(&["--json", "plugin", "inspect", "toy.wasm", "--trust", trust]);
        (said.code, serde_json::from_str::<serde_json::Value>(&said.data).ok(), said.talk)
    };
    let (code, shown, talk) = judged("good.yaml");
    assert_eq!((code, talk.as_str()), (0, ""));
    assert_eq!(shown.unwrap()["trusted"], true);
    let (code, shown, talk) = judged("bad.yaml");
    assert_eq!((code, shown.unwrap()["trusted"].as_bool()), (1, Some(false)));
    assert!(talk.starts_with("error: toy.wasm: "), "{talk}");
    let (code, shown, talk) = judged("none.yaml");
    assert_eq!((code, shown), (1, None));
    assert!(talk.contains("there is no trust policy none.yaml"), "{talk}");
}

#[test]
fn json_is_one_document_on_standard_output() {
    let user = author();
    for arguments in [
        &["plugin", "pack", "core.wasm", "-m", "plugin.yaml", "-o", "toy.wasm", "--json"][..],
        &["plugin", "sign", "toy.wasm", "-k", "acme.key", "--json"],
        &["plugin", "inspect", "toy.wasm", "--json"],
        &["plugin", "keygen", "--publisher", "a", "--out", "a.key", "--json"],
    ] {
        let said = user.done(arguments);
        let value: Result<serde_json::Value, _> = serde_json::from_str(&said.data);
        assert!(value.is_ok_and(|value| value.is_object()), "{arguments:?}: {}", said.data);
    }
}
