//! Who made a plugin, what it asks for, and whether a host may run it. Pure: no network, no
//! files, no clock, no async; callers pass bytes.
//!
//! A plugin is a WebAssembly component with a [`Manifest`] embedded in the custom section
//! `sentinel:manifest`. Its identity is the [`Digest`] of its bytes; its publisher signs name,
//! version and digest with a [`PublisherKey`] into a [`SignatureFile`] that lies beside it.
//! A host's [`TrustPolicy`] says which keys speak for which publisher. [`verify`] brings the
//! four together and is the only way to a [`VerifiedComponent`], the only thing that the
//! runtime runs.
//!
//! What a plugin may do is what its manifest's [`Requests`] and the operator's [`Grants`] have
//! in common: [`effective`]. [`need_of_import`] tells what an import needs; [`verify`] has
//! already checked that a component imports nothing beyond its requests.
//!
//! What runs where is decided by operators: [`fleet`].
//!
//! Where plugins come from a registry, [`repository`] says what its metadata is worth and what
//! may be installed by it.
//!
//! Publishing is [`embed`], then [`sign`]; [`Unverified`] is for looking at a file that nobody
//! vouches for.
//!
//! Nothing here compares secrets: signatures, digests and key ids are public. Secret keys are
//! wiped from memory when dropped and are never printed.

mod capability;
mod component;
mod digest;
mod effective;
mod error;
mod fit;
pub mod fleet;
mod grants;
mod inspect;
mod keys;
mod limits;
mod mail;
mod manifest;
mod missing;
mod name;
mod origin;
mod paths;
mod policy;
pub mod repository;
mod requests;
mod signature;
mod text;
mod verified;

pub use capability::{
    CONTRACT, CONTRACT_PACKAGE, Capability, Kind, MANIFEST_SECTION, Need, need_of_import,
};
pub use component::{
    ComponentError, ComponentShape, Extern, ExternKind, MAX_COMPONENT_BYTES, MAX_EXTERNS,
    MAX_SECTIONS, embed,
};
pub use digest::{DIGEST_BYTES, Digest, DigestError};
pub use effective::{Capabilities, FilesCapability, HttpCapability, effective, unused_grants};
pub use error::{ExcessImport, TrustError};
pub use grants::{
    FilesGrant, Grants, HttpGrant, KvGrant, MAX_FILE_BYTES, MAX_FILE_CALL_BYTES,
    MAX_RESPONSE_BYTES, MAX_SECRET_NAME_CHARS, MAX_TIMEOUT_MS, MacGrant, SecretGrant, SecretPlace,
};
pub use inspect::Unverified;
pub use keys::{
    KEY_ID_BYTES, KeyError, KeyId, MAX_KEY_FILE_BYTES, PublicKey, PublicKeyFile, PublisherKey,
    SECRET_KEY_FORMAT,
};
pub use limits::{
    LimitOverrides, Limits, MAX_CALL_MS, MAX_MEMORY_BYTES, MAX_RETURNED_BYTES, MIN_MEMORY_BYTES,
};
pub use mail::{
    MAX_MAIL_ADDRESS_BYTES, MAX_MAIL_BYTES, MAX_MAIL_RECIPIENTS, MAX_MAIL_STEP_MS,
    MAX_MAILS_PER_MINUTE, MailAddress, MailGrant, MailPattern, MailTextError, MailTls, Relay,
};
pub use manifest::{
    MANIFEST_FORMAT, MAX_AUTHORS, MAX_DESCRIPTION_CHARS, MAX_HELP_CHARS, MAX_LINE_CHARS,
    MAX_MANIFEST_BYTES, MAX_METRICS, MAX_SCHEMA_DEPTH, MAX_VERSION_CHARS, Manifest, ManifestError,
    MetricInfo,
};
pub use missing::{MissingGrant, MissingGrants};
pub use name::{
    MAX_PLUGIN_CHARS, MAX_PUBLISHER_CHARS, NameError, PluginName, PublisherName, Release,
};
pub use origin::{HttpMethod, MAX_ORIGIN_BYTES, Origin, OriginError, OriginPattern, Scheme};
pub use paths::{MAX_GLOB_BYTES, PathGlob, PathGlobError};
pub use policy::{PublisherTrust, TrustPolicy};
pub use requests::{
    Asked, DEFAULT_KV_BYTES, FilesRequest, HttpRequest, KvRequest, MAX_KV_BYTES, MAX_LISTED,
    Requests,
};
pub use signature::{
    Claim, MAX_SIGNATURE_FILE_BYTES, MAX_SIGNATURES, SIGNATURE_FORMAT, SIGNED_PREFIX, SignError,
    SignatureBytes, SignatureEntry, SignatureFile, SignatureFileError, sign,
};
pub use verified::{VerifiedComponent, verify};
