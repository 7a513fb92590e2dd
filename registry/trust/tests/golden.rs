//! Bytes that must never change: what is signed, and the files that people keep.

mod fixture;

use fixture::key;
use insta::assert_snapshot;
use sentinel_trust::{
    Claim, Digest, KeyError, PublicKey, PublicKeyFile, PublisherKey, Release, TrustPolicy,
};

#[test]
fn the_signed_message_is_these_bytes() {
    let claim = Claim {
        release: Release {
            name: "acme/probe".parse().unwrap(),
            version: semver::Version::new(1, 2, 3),
        },
        digest: Digest::from_bytes([0xab; 32]),
    };
    let expected = concat!(
        "73656e74696e656c2d706c7567696e2d763100", // "sentinel-plugin-v1\0"
        "0000000a61636d652f70726f6265",           // 10, "acme/probe"
        "00000005312e322e33",                     // 5, "1.2.3"
        "00000020abababababababababababababababababababababababababababababababab",
    );
    assert_eq!(hex::encode(claim.message()), expected);
}

#[test]
fn the_key_of_the_first_test_of_rfc_8032_reads_and_prints() {
    let mut secret = [0; 32];
    hex::decode_to_slice(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        &mut secret,
    )
    .unwrap();
    let key = PublisherKey::from_secret("acme".parse().unwrap(), &secret);
    assert_eq!(
        hex::encode(key.public().as_bytes()),
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    );
    assert_snapshot!(key.public(), @"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    assert_snapshot!(key.id(), @"21fe31dfa154a261");
    assert_snapshot!(key.to_file_text().as_str());
    assert_snapshot!(serde_json::to_string_pretty(&PublicKeyFile::from(&key)).unwrap());
}

#[test]
fn a_secret_key_file_reads_back_and_never_prints() {
    let key = PublisherKey::generate("acme".parse().unwrap()).unwrap();
    let text = key.to_file_text();
    let again = PublisherKey::from_file_text(text.as_bytes()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(again.publisher(), key.publisher());
    let secret = text.split("\"secret\": \"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(secret.len(), 44);
    assert!(!format!("{key:?}").contains(secret));
    assert_ne!(PublisherKey::generate("acme".parse().unwrap()).unwrap().public(), key.public());
}

#[test]
fn a_secret_key_file_that_is_damaged_is_refused_without_repeating_it() {
    let text = key("acme", 1).to_file_text();
    for (name, damaged) in [
        ("empty", String::new()),
        ("another format", text.replace("key-v1", "key-v2")),
        ("another publisher's alphabet", text.replace("acme", "Acme")),
        ("a short secret", text.replace("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "AQEB")),
        (
            "a long secret",
            text.replace("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", &"AQEB".repeat(100)),
        ),
        (
            "another secret",
            text.replace(
                "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
                "AgEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
            ),
        ),
        ("an unknown field", text.replace("{", "{\"x\": 1,")),
        ("too long", format!("{}{}", text.as_str(), " ".repeat(5000))),
    ] {
        let error = PublisherKey::from_file_text(damaged.as_bytes()).expect_err(name);
        assert!(matches!(error, KeyError::NotASecretKey(_)), "{name}");
        assert!(!error.to_string().contains("AQEB"), "{name}: {error}");
    }
}

#[test]
fn a_public_key_that_proves_nothing_is_refused() {
    // The neutral point: every signature rule but the strict one accepts forgeries under it.
    let neutral = "ed25519:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(matches!(neutral.parse::<PublicKey>(), Err(KeyError::WeakPublicKey(_))));
    for text in ["", "ed25519:", "ed25519:AAAA", "rsa:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
    {
        assert!(matches!(text.parse::<PublicKey>(), Err(KeyError::NotAPublicKey(_))), "{text}");
    }
}

#[test]
fn a_policy_reads_revoked_keys_in_both_forms_and_reports_what_cannot_be_meant() {
    let (a, b) = (key("acme", 1).public(), key("acme", 2).public());
    let json = serde_json::json!({
        "publishers": {
            "acme": {"keys": [a, a], "revoked": [b.to_string(), a.id().to_string()]},
            "other": {"keys": [a]},
            "empty": {},
        },
    });
    let policy: TrustPolicy = serde_json::from_value(json).unwrap();
    assert!(policy.is_revoked(a.id()) && policy.is_revoked(b.id()));
    assert_snapshot!(policy.problems().join("\n"));
    let again: TrustPolicy =
        serde_json::from_str(&serde_json::to_string(&policy).unwrap()).unwrap();
    assert_eq!(again, policy);
    for wrong in [
        "{\"publisher\": {}}",
        "{\"publishers\": {\"a/b\": {}}}",
        "{\"publishers\": {\"a\": {\"revoked\": [\"x\"]}}}",
    ] {
        assert!(serde_json::from_str::<TrustPolicy>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_people_write_has_a_json_schema_that_accepts_it() {
    use sentinel_trust::{Grants, Manifest};
    let cases = [
        (schemars::schema_for!(Manifest), fixture::manifest_json()),
        (
            schemars::schema_for!(Grants),
            serde_json::json!({
                "http": {
                    "origins": ["https://a.example"],
                    "methods": ["POST"],
                    "secrets": [{"name": "t", "origin": "https://a.example", "place": {"header": "authorization"}}]
                },
                "files": {"paths": ["/var/log/*.log"]}
            }),
        ),
        (
            schemars::schema_for!(TrustPolicy),
            serde_json::json!({"publishers": {"acme": {"keys": [key("acme", 1).public()], "revoked": ["0123456789abcdef"]}}}),
        ),
    ];
    for (schema, example) in cases {
        let validator = jsonschema::draft202012::new(schema.as_value()).unwrap();
        let errors: Vec<_> =
            validator.iter_errors(&example).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        let mut wrong = example.clone();
        wrong["unheard-of"] = true.into();
        assert!(!validator.is_valid(&wrong));
    }
}

#[test]
fn a_manifest_reads_back_as_it_was_written() {
    let json = serde_json::json!({
        "requests": {
            "http": {"origins": ["https://*", "http://127.0.0.1:*"], "methods": ["GET"]},
            "files": {"paths": "from-config"},
            "kv": {}
        },
        "limits": {"memory_bytes": 1 << 20}
    });
    let mut written = fixture::manifest_json();
    written.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
    let manifest = sentinel_trust::Manifest::from_json(written.to_string().as_bytes()).unwrap();
    let embedded = manifest.to_json().unwrap();
    assert_eq!(sentinel_trust::Manifest::from_json(&embedded).unwrap(), manifest);
    assert_snapshot!(String::from_utf8(embedded).unwrap());
}
