//! What a host knows of its registry, and what it admits by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::error::at;
use super::index::{IndexError, PublisherIndex};
use super::range::PluginRange;
use super::release::IndexedRelease;
use super::role::Role;
use super::spelling;
use crate::digest::Digest;
use crate::error::TrustError;
use crate::name::{PluginName, PublisherName};
use crate::policy::TrustPolicy;
use crate::verified::{VerifiedComponent, verify};

/// What a host knows of its registry: verified metadata, and nothing else.
#[derive(Debug, Clone)]
pub struct RepositoryView {
    pub(super) versions: Versions,
    pub(super) expires_at: i64,
    pub(super) first_to_expire: Role,
    pub(super) refreshed_at: i64,
    pub(super) policy: TrustPolicy,
    pub(super) publishers: BTreeMap<PublisherName, PublisherState>,
}

/// Versions of the metadata; zero where there is none yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// Of the root.
    pub root: u64,
    /// Of targets.
    pub targets: u64,
    /// Of the index.
    pub index: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the timestamp.
    pub timestamp: u64,
}

/// What is known of a publisher's releases.
#[derive(Debug, Clone, Default)]
pub struct PublisherState {
    /// Its newest index that was good; none where it was never asked for, or has none.
    pub index: Option<PublisherIndex>,
    /// The number of the index that the registry offers.
    pub offered: Option<u64>,
    /// Why that one was not taken.
    pub problem: Option<IndexError>,
}

/// Why nothing was found that may be installed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The metadata is past its time, or there is none.
    #[error(
        "what is known of the registry {}: nothing new is installed until it was asked again; what is installed goes on", expired(*.role, *.expired_at)
    )]
    Expired {
        /// The role whose file expired first.
        role: Role,
        /// When, unix milliseconds.
        expired_at: i64,
    },
    /// The registry has approved no such publisher.
    #[error(
        "the registry knows no publisher `{publisher}`: look for the name with `sentinel plugin search`"
    )]
    UnknownPublisher {
        /// Which.
        publisher: PublisherName,
    },
    /// The publisher has no such plugin, or none of it may be installed.
    #[error("the registry has no plugin `{name}`: look for the name with `sentinel plugin search`")]
    UnknownPlugin {
        /// Which.
        name: PluginName,
    },
    /// There is no such plugin, and one that is called nearly like it.
    #[error("the registry has no plugin `{name}`; did you mean `{meant}`?")]
    Misspelt {
        /// What was asked for.
        name: PluginName,
        /// What there is.
        meant: PluginName,
    },
    /// The publisher's releases are not known.
    #[error("the releases of `{publisher}` are not to be had: {}", unknown(.problem.as_ref()))]
    NoIndex {
        /// Which.
        publisher: PublisherName,
        /// Why.
        problem: Option<IndexError>,
    },
    /// No release will do.
    #[error("no release of {name} is {wanted}{}", others(.versions))]
    NoRelease {
        /// Which plugin.
        name: PluginName,
        /// The range.
        wanted: String,
        /// Versions that may be installed.
        versions: Vec<semver::Version>,
    },
    /// The publisher lists no such digest.
    #[error(
        "{name} has no release {digest}: look for what there is with `sentinel plugin search {name}`"
    )]
    NotListed {
        /// Which plugin.
        name: PluginName,
        /// Which digest.
        digest: Digest,
    },
    /// It is there and must not run.
    #[error("{0}")]
    Refused(Arc<TrustError>),
}

/// Why bytes are not what a release is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// The release may not be installed.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Other bytes than those that the publisher listed.
    #[error(
        "the registry gave {found} ({bytes} bytes) for {release}, which is {listed}: somebody may have changed it there"
    )]
    OtherBytes {
        /// Name and version.
        release: Box<crate::name::Release>,
        /// The digest in the publisher's index.
        listed: Digest,
        /// The digest of what was given.
        found: Digest,
        /// Its size.
        bytes: usize,
    },
    /// The publisher's index says something else of the release than its manifest.
    #[error("{release}: its publisher's index says other than its manifest does of its {what}")]
    OtherManifest {
        /// Name and version.
        release: Box<crate::name::Release>,
        /// What differs.
        what: &'static str,
    },
    /// The plugin is refused.
    #[error(transparent)]
    Refused(#[from] TrustError),
}

fn expired(role: Role, expired_at: i64) -> String {
    if expired_at == i64::MIN {
        return "is nothing yet".to_owned();
    }
    format!("expired {} ({role} metadata)", at(expired_at))
}

fn unknown(problem: Option<&IndexError>) -> String {
    problem
        .map_or_else(|| "the registry was not asked for them yet".to_owned(), ToString::to_string)
}

fn others(versions: &[semver::Version]) -> String {
    if versions.is_empty() {
        return "; it has none that may be installed".to_owned();
    }
    let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
    format!("; there is {}", versions.join(", "))
}

impl RepositoryView {
    /// What a host knows before its first update: nobody.
    pub(super) fn unknown(root: u64) -> Self {
        Self {
            versions: Versions { root, ..Versions::default() },
            expires_at: i64::MIN,
            first_to_expire: Role::Timestamp,
            refreshed_at: i64::MIN,
            policy: TrustPolicy::default(),
            publishers: BTreeMap::new(),
        }
    }

    /// Versions of the metadata.
    #[must_use]
    pub const fn versions(&self) -> Versions {
        self.versions
    }

    /// From when on nothing new may be installed by it, unix milliseconds.
    #[must_use]
    pub const fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// When it was brought up to date, unix milliseconds.
    #[must_use]
    pub const fn refreshed_at(&self) -> i64 {
        self.refreshed_at
    }

    /// Which keys speak for whom and what was revoked: by this, and without a look at the
    /// time, what was verified once goes on or stops
    /// ([`VerifiedComponent::recheck`]).
    #[must_use]
    pub const fn policy(&self) -> &TrustPolicy {
        &self.policy
    }

    /// Every approved publisher.
    #[must_use]
    pub const fn publishers(&self) -> &BTreeMap<PublisherName, PublisherState> {
        &self.publishers
    }

    /// Every release that is known of, whether it may be installed or not.
    pub fn releases(&self) -> impl Iterator<Item = &IndexedRelease> {
        let indexes = self.publishers.values().filter_map(|state| state.index.as_ref());
        indexes.flat_map(|index| &index.releases)
    }

    /// Why a release must not run, if it must not: revoked, or signed by nobody who speaks for
    /// its publisher.
    ///
    /// # Errors
    ///
    /// [`TrustError`].
    pub fn may_run(&self, release: &IndexedRelease) -> Result<(), TrustError> {
        if self.policy.revoked_digests.contains(&release.digest) {
            return Err(TrustError::DigestRevoked { digest: release.digest });
        }
        crate::verified::signers(
            &release.signature_file().claim(),
            &release.signatures,
            &self.policy,
        )?;
        Ok(())
    }

    /// The newest release in a range that may be installed at `now`: neither yanked nor
    /// revoked. Nothing else resolves a version; what is resolved is installed by its digest.
    ///
    /// # Errors
    ///
    /// [`ResolveError`].
    pub fn resolve(&self, range: &PluginRange, now: i64) -> Result<&IndexedRelease, ResolveError> {
        let index = self.index_of(&range.name, now)?;
        let of_plugin = || index.releases.iter().filter(|one| one.name == range.name);
        let good = |one: &&IndexedRelease| !one.yanked && self.may_run(one).is_ok();
        let newest =
            of_plugin().filter(|one| range.versions.matches(&one.version)).rev().find(good);
        newest.ok_or_else(|| {
            // If all that would do was revoked, that is what to say.
            let wanted = of_plugin().rfind(|one| range.versions.matches(&one.version));
            match wanted.filter(|one| !one.yanked).map(|one| self.may_run(one)) {
                Some(Err(refused)) => ResolveError::Refused(Arc::new(refused)),
                _ if of_plugin().next().is_none() => self.unknown_plugin(&range.name),
                _ => ResolveError::NoRelease {
                    name: range.name.clone(),
                    wanted: range.versions.to_string(),
                    versions: of_plugin().filter(good).map(|one| one.version.clone()).collect(),
                },
            }
        })
    }

    fn unknown_plugin(&self, name: &PluginName) -> ResolveError {
        let good = self.releases().filter(|one| !one.yanked && self.may_run(one).is_ok());
        let meant = spelling::nearest(name, good.map(|one| &one.name)).or_else(|| {
            // Of a publisher who was not asked for its plugins yet, it may be any.
            let unasked = self.publishers.iter().filter(|(_, state)| state.index.is_none());
            let named = |(publisher, _)| PluginName::of(publisher, name.plugin());
            let known: Vec<PluginName> = unasked.map(named).collect();
            spelling::nearest(name, &known)
        });
        match meant {
            Some(meant) => ResolveError::Misspelt { name: name.clone(), meant },
            None if self.publishers.contains_key(&name.publisher()) => {
                ResolveError::UnknownPlugin { name: name.clone() }
            }
            None => ResolveError::UnknownPublisher { publisher: name.publisher() },
        }
    }

    /// A release by its digest, which may be installed anew at `now`: one that was yanked too,
    /// since whoever names a digest has resolved it before.
    ///
    /// # Errors
    ///
    /// [`ResolveError`].
    pub fn release(
        &self,
        name: &PluginName,
        digest: Digest,
        now: i64,
    ) -> Result<&IndexedRelease, ResolveError> {
        let index = self.index_of(name, now)?;
        let found = index.releases.iter().find(|one| one.name == *name && one.digest == digest);
        let found = found.ok_or_else(|| ResolveError::NotListed { name: name.clone(), digest })?;
        self.may_run(found).map_err(|refused| ResolveError::Refused(Arc::new(refused)))?;
        Ok(found)
    }

    /// Verifies what a registry gave for a release: that it is those bytes, signed by a key
    /// that speaks for the publisher, not revoked, and what its manifest and the index say.
    ///
    /// # Errors
    ///
    /// [`AdmitError`].
    pub fn admit(
        &self,
        release: &IndexedRelease,
        bytes: Arc<[u8]>,
        now: i64,
    ) -> Result<VerifiedComponent, AdmitError> {
        self.release(&release.name, release.digest, now)?;
        let found = Digest::of(&bytes);
        let named = || Box::new(release.release());
        if found != release.digest || bytes.len() as u64 != release.size {
            let (listed, bytes) = (release.digest, bytes.len());
            return Err(AdmitError::OtherBytes { release: named(), listed, found, bytes });
        }
        let signatures = release.signature_file().to_json();
        let verified = verify(bytes, signatures.as_bytes(), &self.policy)?;
        let manifest = verified.manifest();
        for (what, same) in [
            ("kind", manifest.kind == release.kind),
            ("contract", manifest.contract == release.contract),
            ("requests", manifest.requests == release.requests),
        ] {
            if !same {
                return Err(AdmitError::OtherManifest { release: named(), what });
            }
        }
        Ok(verified)
    }

    /// Verifies what this host admitted before and kept, whatever the time: a host without a
    /// network starts again what nobody revoked. `signatures` is the content of the `.sig`
    /// file that was kept beside it.
    ///
    /// # Errors
    ///
    /// [`TrustError`].
    pub fn readmit(
        &self,
        bytes: Arc<[u8]>,
        signatures: &[u8],
    ) -> Result<VerifiedComponent, TrustError> {
        verify(bytes, signatures, &self.policy)
    }

    fn index_of(&self, name: &PluginName, now: i64) -> Result<&PublisherIndex, ResolveError> {
        if now.max(self.refreshed_at) >= self.expires_at {
            return Err(ResolveError::Expired {
                role: self.first_to_expire,
                expired_at: self.expires_at,
            });
        }
        let publisher = name.publisher();
        let Some(state) = self.publishers.get(&publisher) else {
            return Err(self.unknown_plugin(name));
        };
        let problem = || state.problem.clone();
        state.index.as_ref().ok_or_else(|| ResolveError::NoIndex { publisher, problem: problem() })
    }
}
