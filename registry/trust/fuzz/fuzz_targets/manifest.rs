//! Arbitrary bytes as each of the JSON files: never a panic, and what reads can be written and
//! read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sentinel_trust::{Manifest, PublisherKey, SignatureFile};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::from_json(bytes)
        && let Ok(json) = manifest.to_json()
    {
        // Not compared whole: a float in a config schema may lose its last bit.
        let again = Manifest::from_json(&json).expect("it was just written");
        assert_eq!(
            (again.release(), again.requests),
            (manifest.release(), manifest.requests.clone())
        );
        let _ = manifest.check_schema_compiles();
    }
    if let Ok(file) = SignatureFile::from_json(bytes) {
        assert_eq!(SignatureFile::from_json(file.to_json().as_bytes()), Ok(file));
    }
    let _ = PublisherKey::from_file_text(bytes);
});
