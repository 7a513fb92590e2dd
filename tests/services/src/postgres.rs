//! A real PostgreSQL, reached by a Unix socket in its own folder, everything synced.
//!
//! The cluster is made once (`initdb`, two seconds) and kept beside the list of services; each
//! server begins with a copy of it. PostgreSQL refuses to run as root, so root starts it as nobody.

use crate::{Process, Services, SmallDisk, wait};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Debian's user and group that own nothing.
const NOBODY: u32 = 65_534;
/// The superuser of the cluster.
const USER: &str = "sentinel";
/// Small, since tests run many beside each other. After a kill a server syncs its file system
/// at once, not file by file, which takes seconds.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "shared_buffers=32MB",
    "max_connections=40",
    "recovery_init_sync_method=syncfs",
];

/// A file system in memory, where there is one, and what has to be free of it.
const MEMORY: (&str, u64) = ("/dev/shm", 2 << 30);

/// The same of one on a small disk: not much of it is for the write-ahead log.
const SMALL_SETTINGS: &[&str] = &["min_wal_size=32MB", "max_wal_size=48MB"];

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes a folder that the server's user owns.
fn own_folder(path: &Path) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("{} cannot be made", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

/// The same command as the server's user.
fn as_user(mut command: Command) -> Command {
    command.env("LC_ALL", "C").current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn run(mut command: Command) -> Result<String> {
    let name = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{name:?}"))?;
    let (said, wrong) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{name:?} failed: {said}{wrong}");
    Ok(said.into_owned())
}

/// The cluster that servers begin with, made by whoever needs it first.
fn template(services: &Services) -> Result<PathBuf> {
    let user = if is_root() { "nobody" } else { "self" };
    let made = services.folder.join(format!("postgres-{user}"));
    let lock = File::create(services.folder.join("postgres.lock"))?;
    lock.lock()?;
    if made.exists() {
        return Ok(made);
    }
    let partial = made.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    own_folder(&partial)?;
    let mut command = as_user(services.command("initdb")?);
    command.arg("--pgdata").arg(&partial).args(["--username", USER, "--auth", "trust"]);
    command.args(["--encoding", "UTF8", "--locale", "C"]);
    run(command)?;
    fs::rename(&partial, &made)?;
    Ok(made)
}

/// A server with a folder of its own, which goes with it.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    server: Option<Process>,
    /// What its data lie on, where that is one of its own. It goes after the server.
    disk: Option<SmallDisk>,
    command: PathBuf,
    library_path: String,
    settings: Vec<String>,
    psql: PathBuf,
    made: AtomicU32,
}

impl Postgres {
    /// Starts a server and waits until it answers. `settings` are lines as in `postgresql.conf`.
    ///
    /// # Errors
    /// Where it is not among the services or does not come up.
    pub fn start(services: &Services, settings: &[&str]) -> Result<Self> {
        Self::start_below(&std::env::temp_dir(), services, settings)
    }

    /// As [`Postgres::start`], with its files in memory where there is room: for tests that ask it
    /// and do not harm it. On a disk its thousand files take most of the time of such a test: ext4
    /// looks long for places of files while others were deleted a moment ago.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_in_memory(services: &Services, settings: &[&str]) -> Result<Self> {
        let (memory, need) = MEMORY;
        let free = rustix::fs::statvfs(memory).map_or(0, |found| found.f_bavail * found.f_frsize);
        let folder = if free < need { std::env::temp_dir() } else { memory.into() };
        Self::start_below(&folder, services, settings)
    }

    fn start_below(folder: &Path, services: &Services, settings: &[&str]) -> Result<Self> {
        let mut server = Self::new(folder, services, settings)?;
        server.put(services)?;
        server.begin()?;
        Ok(server)
    }

    /// As [`Postgres::start`], on a disk of so many MiB. An empty cluster takes about 60.
    ///
    /// # Errors
    /// As [`Postgres::start`], and where there are no user namespaces.
    pub fn on_small_disk(services: &Services, settings: &[&str], mebibytes: u32) -> Result<Self> {
        let settings = [SMALL_SETTINGS, settings].concat();
        let mut server = Self::new(&std::env::temp_dir(), services, &settings)?;
        let (data, log) = (server.folder.join("data"), server.folder.join("log"));
        own_folder(&data)?;
        // It must be the server's user who may look into it.
        server.disk = Some(SmallDisk::held_by(as_user, &data, mebibytes, &log)?);
        server.put(services)?;
        server.begin()?;
        Ok(server)
    }

    /// Starts a server that follows this one, from a copy of what it has now. It takes no changes before it is
    /// [promoted](Postgres::promote).
    ///
    /// # Errors
    /// Where there is no copy, or it does not come up.
    pub fn standby(&self, services: &Services, settings: &[&str]) -> Result<Self> {
        let mut standby = Self::new(&std::env::temp_dir(), services, settings)?;
        let mut copy = as_user(services.command_beside("psql", "pg_basebackup")?);
        copy.arg("--pgdata").arg(standby.data()).arg("--host").arg(&self.folder);
        copy.args(["--username", USER, "--write-recovery-conf", "--checkpoint=fast"]);
        run(copy)?;
        standby.begin()?;
        Ok(standby)
    }

    /// From now on it follows nobody.
    ///
    /// # Errors
    /// Where it does not go over to that.
    pub fn promote(&self) -> Result<()> {
        let said = self.query("postgres", "SELECT pg_promote()")?;
        ensure!(said == "t", "it was not promoted: {said}");
        Ok(())
    }

    /// With a folder of its own, and nothing in it.
    fn new(parent: &Path, services: &Services, settings: &[&str]) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let folder = loop {
            let number = STARTED.fetch_add(1, Ordering::Relaxed);
            let name = format!("sentinel-postgres-{}-{number}", std::process::id());
            let folder = parent.join(name);
            // What was killed left its folder behind, and ids of processes come again.
            if !folder.exists() {
                own_folder(&folder)?;
                break folder;
            }
        };
        Ok(Self {
            command: services.program("postgres")?.0,
            library_path: services.program("postgres")?.1,
            psql: services.program("psql")?.0,
            settings: SETTINGS.iter().chain(settings).map(|s| (*s).to_owned()).collect(),
            server: None,
            disk: None,
            made: AtomicU32::new(0),
            folder,
        })
    }

    /// Copies the cluster that it begins with.
    fn put(&self, services: &Services) -> Result<()> {
        let template = template(services)?;
        let mut copy = as_user(Command::new("cp"));
        copy.arg("-a").arg("-T").arg(&template).arg(self.data());
        run(copy).map(|_| ())
    }

    /// Where its data lie, as its processes see them.
    fn data(&self) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.folder.join("data"), SmallDisk::path)
    }

    /// The disk of its own, where it has one.
    #[must_use]
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Starts the server again where it has ended by itself, as a service manager would.
    ///
    /// # Errors
    /// As [`Postgres::begin`].
    pub fn keep_alive(&mut self) -> Result<()> {
        if self.server.as_mut().is_some_and(Process::has_ended) {
            self.kill();
            self.begin()?;
        }
        Ok(())
    }

    /// Starts the server again over what is on its disk.
    ///
    /// # Errors
    /// Where it runs already, or does not come up.
    pub fn begin(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "it runs already");
        let log = self.folder.join("log");
        let start = || -> Result<Process> {
            let mut command = as_user(self.tool(&self.command));
            command.arg("-D").arg(self.data()).arg("-k").arg(&self.folder);
            for setting in &self.settings {
                command.arg("-c").arg(setting);
            }
            Process::start(&mut command, &log)
        };
        let mut server = start()?;
        let answers = || self.query("postgres", "SELECT 1").is_ok();
        let said = wait("PostgreSQL", || {
            // What a killed server left running holds its memory for a moment longer.
            if server.has_ended()
                && let Ok(again) = start()
            {
                server = again;
            }
            answers()
        });
        if let Err(error) = said {
            bail!("{error}: {}", fs::read_to_string(&log).unwrap_or_default());
        }
        self.server = Some(server);
        Ok(())
    }

    fn tool(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if !self.library_path.is_empty() {
            command.env("LD_LIBRARY_PATH", &self.library_path);
        }
        command
    }

    /// Kills the server as a crash does (`kill -9`). [`Postgres::begin`] starts it again.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Lets the server end in order.
    ///
    /// # Errors
    /// Where it does not.
    pub fn end(&mut self) -> Result<()> {
        self.signal(Signal::INT)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        kill_process(Pid::from_raw(server.pid() as i32).context("a pid")?, signal)?;
        wait("the end of PostgreSQL", || server.has_ended())
    }

    /// The process id of the server, whose children are one a connection and a few more.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Process::pid)
    }

    /// Makes an empty database; its URL.
    ///
    /// # Errors
    /// Where the server does not.
    pub fn database(&self) -> Result<String> {
        let name = format!("test{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.query("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// The URL of a database of the server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let socket = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://{USER}@localhost/{database}?host={socket}")
    }

    /// A `psql` that is connected to the database of a URL or of a name.
    #[must_use]
    pub fn psql(&self, database: &str) -> Command {
        let name = database.split('?').next().unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or_default();
        let mut command = self.tool(&self.psql);
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        command.args(["--set", "ON_ERROR_STOP=1", "--username", USER, "--dbname", name]);
        command.arg("--host").arg(&self.folder);
        command
    }

    /// What the server answers to a statement, as `psql` prints it.
    ///
    /// # Errors
    /// Where it refuses it.
    pub fn query(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = self.psql(database);
        command.args(["--command", sql]);
        run(command).map(|said| said.trim().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, but children first, so that nobody writes into the folder any more.
        let _ = self.signal(Signal::QUIT);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
