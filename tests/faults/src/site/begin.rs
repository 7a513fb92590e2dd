//! Starting a [`Site`]: the order in which its parts need each other.

use super::{Options, Site, Wires};
use crate::agents::{self, AGENTS, Waiting};
use crate::middle::Middle;
use crate::oracle::kept;
use crate::proxy::{Place, Proxy};
use crate::role::Role;
use crate::rules::{EVALUATORS, RULES};
use crate::{given, until};
use anyhow::{Context, Result};
use sentinel_test_services::{
    Nats, Postgres, RegistryFolder, RegistryProcess, Services, SmallDisk, steady_port,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Who Sentinel is to PostgreSQL: whose the database is, and no superuser.
const ROLE: &str = "site";

/// The program, with nothing of this process's environment.
pub(super) fn command(folder: &Path) -> Command {
    let mut command = Command::new(given("SENTINEL_BIN", "debug/sentinel"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", folder).env("XDG_RUNTIME_DIR", folder).env("SENTINEL_LOG", "info");
    command
}

/// A registry with the counter in it, and what evaluates rules.
fn registry(folder: &Path) -> Result<RegistryProcess> {
    let registry = RegistryFolder::new(&given("SENTINEL_BIN", "debug/sentinel"), folder)?;
    let serving = registry.serve()?;
    let key = given("SENTINEL_PUBLISHER_KEY", "dev-keys/sentinel.key");
    let public = key.with_extension("pub");
    let public = std::fs::read_to_string(&public)
        .with_context(|| format!("the publisher's public key {}", public.display()))?;
    registry.approve(&serving, "sentinel", public.trim())?;
    registry.token("sentinel")?;
    let (key, url) = (key.to_str().context("a path")?, serving.url());
    for plugin in ["fixtures/counter.wasm", "alert-dsl.wasm"] {
        let plugin = given("SENTINEL_PLUGINS", "plugins").join(plugin);
        let plugin = plugin.to_str().context("a path")?;
        let publish = ["plugin", "publish", plugin, "--key", key, "--token-file", "token"];
        registry.run(&[&publish[..], &["--registry", &url]].concat())?;
    }
    Ok(serving)
}

/// Ports of both servers, REST and gRPC: no two the same, although nobody listens there yet.
fn ports() -> Result<([u16; 2], [u16; 2])> {
    let mut ports = BTreeSet::new();
    while ports.len() < 4 {
        ports.insert(steady_port()?);
    }
    let mut ports = ports.into_iter();
    let mut next = || ports.next().context("a port");
    Ok(([next()?, next()?], [next()?, next()?]))
}

/// Whether a server says that it is ready.
pub(super) fn is_ready(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Servers answer to names that they know, of which localhost is none.
    let head = format!("Host: 127.0.0.1:{port}\r\nConnection: close");
    write!(stream, "GET /ready HTTP/1.1\r\n{head}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}

/// The Unix socket of a PostgreSQL, in the folder that its URL names.
pub(super) fn socket(postgres: &Postgres) -> Result<PathBuf> {
    let url = postgres.url("x");
    let (_, folder) = url.split_once("host=").context("a socket")?;
    Ok(PathBuf::from(folder.replace("%2F", "/")).join(".s.PGSQL.5432"))
}

/// A proxy of a database, in a folder of its own; the URL through it.
fn database_wire(folder: &Path, name: &str, to: PathBuf, seed: u64) -> Result<(Proxy, String)> {
    let folder = folder.join(name);
    std::fs::create_dir(&folder)?;
    let proxy = Proxy::on_socket(&folder.join(".s.PGSQL.5432"), Place::Socket(to), seed)?;
    let host = folder.display().to_string().replace('/', "%2F");
    Ok((proxy, format!("postgres://{ROLE}@localhost/test0?host={host}")))
}

impl Site {
    /// Starts everything, and waits until both agents count, and alerts fire and are over.
    ///
    /// # Errors
    /// Where something does not come up; the logs are in the message.
    pub fn start(options: &Options<'_>) -> Result<Self> {
        let services = Services::here()?;
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        let at = path.join("nats");
        let nats = match options.nats_disk {
            Some(mebibytes) => Nats::on_small_disk(&services, &at, mebibytes)?,
            None => Nats::start(&services, &at)?,
        };
        let postgres = match options.postgres_disk {
            Some(mebibytes) => Postgres::on_small_disk(&services, options.postgres, mebibytes)?,
            None => Postgres::start(&services, options.postgres)?,
        };
        let database = postgres.database()?;
        let give = format!("CREATE ROLE {ROLE} LOGIN; ALTER DATABASE test0 OWNER TO {ROLE}");
        postgres.query("postgres", &give)?;
        let registry = registry(path)?;
        let (rest, grpc) = ports()?;
        let seed = options.seed;
        let at = socket(&postgres)?;
        let (servers_store, servers_url) = database_wire(path, "ss", at.clone(), seed)?;
        let (workers_store, workers_url) = database_wire(path, "ws", at, seed)?;
        let port = |port, salt: u64| Proxy::on_port(Place::Port(port), seed ^ salt);
        let wires = Wires {
            agents_servers: [port(grpc[0], 1)?, port(grpc[1], 2)?],
            servers_bus: port(nats.port(), 3)?,
            workers_bus: port(nats.port(), 4)?,
            servers_store,
            workers_store,
        };
        for (file, store, bus) in [
            ("servers.yaml", servers_url, &wires.servers_bus),
            ("workers.yaml", workers_url, &wires.workers_bus),
        ] {
            let text = format!(
                "version: 1\nstore: {store}\nbus: nats://127.0.0.1:{}\n\
                 nats: {{partitions: 3, max_bytes: 67108864}}\n\
                 worker: {{settle: 0s, self_watch: {{enabled: false}}, {EVALUATORS}}}\n",
                bus.port()
            );
            std::fs::write(path.join(file), text)?;
        }
        let mut disks = BTreeMap::new();
        for &(name, mebibytes) in options.role_disks {
            let at = path.join(name);
            std::fs::create_dir(&at)?;
            let disk = SmallDisk::new(&at, mebibytes, &path.join(format!("{name}.disk.log")))?;
            disks.insert(name.to_owned(), disk);
        }
        let mut site = Self {
            roles: BTreeMap::new(),
            disks,
            wires,
            middles: Vec::new(),
            nats,
            postgres,
            database,
            rest,
            folder,
            _registry: registry,
        };
        let url = site._registry.url();
        let started = site.start_roles(&url, grpc, options);
        started.with_context(|| site.logs())?;
        Ok(site)
    }

    fn start_roles(&mut self, registry: &str, grpc: [u16; 2], options: &Options<'_>) -> Result<()> {
        let path = self.folder.path().to_owned();
        for (i, name) in ["server-1", "server-2"].into_iter().enumerate() {
            let mut command = self.role(name, "servers.yaml", registry);
            command.arg("--key").arg(path.join("agents.key"));
            command.arg("--listen").arg(format!("127.0.0.1:{}", self.rest[i]));
            command.arg("--grpc").arg(format!("127.0.0.1:{}", grpc[i]));
            self.run(name, &command)?;
            // The first makes the key and the tables.
            self.until_ready(i)?;
        }
        let rules = path.join("rules.yaml");
        std::fs::write(&rules, RULES)?;
        let rules = rules.to_str().context("a path")?;
        until("the rules are in force", || {
            self.ask(&["rules", "apply", "--yes", rules]).map(Some)
        })?;
        for name in ["worker-1", "worker-2"] {
            let mut command = self.role(name, "workers.yaml", registry);
            command.arg("--key").arg(path.join("agents.key")).args(["--name", name]);
            self.run(name, &command)?;
        }
        let mut ports = self.wires.agents_servers.each_ref().map(Proxy::port);
        if options.middle {
            let [first, second] = ports;
            self.middles.push(Middle::start(first, second, options.seed ^ 5)?);
            self.middles.push(Middle::start(second, first, options.seed ^ 6)?);
            ports = [self.middles[0].port(), self.middles[1].port()];
        }
        let join = ports.map(|port| format!("http://127.0.0.1:{port}"));
        for (i, name) in AGENTS.into_iter().enumerate() {
            let config = agents::config(name, options.rows, options.agent);
            let file = format!("{name}.yaml");
            std::fs::write(path.join(&file), config)?;
            let token = path.join(format!("{name}.token"));
            std::fs::write(&token, self.ask(&["token", "create"])?)?;
            let mut command = self.role(name, &file, registry);
            // Each prefers another server.
            command.arg("--join").arg(format!("{},{}", join[i], join[1 - i]));
            command.arg("--token-file").arg(token);
            self.run(name, &command)?;
        }
        let mut waiting = Waiting::all();
        until("both agents count, and what they count is stored", || {
            let approve = |name: &str| self.ask(&["agents", "approve", name]).is_ok();
            waiting.let_in(|name| self.log(name), approve);
            let counts = AGENTS.iter().all(|name| kept(&self.log(name)) > 0);
            Ok((counts && self.committed()?.iter().all(|&value| value > 0)).then_some(()))
        })?;
        self.alerts_go_on().map(drop)
    }

    /// The command of a role with what all have.
    fn role(&self, name: &str, config: &str, registry: &str) -> Command {
        let path = self.folder.path();
        let data = path.join(name);
        let mut command = command(path);
        command.arg(name.split('-').next().unwrap_or_default());
        command.arg("--config").arg(path.join(config)).arg("--data").arg(data);
        command.args(["--registry", registry]);
        command.arg("--enrolment").arg(path.join("registry/enrolment.json"));
        command
    }

    fn run(&mut self, name: &'static str, command: &Command) -> Result<()> {
        let log = self.folder.path().join(format!("{name}.log"));
        let mut role = match self.disks.get(name) {
            Some(disk) => Role::new(&disk.inside(command), &log),
            None => Role::new(command, &log),
        };
        role.start()?;
        self.roles.insert(name, role);
        Ok(())
    }

    fn until_ready(&self, server: usize) -> Result<()> {
        until("the server is ready", || Ok(is_ready(self.rest[server])?.then_some(())))
    }
}
