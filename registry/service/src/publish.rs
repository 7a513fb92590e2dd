//! Publishing: a publisher's next index becomes the one in force once everything new in it is
//! here, is what it says, and hosts would take it.
//!
//! Yanking is publishing too: an index in which a release says `yanked`, signed as ever.

use std::sync::Arc;

use semver::Version;
use sentinel_trust::repository::{IndexedRelease, PublisherIndex, SignedIndex};
use sentinel_trust::{PluginName, PublisherName};

use crate::admission::{self, Plugin};
use crate::names::{Repository, Tag};
use crate::oci::{Parsed, store_failed};
use crate::refusal::{Code, Refusal};
use crate::releases::{Release, refuse_other_bytes};
use crate::service::Shared;
use crate::state::State;

/// Most releases that one index may add: each is read and examined.
const MAX_NEW: usize = 16;

fn invalid(why: impl Into<String>) -> Refusal {
    Refusal::new(Code::ReleaseInvalid, why)
}

/// What may be relied on not to break within: the major version, below 1.0 the minor one too.
fn line(version: &Version) -> (u64, u64) {
    (version.major, if version.major == 0 { version.minor } else { 0 })
}

/// Refuses a version that is not above every version of its line, so that nothing newer is
/// ever followed by something older that a range would not choose.
fn in_order(known: Option<&PublisherIndex>, new: &IndexedRelease) -> Result<(), Refusal> {
    let releases = known.map_or(&[][..], |index| &index.releases);
    let of_line =
        |one: &&IndexedRelease| one.name == new.name && line(&one.version) == line(&new.version);
    match releases.iter().filter(of_line).map(|one| &one.version).max() {
        Some(highest) if *highest >= new.version => Err(invalid(format!(
            "{} {} does not come after {highest}, which is published: give it a higher version",
            new.name, new.version
        ))),
        _ => Ok(()),
    }
}

/// What an index has that the one before it has not.
fn added<'a>(known: Option<&PublisherIndex>, next: &'a PublisherIndex) -> Vec<&'a IndexedRelease> {
    let releases = known.map_or(&[][..], |index| &index.releases);
    let key = |one: &IndexedRelease| (one.name.clone(), one.version.clone());
    let known: std::collections::HashSet<_> = releases.iter().map(key).collect();
    next.releases.iter().filter(|one| !known.contains(&key(one))).collect()
}

/// Publishes an index of `publisher`.
pub(crate) async fn publish(
    shared: &Arc<Shared>,
    publisher: &PublisherName,
    bytes: &[u8],
) -> Result<SignedIndex, Refusal> {
    let now = (shared.options.clock)();
    let state = shared.catalogue.newest(now).await?;
    let state = state.ok_or_else(|| {
        invalid(
            "this registry has no publishers yet: its owner begins with `sentinel registry init`",
        )
    })?;
    let read = SignedIndex::read(bytes.to_vec())
        .map_err(|error| invalid(format!("the index is refused: {error}")))?;
    if read.index().publisher != *publisher {
        return Err(Refusal::new(
            Code::Denied,
            format!("this is an index of {}, not of {publisher}", read.index().publisher),
        ));
    }
    let (index, _) = state.check_index(bytes)?;
    let known = state.index(publisher).map(SignedIndex::index);
    let new = added(known, index.index());
    if new.len() > MAX_NEW {
        return Err(invalid(format!(
            "the index adds {} releases; publish at most {MAX_NEW} at a time",
            new.len()
        )));
    }
    let mut records = Vec::with_capacity(new.len());
    for release in new {
        in_order(known, release)?;
        refuse_other_bytes(shared, &release.name, &release.version, &release.digest).await?;
        let record = check_release(shared, &state, release, now).await?;
        // Before the commit: until an index lists it, a record says nothing.
        shared.releases.keep(&record).await.map_err(store_failed)?;
        records.push(record);
    }
    shared.catalogue.publish(bytes, now).await?;
    for record in &records {
        hold(shared, record).await?;
    }
    Ok(index)
}

/// Holds still what is published now. Its tag means it, also where that was moved while the
/// plugin was looked at.
async fn hold(shared: &Arc<Shared>, record: &Release) -> Result<(), Refusal> {
    let repository = Repository::from(&record.name);
    let tag = Tag::of(&record.version).map_err(|error| invalid(error.to_string()))?;
    if shared.store.tag(&repository, &tag).await.map_err(store_failed)? != Some(record.manifest) {
        let set = shared.store.set_tag(&repository, &tag, &record.manifest).await;
        set.map_err(store_failed)?;
    }
    let released = Release { released: true, ..record.clone() };
    shared.releases.keep(&released).await.map_err(store_failed)
}

/// The OCI manifest of a version: what its tag means.
async fn tagged(
    shared: &Arc<Shared>,
    name: &PluginName,
    version: &Version,
) -> Result<(Parsed, sentinel_trust::Digest), Refusal> {
    let repository = Repository::from(name);
    let missing = || {
        invalid(format!(
            "{name} {version} is not here yet: push it to the repository {name} under the tag {} first",
            version.to_string().replace('+', "_")
        ))
    };
    let tag = Tag::of(version).map_err(|_| missing())?;
    let digest = shared.store.tag(&repository, &tag).await.map_err(store_failed)?;
    let digest = digest.ok_or_else(missing)?;
    let manifest = shared.store.manifest(&repository, &digest).await.map_err(store_failed)?;
    let manifest = manifest.ok_or_else(missing)?;
    Ok((Parsed::read(&manifest.bytes, &manifest.media_type)?, digest))
}

/// Checks that what an index says of a release is so.
async fn check_release(
    shared: &Arc<Shared>,
    state: &State,
    release: &IndexedRelease,
    now: i64,
) -> Result<Release, Refusal> {
    admission::check_name(shared, &release.name).await?;
    let (parsed, manifest) = tagged(shared, &release.name, &release.version).await?;
    let plugin = admission::plugin(shared, &parsed).await?.ok_or_else(|| {
        invalid(format!("what the tag {} of {} means is no plugin", release.version, release.name))
    })?;
    let differing = differences(release, &plugin);
    if !differing.is_empty() {
        return Err(invalid(format!(
            "the index says otherwise of {} {} than the plugin that was pushed: {}",
            release.name,
            release.version,
            differing.join(", ")
        )));
    }
    let signatures = release.signature_file();
    let policy = state.view().map(|view| view.policy().clone()).unwrap_or_default();
    admission::verify(&plugin, signatures.to_json().as_bytes(), policy).await?;
    let what = (plugin.digest, plugin.bytes.len() as u64);
    Ok(Release::new(&plugin.manifest, what, manifest, signatures, now))
}

fn differences(release: &IndexedRelease, plugin: &Plugin) -> Vec<&'static str> {
    let manifest = &plugin.manifest;
    [
        ("digest", release.digest == plugin.digest),
        ("size", release.size == plugin.bytes.len() as u64),
        ("name", release.name == manifest.name),
        ("version", release.version == manifest.version),
        ("kind", release.kind == manifest.kind),
        ("contract", release.contract == manifest.contract),
        ("description", release.description == manifest.description),
        ("requests", release.requests == manifest.requests),
    ]
    .into_iter()
    .filter_map(|(what, same)| (!same).then_some(what))
    .collect()
}
