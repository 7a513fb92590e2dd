//! `sentinel registry` as a process, and what its owner does beside it.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A registry's data, its owner's keys and whatever lies beside them.
#[derive(Debug)]
pub struct RegistryFolder {
    program: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    /// Where the store is, if not in the folder: options of every `sentinel registry`.
    place: Vec<String>,
}

/// A registry that runs. Killed when it is dropped.
#[derive(Debug)]
pub struct RegistryProcess {
    child: Child,
    address: String,
}

impl RegistryFolder {
    /// One with nothing in it: it takes pushes and publishes nothing.
    ///
    /// In a folder that is made if need be, run by the program `sentinel`.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn bare(program: &Path, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (program, folder) = (program.to_owned(), folder.to_owned());
        Ok(Self { program, folder, environment: Vec::new(), place: Vec::new() })
    }

    /// One with keys and first metadata.
    ///
    /// # Errors
    /// Where `sentinel registry init` fails.
    pub fn new(program: &Path, folder: &Path) -> Result<Self> {
        let made = Self::bare(program, folder)?;
        made.init()?;
        Ok(made)
    }

    /// The same with its store in a bucket of what speaks S3 at `endpoint`.
    #[must_use]
    pub fn in_bucket(mut self, bucket: &str, endpoint: &str) -> Self {
        let place = ["--s3-bucket", bucket, "--s3-endpoint", endpoint];
        self.place = place.map(str::to_owned).to_vec();
        let credentials = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        self.environment = credentials.map(|name| (name.to_owned(), "test".to_owned())).to_vec();
        self
    }

    /// Makes its keys and first metadata.
    ///
    /// # Errors
    /// Where `sentinel registry init` fails.
    pub fn init(&self) -> Result<()> {
        self.registry(&["init", "--offline", "offline"]).map(drop)
    }

    /// Runs a command of `sentinel registry` on its store.
    fn registry(&self, arguments: &[&str]) -> Result<String> {
        let place = self.place.iter().map(String::as_str);
        let all: Vec<&str> = ["registry", "--data", "registry"].into_iter().chain(place).collect();
        self.run(&[&all[..], arguments].concat())
    }

    /// The folder in which everything lies: `registry`, `offline`, and files of the tests.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.folder)
            .env_clear()
            .env("HOME", &self.folder)
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
        let token = self.registry(&["token", "create", namespace])?;
        let file = self.path("token");
        std::fs::write(&file, &token)?;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?;
        Ok(token.trim().to_owned())
    }

    /// Serves it on a free port.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn serve(&self) -> Result<RegistryProcess> {
        self.serve_with(&[])
    }

    /// As [`RegistryFolder::serve`], with more arguments.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn serve_with(&self, arguments: &[&str]) -> Result<RegistryProcess> {
        let mut child = self
            .command()
            .args(["registry", "--listen", "127.0.0.1:0", "--data", "registry"])
            .args(&self.place)
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
        let mut serving = RegistryProcess { child, address: String::new() };
        serving.address = address.with_context(|| format!("the registry did not start: {said}"))?;
        Ok(serving)
    }

    /// Lets a publisher publish at the registry that is served.
    ///
    /// # Errors
    /// Where the command fails.
    pub fn approve(&self, serving: &RegistryProcess, publisher: &str, public: &str) -> Result<()> {
        let url = serving.url();
        let approve = ["registry", "approve", publisher, public, "--registry", &url];
        self.run(&[&approve[..], &["--key", "offline/targets.key"]].concat()).map(drop)
    }
}

impl RegistryProcess {
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

impl Drop for RegistryProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
