//! The embedded pair: one `sentinel up`.

use crate::oracle::{Asked, kept};
use crate::role::Role;
use crate::{SOON, given, until};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What it collects, and where its agent is called `host`.
const CONFIG: &str = "version: 1
agent:
  id: host
  interval: 100ms
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {slot: counter, rows: 50, series: 7}
      grants: {kv: {max_bytes: 4096}}
worker: {settle: 0s, self_watch: {enabled: false}}
";

/// One process that is everything.
pub struct Embedded {
    up: Role,
    folder: TempDir,
}

impl Embedded {
    /// Starts it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        std::fs::write(path.join("sentinel.yaml"), CONFIG)?;
        let plugins = path.join("plugins");
        std::fs::create_dir(&plugins)?;
        let counter = given("SENTINEL_PLUGINS", "plugins").join("fixtures/counter.wasm");
        std::fs::copy(counter, plugins.join("counter.wasm"))?;
        let mut command = Command::new(given("SENTINEL_BIN", "debug/sentinel"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", path).env("XDG_RUNTIME_DIR", path).env("SENTINEL_LOG", "info");
        command.arg("up").arg("--data").arg(path.join("data"));
        command.arg("--config").arg(path.join("sentinel.yaml")).arg("--plugins").arg(&plugins);
        let key = given("SENTINEL_PUBLISHER_KEY", "dev-keys/sentinel.key");
        command.arg("--publisher-key").arg(key);
        for option in ["--listen", "--grpc", "--registry"] {
            command.args([option, "127.0.0.1:0"]);
        }
        let mut up = Role::new(&command, &path.join("up.log"));
        up.start()?;
        Ok(Self { up, folder })
    }

    /// The process.
    pub fn up(&mut self) -> &mut Role {
        &mut self.up
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path().join("data/sentinel.db")
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until it counts on from now.
    ///
    /// # Errors
    /// Where it does not; its log is in the message.
    pub fn counts_on(&self) -> Result<()> {
        let before = kept(&self.up.log());
        until("the counter goes on", || Ok((kept(&self.up.log()) > before).then_some(())))
            .with_context(|| self.up.log())
    }

    /// Waits until it counts on, and asks the oracle.
    ///
    /// # Errors
    /// The oracle's report, where something was lost or doubled, and the log.
    pub fn judge(&self) -> Result<String> {
        self.counts_on()?;
        let logs = [("host".to_owned(), self.up.log_file().to_owned())];
        let database = self.database();
        let asked = Asked::of(&database.display().to_string(), &logs, self.path())?;
        asked.judge(SOON).with_context(|| self.up.log())
    }
}
