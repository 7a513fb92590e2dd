//! What an import does: each capability of the contract as plain Rust, without wasmtime.
//!
//! A *gate* stands between a guest and the world. It is built from the slot's effective
//! grants, so that a request which is not allowed is refused in one place, here, whatever
//! the guest says. The import glue converts the contract's types to these and back and adds
//! nothing: no check lives in the glue.
//!
//! | module | interface | where it runs |
//! |---|---|---|
//! | [`http`] | `http` | async, inside a tokio runtime with I/O and time |
//! | [`mail`] | `mail` | as `http` |
//! | [`files`] | `files` | blocking: on a blocking thread, under the caller's timeout |
//! | [`system`] | `system` | blocking: a mount that hangs makes `filesystems` hang |
//! | [`mac`] | `mac` | at once (up to 4 MiB are hashed: some milliseconds) |
//! | [`kv`] | `kv` | at once |
//! | [`log`] | `log` | at once |
//! | [`series`] | `series` | what the worker implements |
//!
//! No gate reads a clock for its decisions where the caller can pass the time, and none holds
//! a secret longer than the request that needs it.

pub mod files;
pub mod http;
pub mod kv;
pub mod log;
pub mod mac;
pub mod mail;
pub mod series;
pub mod system;

use zeroize::Zeroizing;

/// The host's secrets, by name: the agent's secret store, or the server's.
///
/// Grants say who may use which; a source only looks names up.
pub trait SecretSource: Send + Sync {
    /// The secret's bytes, or nothing where there is none of that name. Must not block for
    /// long: it is called in the midst of a request.
    fn secret(&self, name: &str) -> Option<Zeroizing<Vec<u8>>>;
}

/// A source without any secret.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl SecretSource for NoSecrets {
    fn secret(&self, _name: &str) -> Option<Zeroizing<Vec<u8>>> {
        None
    }
}

/// Secrets in memory, for tests and tools.
impl SecretSource for std::collections::BTreeMap<String, Vec<u8>> {
    fn secret(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.get(name).cloned().map(Zeroizing::new)
    }
}
