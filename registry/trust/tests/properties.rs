//! What must hold for every input.

mod fixture;

use std::sync::{Arc, OnceLock};

use fixture::{Import, Signed, component_of, key};
use proptest::prelude::*;
use sentinel_trust::{
    Claim, ComponentShape, Digest, Kind, Manifest, Release, SignatureFile, Unverified, verify,
};

fn good() -> &'static Signed {
    static GOOD: OnceLock<Signed> = OnceLock::new();
    GOOD.get_or_init(Signed::good)
}

/// Every prefix and every single flipped bit of a component, and noise after its header.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let bytes = &good().bytes;
    let flips = prop::collection::vec((0..bytes.len(), 1..=255_u8), 1..8);
    prop_oneof![
        (0..bytes.len()).prop_map(|end| bytes[..end].to_vec()),
        flips.prop_map(|flips| {
            let mut bytes = bytes.clone();
            for (at, mask) in flips {
                bytes[at] ^= mask;
            }
            bytes
        }),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|noise| [&bytes[..8], &noise].concat()),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_signed_component_with_any_byte_flipped_is_refused(at in 0..good().bytes.len(), mask in 1..=255_u8) {
        let mut bytes = good().bytes.clone();
        bytes[at] ^= mask;
        prop_assert!(verify(Arc::from(bytes), good().file.to_json().as_bytes(), &good().policy).is_err());
    }

    #[test]
    fn a_signed_component_with_bytes_added_or_cut_is_refused(end in 0..good().bytes.len(), tail in prop::collection::vec(any::<u8>(), 1..20)) {
        let json = good().file.to_json();
        prop_assert!(verify(Arc::from(&good().bytes[..end]), json.as_bytes(), &good().policy).is_err());
        let longer = [&good().bytes[..], &tail].concat();
        prop_assert!(verify(Arc::from(longer), json.as_bytes(), &good().policy).is_err());
    }

    #[test]
    fn a_signature_file_with_any_byte_changed_never_vouches_for_something_else(at in 0..good().file.to_json().len(), byte in any::<u8>()) {
        let mut json = good().file.to_json().into_bytes();
        json[at] = byte;
        if let Ok(verified) = verify(Arc::from(&good().bytes[..]), &json, &good().policy) {
            // Only white space, or a spelling that reads the same, may have changed.
            prop_assert_eq!(SignatureFile::from_json(&json).unwrap().claim(), good().file.claim());
            prop_assert_eq!(verified.digest(), good().file.digest);
        }
    }

    #[test]
    fn no_bytes_panic_the_reader(bytes in damaged()) {
        if let Ok(shape) = ComponentShape::read(&bytes) {
            let _ = shape.manifest(&bytes);
        }
        let _ = Unverified::read(&bytes).map(|unverified| unverified.problems());
    }

    #[test]
    fn no_bytes_panic_the_manifest_the_signature_file_or_the_key(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0..300_usize, byte in any::<u8>()) {
        let mut json = fixture::manifest_json().to_string().into_bytes();
        let at = at % json.len();
        json[at] = byte;
        for bytes in [&noise, &json] {
            let _ = Manifest::from_json(bytes);
            let _ = SignatureFile::from_json(bytes);
            let _ = sentinel_trust::PublisherKey::from_file_text(bytes);
        }
    }

    #[test]
    fn two_claims_never_give_the_same_message(a in claim(), b in claim()) {
        prop_assert_eq!(a == b, a.message() == b.message());
    }

    #[test]
    fn a_claim_signed_by_one_key_is_not_signed_by_another(seed in 2..=255_u8) {
        let mut signed = Signed::good();
        signed.policy = sentinel_trust::TrustPolicy::trusting("acme".parse().unwrap(), key("acme", seed).public());
        prop_assert!(signed.verify().is_err());
    }
}

fn claim() -> impl Strategy<Value = Claim> {
    ("[a-c]{1,3}/[a-c]{1,3}", 0..3_u64, 0..3_u64, prop::array::uniform32(0..2_u8)).prop_map(
        |(name, major, minor, digest)| Claim {
            release: Release {
                name: name.parse().unwrap(),
                version: semver::Version::new(major, minor, 0),
            },
            digest: Digest::from_bytes(digest),
        },
    )
}

#[test]
fn every_prefix_of_a_component_is_read_without_a_panic() {
    let bytes = component_of(Kind::Collector, &[Import::Instance("sentinel:plugin/log@0.1.0")]);
    for end in 0..bytes.len() {
        let _ = ComponentShape::read(&bytes[..end]);
    }
    assert_eq!(ComponentShape::read(&bytes).unwrap().imports().len(), 1);
}

#[test]
fn a_component_of_more_sections_or_names_than_the_bounds_is_refused() {
    let header = &component_of(Kind::Collector, &[])[..8];
    let mut sections = header.to_vec();
    for _ in 0..=sentinel_trust::MAX_SECTIONS {
        sections.extend([0, 1, 0]);
    }
    let error = ComponentShape::read(&sections).unwrap_err().to_string();
    assert!(error.contains("more than 100000 sections"), "{error}");

    let mut imports = wasm_encoder::ComponentImportSection::new();
    for at in 0..=sentinel_trust::MAX_EXTERNS {
        imports.import(format!("i{at}").as_str(), wasm_encoder::ComponentTypeRef::Instance(0));
    }
    let mut component = wasm_encoder::Component::new();
    component.section(&imports);
    let error = ComponentShape::read(&component.finish()).unwrap_err().to_string();
    assert!(error.contains("more than 1000 imports or exports"), "{error}");
}

#[test]
fn a_nested_module_that_claims_to_be_longer_than_the_file_is_refused() {
    let header = &component_of(Kind::Collector, &[])[..8];
    let bytes = [header, &[1, 0xff, 0xff, 0x7f], b"\0asm\x01\0\0\0"].concat();
    assert!(ComponentShape::read(&bytes).is_err());
}
