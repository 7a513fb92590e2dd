//! Real services for tests and benches. `cargo xtask services` fetches them and writes where
//! they are (`target/services/services.json`); here they are started, on loopback, on free
//! ports, in folders that the caller gives, and end with their owner.

mod disk;
mod keyring;
mod nats;
mod nginx;
mod postgres;
mod process;
mod registry;
mod s3;
mod smtp;
mod smtp_faults;
mod timescale;

pub use disk::SmallDisk;
pub use keyring::{Keyring, SessionBus};
pub use nats::Nats;
pub use nginx::Nginx;
pub use postgres::Postgres;
pub use process::Process;
pub use registry::{RegistryFolder, RegistryProcess};
pub use s3::S3;
pub use smtp::{Mail, SmtpServer, SmtpTls};
pub use smtp_faults::{FaultySmtp, SmtpFault, SmtpSession, SmtpStep};
pub use timescale::TimescaleEdition;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a service may take to come up.
const START: Duration = Duration::from_secs(90);

/// The services that are there.
#[derive(Debug, Clone, Deserialize)]
pub struct Services {
    /// Where the list lies; what services need once is kept beside it.
    #[serde(skip)]
    folder: PathBuf,
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Clone, Deserialize)]
struct Service {
    program: PathBuf,
    #[serde(default)]
    library_path: String,
}

impl Services {
    /// Those of this checkout, or those that `SENTINEL_SERVICES` names.
    ///
    /// # Errors
    /// Where there are none.
    pub fn here() -> Result<Self> {
        Self::named("SENTINEL_SERVICES", "services/services.json")
    }

    /// The list that a variable names, else the one at its place in `target`.
    fn named(variable: &str, in_target: &str) -> Result<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let list = std::env::var_os(variable);
        Self::read(&list.map_or_else(|| target.join(in_target), PathBuf::from))
    }

    /// Reads the list that `cargo xtask services` wrote.
    ///
    /// # Errors
    /// Where there is none.
    pub fn read(list: &Path) -> Result<Self> {
        let text = std::fs::read(list).with_context(|| {
            format!("{} cannot be read; run `cargo xtask services`", list.display())
        })?;
        let services: Self =
            serde_json::from_slice(&text).with_context(|| format!("in {}", list.display()))?;
        let folder = list.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self { folder, ..services })
    }

    /// Where a service's program is, and the library path that it needs.
    fn program(&self, name: &str) -> Result<(PathBuf, String)> {
        let service = self
            .services
            .get(name)
            .with_context(|| format!("{name} is not among the services of this machine"))?;
        Ok((service.program.clone(), service.library_path.clone()))
    }

    /// The command that starts a service.
    ///
    /// # Errors
    /// Where it is not among them.
    pub fn command(&self, name: &str) -> Result<Command> {
        let (program, library_path) = self.program(name)?;
        let mut command = Command::new(program);
        if !library_path.is_empty() {
            command.env("LD_LIBRARY_PATH", library_path);
        }
        Ok(command)
    }
}

impl Services {
    /// The command that starts another program of the package that a service is of.
    ///
    /// # Errors
    /// Where the service is not among them, or has no such program beside it.
    pub fn command_beside(&self, name: &str, program: &str) -> Result<Command> {
        let mut command = self.command(name)?;
        let path = Path::new(command.get_program()).with_file_name(program);
        ensure!(path.is_file(), "{} is not there", path.display());
        let environment: Vec<_> =
            command.get_envs().map(|(k, v)| (k.to_owned(), v.map(|v| v.to_owned()))).collect();
        command = Command::new(path);
        command.envs(environment.into_iter().filter_map(|(k, v)| Some((k, v?))));
        Ok(command)
    }
}

/// A port that nobody listens on at this moment.
///
/// # Errors
/// Where none is free.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A port on which nobody listens, below those that the system gives to connections: one that is
/// still free after its owner was killed, and that nobody reaches by connecting from it. No process
/// is given the same one twice: what was asked for may be listened on later.
///
/// # Errors
/// Where none is free.
pub fn steady_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..1_000)
        .map(|_| 12_000 + (RandomState::new().build_hasher().finish() % 18_000) as u16)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port))
        .context("no port is free")
}

/// What a server on loopback answers, head and body.
///
/// # Errors
/// Where it cannot be asked.
pub fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Waits, at most a minute and a half, until something is so.
///
/// # Errors
/// Where it does not come to be.
pub fn wait(what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        ensure!(start.elapsed() < START, "{what}: not within {START:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
