//! Manifest, digests, signatures and trust policy: pure, no network.
