//! `sentinel registry` as a process, and what its owner and publishers do beside it.

use crate::given;
use anyhow::{Context, Result, ensure};
use sentinel_registry_client::{FetchLimits, RegistryClient, RegistryOptions};
use sentinel_trust::repository::Enrolment;
use sentinel_trust::{Manifest, PublisherKey, embed};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A registry's data, its owner's keys and whatever lies beside them.
pub struct Installation {
    dir: TempDir,
    environment: Vec<(String, String)>,
}

/// A registry that runs. Killed when it is dropped.
pub struct Serving {
    child: Child,
    address: String,
}

impl Installation {
    /// One with nothing in it: it takes pushes and publishes nothing.
    ///
    /// # Errors
    /// Where no folder can be made.
    pub fn bare() -> Result<Self> {
        Ok(Self { dir: tempfile::tempdir()?, environment: Vec::new() })
    }

    /// One with keys and first metadata.
    ///
    /// # Errors
    /// Where `sentinel registry init` fails.
    pub fn new() -> Result<Self> {
        let made = Self::bare()?;
        made.run(&["registry", "--data", "registry", "init", "--offline", "offline"])?;
        Ok(made)
    }

    /// The same with these variables set for every command.
    #[must_use]
    pub fn with(mut self, environment: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment.extend(environment.iter().map(own));
        self
    }

    /// The folder in which everything lies: `registry`, `offline`, and files of the tests.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(given("SENTINEL_BIN", "debug/sentinel"));
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("SENTINEL_ENROLMENT", "registry/enrolment.json")
            .env("SENTINEL_REGISTRY_TOKEN_FILE", "token")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the CLI, which must succeed; what it printed.
    ///
    /// # Errors
    /// Where it fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let done = self.command().args(arguments).output()?;
        let talk = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "sentinel {arguments:?}: {talk}");
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Makes a token for a namespace, which is also kept in the file `token`.
    ///
    /// # Errors
    /// Where the command fails.
    pub fn token(&self, namespace: &str) -> Result<String> {
        let token = self.run(&["registry", "--data", "registry", "token", "create", namespace])?;
        let file = self.path("token");
        std::fs::write(&file, &token)?;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?;
        Ok(token.trim().to_owned())
    }

    /// Serves it on a free port.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn serve(&self) -> Result<Serving> {
        self.serve_with(&[])
    }

    /// As [`Installation::serve`], with more arguments.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn serve_with(&self, arguments: &[&str]) -> Result<Serving> {
        let mut child = self
            .command()
            .args(["registry", "--listen", "127.0.0.1:0", "--data", "registry"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("stderr")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            said.push_str(&line);
            let (_, rest) = line.split_once("running on http://")?;
            Some(rest.split_once(". ")?.0.to_owned())
        });
        // The rest is read to nowhere, so that the process never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let mut serving = Serving { child, address: String::new() };
        serving.address = address.with_context(|| format!("the registry did not start: {said}"))?;
        Ok(serving)
    }

    /// A host's view of the registry that is served, kept in the folder `name`.
    ///
    /// # Errors
    /// Where there is no enrolment, or what is kept cannot be read.
    pub fn client(&self, serving: &Serving, name: &str) -> Result<RegistryClient> {
        let enrolment = std::fs::read(self.path("registry/enrolment.json"))?;
        let enrolment = Enrolment::from_json(&enrolment)?;
        let options = RegistryOptions {
            url: serving.url().parse()?,
            folder: self.path(name),
            ca: None,
            limits: FetchLimits::default(),
        };
        Ok(RegistryClient::open(options, Some(&enrolment))?)
    }

    /// Lets a publisher publish at the registry that is served.
    ///
    /// # Errors
    /// Where the command fails.
    pub fn approve(&self, serving: &Serving, key: &PublisherKey) -> Result<()> {
        let (publisher, public) = (key.publisher().to_string(), key.public().to_string());
        let url = serving.url();
        let approve = ["registry", "approve", &publisher, &public, "--registry", &url];
        self.run(&[&approve[..], &["--key", "offline/targets.key"]].concat()).map(drop)
    }
}

impl Serving {
    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its address, `http://…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
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
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A collector that does nothing, of this name and version, with `filling` bytes more than it
/// needs.
///
/// # Errors
/// Where the name or the version is none.
pub fn plugin(name: &str, version: &str, filling: usize) -> Result<Vec<u8>> {
    let world = sentinel_test_components::world("collector");
    let mut component = world.component(|interface| interface.contains("/log@"));
    let mut content = vec![7; filling];
    content.splice(0..0, *b"\x07filling");
    component.push(0);
    let mut length = content.len();
    while length >= 0x80 {
        component.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    component.push(length as u8);
    component.extend(content);
    let manifest = serde_json::json!({
        "format": 1, "name": name, "version": version, "kind": "collector", "contract": "0.1.0",
        "description": "Does nothing.", "license": "Apache-2.0",
    });
    Ok(embed(&component, &Manifest::from_json(manifest.to_string().as_bytes())?)?)
}

/// A publisher's key.
///
/// # Errors
/// Where the name is none.
pub fn publisher_key(publisher: &str, seed: u8) -> Result<PublisherKey> {
    Ok(PublisherKey::from_secret(publisher.parse()?, &[seed; 32]))
}

/// The program of a service that `cargo xtask services` fetched.
///
/// # Errors
/// Where it is not among them.
pub fn service(name: &str) -> Result<Command> {
    let list = given("SENTINEL_SERVICES", "services/services.json");
    sentinel_test_services::Services::read(Path::new(&list))?.command(name)
}
