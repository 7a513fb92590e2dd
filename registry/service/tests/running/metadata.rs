//! The keys of the tests' registries, what they sign, and what a host believes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use reqwest::{Method, Response};
use sentinel_registry_service::{Options, install_metadata};
use sentinel_trust::PublisherKey;
use sentinel_trust::repository::{
    Enrolment, Interest, KeyPurpose, MetadataError, MetadataFile, MinimumVersions, OnlineKeys,
    Publishers, Role, RoleKey, RoleSpec, RootSpec, TargetsSpec, Trusted, Update, root_file,
    targets_file,
};

use serde_json::Value;

use super::{Running, options};

/// A day in milliseconds.
pub(crate) const DAY: i64 = 86_400_000;

pub(crate) fn role(purpose: KeyPurpose, seed: u8) -> RoleKey {
    RoleKey::from_secret(purpose, &[seed; 32])
}

/// The root key of the tests' registries.
pub(crate) fn root_key() -> RoleKey {
    role(KeyPurpose::Root, 101)
}

/// The targets key of the tests' registries.
pub(crate) fn targets_key() -> RoleKey {
    role(KeyPurpose::Targets, 102)
}

/// The online keys of the tests' registries.
pub(crate) fn online_keys() -> OnlineKeys {
    OnlineKeys {
        index: role(KeyPurpose::Index, 110),
        snapshot: role(KeyPurpose::Snapshot, 111),
        timestamp: role(KeyPurpose::Timestamp, 112),
    }
}

/// The machine's time, unix milliseconds.
pub(crate) fn now() -> i64 {
    (options().clock)()
}

/// Options whose clock is the machine's and as many milliseconds more as is said.
pub(crate) fn timed(ahead: &Arc<AtomicI64>) -> Options {
    let (ahead, clock, mut timed) = (Arc::clone(ahead), options().clock, options());
    timed.clock = Arc::new(move || clock() + ahead.load(Ordering::Relaxed));
    timed
}

/// A root after `previous`, or the first, that names these keys and is signed by `signer`.
pub(crate) fn root(
    previous: Option<&MetadataFile>,
    named: &RoleKey,
    signer: &[&RoleKey],
    until: i64,
) -> MetadataFile {
    let one = |key: &RoleKey| RoleSpec::one(key.public());
    let online = online_keys();
    let spec = RootSpec {
        root: one(named),
        targets: one(&targets_key()),
        snapshot: one(&online.snapshot),
        timestamp: one(&online.timestamp),
    };
    root_file(previous, &spec, signer, until).unwrap()
}

/// Targets after `previous`, or the first, that approve these keys.
pub(crate) fn targets(
    root: &MetadataFile,
    previous: Option<&MetadataFile>,
    keys: &[&PublisherKey],
    until: i64,
) -> MetadataFile {
    let mut publishers = Publishers::default();
    for key in keys {
        publishers.approve(key.publisher(), key.public()).unwrap();
    }
    let spec = TargetsSpec { publishers, index: RoleSpec::one(online_keys().index.public()) };
    targets_file(root, previous, &spec, &[&targets_key()], until).unwrap()
}

/// Begins a registry that has approved these keys: its root and targets.
pub(crate) async fn approve(
    registry: &Running,
    keys: &[&PublisherKey],
    now: i64,
) -> (MetadataFile, MetadataFile) {
    let root = root(None, &root_key(), &[&root_key()], now + 365 * DAY);
    let targets = targets(&root, None, keys, now + 90 * DAY);
    let store = &registry.store;
    install_metadata(store, online_keys(), Some(&root), Some(&targets), now).await.unwrap();
    (root, targets)
}

/// What a host that knows nothing but the first root believes of a registry at `now`.
pub(crate) async fn believed_at(registry: &Running, now: i64) -> Result<Trusted, MetadataError> {
    let file = async |path: String| {
        let path = format!("/metadata/{path}");
        let response = registry.anybody(Method::GET, &path).send().await.unwrap();
        let status = response.status();
        assert!(matches!(status.as_u16(), 200 | 404), "{path}: {status}");
        (status == 200).then_some(response.bytes().await.unwrap().to_vec())
    };
    let root = MetadataFile::read(Role::Root, file("1.root.json".into()).await.unwrap()).unwrap();
    let enrolment = Enrolment { root, minimum: MinimumVersions::default(), operators: Vec::new() };
    let trusted = Trusted::enrolled(&enrolment).unwrap();
    let mut update = Update::new(&trusted, Interest::All, now);
    while let Some(request) = update.next() {
        update.provide(file(request.path).await)?;
    }
    update.finish()
}

/// The same now, which must be something.
pub(crate) async fn believed(registry: &Running) -> Trusted {
    believed_at(registry, now()).await.unwrap()
}

/// The file of a role in the newest commit of a registry's store.
pub(crate) fn newest(registry: &Running, role: Role) -> MetadataFile {
    let commits = registry.folder.join("metadata/commits").read_dir().unwrap();
    let commit = commits.map(|entry| entry.unwrap().path()).max().unwrap();
    let commit: Value = serde_json::from_slice(&std::fs::read(commit).unwrap()).unwrap();
    let text = commit[role.as_str()].as_str().unwrap();
    MetadataFile::read(role, text.as_bytes().to_vec()).unwrap()
}

impl Running {
    /// Brings metadata without a token, as whoever holds the offline keys does.
    pub(crate) async fn bring(&self, role: &str, bytes: &[u8]) -> Response {
        let path = format!("/api/v1/metadata/{role}");
        self.anybody(Method::PUT, &path).body(bytes.to_vec()).send().await.unwrap()
    }

    /// How many commits of the metadata the store has.
    pub(crate) fn commits(&self) -> usize {
        self.folder.join("metadata/commits").read_dir().unwrap().count()
    }
}
