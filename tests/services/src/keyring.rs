//! A real desktop keyring: gnome-keyring on a session bus of its own.

use crate::{Process, Services, wait};
use anyhow::Result;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use zbus::zvariant::OwnedObjectPath;

/// A session bus, which programs find whose `XDG_RUNTIME_DIR` is its folder.
#[derive(Debug)]
pub struct SessionBus {
    folder: PathBuf,
    _process: Process,
}

/// A keyring on a session bus, with a place for secrets that is open.
#[derive(Debug)]
pub struct Keyring(Process);

impl SessionBus {
    /// Starts it in a folder that is there.
    ///
    /// # Errors
    /// Where it is not among the services or does not come up.
    pub fn start(services: &Services, folder: &Path) -> Result<Self> {
        let socket = folder.join("bus");
        let config = folder.join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN' \
             'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>
             <busconfig>
               <type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
               <policy context='default'>
                 <allow send_destination='*' eavesdrop='false'/>
                 <allow receive_sender='*'/>
                 <allow own='*'/>
               </policy>
             </busconfig>",
            socket.display()
        );
        std::fs::write(&config, text)?;
        let mut command = services.command("dbus-daemon")?;
        command.arg("--config-file").arg(config).args(["--nofork", "--nopidfile"]);
        let process = Process::start(&mut command, &folder.join("bus.log"))?;
        wait("the session bus", || UnixStream::connect(&socket).is_ok())?;
        Ok(Self { folder: folder.to_owned(), _process: process })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:path={}", self.folder.join("bus").display())
    }
}

impl Keyring {
    /// Starts it; what it keeps lies in the bus's folder, for the next one.
    ///
    /// # Errors
    /// Where it is not among the services or does not come up.
    pub fn start(services: &Services, bus: &SessionBus) -> Result<Self> {
        let password = bus.folder.join("password");
        std::fs::write(&password, "password")?;
        let mut command = services.command("gnome-keyring-daemon")?;
        command
            .env("HOME", &bus.folder)
            .env("XDG_RUNTIME_DIR", &bus.folder)
            .env("DBUS_SESSION_BUS_ADDRESS", bus.address())
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .args(["--foreground", "--unlock", "--components=secrets"]);
        let log = bus.folder.join("keyring.log");
        let process = Process::fed(&mut command, &log, File::open(password)?)?;
        let address = bus.address();
        wait("the keyring", || open(&address))?;
        Ok(Self(process))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}

/// Whether there is a default collection. On a thread of its own, since whoever waits may be in
/// a runtime already.
fn open(address: &str) -> bool {
    let asked = || -> Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let bus = zbus::connection::Builder::address(address)?.build().await?;
            let name = Some("org.freedesktop.secrets");
            let interface = Some("org.freedesktop.Secret.Service");
            let path = "/org/freedesktop/secrets";
            let answer = bus.call_method(name, path, interface, "ReadAlias", &"default").await?;
            Ok(answer.body().deserialize::<OwnedObjectPath>()?.as_str() != "/")
        })
    };
    std::thread::scope(|scope| scope.spawn(asked).join()).is_ok_and(|asked| asked.unwrap_or(false))
}
