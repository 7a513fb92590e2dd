//! Each reason for which a plugin is refused, with the message that an operator reads.

mod fixture;

use std::sync::Arc;

use fixture::{Import, Signed, component, component_of, key, manifest, manifest_json, manifest_of};
use insta::assert_snapshot;
use sentinel_trust::{
    Kind, MANIFEST_SECTION, MAX_COMPONENT_BYTES, Manifest, Requests, SignatureBytes, TrustError,
    TrustPolicy, sign, verify,
};
use wasm_encoder::ComponentSection as _;

fn refusal(signed: &Signed) -> TrustError {
    signed.verify().expect_err("it must be refused")
}

/// Signs a plugin whose inside `sign` would refuse to look at: a key holder can sign anything.
fn signed_whatever(bytes: Vec<u8>) -> Signed {
    let mut signed = Signed::good();
    signed.file.digest = sentinel_trust::Digest::of(&bytes);
    signed.bytes = bytes;
    resign(&mut signed);
    signed
}

/// Makes the signature fit the file's claim again.
fn resign(signed: &mut Signed) {
    use ed25519_dalek::Signer as _;
    let secret = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let bytes = secret.sign(&signed.file.claim().message()).to_bytes();
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    signed.file.signatures[0].signature = text.parse::<SignatureBytes>().unwrap();
}

fn with_section(mut component: Vec<u8>, json: &[u8]) -> Vec<u8> {
    wasm_encoder::CustomSection { name: MANIFEST_SECTION.into(), data: json.into() }
        .append_to_component(&mut component);
    component
}

#[test]
fn a_good_plugin_is_verified() {
    let signed = Signed::good();
    let verified = signed.verify().unwrap();
    assert_eq!(verified.name().as_str(), "acme/probe");
    assert_eq!(verified.version().to_string(), "1.2.3");
    assert_eq!(verified.digest(), sentinel_trust::Digest::of(&signed.bytes));
    assert_eq!(verified.bytes().unwrap()[..], signed.bytes[..]);
    let light = verified.without_bytes();
    assert!(light.bytes().is_none());
    assert_eq!((light.digest(), light.manifest()), (verified.digest(), verified.manifest()));
    light.recheck(&signed.policy).unwrap();
    assert_eq!(verified.manifest(), &manifest());
    assert_eq!(verified.signers(), [key("acme", 1).public()]);
    verified.recheck(&signed.policy).unwrap();
}

#[test]
fn an_unsigned_plugin_is_refused() {
    let signed = Signed::good();
    let error = verify(Arc::from(signed.bytes), b"", &signed.policy).unwrap_err();
    assert!(matches!(error, TrustError::Unsigned));
    assert_snapshot!(error);
}

#[test]
fn a_signature_file_without_signatures_is_as_good_as_none() {
    let mut signed = Signed::good();
    signed.file.signatures.clear();
    assert!(matches!(refusal(&signed), TrustError::Unsigned));
}

#[test]
fn a_signature_file_that_is_not_one_is_refused() {
    let signed = Signed::good();
    let bytes: Arc<[u8]> = Arc::from(signed.bytes);
    for (name, text) in [
        ("not JSON", "hello".to_owned()),
        ("another format", signed.file.to_json().replace("\"format\": 1", "\"format\": 2")),
        (
            "an unknown field",
            signed.file.to_json().replace("\"format\": 1", "\"format\": 1, \"note\": \"\""),
        ),
        ("a path as name", signed.file.to_json().replace("acme/probe", "acme/../probe")),
        ("too big", format!("{}{}", signed.file.to_json(), " ".repeat(70_000))),
    ] {
        let error = verify(bytes.clone(), text.as_bytes(), &signed.policy).unwrap_err();
        assert!(matches!(error, TrustError::BadSignatureFile(_)), "{name}: {error}");
        insta::with_settings!({description => name}, { assert_snapshot!(error) });
    }
}

#[test]
fn more_signatures_than_the_bound_are_refused() {
    let mut signed = Signed::good();
    signed.file.signatures = vec![signed.file.signatures[0].clone(); 17];
    assert_snapshot!(refusal(&signed));
}

#[test]
fn a_plugin_that_is_too_big_is_refused_before_anything_is_read() {
    let policy = TrustPolicy::default();
    let error = verify(Arc::from(vec![0; MAX_COMPONENT_BYTES + 1]), b"", &policy).unwrap_err();
    assert!(matches!(error, TrustError::TooBig { .. }));
    assert_snapshot!(error);
}

#[test]
fn a_plugin_of_an_unknown_publisher_is_refused() {
    let mut signed = Signed::good();
    signed.policy = TrustPolicy::default();
    let error = refusal(&signed);
    assert!(matches!(error, TrustError::UnknownPublisher { .. }));
    assert_snapshot!(error);
}

#[test]
fn a_signature_by_a_key_that_the_policy_does_not_name_is_refused() {
    let mut signed = Signed::good();
    signed.file = sign(&signed.bytes, &key("acme", 2), None).unwrap();
    let error = refusal(&signed);
    assert!(matches!(error, TrustError::UnknownKey { .. }));
    assert_snapshot!(error);
}

#[test]
fn a_key_of_one_publisher_does_not_speak_for_another() {
    let mut signed = Signed::good();
    let mallory = key("mallory", 3);
    // Mallory's tools let her sign in acme's name; the host does not.
    let impostor = sentinel_trust::PublisherKey::from_secret("acme".parse().unwrap(), &[3; 32]);
    signed.file = sign(&signed.bytes, &impostor, None).unwrap();
    let trusted = TrustPolicy::trusting("mallory".parse().unwrap(), mallory.public());
    signed.policy.publishers.extend(trusted.publishers);
    let error = refusal(&signed);
    assert!(matches!(error, TrustError::WrongPublisher { .. }));
    assert_snapshot!(error);
}

#[test]
fn a_revoked_key_no_longer_speaks() {
    let mut signed = Signed::good();
    let running = signed.verify().unwrap();
    let key = key("acme", 1);
    signed.policy.publishers.get_mut(key.publisher()).unwrap().revoked.insert(key.id());
    let error = refusal(&signed);
    assert!(matches!(error, TrustError::KeyRevoked { .. }));
    assert_snapshot!(error);
    assert!(matches!(running.recheck(&signed.policy), Err(TrustError::KeyRevoked { .. })));
}

#[test]
fn a_key_revoked_under_one_publisher_is_revoked_under_all() {
    let mut signed = Signed::good();
    let other = "other".parse().unwrap();
    signed.policy.publishers.entry(other).or_default().revoked.insert(key("acme", 1).id());
    assert!(matches!(refusal(&signed), TrustError::KeyRevoked { .. }));
}

#[test]
fn one_good_signature_suffices_beside_a_revoked_one() {
    let mut signed = Signed::good();
    let (old, new) = (key("acme", 1), key("acme", 2));
    signed.file = sign(&signed.bytes, &new, Some(&signed.file)).unwrap();
    let trust = signed.policy.publishers.get_mut(old.publisher()).unwrap();
    trust.keys.push(new.public());
    trust.revoked.insert(old.id());
    assert_eq!(signed.verify().unwrap().signers(), [new.public()]);
}

#[test]
fn a_revoked_digest_is_refused_whoever_signed_it() {
    let mut signed = Signed::good();
    let running = signed.verify().unwrap();
    signed.policy.revoked_digests.insert(signed.file.digest);
    let error = refusal(&signed);
    assert!(matches!(error, TrustError::DigestRevoked { .. }));
    insta::with_settings!({filters => vec![("sha256:[0-9a-f]{64}", "sha256:[digest]")]}, { assert_snapshot!(error) });
    assert!(matches!(running.recheck(&signed.policy), Err(TrustError::DigestRevoked { .. })));
}

#[test]
fn a_plugin_that_was_changed_after_signing_is_refused() {
    let mut signed = Signed::good();
    let last = signed.bytes.len() - 1;
    signed.bytes[last] ^= 1;
    let error = refusal(&signed);
    assert!(matches!(error, TrustError::Tampered { .. }));
    insta::with_settings!({filters => vec![("sha256:[0-9a-f]{64}", "sha256:[digest]")]}, { assert_snapshot!(error) });
}

#[test]
fn a_signature_moved_to_another_plugin_is_wrong() {
    let mut signed = Signed::good();
    let last = signed.bytes.len() - 1;
    signed.bytes[last] ^= 1;
    signed.file.digest = sentinel_trust::Digest::of(&signed.bytes);
    let error = refusal(&signed);
    assert!(matches!(error, TrustError::WrongSignature { .. }));
    assert_snapshot!(error);
}

#[test]
fn a_claim_of_another_version_is_wrong() {
    let mut signed = Signed::good();
    signed.file.version = semver::Version::new(9, 9, 9);
    assert!(matches!(refusal(&signed), TrustError::WrongSignature { .. }));
}

#[test]
fn a_plugin_signed_under_another_version_than_its_own_is_refused() {
    let mut signed = Signed::good();
    signed.file.version = semver::Version::new(9, 9, 9);
    resign(&mut signed);
    let error = refusal(&signed);
    assert!(matches!(error, TrustError::OtherName { .. }));
    assert_snapshot!(error);
}

#[test]
fn a_core_module_is_no_component() {
    let error = refusal(&signed_whatever(wasm_encoder::Module::new().finish()));
    assert!(matches!(error, TrustError::NotAComponent(_)));
    assert_snapshot!(error);
}

#[test]
fn a_text_file_is_no_component() {
    let error = refusal(&signed_whatever(b"#!/bin/sh\n".to_vec()));
    assert!(matches!(error, TrustError::NotAComponent(_)));
    assert_snapshot!(error);
}

#[test]
fn a_truncated_component_is_no_component() {
    let mut bytes = Signed::good().bytes;
    bytes.truncate(bytes.len() - 10);
    let error = refusal(&signed_whatever(bytes));
    assert!(matches!(error, TrustError::NotAComponent(_)));
    assert_snapshot!(error);
}

#[test]
fn a_component_without_a_manifest_is_refused() {
    let error = refusal(&signed_whatever(component_of(Kind::Collector, &[])));
    assert!(matches!(error, TrustError::NoManifest(_)));
    assert_snapshot!(error);
}

#[test]
fn a_component_with_two_manifests_is_refused() {
    let json = manifest().to_json().unwrap();
    let error = refusal(&signed_whatever(with_section(Signed::good().bytes, &json)));
    assert!(matches!(error, TrustError::NoManifest(_)));
    assert_snapshot!(error);
}

#[test]
fn a_manifest_inside_a_nested_component_does_not_count() {
    let inner = Signed::good().bytes;
    let mut outer = wasm_encoder::Component::new();
    outer.section(&wasm_encoder::RawSection { id: 4, data: &inner });
    let error = refusal(&signed_whatever(outer.finish()));
    assert!(matches!(error, TrustError::NoManifest(_)), "{error}");
}

#[test]
fn a_manifest_with_values_out_of_bounds_is_refused_with_all_of_them() {
    let mut json = manifest_json();
    json["version"] = "1.0.0+build".into();
    json["description"] = " ".into();
    json["license"] = "Apache\u{1b}[2J".into();
    json["kind"] = "transform".into();
    json["requests"] = serde_json::json!({"system": true, "kv": {"max_bytes": 0}});
    json["limits"] = serde_json::json!({"memory_bytes": 1_u64 << 40, "call_ms": 0});
    json["config_schema"] = serde_json::json!({"type": "string"});
    json["metrics"] = serde_json::json!([{"name": "probe-up", "unit": "1", "help": "Up."}]);
    let bytes = with_section(component_of(Kind::Transform, &[]), json.to_string().as_bytes());
    let error = refusal(&signed_whatever(bytes));
    assert!(matches!(error, TrustError::BadManifest(_)));
    assert_snapshot!(error);
}

#[test]
fn a_manifest_of_the_wrong_shape_is_refused() {
    for (name, change) in [
        ("an unknown field", serde_json::json!({"wishes": {}})),
        ("an unknown request", serde_json::json!({"requests": {"root": true}})),
        ("an unknown kind", serde_json::json!({"kind": "miner"})),
        ("a name that is a path", serde_json::json!({"name": "../../etc/passwd"})),
        ("a relative path", serde_json::json!({"requests": {"files": {"paths": ["etc/*"]}}})),
        (
            "neither list nor word",
            serde_json::json!({"requests": {"files": {"paths": "anything"}}}),
        ),
        (
            "an empty list",
            serde_json::json!({"requests": {"http": {"origins": [], "methods": ["GET"]}}}),
        ),
        (
            "an origin with a path",
            serde_json::json!({"requests": {"http": {"origins": ["https://a.example/x"], "methods": ["GET"]}}}),
        ),
        ("a newer format", serde_json::json!({"format": 2, "wishes": {}})),
    ] {
        let mut json = manifest_json();
        json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let bytes = with_section(component_of(Kind::Collector, &[]), json.to_string().as_bytes());
        let error = refusal(&signed_whatever(bytes));
        assert!(matches!(error, TrustError::BadManifest(_)), "{name}: {error}");
        insta::with_settings!({description => name}, { assert_snapshot!(error) });
    }
}

#[test]
fn a_manifest_that_is_too_big_is_refused() {
    let mut json = manifest_json();
    json["config_schema"]["description"] = "x".repeat(sentinel_trust::MAX_MANIFEST_BYTES).into();
    let bytes = with_section(component_of(Kind::Collector, &[]), json.to_string().as_bytes());
    let error = refusal(&signed_whatever(bytes)).to_string();
    assert!(error.contains("at most 262144 are allowed"), "{error}");
}

#[test]
fn a_plugin_for_another_contract_is_refused() {
    let newer = Manifest { contract: semver::Version::new(0, 2, 0), ..manifest() };
    let bytes = component(
        &[Import::Instance("sentinel:plugin/log@0.3.0")],
        &["sentinel:plugin/plugin@0.2.0", "sentinel:plugin/collect@0.2.0"],
    );
    let error = refusal(&Signed::new(&bytes, &newer));
    assert!(matches!(error, TrustError::WrongContract { .. }));
    assert_snapshot!(error);
}

#[test]
fn a_component_of_another_kind_than_its_manifest_says_is_refused() {
    let bytes = component_of(Kind::Notifier, &[]);
    let error = refusal(&Signed::new(&bytes, &manifest()));
    assert!(matches!(error, TrustError::KindMismatch { .. }));
    assert_snapshot!(error);
}

#[test]
fn a_component_that_exports_nothing_is_refused() {
    let error = refusal(&Signed::new(&component(&[], &[]), &manifest()));
    assert!(matches!(error, TrustError::KindMismatch { .. }));
    assert_snapshot!(error);
}

#[test]
fn a_component_that_imports_more_than_it_requests_is_refused_with_all_of_it() {
    let bytes = component_of(
        Kind::Collector,
        &[
            Import::Instance("sentinel:plugin/types@0.1.0"),
            Import::Instance("sentinel:plugin/system@0.1.0"),
            Import::Instance("sentinel:plugin/http@0.1.0"),
            Import::Instance("wasi:http/outgoing-handler@0.2.6"),
            Import::Instance("wasi:io/streams@0.2.6"),
            Import::Instance("evil:corp/backdoor@1.0.0"),
            Import::Type("alias"),
            Import::Func("run-shell"),
        ],
    );
    let requests = Requests { system: true, ..Requests::default() };
    let error = refusal(&Signed::new(&bytes, &manifest_of(Kind::Collector, requests)));
    assert!(matches!(error, TrustError::AsksTooMuch { .. }));
    assert_snapshot!(error);
}

#[test]
fn an_interface_imported_as_a_function_is_not_mistaken_for_the_interface() {
    let bytes = component_of(Kind::Collector, &[Import::Func("log")]);
    assert!(matches!(refusal(&Signed::new(&bytes, &manifest())), TrustError::AsksTooMuch { .. }));
}
