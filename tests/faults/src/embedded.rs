//! The embedded pair: one `sentinel up`.

use crate::oracle::{Asked, alerts_go_on, kept};
use crate::role::Role;
use crate::rules::{EVALUATORS, RULES, WAVES};
use crate::{SOON, given, until};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What it collects, and where its agent is called `host`.
fn config() -> String {
    format!(
        "version: 1
agent:
  id: host
  interval: 100ms
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {{slot: counter, rows: 50, series: 7, {WAVES}}}
      grants: {{kv: {{max_bytes: 4096}}}}
worker: {{settle: 0s, self_watch: {{enabled: false}}, {EVALUATORS}}}
"
    )
}

/// One process that is everything.
pub struct Embedded {
    up: Role,
    folder: TempDir,
}

impl Embedded {
    /// Starts it, and waits until alerts fire and are over.
    ///
    /// # Errors
    /// Where it cannot be started; its log is in the message.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        std::fs::write(path.join("sentinel.yaml"), config())?;
        let plugins = path.join("plugins");
        std::fs::create_dir(&plugins)?;
        for (from, name) in
            [("fixtures/counter.wasm", "counter.wasm"), ("alert-dsl.wasm", "alert-dsl.wasm")]
        {
            std::fs::copy(given("SENTINEL_PLUGINS", "plugins").join(from), plugins.join(name))?;
        }
        let mut command = command(path);
        command.arg("up").arg("--data").arg(path.join("data"));
        command.arg("--config").arg(path.join("sentinel.yaml")).arg("--plugins").arg(&plugins);
        let key = given("SENTINEL_PUBLISHER_KEY", "dev-keys/sentinel.key");
        command.arg("--publisher-key").arg(key);
        for option in ["--listen", "--grpc", "--registry"] {
            command.args([option, "127.0.0.1:0"]);
        }
        let mut up = Role::new(&command, &path.join("up.log"));
        up.start()?;
        let embedded = Self { up, folder };
        let begun = embedded
            .apply_rules()
            .and_then(|()| alerts_go_on(&embedded.database().display().to_string(), || Ok(())));
        begun.with_context(|| embedded.up.log())?;
        Ok(embedded)
    }

    /// Puts the rules in force, once it is there and has an evaluator.
    fn apply_rules(&self) -> Result<()> {
        let rules = self.path().join("rules.yaml");
        std::fs::write(&rules, RULES)?;
        until("the rules are in force", || {
            let mut command = command(self.path());
            let output = command.args(["rules", "apply", "--yes"]).arg(&rules).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "sentinel rules apply: {said}");
            Ok(Some(()))
        })
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

    /// Waits until it counts on, and asks the oracle of samples and of alerts.
    ///
    /// # Errors
    /// The oracle's report, where something was lost or doubled, or an alert is not as it should
    /// be, and the log.
    pub fn judge(&self) -> Result<String> {
        self.counts_on()?;
        let logs = [("host".to_owned(), self.up.log_file().to_owned())];
        let database = self.database();
        let database = database.display().to_string();
        let asked = Asked::of(&database, &logs, self.path())?;
        let samples = asked.judge(SOON).with_context(|| self.up.log())?;
        let alerts = alerts_go_on(&database, || Ok(())).with_context(|| self.up.log())?;
        Ok(samples + &alerts)
    }
}

/// The program, which finds its `up` in a folder.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(given("SENTINEL_BIN", "debug/sentinel"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", folder).env("XDG_RUNTIME_DIR", folder).env("SENTINEL_LOG", "info");
    command
}
