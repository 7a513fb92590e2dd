//! Arbitrary entries with a right checksum as a bundle and as what a host trusts: never a
//! panic, no bundle counts that no operator sealed, and what is read can be written. The header and the checksum are put
//! around them, so that the fuzzer spends its time behind both.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sentinel_trust::Digest;
use sentinel_trust::repository::{
    Bundle, Enrolment, KeyPurpose, MinimumVersions, RoleKey, RoleSpec, RootSpec, Trusted, root_file,
};

fn host() -> &'static Trusted {
    static HOST: OnceLock<Trusted> = OnceLock::new();
    HOST.get_or_init(|| {
        let key = RoleKey::from_secret(KeyPurpose::Root, &[1; 32]);
        let one = || RoleSpec::one(key.public());
        let spec = RootSpec { root: one(), targets: one(), snapshot: one(), timestamp: one() };
        let root = root_file(None, &spec, &[&key], i64::MAX / 2).expect("a root");
        let operator = RoleKey::from_secret(KeyPurpose::Operator, &[2; 32]).public();
        let minimum = MinimumVersions::default();
        let enrolment = Enrolment { root, minimum, operators: vec![operator] };
        Trusted::enrolled(&enrolment).expect("a host")
    })
}

fn container(kind: u8, entries: &[u8]) -> Vec<u8> {
    let mut bytes = b"SNTLSET\0\x01\0".to_vec();
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(entries);
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

fuzz_target!(|entries: &[u8]| {
    assert!(Bundle::read(&container(2, entries), host(), 1).is_err());
    let state = container(1, entries);
    if let Ok(trusted) = Trusted::from_bytes(&state) {
        let again = Trusted::from_bytes(&trusted.to_bytes()).expect("it was just written");
        assert_eq!(again.view().versions(), trusted.view().versions());
    }
    let _ = Trusted::from_bytes(entries);
    let _ = Bundle::read(entries, host(), 1);
});
