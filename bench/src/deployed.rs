//! An installation of several processes, as an operator has it: NATS, PostgreSQL, a registry, servers and workers of the
//! program that is measured, all of them on loopback and in a folder of its own.

use crate::cpu;
use anyhow::{Context, Result, ensure};
use sentinel_model::ids::AgentId;
use sentinel_test_services::{
    Nats, Postgres, Process, RegistryFolder, RegistryProcess, Services, free_port, get, wait,
};
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::RegisterRequest;
use sentinel_wire::v1::ingest_client::IngestClient;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// The machine that servers are called by.
const HOST: &str = "127.0.0.1";
/// The files of the servers' certificate, which is its own CA.
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";
/// The key that all servers and workers have.
const AGENTS_KEY: &str = "agents.key";

/// A path that `cargo xtask bench` says.
pub(crate) fn given(name: &str) -> Result<PathBuf> {
    std::env::var_os(name)
        .map(PathBuf::from)
        .with_context(|| format!("{name} is not set; run `cargo xtask bench`"))
}

/// What servers and workers stand on.
pub(crate) struct Installation {
    dir: tempfile::TempDir,
    sentinel: PathBuf,
    pub(crate) nats: Nats,
    pub(crate) postgres: Postgres,
    pub(crate) database: String,
    registry: RegistryProcess,
    enrolment: PathBuf,
}

/// A server that runs.
pub(crate) struct Deployed {
    process: Process,
    /// Where agents push to.
    pub(crate) url: String,
    rest: u16,
    tls: bool,
    name: String,
}

/// An agent that a server knows.
pub(crate) struct Enrolled {
    pub(crate) id: AgentId,
    pub(crate) key: AgentKey,
}

impl Installation {
    /// Starts everything but servers and workers.
    pub(crate) fn start() -> Result<Self> {
        Self::with(&[])
    }

    /// The same; `settings` are further lines as in `postgresql.conf`.
    pub(crate) fn with(settings: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let sentinel = given("SENTINEL_BIN")?;
        let services = Services::read(&given("SENTINEL_SERVICES")?)?;
        let nats = Nats::start(&services, &dir.path().join("nats"))?;
        let settings: Vec<&str> =
            ["shared_buffers=256MB"].iter().chain(settings).copied().collect();
        let postgres = Postgres::start(&services, &settings)?;
        let database = postgres.database()?;
        let folder = RegistryFolder::new(&sentinel, &dir.path().join("registry"))?;
        let (registry, enrolment) = (folder.serve()?, folder.path("registry/enrolment.json"));
        let names = [HOST.to_owned(), "localhost".to_owned()];
        let pair = rcgen::generate_simple_self_signed(names)?;
        std::fs::write(dir.path().join(CERTIFICATE), pair.cert.pem())?;
        std::fs::write(dir.path().join(KEY), pair.signing_key.serialize_pem())?;
        Ok(Self { dir, sentinel, nats, postgres, database, registry, enrolment })
    }

    /// A place in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The servers' certificate, which agents trust.
    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.path(CERTIFICATE)
    }

    /// A role's command, with what all roles are told; `more` are lines of its configuration.
    fn role(&self, role: &str, name: &str, more: &str) -> Result<Command> {
        let config = self.path(&format!("{name}.yaml"));
        let text =
            format!("version: 1\nstore: {}\nbus: {}\n{more}", self.database, self.nats.url());
        std::fs::write(&config, text)?;
        let mut command = Command::new(&self.sentinel);
        command.env("HOME", self.dir.path()).env("XDG_RUNTIME_DIR", self.dir.path());
        command.env("SENTINEL_LOG", "warn").arg(role).arg("--config").arg(config);
        command.arg("--data").arg(self.path(name)).arg("--key").arg(self.path(AGENTS_KEY));
        command.args(["--registry", &self.registry.url()]).arg("--enrolment").arg(&self.enrolment);
        Ok(command)
    }

    /// What a role's process logged.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Starts a server, with TLS or without, and waits until it takes pushes.
    pub(crate) fn server(&self, name: &str, tls: bool, more: &str) -> Result<Deployed> {
        let (rest, grpc) = (free_port()?, free_port()?);
        let files = match tls {
            true => format!(
                "tls: {{certificate: {}, key: {}}}\n",
                self.path(CERTIFICATE).display(),
                self.path(KEY).display()
            ),
            false => String::new(),
        };
        let mut command = self.role("server", name, &format!("{files}{more}"))?;
        command.args(["--listen", &format!("{HOST}:{rest}"), "--grpc", &format!("{HOST}:{grpc}")]);
        let mut process = Process::start(&mut command, &self.path(&format!("{name}.log")))?;
        let is_ready = || self.log(name).contains("The server is running");
        wait("the server", || process.has_ended() || is_ready()).with_context(|| self.log(name))?;
        ensure!(!process.has_ended(), "the server ended: {}", self.log(name));
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{HOST}:{grpc}");
        Ok(Deployed { process, url, rest, tls, name: name.to_owned() })
    }

    /// Starts a worker, and waits until it is ready.
    pub(crate) fn worker(&self, name: &str, more: &str) -> Result<Process> {
        let listen = free_port()?;
        let mut command = self.role("worker", name, more)?;
        command.args(["--name", name, "--listen", &format!("{HOST}:{listen}")]);
        let mut process = Process::start(&mut command, &self.path(&format!("{name}.log")))?;
        let is_ready = || get(listen, "/ready").is_ok_and(|said| said.contains(" 200 "));
        wait("the worker", || process.has_ended() || is_ready()).with_context(|| self.log(name))?;
        ensure!(!process.has_ended(), "the worker ended: {}", self.log(name));
        Ok(process)
    }

    /// How agents reach a server.
    pub(crate) fn endpoint(&self, server: &Deployed) -> Result<Endpoint> {
        let endpoint = Endpoint::from_shared(server.url.clone())?.tcp_nodelay(true);
        if !server.tls {
            return Ok(endpoint);
        }
        let trusted = Certificate::from_pem(std::fs::read(self.certificate_file())?);
        Ok(endpoint.tls_config(ClientTlsConfig::new().ca_certificate(trusted))?)
    }

    /// A token that is good for so many agents.
    fn token(&self, server: &Deployed, uses: usize) -> Result<String> {
        let key = std::fs::read_to_string(self.path(&server.name).join("api.token"))?;
        let scheme = if server.tls { "https" } else { "http" };
        let mut command = Command::new(&self.sentinel);
        command.env("SENTINEL_TOKEN", key.trim()).env("HOME", self.dir.path());
        command.args(["token", "create", "--json", "--uses", &uses.to_string()]);
        command.args(["--server", &format!("{scheme}://{HOST}:{}", server.rest)]);
        command.arg("--ca").arg(self.path(CERTIFICATE));
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "token create: {said}");
        let made: Value = serde_json::from_slice(&output.stdout).context(said)?;
        Ok(made["token"].as_str().context("a token")?.to_owned())
    }

    /// Enrols so many agents, each on a machine of its own.
    pub(crate) async fn enrol(&self, server: &Deployed, count: usize) -> Result<Vec<Enrolled>> {
        let token = self.token(server, count)?;
        let mut client = IngestClient::new(self.endpoint(server)?.connect().await?);
        let mut agents = Vec::with_capacity(count);
        for number in 0..count {
            let id = AgentId::new(&format!("agent-{number:04}"))?;
            let request = RegisterRequest {
                token: token.clone(),
                agent_id: id.to_string(),
                hw_id: format!("{number:064x}"),
                hostname: id.to_string(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                nonce: number.to_le_bytes().repeat(2),
                ..RegisterRequest::default()
            };
            let answer = client.register(request).await?.into_inner();
            ensure!(answer.approved, "{id} waits for approval");
            agents.push(Enrolled { id, key: AgentKey::new(answer.key_id, &answer.key)? });
        }
        Ok(agents)
    }

    /// What the database answers to a question for one number.
    pub(crate) fn number(&self, sql: &str) -> Result<f64> {
        Ok(self.postgres.query(&self.database, sql)?.parse()?)
    }

    /// Seconds on the processor of PostgreSQL, all its processes.
    pub(crate) fn postgres_seconds(&self) -> Result<f64> {
        cpu::family(self.postgres.pid().context("PostgreSQL runs")?)
    }

    /// Resident memory of PostgreSQL: what is its processes' own, and once what they share.
    pub(crate) fn postgres_mib(&self) -> Result<f64> {
        let postmaster = self.postgres.pid().context("PostgreSQL runs")?;
        let mut total = cpu::resident_mib(postmaster)?;
        for child in cpu::children(postmaster)? {
            total += cpu::own_mib(child).unwrap_or_default();
        }
        Ok(total)
    }
}

impl Deployed {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// A connection for each agent.
pub(crate) async fn connections(endpoint: &Endpoint, count: usize) -> Result<Vec<Channel>> {
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        open.push(endpoint.connect().await?);
    }
    Ok(open)
}
