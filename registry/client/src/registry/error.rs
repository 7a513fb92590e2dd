//! Why a registry is of no use right now.

use std::path::PathBuf;

use sentinel_trust::TrustError;
use sentinel_trust::repository::{
    AdmitError, BundleError, MetadataError, ResolveError, StateError,
};

/// Why something is not to be had from a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The host was given no root to start from.
    #[error(
        "this host is enrolled with no registry: {} is not there; give it the enrolment that `sentinel registry enrolment` prints", .path.display()
    )]
    NotEnrolled {
        /// Where what it trusts would lie.
        path: PathBuf,
    },
    /// What the host trusts cannot be read. Nothing is installed.
    #[error(
        "what this host trusts of its registry, {}, is refused ({source}): put it back from a backup, or remove it and enrol the host again, which forgets what was revoked until the registry says it again", .path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<StateError>,
    },
    /// The disk.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The registry cannot be reached, or broke off.
    #[error("the registry at {url} does not answer: {why}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        why: String,
    },
    /// It sends too slowly, or not at all.
    #[error(
        "the registry at {url} was too slow: {bytes} bytes within {ms} ms, where at least {least} are expected"
    )]
    TooSlow {
        /// What was asked.
        url: String,
        /// Bytes that came within the window.
        bytes: u64,
        /// The window in milliseconds.
        ms: u64,
        /// What it should have been.
        least: u64,
    },
    /// It sends more than the file may have.
    #[error("the registry at {url} sends more than {max} bytes, so it was not heard out")]
    TooBig {
        /// What was asked.
        url: String,
        /// The most.
        max: u64,
    },
    /// It answers with an error.
    #[error("the registry at {url} answered {status}{}", said(.message))]
    Answer {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it said, made safe to print.
        message: String,
    },
    /// The address or its certificates are of no use.
    #[error("the registry's address cannot be used: {0}")]
    Address(String),
    /// Its metadata is refused.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// There is no such release.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// What it gave is not the release.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// What was kept must not run any more.
    #[error(transparent)]
    Refused(#[from] Box<TrustError>),
    /// A bundle is refused.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
