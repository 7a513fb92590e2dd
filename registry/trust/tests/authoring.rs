//! What an author's tools do: embed a manifest, sign, say what is wrong before anybody else does.

mod fixture;

use fixture::{Import, Signed, component, component_of, exports, key, manifest, manifest_json};
use insta::assert_snapshot;
use sentinel_trust::{Kind, Manifest, SignatureFile, embed, sign};

#[test]
fn an_author_hears_of_every_misfit_before_signing() {
    let bytes = component(
        &[Import::Instance("sentinel:plugin/http@0.1.0")],
        &[&exports(Kind::Collector)[0]],
    );
    let unverified =
        sentinel_trust::Unverified::read(&embed(&bytes, &manifest()).unwrap()).unwrap();
    let problems: Vec<_> = unverified.problems().iter().map(ToString::to_string).collect();
    assert_snapshot!(problems.join("\n"));
}

#[test]
fn a_key_does_not_sign_what_belongs_to_another_publisher() {
    let error = sign(&Signed::good().bytes, &key("mallory", 3), None).unwrap_err();
    assert_snapshot!(error);
}

#[test]
fn a_config_schema_that_does_not_compile_is_not_embedded() {
    let mut json = manifest_json();
    json["config_schema"] =
        serde_json::json!({"type": "object", "properties": {"a": {"type": "strin"}}});
    let manifest = Manifest::from_json(json.to_string().as_bytes()).unwrap();
    let error = embed(&component_of(Kind::Collector, &[]), &manifest).unwrap_err();
    assert_snapshot!(error);
    json["config_schema"] =
        serde_json::json!({"type": "object", "$ref": "https://example.com/schema.json"});
    let manifest = Manifest::from_json(json.to_string().as_bytes()).unwrap();
    assert_snapshot!(embed(&component_of(Kind::Collector, &[]), &manifest).unwrap_err());
}

#[test]
fn embedding_again_replaces_the_manifest_and_touches_nothing_else() {
    let bare = component_of(Kind::Collector, &[Import::Instance("sentinel:plugin/log@0.1.0")]);
    let first = embed(&bare, &manifest()).unwrap();
    let newer = Manifest { version: semver::Version::new(2, 0, 0), ..manifest() };
    let second = embed(&first, &newer).unwrap();
    assert_eq!(second, embed(&bare, &newer).unwrap());
    assert_eq!(second[..bare.len()], bare[..]);
    wasmparser::Validator::new().validate_all(&second).unwrap();
}

#[test]
fn signing_again_keeps_others_signatures_only_for_the_same_bytes() {
    let signed = Signed::good();
    let second = sign(&signed.bytes, &key("acme", 2), Some(&signed.file)).unwrap();
    assert_eq!(second.signatures.len(), 2);
    let again = sign(&signed.bytes, &key("acme", 2), Some(&second)).unwrap();
    assert_eq!(again, second);
    let newer = Manifest { version: semver::Version::new(2, 0, 0), ..manifest() };
    let other = embed(&signed.bytes, &newer).unwrap();
    assert_eq!(sign(&other, &key("acme", 2), Some(&second)).unwrap().signatures.len(), 1);
    assert_eq!(SignatureFile::from_json(second.to_json().as_bytes()).unwrap(), second);
}
