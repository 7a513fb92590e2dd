//! Repository metadata: what a registry says about publishers and their releases, and why a
//! host may believe it. Pure: bytes come and go, time is passed in as unix milliseconds.
//!
//! The roles are those of The Update Framework and are constant:
//!
//! ```text
//!  root (offline) ── says whose keys speak for the other roles, and for the next root
//!   ├─ targets (offline) ── publishers, their keys, what was revoked; delegates to `index`
//!   │    └─ index (online) ── publisher → digest, length and number of its own index
//!   │         └─ publishers/acme ── signed by acme: its releases, numbered, append-only
//!   ├─ snapshot (online) ── the versions of targets and index that belong together
//!   └─ timestamp (online, short-lived) ── the newest snapshot
//! ```
//!
//! Whoever steals the online keys can withhold, but cannot mint a plugin: releases are signed
//! by their publisher, and publishers are named by `targets`, whose key is not online.
//!
//! [`Trusted`] is what a host goes by; [`Update`] brings it forward, asking its caller for one
//! file after the other; [`RepositoryView`] answers what may be installed, and is, beside
//! [`verify`](crate::verify()), the only way to a [`VerifiedComponent`](crate::VerifiedComponent).
//!
//! Invariants: nothing becomes part of a [`Trusted`] before all of an update was verified; a
//! version never goes back, except where the keys that signed it were taken away (which is how
//! a repository recovers after somebody ran its numbers up); a publisher whose index is broken
//! keeps its last good one and touches nobody else.

mod bundle;
mod chain;
mod container;
mod difference;
mod enrolment;
mod error;
mod index;
mod metadata;
mod offline;
mod online;
mod publishers;
mod range;
mod release;
mod role;
mod role_key;
mod spelling;
mod trusted;
mod update;
mod view;

pub use bundle::{Bundle, BundleError, BundleParts, MAX_BUNDLE_BYTES, MAX_BUNDLE_LIFETIME_MS};
pub use chain::IndexEntry;
pub use container::ContainerError;
pub use difference::{CapabilityLine, RequestsDifference};
pub use enrolment::{ENROLMENT_FORMAT, Enrolment, MAX_ENROLMENT_BYTES, MinimumVersions};
pub use error::{MetadataError, Misfit};
pub use index::{
    INDEX_FORMAT, IndexError, MAX_INDEX_BYTES, MAX_RELEASES, PublisherIndex, SignedIndex,
};
pub use metadata::MetadataFile;
pub use offline::{ProduceError, RoleSpec, RootSpec, TargetsSpec, root_file, targets_file};
pub use online::{
    OnlineKeys, OnlineMetadata, check_new_index, check_new_root, check_new_targets, index_entries,
    index_file, snapshot_file, timestamp_file,
};
pub use publishers::{
    MAX_PUBLISHER_KEYS, MAX_PUBLISHERS, MAX_REVOKED, Publisher, Publishers, PublishersError,
};
pub use range::{PluginRange, RangeError};
pub use release::IndexedRelease;
pub use role::{MAX_ROOT_UPDATES, Role, publisher_index_path};
pub use role_key::{KeyPurpose, ROLE_KEY_FORMAT, RoleKey};
pub use trusted::{MAX_STATE_BYTES, StateError, Trusted};
pub use update::{Interest, Request, Update};
pub use view::{AdmitError, PublisherState, RepositoryView, ResolveError, Versions};
