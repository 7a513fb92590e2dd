//! Where a host gets plugins from: a registry ([`RegistryClient`]), and what the host keeps of it
//! ([`HostPlugins`]).
//!
//! Invariants: gives out [`VerifiedComponent`]s only; runs nothing; what cannot be read fails
//! the question, never widens what is trusted.

mod files;
mod host;
mod policy;
mod reference;
mod registry;
mod source;

pub use host::{
    Clock, Freshness, HostOptions, HostPlugins, Moved, Pin, PinsError, REFRESH, Upgrade,
};
pub use policy::{PolicyError, load_policies, load_policy};
pub use reference::{PluginRef, ReferenceError};
pub use registry::{
    BundleOptions, ClientError, FetchLimits, PublishError, Published, Publisher, RegistryClient,
    RegistryOptions,
};
pub use source::{NoPlugins, PluginSource, SourceError};

pub use sentinel_trust::VerifiedComponent;
