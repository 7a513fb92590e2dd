//! The production pair as real processes: NATS, PostgreSQL, two servers, two workers, two agents.

mod begin;

use crate::agents::AGENTS;
use crate::middle::{Lie, Middle};
use crate::oracle::{self, kept};
use crate::proxy::{Place, Proxy};
use crate::role::Role;
use crate::schedule::Strike;
use crate::{SOON, number, until};
use anyhow::{Context, Result, bail, ensure};
use begin::{command, is_ready};
use sentinel_test_services::{Nats, Postgres, RegistryProcess, Services, SmallDisk};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Whom [`Site::strike`] can kill.
pub const VICTIMS: &[&str] =
    &["agent-1", "agent-2", "server-1", "server-2", "worker-1", "worker-2", "nats", "postgres"];
/// How many of a log's lines are shown where something fails.
const SHOWN: usize = 60;

/// What a site is made with.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Of the proxies' lots.
    pub seed: u64,
    /// Lines as in `postgresql.conf`.
    pub postgres: &'a [&'a str],
    /// Further lines of the configuration's part `agent`, indented by two.
    pub agent: &'a str,
    /// Rows that each agent makes ten times a second.
    pub rows: u32,
    /// Of the disk that NATS has for itself, in MiB; else it writes where all do.
    pub nats_disk: Option<u32>,
    /// The same of PostgreSQL.
    pub postgres_disk: Option<u32>,
    /// Roles whose own folders are disks of so many MiB; not the first server, whose
    /// token others read.
    pub role_disks: &'a [(&'a str, u32)],
    /// Whether somebody stands between agents and servers: see [`crate::middle`].
    pub middle: bool,
}

impl Options<'_> {
    /// Small agents, and nothing special.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            postgres: &[],
            agent: "",
            rows: 20,
            nats_disk: None,
            postgres_disk: None,
            role_disks: &[],
            middle: false,
        }
    }
}

/// Each pair of parts that speak to each other, by a proxy of their own.
pub struct Wires {
    /// From agents to the first server, and to the second.
    pub agents_servers: [Proxy; 2],
    /// From servers to NATS.
    pub servers_bus: Proxy,
    /// From workers to NATS.
    pub workers_bus: Proxy,
    /// From servers to PostgreSQL.
    pub servers_store: Proxy,
    /// From workers to PostgreSQL.
    pub workers_store: Proxy,
}

impl Wires {
    /// All of them, with their names.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Proxy); 6] {
        [
            ("agents to server-1", &self.agents_servers[0]),
            ("agents to server-2", &self.agents_servers[1]),
            ("servers to NATS", &self.servers_bus),
            ("workers to NATS", &self.workers_bus),
            ("servers to PostgreSQL", &self.servers_store),
            ("workers to PostgreSQL", &self.workers_store),
        ]
    }
}

/// Everything, running.
pub struct Site {
    // In the order in which they end: who gives before who takes, the folder last.
    roles: BTreeMap<&'static str, Role>,
    disks: BTreeMap<String, SmallDisk>,
    /// What the processes are joined by.
    pub wires: Wires,
    /// Between agents and each server, where there is somebody.
    middles: Vec<Middle>,
    _registry: RegistryProcess,
    nats: Nats,
    postgres: Postgres,
    database: String,
    rest: [u16; 2],
    folder: TempDir,
}

impl Site {
    /// What a command of the CLI prints, asked of the first server.
    ///
    /// # Errors
    /// Where it fails.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        let token = std::fs::read_to_string(self.folder.path().join("server-1/api.token"))?;
        let mut command = command(self.folder.path());
        command.args(words).args(["--server", &format!("http://127.0.0.1:{}", self.rest[0])]);
        let output = command.env("SENTINEL_TOKEN", token.trim()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "sentinel {words:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Whether a server says that it is ready, by its place among them.
    #[must_use]
    pub fn is_ready(&self, server: usize) -> bool {
        matches!(is_ready(self.rest[server]), Ok(true))
    }

    /// A role's process.
    ///
    /// # Panics
    /// Where there is none of the name.
    pub fn role_mut(&mut self, name: &str) -> &mut Role {
        self.roles.get_mut(name).expect("a role's name")
    }

    /// The disk of a process that has one.
    ///
    /// # Panics
    /// Where it has none.
    #[must_use]
    pub fn disk(&self, name: &str) -> &SmallDisk {
        let disk = match name {
            "nats" => self.nats.disk(),
            "postgres" => self.postgres.disk(),
            role => self.disks.get(role),
        };
        disk.expect("a disk of its own")
    }

    /// NATS.
    pub fn nats(&mut self) -> &mut Nats {
        &mut self.nats
    }

    /// PostgreSQL.
    pub fn postgres(&mut self) -> &mut Postgres {
        &mut self.postgres
    }

    /// The database, as it is without any proxy.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The wire of a name, as [`Wires::all`] has it.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn wire(&self, name: &str) -> &Proxy {
        self.wires.all().into_iter().find(|(of, _)| *of == name).expect("a wire's name").1
    }

    /// Its folder, in which each process has one of its name.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether those between agents and servers lie from now on.
    pub fn lie(&self, lies: bool) {
        self.middles.iter().for_each(|middle| middle.lie(lies));
    }

    /// How often they did what, together.
    #[must_use]
    pub fn told(&self) -> BTreeMap<Lie, u64> {
        let mut told = BTreeMap::new();
        for (lie, times) in self.middles.iter().flat_map(Middle::told) {
            *told.entry(lie).or_default() += times;
        }
        told
    }

    /// What each agent says it has kept.
    #[must_use]
    pub fn kept(&self) -> [u64; 2] {
        AGENTS.map(|name| kept(&self.log(name)))
    }

    /// The greatest value of each agent that is stored.
    ///
    /// # Errors
    /// A database that does not answer.
    pub fn committed(&self) -> Result<[u64; 2]> {
        let of = |agent: &str| -> Result<u64> {
            let sql = format!(
                "SELECT coalesce(max(value), 0)::bigint FROM metrics_time \
                 WHERE name = 'sentinel_test_counter' AND labels->>'agent' = '{agent}'"
            );
            Ok(self.postgres.query(&self.database, &sql)?.parse()?)
        };
        Ok([of(AGENTS[0])?, of(AGENTS[1])?])
    }

    /// Waits until both agents count on from now.
    ///
    /// # Errors
    /// Where they do not; the logs are in the message.
    pub fn counts_on(&mut self) -> Result<()> {
        let before = self.kept();
        until("both agents count on", || {
            Ok(self.kept().iter().zip(&before).all(|(now, before)| now > before).then_some(()))
        })
        .with_context(|| self.logs())
    }

    /// Waits until what agents count from now on is committed.
    ///
    /// # Errors
    /// Where it is not; the logs are in the message.
    pub fn until_committed(&mut self) -> Result<()> {
        let before = self.committed()?;
        self.counts_on()?;
        let kept = self.kept();
        until("what agents count from now on is committed", || {
            let now = self.committed()?;
            let is_beyond = |i: usize| now[i] > before[i].max(kept[i]);
            Ok((is_beyond(0) && is_beyond(1)).then_some(()))
        })
        .with_context(|| self.logs())
    }

    /// What a process logged.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        self.roles.get(name).map(Role::log).unwrap_or_default()
    }

    /// What it logged after so many bytes.
    #[must_use]
    pub fn log_from(&self, name: &str, bytes: usize) -> String {
        self.log(name).get(bytes..).unwrap_or_default().to_owned()
    }

    /// How many samples of counters are stored.
    ///
    /// # Errors
    /// A database that does not answer.
    pub fn stored(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM metrics_time WHERE name = 'sentinel_test_counter'";
        Ok(self.postgres.query(&self.database, sql)?.parse()?)
    }

    /// Kills all of these at once, and starts them again after a while.
    ///
    /// # Errors
    /// What does not start again.
    pub fn strike(&mut self, strike: &Strike) -> Result<()> {
        std::thread::sleep(strike.after);
        for name in &strike.victims {
            match name.as_str() {
                "nats" => self.nats.kill(),
                "postgres" => self.postgres.kill(),
                role => self.role_mut(role).kill(),
            }
        }
        std::thread::sleep(strike.down);
        self.revive()
    }

    /// PostgreSQL dies and does not come back: a standby with these settings takes its place, which has to have each
    /// commit before it is one.
    ///
    /// # Errors
    /// Where there is no standby, or nothing is committed while it follows.
    pub fn fail_over(&mut self, settings: &[&str]) -> Result<()> {
        let services = Services::here()?;
        let standby = self.postgres.standby(&services, settings)?;
        self.postgres.query("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        self.postgres.query("postgres", "SELECT pg_reload_conf()")?;
        let waits = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        until("commits wait for the standby", || {
            Ok((self.postgres.query("postgres", waits)? == "1").then_some(()))
        })?;
        self.until_committed()?;
        self.postgres.kill();
        standby.promote()?;
        let at = begin::socket(&standby)?;
        for wire in [&self.wires.servers_store, &self.wires.workers_store] {
            wire.lead_to(Place::Socket(at.clone()));
        }
        self.database = standby.url("test0");
        self.postgres = standby;
        Ok(())
    }

    /// Starts whatever is dead, and what ended by itself.
    ///
    /// # Errors
    /// What does not start.
    pub fn revive(&mut self) -> Result<()> {
        self.postgres.keep_alive()?;
        if self.postgres.pid().is_none() {
            self.postgres.begin()?;
        }
        if self.nats.pid().is_none() {
            self.nats.start_again()?;
        }
        for role in self.roles.values_mut() {
            role.keep_alive()?;
            if role.pid().is_none() {
                role.start()?;
            }
        }
        Ok(())
    }

    /// Everything runs again: waits until both agents count on, and alerts fire and are over, and
    /// asks the oracle of samples and of alerts.
    ///
    /// # Errors
    /// The oracle's report, where something was lost or doubled, or an alert is not as it should
    /// be, and the logs.
    pub fn judge(&mut self) -> Result<String> {
        let judged = self.judged(Self::alerts_go_on);
        judged.with_context(|| self.logs())
    }

    /// The same where agents' samples may lie beyond the windows of all rules: alerts have to be
    /// what comes of that, and need not fire.
    ///
    /// # Errors
    /// As [`Site::judge`].
    pub fn judge_without_waves(&mut self) -> Result<String> {
        let judged = self.judged(Self::alerts_agree);
        judged.with_context(|| self.logs())
    }

    fn judged(&mut self, alerts: impl Fn(&mut Self) -> Result<String>) -> Result<String> {
        self.revive()?;
        let before = self.kept();
        until("both agents count on", || {
            self.revive()?;
            Ok(self.kept().iter().zip(&before).all(|(now, before)| now > before).then_some(()))
        })?;
        let logs = AGENTS.map(|name| (name.to_owned(), self.roles[name].log_file().to_owned()));
        let folder = self.folder.path().to_owned();
        let asked = oracle::Asked::of(&self.database, &logs, &folder)?;
        let start = Instant::now();
        loop {
            // What gave up while something was missing is started again, as it would be.
            self.revive()?;
            match asked.judge(Duration::from_secs(3)) {
                Ok(report) => {
                    let alerts = alerts(self)?;
                    self.no_panic()?;
                    return Ok(report + &alerts);
                }
                Err(error) if start.elapsed() > SOON => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Waits until alerts fire and are over again, and asks the oracle of them.
    fn alerts_go_on(&mut self) -> Result<String> {
        let database = self.database.clone();
        oracle::alerts_go_on(&database, || self.revive())
    }

    /// Waits until rules are evaluated again, and asks the oracle of alerts.
    fn alerts_agree(&mut self) -> Result<String> {
        let database = self.database.clone();
        oracle::alerts_agree(&database, || {
            self.revive()?;
            let last = "SELECT coalesce(max(at), 0) FROM evaluations";
            Ok(self.postgres.query(&database, last)?.parse()?)
        })
    }

    fn no_panic(&self) -> Result<()> {
        for (name, role) in &self.roles {
            if let Some(line) = role.log().lines().find(|line| line.contains("panicked at")) {
                bail!("{name}: {line}");
            }
        }
        Ok(())
    }

    /// The last lines of every process.
    #[must_use]
    pub fn logs(&self) -> String {
        let nats = std::fs::read(self.folder.path().join("nats/log")).unwrap_or_default();
        let nats = String::from_utf8_lossy(&nats).into_owned();
        let others = [("nats", nats), ("postgres", self.postgres.log())];
        let others = others.map(|(name, log)| format!("---- {name}:\n{}\n", tail(&log)));
        let roles = self.roles.iter().map(|(name, role)| {
            format!("---- {name}, ended by itself {} times:\n{}\n", role.ended(), tail(&role.log()))
        });
        roles.chain(others).collect()
    }
}

/// The last lines, without what agents count.
fn tail(log: &str) -> String {
    let shown = number("SENTINEL_LINES", SHOWN as u64) as usize;
    let lines: Vec<_> = log.lines().filter(|line| !line.contains("counted: ")).collect();
    lines[lines.len().saturating_sub(shown)..].join("\n")
}
