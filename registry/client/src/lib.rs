//! Where a host gets plugins from: folders of signed files ([`PluginFolder`]), and registries
//! ([`RegistryClient`]).
//!
//! In a folder, a plugin is two files, `NAME.wasm` and `NAME.wasm.sig`. The file's name means nothing; the
//! embedded manifest says what it is, and nothing in it is believed before the signature was
//! verified against the trust policy.
//!
//! Invariants: gives out [`VerifiedComponent`]s only; runs nothing; a folder that cannot be
//! read fails the question, never widens what is trusted.

mod files;
mod folder;
mod folder_source;
mod host;
mod policy;
mod reference;
mod registry;
mod source;

pub use folder::{Change, Listing, PluginFolder};
pub use folder_source::FolderSource;
pub use host::{
    Clock, Freshness, HostOptions, HostPlugins, Moved, Pin, PinsError, REFRESH, Upgrade,
};
pub use policy::{PolicyError, load_policies, load_policy};
pub use reference::{PluginError, PluginRef};
pub use registry::{
    BundleOptions, ClientError, FetchLimits, PublishError, Published, Publisher, RegistryClient,
    RegistryOptions,
};
pub use source::{PluginSource, SourceError};

pub use sentinel_trust::VerifiedComponent;
