//! The embedded pair: one `sentinel up`, alone or with agents of other machines.

use crate::agents::{self, AGENTS, Waiting};
use crate::middle::{Lie, Middle};
use crate::oracle::{Asked, alerts_go_on, kept};
use crate::proxy::{Place, Proxy};
use crate::role::Role;
use crate::rules::{EVALUATORS, RULES};
use crate::{SOON, given, until};
use anyhow::{Context, Result, bail, ensure};
use sentinel_test_services::steady_port;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// How its own agent is called.
const HOST: &str = "host";
/// Rows that each agent makes ten times a second: its own many, so that there is load.
const ROWS: [u32; 2] = [50, 20];

/// Agents of other machines, and what is between them and the one process.
struct Joined {
    // In the order in which they end.
    agents: BTreeMap<&'static str, Role>,
    middle: Option<Middle>,
    wire: Proxy,
}

/// One process that is everything.
pub struct Embedded {
    joined: Option<Joined>,
    up: Role,
    grpc: u16,
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
        let worker =
            format!("worker: {{settle: 0s, self_watch: {{enabled: false}}, {EVALUATORS}}}\n");
        std::fs::write(path.join("sentinel.yaml"), agents::config(HOST, ROWS[0], "") + &worker)?;
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
        // Whoever joined it finds it where it was.
        let grpc = steady_port()?;
        for (option, port) in
            [("--listen", steady_port()?), ("--grpc", grpc), ("--registry", steady_port()?)]
        {
            command.args([option, &format!("127.0.0.1:{port}")]);
        }
        let mut up = Role::new(&command, &path.join("up.log"));
        up.start()?;
        let embedded = Self { joined: None, up, grpc, folder };
        let begun = embedded.apply_rules().and_then(|()| embedded.alerts_go_on());
        begun.with_context(|| embedded.logs())?;
        Ok(embedded)
    }

    /// The same with two agents of other machines, over a wire, and where `lies` with somebody
    /// between them and it; waits until both count.
    ///
    /// # Errors
    /// As [`Embedded::start`].
    pub fn joined(seed: u64, lies: bool) -> Result<Self> {
        let mut embedded = Self::start()?;
        let joined = embedded.join(seed, lies);
        joined.with_context(|| embedded.logs())?;
        Ok(embedded)
    }

    fn join(&mut self, seed: u64, lies: bool) -> Result<()> {
        let wire = Proxy::on_port(Place::Port(self.grpc), seed)?;
        // There is no other server.
        let middle = lies.then(|| Middle::start(wire.port(), wire.port(), seed ^ 1)).transpose()?;
        let port = middle.as_ref().map_or(wire.port(), Middle::port);
        let mut agents = BTreeMap::new();
        for name in AGENTS {
            let (config, token) = (
                self.path().join(format!("{name}.yaml")),
                self.path().join(format!("{name}.token")),
            );
            std::fs::write(&config, agents::config(name, ROWS[1], ""))?;
            std::fs::write(&token, self.ask(&["token", "create"])?)?;
            let mut command = command(self.path());
            command.args(["agent", "--join", &format!("http://127.0.0.1:{port}")]);
            command.arg("--token-file").arg(token).arg("--config").arg(config);
            command.arg("--data").arg(self.path().join(name));
            let mut role = Role::new(&command, &self.path().join(format!("{name}.log")));
            role.start()?;
            agents.insert(name, role);
        }
        self.joined = Some(Joined { agents, middle, wire });
        let mut waiting = Waiting::all();
        until("all agents count", || {
            waiting.let_in(
                |name| self.agent(name).map(Role::log).unwrap_or_default(),
                |name| self.ask(&["agents", "approve", name]).is_ok(),
            );
            Ok(self.kept().iter().all(|&kept| kept > 0).then_some(()))
        })
    }

    /// What a command of the CLI prints, asked of it.
    fn ask(&self, words: &[&str]) -> Result<String> {
        let output = command(self.path()).args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "sentinel {words:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Puts the rules in force, once it is there and has an evaluator.
    fn apply_rules(&self) -> Result<()> {
        let rules = self.path().join("rules.yaml");
        std::fs::write(&rules, RULES)?;
        let rules = rules.to_str().context("a path")?;
        until("the rules are in force", || {
            self.ask(&["rules", "apply", "--yes", rules]).map(Some)
        })?;
        Ok(())
    }

    /// The process.
    pub fn up(&mut self) -> &mut Role {
        &mut self.up
    }

    fn agent(&self, name: &str) -> Option<&Role> {
        self.joined.as_ref()?.agents.get(name)
    }

    /// An agent that joined it.
    ///
    /// # Panics
    /// Where there is none of the name.
    pub fn agent_mut(&mut self, name: &str) -> &mut Role {
        let joined = self.joined.as_mut().and_then(|joined| joined.agents.get_mut(name));
        joined.expect("an agent's name")
    }

    /// What is between it and those that joined it.
    ///
    /// # Panics
    /// Where nobody did.
    #[must_use]
    pub fn wire(&self) -> &Proxy {
        &self.joined.as_ref().expect("agents that joined").wire
    }

    /// Whether whoever is between lies from now on.
    pub fn lie(&self, lies: bool) {
        self.middle().into_iter().for_each(|middle| middle.lie(lies));
    }

    /// How often it did what.
    #[must_use]
    pub fn told(&self) -> BTreeMap<Lie, u64> {
        self.middle().map(Middle::told).unwrap_or_default()
    }

    fn middle(&self) -> Option<&Middle> {
        self.joined.as_ref()?.middle.as_ref()
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

    /// The names of all agents, with their processes.
    fn agents(&self) -> impl Iterator<Item = (&'static str, &Role)> {
        let joined = self.joined.iter().flat_map(|joined| &joined.agents);
        [(HOST, &self.up)].into_iter().chain(joined.map(|(name, role)| (*name, role)))
    }

    fn kept(&self) -> Vec<u64> {
        self.agents().map(|(_, role)| kept(&role.log())).collect()
    }

    /// Waits until all agents count on from now.
    ///
    /// # Errors
    /// Where one does not; the logs are in the message.
    pub fn counts_on(&self) -> Result<()> {
        let before = self.kept();
        until("all agents count on", || {
            Ok(self.kept().iter().zip(&before).all(|(now, before)| now > before).then_some(()))
        })
        .with_context(|| self.logs())
    }

    /// The same of those that joined it alone.
    ///
    /// # Errors
    /// As [`Embedded::counts_on`].
    pub fn others_count_on(&self) -> Result<()> {
        let before = self.kept();
        until("the agents that joined count on", || {
            let pairs = self.kept().into_iter().zip(&before).skip(1);
            Ok(pairs.into_iter().all(|(now, before)| now > *before).then_some(()))
        })
        .with_context(|| self.logs())
    }

    /// Starts whatever is dead, and what ended by itself.
    ///
    /// # Errors
    /// What does not start.
    pub fn revive(&mut self) -> Result<()> {
        let joined = self.joined.iter_mut().flat_map(|joined| joined.agents.values_mut());
        for role in [&mut self.up].into_iter().chain(joined) {
            role.keep_alive()?;
            if role.pid().is_none() {
                role.start()?;
            }
        }
        Ok(())
    }

    /// Waits until all count on, and asks the oracle of samples and of alerts.
    ///
    /// # Errors
    /// The oracle's report, where something was lost or doubled, or an alert is not as it should
    /// be, and the logs.
    pub fn judge(&mut self) -> Result<String> {
        self.revive()?;
        self.counts_on()?;
        let logs: Vec<_> = self
            .agents()
            .map(|(name, role)| (name.to_owned(), role.log_file().to_owned()))
            .collect();
        let judged = || -> Result<String> {
            let asked = Asked::of(&self.database().display().to_string(), &logs, self.path())?;
            let samples = asked.judge(SOON)?;
            let alerts = self.alerts_go_on()?;
            for (name, role) in self.agents() {
                if let Some(line) = role.log().lines().find(|line| line.contains("panicked at")) {
                    bail!("{name}: {line}");
                }
            }
            Ok(samples + &alerts)
        };
        judged().with_context(|| self.logs())
    }

    fn alerts_go_on(&self) -> Result<String> {
        alerts_go_on(&self.database().display().to_string(), || Ok(()))
    }

    /// What every process said.
    fn logs(&self) -> String {
        let log = |(name, role): (&str, &Role)| format!("---- {name}:\n{}\n", role.log());
        self.agents().map(log).collect()
    }
}

/// The program, which finds its `up` in a folder.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(given("SENTINEL_BIN", "debug/sentinel"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", folder).env("XDG_RUNTIME_DIR", folder).env("SENTINEL_LOG", "info");
    command
}
