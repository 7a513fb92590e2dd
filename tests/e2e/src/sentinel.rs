//! `sentinel up` as a process, and the CLI beside it.

use crate::{eventually, given};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a start may take: compiling plugins the first time, on a busy machine.
const START: Duration = Duration::from_secs(180);
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(30);

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

/// A port on which nobody listens, below those that the system gives to anybody who asks for
/// none, so that it is still free after a restart.
fn free_port() -> Result<u16> {
    for _ in 0..1000 {
        let port = rand::random_range(12_000..30_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free")
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
            *port = free_port()?;
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
        let mut up = Up { home: self, child, server: String::new(), token: String::new() };
        let started = up.wait_until_serving().await;
        started.with_context(|| {
            format!("log:\n{}", std::fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok(up)
    }

    /// Another role's process of this home that serves REST, as it were an `up`.
    #[must_use]
    pub fn serving(&self, child: Child, server: String, token: String) -> Up<'_> {
        Up { home: self, child, server, token }
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

/// A running `sentinel up`. Killed when it is dropped.
pub struct Up<'h> {
    home: &'h Home,
    child: Child,
    server: String,
    token: String,
}

impl<'h> Up<'h> {
    /// The same, asked with this token.
    #[must_use]
    pub(crate) fn with_token(mut self, token: &str) -> Up<'h> {
        token.clone_into(&mut self.token);
        self
    }
}

impl Up<'_> {
    async fn wait_until_serving(&mut self) -> Result<()> {
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("`sentinel up` ended: {status}");
            }
            if let Ok(text) = std::fs::read_to_string(self.home.run_file()) {
                let run: Value = serde_json::from_str(&text)?;
                if run["pid"] == self.child.id() || !self.is_wrapped(&run) {
                    self.server = run["server"].as_str().context("server")?.to_owned();
                    let token = run["token_file"].as_str().context("token_file")?;
                    // Seen as the process sees it, which may be in a mount namespace of its own.
                    let token = format!("/proc/{}/root{token}", run["pid"]);
                    let token = std::fs::read_to_string(&token).context(token)?;
                    token.trim().clone_into(&mut self.token);
                    return Ok(());
                }
            }
            ensure!(start.elapsed() < START, "not up within {START:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the run file names a process that is not the one started here nor its child.
    fn is_wrapped(&self, run: &Value) -> bool {
        let pid = run["pid"].as_u64().unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
        parent != Some(&self.child.id().to_string())
    }

    /// Its REST address, `http://…`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Its address for agents, `http://…`.
    ///
    /// # Errors
    /// A run file that is gone.
    pub fn grpc(&self) -> Result<String> {
        let run: Value = serde_json::from_str(&std::fs::read_to_string(self.home.run_file())?)?;
        Ok(run["grpc"].as_str().context("grpc")?.to_owned())
    }

    /// Its registry, `http://…`.
    ///
    /// # Errors
    /// A run file that is gone.
    pub fn registry(&self) -> Result<String> {
        let run: Value = serde_json::from_str(&std::fs::read_to_string(self.home.run_file())?)?;
        Ok(run["registry"].as_str().context("registry")?.to_owned())
    }

    /// The process started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the REST API with the token.
    ///
    /// # Errors
    /// Where it does not answer with JSON and a good status.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let url = format!("{}{path}", self.server);
        let answer = reqwest::Client::new().get(&url).bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "GET {path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Samples of a selector over a time range in unix milliseconds: (time, value) by series.
    ///
    /// # Errors
    /// As [`Up::get`].
    pub async fn samples(
        &self,
        selector: &str,
        start: i64,
        end: i64,
    ) -> Result<Vec<Vec<(i64, f64)>>> {
        let query = reqwest::Url::parse_with_params(
            "http://x/v1/query",
            &[
                ("selector", selector),
                ("start", &start.to_string()),
                ("end", &end.to_string()),
                ("limit", "100000"),
            ],
        )?;
        let answer = self.get(&format!("/v1/query?{}", query.query().unwrap_or_default())).await?;
        let series = answer["series"].as_array().context("series")?;
        Ok(series
            .iter()
            .map(|one| {
                let times = one["times"].as_array().into_iter().flatten();
                let values = one["values"].as_array().into_iter().flatten();
                times
                    .zip(values)
                    .map(|(t, v)| (t.as_i64().unwrap_or_default(), v.as_f64().unwrap_or(f64::NAN)))
                    .collect()
            })
            .collect())
    }

    /// Ends it at once, as the kernel or a power switch would.
    ///
    /// # Errors
    /// Where it is gone already.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, as Ctrl-C does, and waits for its end.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT)?;
        let child = &mut self.child;
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.signal().is_none(), "it died of {status}");
                return Ok(status);
            }
            ensure!(
                start.elapsed() < STOP,
                "not stopped within {STOP:?}; log:\n{}",
                self.home.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for something in the REST API's answer.
    ///
    /// # Errors
    /// Where it does not come in time; the log is in the message.
    pub async fn until<T>(
        &self,
        what: &str,
        path: &str,
        within: Duration,
        find: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let find = &find;
        eventually(what, within, || async move { Ok(find(&self.get(path).await?)) })
            .await
            .with_context(|| format!("log:\n{}", self.home.log()))
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
