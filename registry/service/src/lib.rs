//! The registry: where plugins are pushed, kept, looked up and pulled.
//!
//! It speaks the OCI distribution protocol 1.1, so that any OCI client works with it, and
//! keeps everything in one object store: a local folder, or S3. It has no state of its own
//! beside that store, so two services over one store are one registry.
//!
//! Invariants: what is given out under a digest is what the digest says, whatever the store
//! holds; nothing of a request becomes a path before it passed the names' alphabet; every
//! body, number and wait is bounded; a release, once made, never changes. The service decides
//! nothing that hosts rely on: they believe signatures, not the registry.

mod access;
mod address;
mod admission;
mod api;
mod cache;
mod catalogue;
mod commit;
mod contract;
mod downloads;
mod health;
mod held;
mod likeness;
mod listener;
mod metadata_path;
mod metrics;
mod names;
mod oci;
mod options;
mod patience;
mod publish;
mod rate;
mod refusal;
mod releases;
mod sending;
mod service;
mod state;
mod store;
mod tokens;

pub use access::{Identity, Rates};
pub use admission::{SIGNATURE, WASM_CONFIG, WASM_LAYER};
pub use listener::{ListenError, Listener};
pub use names::{NameError, Reference, Repository, Tag};
pub use options::{Clock, Limits, MAX_MANIFEST_BYTES, Options, Tls};
pub use patience::Patience;
pub use rate::Rate;
pub use refusal::Code;
pub use service::{
    InstallError, Registry, ServeError, install_metadata, metadata_in_force, serve, serve_on,
};
pub use store::{OpenError, Place, Progress, Store, StoreError};
pub use tokens::{Token, TokenError};
