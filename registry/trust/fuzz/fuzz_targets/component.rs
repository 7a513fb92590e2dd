//! Arbitrary bytes as a component: an error or an answer, never a panic, and whatever can be
//! read can be given a manifest and read again. The header is put before them, so that the fuzzer
//! spends its time behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sentinel_trust::{ComponentShape, Manifest, Unverified, embed};

const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
const MANIFEST: &[u8] = br#"{"format":1,"name":"a/b","version":"1.0.0","kind":"collector","contract":"0.1.0","description":"d","license":"l"}"#;

fuzz_target!(|tail: &[u8]| {
    let bytes = &[HEADER, tail].concat();
    if let Ok(unverified) = Unverified::read(bytes) {
        let _ = unverified.problems();
    }
    if ComponentShape::read(bytes).is_ok() {
        let manifest = Manifest::from_json(MANIFEST).expect("the manifest is good");
        let embedded = embed(bytes, &manifest).expect("what can be read can be given a manifest");
        let again = Unverified::read(&embedded).expect("and can be read again");
        assert_eq!(again.manifest(), &manifest);
    }
});
