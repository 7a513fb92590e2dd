//! A runtime, and the built plugins signed by a key made for the test.

#![allow(dead_code, reason = "each test program uses a part of it")]

use sentinel_rule_tests::{FileReport, Rig, SignedFolder, run_file};
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions};
use sentinel_trust::{PublisherKey, PublisherName, TrustPolicy, sign};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that tests of rules need.
pub(crate) struct Lab {
    pub(crate) rig: Rig,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) plugins: Arc<SignedFolder>,
    pub(crate) dir: tempfile::TempDir,
}

fn built(name: &str) -> PathBuf {
    let folder = std::env::var_os("SENTINEL_PLUGINS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins"),
        PathBuf::from,
    );
    folder.join(format!("{name}.wasm"))
}

impl Lab {
    /// With these of the built plugins; those for tests are called `fixtures/...`.
    pub(crate) fn new(plugins: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let publisher: PublisherName = "sentinel".parse().unwrap();
        let key = PublisherKey::from_secret(publisher.clone(), &[7; 32]);
        for name in plugins {
            let path = built(name);
            let bytes = std::fs::read(&path).unwrap_or_else(|error| {
                panic!("{}: {error}; run `cargo xtask components`", path.display())
            });
            let signatures = sign(&bytes, &key, None).unwrap().to_json();
            let name = name.trim_start_matches("fixtures/");
            std::fs::write(dir.path().join(format!("{name}.wasm")), bytes).unwrap();
            std::fs::write(dir.path().join(format!("{name}.wasm.sig")), signatures).unwrap();
        }
        let policy = TrustPolicy::trusting(publisher, key.public());
        let folder = SignedFolder::open(dir.path(), policy).unwrap();
        assert_eq!(folder.refused().count(), 0);
        let metrics = prometheus::Registry::new();
        let options = RuntimeOptions::new(dir.path(), CompilerCommand::hooked(), metrics);
        let (runtime, plugins) = (Runtime::start(options).unwrap(), Arc::new(folder));
        let rig = Rig::new(Arc::clone(&runtime), Arc::clone(&plugins) as Arc<_>);
        Self { rig, runtime, plugins, dir }
    }

    /// Writes a file beside the others.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs a file of tests; what it says, without the folder.
    pub(crate) async fn run(&mut self, name: &str, text: &str) -> Result<FileReport, String> {
        let path = self.write(name, text);
        let folder = format!("{}/", self.dir.path().display());
        let report = run_file(&mut self.rig, &path).await;
        report
            .map(|mut report| {
                for problem in report.tests.iter_mut().flat_map(|test| &mut test.problems) {
                    *problem = problem.replace(&folder, "");
                }
                report
            })
            .map_err(|problems| problems.to_string().replace(&folder, ""))
    }
}
