//! Bounded state that survives restarts and swaps. Capability `kv`.
//!
//! Writes of a call become durable together with the call's result, or not at all.

use super::host_call;
#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sentinel::plugin::kv as import;

pub use crate::bindings::host::sentinel::plugin::kv::KvError;

/// The value of a key.
pub fn get(key: &str) -> Option<Vec<u8>> {
    host_call!(import::get(key), crate::testing::with_host(|host| host.kv.get(key).cloned()))
}

/// Sets a key.
///
/// # Errors
///
/// [`KvError`]: the key or value is too large, or the slot's state would pass its grant.
pub fn set(key: &str, value: &[u8]) -> Result<(), KvError> {
    host_call!(import::set(key, value), crate::testing::with_host(|host| host.set_kv(key, value)))
}

/// Removes a key; nothing happens where there is none.
pub fn delete(key: &str) {
    host_call!(
        import::delete(key),
        crate::testing::with_host(|host| {
            host.kv.remove(key);
        })
    );
}

/// Keys that start with `prefix`, sorted, at most 1,000.
pub fn keys(prefix: &str) -> Vec<String> {
    host_call!(import::keys(prefix), crate::testing::with_host(|host| host.kv_keys(prefix)))
}
