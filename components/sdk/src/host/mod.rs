//! What a plugin may ask of its host: thin functions over the contract's imports, which answer
//! from [`testing`](crate::testing) doubles when the plugin is built natively.

pub mod clock;
pub mod files;
pub mod http;
pub mod kv;
pub mod log;
pub mod mac;
pub mod mail;
pub mod series;
pub mod system;

/// Calls the import in a component and the double natively.
macro_rules! host_call {
    ($wasm:expr, $native:expr) => {{
        #[cfg(target_arch = "wasm32")]
        {
            $wasm
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            $native
        }
    }};
}
pub(crate) use host_call;
