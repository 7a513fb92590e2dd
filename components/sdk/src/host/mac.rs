//! Message authentication with a key that the plugin cannot see. Capability `mac`.

use super::host_call;
#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sentinel::plugin::mac as import;

pub use crate::bindings::host::sentinel::plugin::mac::MacError;

/// HMAC-SHA256 of `data` (at most 4 MiB) with the named key: 32 bytes.
///
/// # Errors
///
/// [`MacError`]: the key is not granted to this slot, or the host has none of that name.
pub fn sign(key: &str, data: &[u8]) -> Result<Vec<u8>, MacError> {
    host_call!(import::sign(key, data), crate::testing::with_host(|host| host.sign(key, data)))
}
