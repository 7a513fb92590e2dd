//! `sentinel up` as a process, and the CLI beside it.

mod up;

pub use up::Up;

use crate::given;
use anyhow::{Context, Result, ensure};
use sentinel_test_services::steady_port;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A home of its own: configuration, data, and the processes started in it.
pub struct Home {
    dir: TempDir,
    plugins: Vec<PathBuf>,
    /// Of REST, gRPC and the registry; 0 where each start picks a free one.
    ports: [u16; 3],
}

/// The key with which the checkout's plugins are published.
#[must_use]
pub fn publisher_key() -> PathBuf {
    given("SENTINEL_PUBLISHER_KEY", "dev-keys/sentinel.key")
}

/// What a CLI command printed and how it ended.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Home {
    /// A new one.
    ///
    /// # Errors
    /// Where no folder can be made.
    pub fn new() -> Result<Self> {
        let plugins = given("SENTINEL_PLUGINS", "plugins");
        let fixtures = plugins.join("fixtures");
        Ok(Self { dir: tempfile::tempdir()?, plugins: vec![plugins, fixtures], ports: [0; 3] })
    }

    /// A new one, whose `up` has the same addresses after each start.
    ///
    /// # Errors
    /// Where no folder can be made, or no port is free.
    pub fn on_ports_of_its_own() -> Result<Self> {
        let mut ports = [0; 3];
        for port in &mut ports {
            *port = steady_port()?;
        }
        Ok(Self { ports, ..Self::new()? })
    }

    /// The same, whose `up` publishes only these of the checkout's plugins: it is up sooner.
    ///
    /// # Errors
    /// A plugin that is not there.
    pub fn with_only(mut self, plugins: &[&str]) -> Result<Self> {
        let folder = self.path().join("plugins");
        std::fs::create_dir(&folder)?;
        for name in plugins {
            let name = format!("{name}.wasm");
            let mut there = self.plugins.iter().map(|folder| folder.join(&name));
            let plugin = there.find(|path| path.exists()).with_context(|| name.clone())?;
            std::fs::copy(plugin, folder.join(&name))?;
        }
        self.plugins = vec![folder];
        Ok(self)
    }

    /// Where REST is served, with TLS where there is any; only of a home on ports of its own.
    #[must_use]
    pub fn rest_port(&self) -> u16 {
        self.ports[0]
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where `up` keeps everything.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Writes the configuration.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn configure(&self, yaml: &str) -> Result<PathBuf> {
        let path = self.path().join("sentinel.yaml");
        // Whoever reads it while it is written must see one or the other.
        let part = self.path().join("sentinel.yaml.part");
        std::fs::write(&part, yaml)?;
        std::fs::rename(&part, &path)?;
        Ok(path)
    }

    /// The program, with nothing of this process's environment.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(given("SENTINEL_BIN", "debug/sentinel"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("XDG_RUNTIME_DIR", self.path())
            .env("SENTINEL_LOG", "info");
        command
    }

    /// The command that runs everything.
    #[must_use]
    pub fn up_command(&self) -> Command {
        let mut command = self.command();
        command.arg("up");
        for (option, port) in ["--listen", "--grpc", "--registry"].into_iter().zip(self.ports) {
            command.arg(option).arg(format!("127.0.0.1:{port}"));
        }
        command.arg("--data").arg(self.data());
        command.arg("--publisher-key").arg(publisher_key());
        for folder in &self.plugins {
            command.arg("--plugins").arg(folder);
        }
        let config = self.path().join("sentinel.yaml");
        if config.exists() {
            command.arg("--config").arg(config);
        }
        command
    }

    /// Starts everything and waits until it serves.
    ///
    /// # Errors
    /// Where it does not come up; its log is in the message.
    pub async fn up(&self) -> Result<Up<'_>> {
        self.start(self.up_command()).await
    }

    /// As [`Home::up`], with a command that was changed.
    ///
    /// # Errors
    /// As [`Home::up`].
    pub async fn start(&self, mut command: Command) -> Result<Up<'_>> {
        let log = self.path().join("up.log");
        let out = File::options().create(true).append(true).open(&log)?;
        let _ = std::fs::remove_file(self.run_file());
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        let mut up = self.serving(child, String::new(), String::new());
        let started = up.wait_until_serving().await;
        started.with_context(|| {
            format!("log:\n{}", std::fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok(up)
    }

    /// Another role's process of this home that serves REST, as it were an `up`.
    #[must_use]
    pub fn serving(&self, child: Child, server: String, token: String) -> Up<'_> {
        Up::new(self, child, server, token)
    }

    fn run_file(&self) -> PathBuf {
        self.path().join("sentinel/up.json")
    }

    /// Runs a command of the CLI to its end.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn sentinel<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Said> {
        self.sentinel_with(args, b"")
    }

    /// As [`Home::sentinel`], with something on its standard input.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn sentinel_with<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<Said> {
        use std::io::Write;
        let mut command = self.command();
        command.args(args).current_dir(self.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
        let Output { status, stdout, stderr } = child.wait_with_output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) })
    }

    /// Runs a command that must succeed, with `--json`, and reads what it printed.
    ///
    /// # Errors
    /// Where it fails or prints something else.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let said = self.sentinel(args.iter().copied().chain(["--json"]))?;
        ensure!(said.code == 0, "sentinel {args:?} ended with {}: {}", said.code, said.err);
        serde_json::from_str(&said.out).with_context(|| format!("sentinel {args:?}: {}", said.out))
    }

    /// What the processes of this home logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("up.log")).unwrap_or_default()
    }
}
