//! Arbitrary bytes as a publisher's index and as the registry's metadata: never a panic, what
//! reads can be written and read again, and nothing counts that no key signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sentinel_trust::PublisherKey;
use sentinel_trust::repository::{
    Enrolment, MetadataFile, Role, RootSpec, SignedIndex, TargetsSpec, index_entries,
};

fuzz_target!(|bytes: &[u8]| {
    let key = PublisherKey::from_secret("acme".parse().expect("a name"), &[1; 32]);
    if let Ok(index) = SignedIndex::read(bytes.to_vec()) {
        assert!(index.verify(&[key.public()]).is_err());
        if index.index().publisher == *key.publisher() {
            let again = index.index().sign(&key).expect("what was read is within its bounds");
            assert_eq!(again.index(), index.index());
            again.verify(&[key.public()]).expect("it was just signed");
        }
    }
    for role in Role::ALL {
        if let Ok(file) = MetadataFile::read(role, bytes.to_vec()) {
            let _ = (RootSpec::read(&file), TargetsSpec::read(&file), index_entries(&file));
        }
    }
    let _ = Enrolment::from_json(bytes);
});
