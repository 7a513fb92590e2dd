//! Verifying a plugin of 1 MiB offline: what a host trusts is read from its bytes and every
//! signature of it checked, then the plugin's digest, signature, manifest and imports.

use crate::row::{Better, Row};
use anyhow::{Context, Result};
use sentinel_test_components::hollow;
use sentinel_trust::repository::{
    Enrolment, IndexedRelease, Interest, KeyPurpose, MinimumVersions, OnlineKeys, OnlineMetadata,
    PublisherIndex, Publishers, Role, RoleKey, RoleSpec, RootSpec, TargetsSpec, Trusted, Update,
    check_new_index, root_file, targets_file,
};
use sentinel_trust::{Digest, Manifest, PublisherKey, PublisherName, Unverified, embed, sign};
use serde_json::json;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use wasm_encoder::CustomSection;

const SIZE: usize = 1 << 20;
const ROUNDS: usize = 200;
const NOW: i64 = 1_800_000_000_000;
/// Limit of the row, in milliseconds.
const LIMIT_MS: f64 = 5.0;

/// A component of [`SIZE`] bytes that exports what a collector must.
fn component() -> Vec<u8> {
    let filling: Vec<u8> =
        (0..SIZE as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut component = hollow("collect");
    component.section(&CustomSection { name: "filling".into(), data: filling.as_slice().into() });
    component.finish()
}

fn plugin() -> Result<Vec<u8>> {
    let manifest = json!({
        "format": 1, "name": "acme/probe", "version": "1.0.0", "kind": "collector",
        "contract": "0.1.0", "description": "Measured.", "license": "Apache-2.0",
    });
    let manifest = Manifest::from_json(manifest.to_string().as_bytes())?;
    Ok(embed(&component(), &manifest)?)
}

fn listed(plugin: &[u8], key: &PublisherKey) -> Result<IndexedRelease> {
    let signatures = sign(plugin, key, None)?.signatures;
    Ok(IndexedRelease::of(&Unverified::read(plugin)?, plugin.len() as u64, signatures, NOW))
}

/// What a host trusts of a registry with this one plugin.
fn trusted(plugin: &[u8]) -> Result<Trusted> {
    let publisher: PublisherName = "acme".parse()?;
    let key = PublisherKey::from_secret(publisher.clone(), &[1; 32]);
    let role = |purpose, seed| RoleKey::from_secret(purpose, &[seed; 32]);
    let (root_key, targets_key) = (role(KeyPurpose::Root, 2), role(KeyPurpose::Targets, 3));
    let online = OnlineKeys {
        index: role(KeyPurpose::Index, 4),
        snapshot: role(KeyPurpose::Snapshot, 5),
        timestamp: role(KeyPurpose::Timestamp, 6),
    };
    let one = |key: &RoleKey| RoleSpec::one(key.public());
    let until = |role: Role| NOW + role.lifetime_ms();
    let spec = RootSpec {
        root: one(&root_key),
        targets: one(&targets_key),
        snapshot: one(&online.snapshot),
        timestamp: one(&online.timestamp),
    };
    let root = root_file(None, &spec, &[&root_key], until(Role::Root))?;
    let mut publishers = Publishers::default();
    publishers.approve(&publisher, key.public())?;
    let spec = TargetsSpec { publishers, index: one(&online.index) };
    let targets = targets_file(&root, None, &spec, &[&targets_key], until(Role::Targets))?;
    let first = OnlineMetadata::first(root.clone(), targets.clone(), &online, NOW)?;
    let index = PublisherIndex::empty(publisher.clone()).with(listed(plugin, &key)?).sign(&key)?;
    let (index, entry) = check_new_index(&targets, None, index.bytes().to_vec())?;
    let newest =
        first.next(&root, &targets, &BTreeMap::from([(publisher, entry)]), &online, NOW)?;
    let minimum = MinimumVersions::default();
    let enrolment = Enrolment { root, minimum, operators: Vec::new() };
    let mut update = Update::new(&Trusted::enrolled(&enrolment)?, Interest::All, NOW);
    while let Some(request) = update.next() {
        let file = newest.files().into_iter().find(|file| file.path() == request.path);
        let bytes = file.map(|file| file.bytes().to_vec());
        let index = request.path.starts_with("publishers/").then(|| index.bytes().to_vec());
        update.provide(bytes.or(index))?;
    }
    Ok(update.finish()?)
}

/// Measures the row.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let plugin: Arc<[u8]> = plugin()?.into();
    let state = trusted(&plugin)?.to_bytes();
    let release = Trusted::from_bytes(&state)?.view();
    let release = release.releases().next().context("nothing is listed")?;
    let signatures = release.signature_file().to_json();
    let mut whole = Vec::with_capacity(ROUNDS);
    let mut hashing = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let view = Trusted::from_bytes(black_box(&state))?.view();
        black_box(view.readmit(Arc::clone(&plugin), signatures.as_bytes())?);
        whole.push(begun.elapsed().as_secs_f64() * 1e3);
        let begun = Instant::now();
        black_box(Digest::of(black_box(&plugin)));
        hashing.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let at = |times: &mut Vec<f64>, share: f64| {
        times.sort_by(f64::total_cmp);
        times[((times.len() - 1) as f64 * share) as usize]
    };
    let (median, worst) = (at(&mut whole, 0.5), at(&mut whole, 0.99));
    let detail = json!({
        "rounds": ROUNDS,
        "component_bytes": plugin.len(),
        "state_bytes": state.len(),
        "median_ms": median,
        "p99_ms": worst,
        "sha256_alone_median_ms": at(&mut hashing, 0.5),
    });
    Ok(vec![Row::new("verify-offline-ms", median, (Better::Lower, LIMIT_MS), "ms", detail)])
}
