//! A runtime in a temporary folder, and built plugins under a key made for the test.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions, Services, Slot, SlotSpec};
use sentinel_trust::{
    Grants, Manifest, PublisherKey, PublisherName, TrustPolicy, Unverified, VerifiedComponent,
    embed, sign, verify,
};
use serde_json::Value;

/// Where built plugins lie: `SENTINEL_PLUGINS`, or `target/plugins` of the checkout.
pub(crate) fn plugin_path(name: &str) -> PathBuf {
    let folder = std::env::var_os("SENTINEL_PLUGINS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins"),
        PathBuf::from,
    );
    let places =
        [folder.join(format!("{name}.wasm")), folder.join(format!("fixtures/{name}.wasm"))];
    places.iter().find(|path| path.is_file()).cloned().unwrap_or_else(|| {
        panic!(
            "there is no {name}.wasm in {}; build the plugins with `cargo xtask components`",
            folder.display()
        )
    })
}

/// A built plugin's bytes.
pub(crate) fn plugin_bytes(name: &str) -> Vec<u8> {
    std::fs::read(plugin_path(name)).unwrap()
}

/// A component signed by a key made for it and verified under a policy that trusts the key.
pub(crate) fn trusted(bytes: Vec<u8>) -> Arc<VerifiedComponent> {
    let publisher: PublisherName = "sentinel".parse().unwrap();
    let key = PublisherKey::from_secret(publisher.clone(), &[7; 32]);
    let signatures = sign(&bytes, &key, None).unwrap();
    let policy = TrustPolicy::trusting(publisher, key.public());
    Arc::new(verify(bytes.into(), signatures.to_json().as_bytes(), &policy).unwrap())
}

/// A built plugin.
pub(crate) fn plugin(name: &str) -> Arc<VerifiedComponent> {
    trusted(plugin_bytes(name))
}

/// A built plugin with its manifest changed, as another release would have it.
pub(crate) fn plugin_with(
    name: &str,
    change: impl FnOnce(&mut Manifest),
) -> Arc<VerifiedComponent> {
    let bytes = plugin_bytes(name);
    let mut manifest = Unverified::read(&bytes).unwrap().manifest().clone();
    change(&mut manifest);
    trusted(embed(&bytes, &manifest).unwrap())
}

/// A runtime of its own, with an empty cache.
pub(crate) struct Host {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) metrics: prometheus::Registry,
    pub(crate) dir: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (runtime, metrics) = start(dir.path());
        Self { runtime, metrics, dir }
    }

    /// One that leaves a plugin alone for a minute after the second failure in a row.
    pub(crate) fn patient() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (runtime, metrics) = start_with(dir.path(), 60_000);
        Self { runtime, metrics, dir }
    }

    pub(crate) async fn slot(&self, spec: SlotSpec) -> Slot {
        self.slot_with(spec, Services::none()).await
    }

    pub(crate) async fn slot_with(&self, spec: SlotSpec, services: Services) -> Slot {
        Slot::start(&self.runtime, spec, services).await.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A runtime over a folder that may have a cache already.
pub(crate) fn start(dir: &Path) -> (Arc<Runtime>, prometheus::Registry) {
    start_with(dir, 10)
}

fn start_with(dir: &Path, first_wait_ms: u32) -> (Arc<Runtime>, prometheus::Registry) {
    let metrics = prometheus::Registry::new();
    let mut options = RuntimeOptions::new(dir, CompilerCommand::hooked(), metrics.clone());
    options.threads = 2;
    options.first_wait_ms = first_wait_ms;
    (Runtime::start(options).unwrap(), metrics)
}

/// A spec with the grants written as an operator writes them.
pub(crate) fn spec(
    slot: &str,
    component: Arc<VerifiedComponent>,
    config: Value,
    grants: Value,
) -> SlotSpec {
    let grants: Grants = serde_json::from_value(grants).unwrap();
    SlotSpec { name: slot.parse().unwrap(), component, config, grants }
}
