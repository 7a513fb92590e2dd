//! Server, workers and agent as processes of their own.

use crate::eventually;
use crate::sentinel::{Home, Up};
use anyhow::{Context, Result, ensure};
use sentinel_test_services::steady_port;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a start may take.
const SOON: Duration = Duration::from_secs(90);

/// A role's process. Killed when it is dropped.
#[derive(Debug)]
pub struct Role {
    child: Child,
}

impl Role {
    /// Sends it a signal, as `kill` names it.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let done = Command::new("kill").args(["-s", signal, &id]).status()?;
        ensure!(done.success(), "kill -s {signal} {id}: {done}");
        Ok(())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that the roles are told.
pub struct Apart<'h> {
    home: &'h Home,
    config: PathBuf,
    registry: String,
    /// Of each server: of REST and of gRPC.
    ports: [(u16, u16); 2],
}

impl<'h> Apart<'h> {
    /// Roles with this configuration, whose plugins come from the registry of an `up`.
    ///
    /// # Errors
    /// Where the configuration cannot be written, or no port is free.
    pub fn new(home: &'h Home, registry: &Up<'_>, config: &str) -> Result<Self> {
        let file = home.path().join("apart.yaml");
        std::fs::write(&file, config)?;
        let registry = registry.registry()?;
        // A server that was killed comes back on its port: nobody may have taken it meanwhile.
        let ports = [(steady_port()?, steady_port()?), (steady_port()?, steady_port()?)];
        Ok(Self { home, config: file, registry, ports })
    }

    fn command(&self, role: &str, name: &str) -> Result<Command> {
        self.command_with(role, name, &self.config)
    }

    fn command_with(&self, role: &str, name: &str, config: &Path) -> Result<Command> {
        let log = self.log_file(name);
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = self.home.command();
        command.arg(role).arg("--config").arg(config);
        command.arg("--data").arg(self.home.path().join(name));
        command.arg("--registry").arg(&self.registry);
        command.arg("--enrolment").arg(self.home.data().join("registry/enrolment.json"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("{name}.log"))
    }

    /// What a role's process logged so far, for people.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.log_file(name)).unwrap_or_default();
        format!("{name}:\n{text}")
    }

    /// Starts the server, and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not come up.
    pub async fn server(&self) -> Result<Up<'h>> {
        self.serve("server", self.ports[0]).await
    }

    /// Starts another server beside it, `server-2`, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Apart::server`].
    pub async fn second_server(&self) -> Result<Up<'h>> {
        self.serve("server-2", self.ports[1]).await
    }

    async fn serve(&self, name: &str, (rest, grpc): (u16, u16)) -> Result<Up<'h>> {
        let mut command = self.command("server", name)?;
        command.arg("--key").arg(self.home.path().join("agents.key"));
        command.arg("--listen").arg(format!("127.0.0.1:{rest}"));
        command.arg("--grpc").arg(format!("127.0.0.1:{grpc}"));
        let child = command.spawn()?;
        let address = format!("http://127.0.0.1:{rest}");
        let ready = format!("{address}/ready");
        // Killed when it is dropped, also where it does not come up.
        let serving = self.home.serving(child, address, String::new());
        eventually("the server is ready", SOON, || async {
            Ok(reqwest::get(&ready).await?.status().is_success().then_some(()))
        })
        .await
        .with_context(|| self.log(name))?;
        let token = std::fs::read_to_string(self.home.path().join(name).join("api.token"))?;
        Ok(serving.with_token(token.trim()))
    }

    /// Starts a worker.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn worker(&self, name: &str) -> Result<Role> {
        let mut command = self.command("worker", name)?;
        command.arg("--key").arg(self.home.path().join("agents.key")).args(["--name", name]);
        Ok(Role { child: command.spawn()? })
    }

    /// Keeps a secret of a role.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn keep_secret(&self, role: &str, name: &str, secret: &[u8]) -> Result<()> {
        let data = self.home.path().join(role);
        std::fs::create_dir_all(&data)?;
        let data = data.to_str().context("a path")?;
        let said = self.home.sentinel_with(["secret", "--data", data, "set", name], secret)?;
        ensure!(said.code == 0, "{}", said.err);
        Ok(())
    }

    /// Applies rules.
    ///
    /// # Errors
    /// Where they are refused.
    pub fn apply(&self, server: &Up<'_>, rules: &str) -> Result<()> {
        let file = self.home.path().join("rules.yaml");
        std::fs::write(&file, rules)?;
        let mut command = self.home.command();
        command.args(["rules", "apply", "--yes"]).arg(file).args(["--server", server.server()]);
        let output = command.env("SENTINEL_TOKEN", server.token()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Enrols an agent and starts it; it knows the first server only.
    ///
    /// # Errors
    /// Where the server gives no token, or it cannot be started.
    pub async fn agent(&self, server: &Up<'_>) -> Result<Role> {
        let command = self.command("agent", "agent")?;
        self.start_agent(server, &self.ports[..1], "agent", command).await
    }

    /// Enrols an agent of this name with a configuration of its own, and waits until it is let in:
    /// of those that are on one machine all but the first must be approved.
    ///
    /// # Errors
    /// As [`Apart::agent`], and where it does not come.
    pub async fn agent_named(&self, server: &Up<'_>, name: &str, config: &str) -> Result<Role> {
        let file = self.home.path().join(format!("{name}.yaml"));
        std::fs::write(&file, config)?;
        let command = self.command_with("agent", name, &file)?;
        let role = self.start_agent(server, &self.ports[..1], name, command).await?;
        eventually(&format!("{name} is let in"), SOON, || async {
            let agents = server.get("/v1/agents").await?;
            let agents = agents.as_array().context("agents")?;
            let state = agents.iter().find(|agent| agent["id"] == name).map(|one| &one["state"]);
            if state.is_some_and(|state| state == "waiting") {
                let approve = format!("{}/v1/agents/{name}/approve", server.server());
                let asked = reqwest::Client::new().post(approve).bearer_auth(server.token());
                asked.send().await?.error_for_status()?;
            }
            Ok(state.is_some_and(|state| state == "approved").then_some(()))
        })
        .await
        .with_context(|| self.log(name))?;
        Ok(role)
    }

    /// The same, of an agent that knows both servers, and prefers the first.
    ///
    /// # Errors
    /// As [`Apart::agent`].
    pub async fn agent_of_both(&self, server: &Up<'_>) -> Result<Role> {
        let command = self.command("agent", "agent")?;
        self.start_agent(server, &self.ports, "agent", command).await
    }

    async fn start_agent(
        &self,
        server: &Up<'_>,
        ports: &[(u16, u16)],
        name: &str,
        mut command: Command,
    ) -> Result<Role> {
        let request = reqwest::Client::new().post(format!("{}/v1/tokens", server.server()));
        let request =
            request.bearer_auth(server.token()).header("content-type", "application/json");
        let answer = request.body(r#"{"uses": 1, "valid_for": "1h"}"#).send().await?;
        let made: Value = serde_json::from_str(&answer.error_for_status()?.text().await?)?;
        let token = self.home.path().join(format!("{name}.token"));
        std::fs::write(&token, made["token"].as_str().context("token")?)?;
        for (rest, grpc) in ports {
            command.arg("--join").arg(format!("http://127.0.0.1:{grpc}"));
            command.arg("--join-http").arg(format!("http://127.0.0.1:{rest}"));
        }
        command.arg("--token-file").arg(token);
        Ok(Role { child: command.spawn()? })
    }
}
