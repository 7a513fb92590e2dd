//! A signature file of arbitrary bytes vouches for nothing that its key did not sign.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sentinel_trust::{PublisherKey, TrustPolicy, verify};

fuzz_target!(|input: (&[u8], &[u8])| {
    let (component, signatures) = input;
    let key = PublisherKey::from_secret("acme".parse().expect("a name"), &[1; 32]);
    let policy = TrustPolicy::trusting(key.publisher().clone(), key.public());
    assert!(verify(Arc::from(component), signatures, &policy).is_err());
});
