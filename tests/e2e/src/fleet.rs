//! A fleet in small: agents as processes, and the operator who decides.

use crate::sentinel::{Home, Up};
use crate::{eventually, given};
use anyhow::{Context, Result, ensure};
use sentinel_trust::fleet::{Collect, DesiredSet, FleetId, Group, SET_FORMAT, Wish, seal};
use sentinel_trust::repository::{KeyPurpose, RoleKey};
use sentinel_trust::{Digest, Grants, Unverified};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// How long an enrolment may take on a busy machine.
const ENROLS: Duration = Duration::from_secs(90);

/// Whoever decides what the fleet of an `up` runs.
pub struct Operator {
    key: RoleKey,
    fleet: FleetId,
    number: u64,
}

/// `role=web` and the like.
#[must_use]
pub fn on(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A slot that is to run a built plugin.
///
/// # Errors
/// A plugin that is not there.
pub fn wish(slot: &str, file: &str, config: Value, grants: Value) -> Result<Wish> {
    let path = given("SENTINEL_PLUGINS", "plugins").join(file);
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let plugin = Unverified::read(&bytes)?;
    let manifest = plugin.manifest();
    let grants: Grants = serde_json::from_value(grants)?;
    Ok(Wish {
        slot: slot.to_owned(),
        kind: manifest.kind,
        plugin: manifest.name.clone(),
        range: "*".parse()?,
        version: manifest.version.clone(),
        digest: Digest::of(&bytes),
        config,
        grants,
        collect: None,
        on_unknown: None,
        disabled: false,
    })
}

/// A counter in a slot whose samples bear the number of the set that brought it, and whose
/// configuration is another in each.
///
/// # Errors
/// As [`wish`].
pub fn counter(slot: &str, set: u64) -> Result<Wish> {
    let config = serde_json::json!({ "slot": slot, "rows": 5 + set % 7 });
    let grants = serde_json::json!({ "kv": { "max_bytes": 4096 } });
    let labels = BTreeMap::from([("set".to_owned(), set.to_string())]);
    let collect = Some(Collect { interval_ms: Some(200), labels });
    Ok(Wish { collect, ..wish(slot, "fixtures/counter.wasm", config, grants)? })
}

impl Operator {
    /// The owner of an `up`.
    ///
    /// # Errors
    /// An `up` that belongs to no fleet.
    pub async fn of(home: &Home, up: &Up<'_>) -> Result<Self> {
        let file = home.data().join("registry/owner/operator.key");
        let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
        let key = RoleKey::from_file_text(&text)?;
        ensure!(key.purpose() == KeyPurpose::Operator);
        let force = up.get("/v1/fleet").await?;
        let fleet = force["fleet"].as_str().context("no fleet")?;
        let fleet = fleet.parse().map_err(anyhow::Error::msg)?;
        Ok(Self { key, fleet, number: force["number"].as_u64().context("number")? })
    }

    /// The number that the next set will have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.number + 1
    }

    /// Decides; the number of the set once the server has it. A server that is being killed may
    /// have it or not: it is sent until it answers.
    ///
    /// # Errors
    /// A set that is refused.
    pub async fn decide(&mut self, up: &Up<'_>, groups: Vec<Group>) -> Result<u64> {
        let set = DesiredSet {
            format: SET_FORMAT,
            fleet: self.fleet,
            number: self.next(),
            made_at: 0,
            by: "e2e".to_owned(),
            note: String::new(),
            groups,
        };
        let client = reqwest::Client::new();
        let request = client.put(format!("{}/v1/fleet", up.server())).bearer_auth(up.token());
        let answer = request.body(seal(&set, &self.key)?).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "PUT /v1/fleet: {status}: {}", answer.text().await?);
        self.number += 1;
        Ok(self.number)
    }
}

/// A `sentinel agent` with a label. Killed when it is dropped.
pub struct Host<'h> {
    home: &'h Home,
    name: String,
    child: Child,
    server: String,
    /// Further arguments of its command.
    with: Vec<OsString>,
}

impl<'h> Host<'h> {
    /// Enrols and starts it, with a token and nothing else; it is approved, since this machine
    /// was enrolled before.
    ///
    /// # Errors
    /// Where it cannot be started, or does not come.
    pub async fn start(home: &'h Home, up: &Up<'_>, name: &str, role: &str) -> Result<Self> {
        let token = Self::token(home)?;
        Self::start_with(home, up, (name, role), &token, Vec::new()).await
    }

    /// The same with a token that promises nothing: whom to trust, and who decides, its owner
    /// says by files.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub async fn start_by_files(
        home: &'h Home,
        up: &Up<'_>,
        name: &str,
        role: &str,
        operators: &Path,
    ) -> Result<Self> {
        let token = Self::token(home)?;
        let secret = token.split('.').next().unwrap_or_default();
        let registry = up.registry()?;
        let enrolment = home.data().join("registry/enrolment.json");
        let mut with: Vec<OsString> =
            ["--registry", &registry, "--enrolment"].map(Into::into).into();
        with.extend([enrolment.into(), "--operators".into(), operators.into()]);
        Self::start_with(home, up, (name, role), secret, with).await
    }

    fn token(home: &Home) -> Result<String> {
        let made = home.json(&["token", "create"])?;
        Ok(made["token"].as_str().context("token")?.to_owned())
    }

    async fn start_with(
        home: &'h Home,
        up: &Up<'_>,
        (name, role): (&str, &str),
        token: &str,
        with: Vec<OsString>,
    ) -> Result<Self> {
        let folder = home.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Self::write_config(&folder, name, role, "")?;
        std::fs::write(folder.join("token"), token)?;
        let server = up.grpc()?;
        let child = Self::spawn(home, name, &server, &with)?;
        let host = Self { home, name: name.to_owned(), child, server, with };
        host.approve().await?;
        Ok(host)
    }

    async fn approve(&self) -> Result<()> {
        let approved = eventually("an agent that waits", ENROLS, || async {
            let said = self.home.sentinel(["agents", "approve", &self.name])?;
            Ok((said.code == 0).then_some(()))
        });
        approved.await.with_context(|| self.log())
    }

    /// Ends it, and starts it without what it was enrolled with: it ends by itself, saying this.
    ///
    /// # Errors
    /// Where it does not end so.
    pub fn without_its_enrolment(&mut self) -> Result<String> {
        self.child.kill()?;
        self.child.wait()?;
        let file = self.home.path().join(&self.name).join("data/enrolment.json");
        let kept = std::fs::read(&file)?;
        std::fs::remove_file(&file)?;
        self.child = Self::spawn(self.home, &self.name, &self.server, &self.with)?;
        let ended = self.child.wait()?;
        ensure!(!ended.success(), "it ran outside its fleet\n{}", self.log());
        std::fs::write(&file, kept)?;
        Ok(self.log())
    }

    /// Enrols it anew as the documentation says: stopped, without what it was enrolled with, with
    /// another token, approved.
    ///
    /// # Errors
    /// Where it cannot be started, or does not come.
    pub async fn enrol_again(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let folder = self.home.path().join(&self.name);
        for file in ["identity.json", "enrolment.json"] {
            std::fs::remove_file(folder.join("data").join(file))?;
        }
        // What was approved before is not what waits now.
        let waits = |log: &str| log.matches("an operator must approve it").count();
        let before = waits(&self.log());
        std::fs::write(folder.join("token"), Self::token(self.home)?)?;
        self.child = Self::spawn(self.home, &self.name, &self.server, &self.with)?;
        let waiting = eventually("the host waits for approval", ENROLS, || async {
            Ok((waits(&self.log()) > before).then_some(()))
        });
        waiting.await.with_context(|| self.log())?;
        self.approve().await
    }

    /// Gives it another configuration: `more` is added to the part `agent`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn configure(&self, role: &str, more: &str) -> Result<()> {
        Self::write_config(&self.home.path().join(&self.name), &self.name, role, more)
    }

    fn write_config(folder: &Path, name: &str, role: &str, more: &str) -> Result<()> {
        let agent =
            format!("id: {name}, interval: 300ms, heartbeat: 500ms, labels: {{role: {role}}}");
        let config = format!("version: 1\nagent: {{{agent}{more}}}\n");
        // Whoever reads it while it is written must see one or the other.
        let part = folder.join("agent.yaml.part");
        std::fs::write(&part, config)?;
        Ok(std::fs::rename(&part, folder.join("agent.yaml"))?)
    }

    fn spawn(home: &Home, name: &str, server: &str, with: &[OsString]) -> Result<Child> {
        let folder = home.path().join(name);
        let log = File::options().create(true).append(true).open(folder.join("log"))?;
        let mut command = home.command();
        command.args(["agent", "--join", server]).arg("--data").arg(folder.join("data"));
        command.arg("--token-file").arg(folder.join("token"));
        command.arg("--config").arg(folder.join("agent.yaml")).args(with);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command.spawn()?)
    }

    /// Ends it at once and starts it again.
    ///
    /// # Errors
    /// Where it is gone already, or cannot be started.
    pub fn kill_and_start(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = Self::spawn(self.home, &self.name, &self.server, &self.with)?;
        Ok(())
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        let file: PathBuf = self.home.path().join(&self.name).join("log");
        format!("{}:\n{}", self.name, std::fs::read_to_string(file).unwrap_or_default())
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `fleet/status` says of a host.
#[must_use]
pub fn host<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["hosts"].as_array()?.iter().find(|host| host["host"] == name)
}

/// Whether a host runs this set, and its slots are in this state, all of them.
#[must_use]
pub fn runs(status: &Value, name: &str, number: u64, slots: &[(&str, &str)]) -> bool {
    let Some(host) = host(status, name) else { return false };
    let Some(found) = host["slots"].as_array() else { return false };
    let states: BTreeMap<&str, &str> =
        found.iter().filter_map(|slot| Some((slot["name"].as_str()?, state(slot)?))).collect();
    let wanted: BTreeMap<&str, &str> = slots.iter().copied().collect();
    host["state"] == "current" && host["number"] == number && states == wanted
}

/// `running`, or the name of another state.
#[must_use]
pub fn state(slot: &Value) -> Option<&str> {
    let state = &slot["state"];
    state.as_str().or_else(|| state.as_object()?.keys().next().map(String::as_str))
}
