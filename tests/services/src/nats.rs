//! A real nats-server with JetStream.

use crate::{Process, Services, SmallDisk, steady_port, wait};
use anyhow::{Result, ensure};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The largest message it takes: room for the largest of Sentinel.
const MAX_PAYLOAD: &str = "8MB";

/// What it may keep where a test says nothing else. NATS would take three quarters of the room that
/// the disk has left when it starts, and a stream of the default size is refused below 4 GiB of
/// it: whether a test passes would depend on what else is on the machine's disk.
const MAX_FILE_STORE: &str = "max_file_store: 16GB";

/// nats-server with JetStream on one port for as long as it lives, however often it is killed and
/// started again.
#[derive(Debug)]
pub struct Nats {
    services: Services,
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
    /// What its data lie on, where that is one of its own. It goes after the process.
    disk: Option<SmallDisk>,
}

impl Nats {
    /// Starts it in a folder of its own, which is made, and waits until it answers.
    ///
    /// # Errors
    /// Where it is not among the services or does not come up.
    pub fn start(services: &Services, folder: &Path) -> Result<Self> {
        Self::with(services, folder, "", "")
    }

    /// As [`Nats::start`], with further lines of its configuration: at the top, and in the part
    /// `jetstream`.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub fn with(services: &Services, folder: &Path, top: &str, jetstream: &str) -> Result<Self> {
        let mut nats = Self::at(services, folder, top, jetstream)?;
        nats.start_again()?;
        Ok(nats)
    }

    /// As [`Nats::start`], on a disk of so many MiB.
    ///
    /// # Errors
    /// As [`Nats::start`], and where there are no user namespaces.
    pub fn on_small_disk(services: &Services, folder: &Path, mebibytes: u32) -> Result<Self> {
        let mut nats = Self::at(services, folder, "", "")?;
        std::fs::create_dir(nats.data())?;
        nats.disk = Some(SmallDisk::new(&nats.data(), mebibytes, &folder.join("log"))?);
        nats.start_again()?;
        Ok(nats)
    }

    /// With its configuration, and not started.
    fn at(services: &Services, folder: &Path, top: &str, jetstream: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let port = steady_port()?;
        let room = if jetstream.contains("max_file_store") { "" } else { MAX_FILE_STORE };
        let config = format!(
            "listen: 127.0.0.1:{port}\nmax_payload: {MAX_PAYLOAD}\n{top}\n\
             jetstream {{\n  store_dir: \"{}\"\n  {room}\n  {jetstream}\n}}\n",
            folder.join("data").display()
        );
        std::fs::write(folder.join("nats.conf"), config)?;
        let (services, folder) = (services.clone(), folder.to_owned());
        Ok(Self { services, folder, port, disk: None, process: None })
    }

    /// Starts it again on the same port with the same data, after [`Nats::kill`].
    ///
    /// # Errors
    /// Where it runs, or does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "nats-server runs already");
        let mut command = self.services.command("nats-server")?;
        command.arg("-c").arg(self.folder.join("nats.conf"));
        if let Some(disk) = &self.disk {
            command = disk.inside(&command);
        }
        self.process = Some(Process::start(&mut command, &self.folder.join("log"))?);
        wait("nats-server", || self.greets())
    }

    /// Whether it greets as a server with JetStream does.
    fn greets(&self) -> bool {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut line = String::new();
        let read = stream.set_read_timeout(Some(Duration::from_secs(5)));
        read.and_then(|()| BufReader::new(stream).read_line(&mut line)).is_ok()
            && line.starts_with("INFO ")
            && line.contains("\"jetstream\":true")
    }

    /// Ends it as `kill -9` does. What it had not written to its disk is gone.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it and throws away all that it kept: the next start is an empty one. Of one that lies where all do.
    ///
    /// # Errors
    /// Where its folder cannot be removed.
    pub fn kill_and_forget(&mut self) -> Result<()> {
        self.kill();
        std::fs::remove_dir_all(self.data())?;
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The disk of its own, where it has one.
    #[must_use]
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}
