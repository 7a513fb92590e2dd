//! Time. Always granted.

use super::host_call;
#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sentinel::plugin::clock as import;

/// Unix time in milliseconds.
pub fn now() -> i64 {
    host_call!(import::now(), crate::testing::with_host(|host| host.now()))
}

/// Nanoseconds since some fixed point; never goes back.
pub fn monotonic() -> u64 {
    host_call!(import::monotonic(), crate::testing::with_host(|host| host.monotonic()))
}
