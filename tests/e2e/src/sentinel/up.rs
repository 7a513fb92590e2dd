//! A `sentinel up` that runs, asked over REST.

use super::Home;
use crate::eventually;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// How long a start may take: compiling plugins the first time, on a busy machine.
const START: Duration = Duration::from_secs(180);
/// How long a stop may take, of several processes one after the other too.
const STOP: Duration = Duration::from_secs(90);

/// A running `sentinel up`. Killed when it is dropped.
pub struct Up<'h> {
    home: &'h Home,
    child: Child,
    server: String,
    token: String,
}

impl<'h> Up<'h> {
    pub(super) fn new(home: &'h Home, child: Child, server: String, token: String) -> Self {
        Self { home, child, server, token }
    }

    /// The same, asked with this token.
    #[must_use]
    pub(crate) fn with_token(mut self, token: &str) -> Up<'h> {
        token.clone_into(&mut self.token);
        self
    }
}

impl Up<'_> {
    pub(super) async fn wait_until_serving(&mut self) -> Result<()> {
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("`sentinel up` ended: {status}");
            }
            if let Ok(text) = std::fs::read_to_string(self.home.run_file()) {
                let run: Value = serde_json::from_str(&text)?;
                if run["pid"] == self.child.id() || !self.is_wrapped(&run) {
                    self.server = run["server"].as_str().context("server")?.to_owned();
                    let token = run["token_file"].as_str().context("token_file")?;
                    // Seen as the process sees it, which may be in a mount namespace of its own.
                    let token = format!("/proc/{}/root{token}", run["pid"]);
                    let token = std::fs::read_to_string(&token).context(token)?;
                    token.trim().clone_into(&mut self.token);
                    return Ok(());
                }
            }
            ensure!(start.elapsed() < START, "not up within {START:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the run file names a process that is not the one started here nor its child.
    fn is_wrapped(&self, run: &Value) -> bool {
        let pid = run["pid"].as_u64().unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
        parent != Some(&self.child.id().to_string())
    }

    /// Its REST address, `http://…`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Its address for agents, `http://…`.
    ///
    /// # Errors
    /// A run file that is gone.
    pub fn grpc(&self) -> Result<String> {
        let run: Value = serde_json::from_str(&std::fs::read_to_string(self.home.run_file())?)?;
        Ok(run["grpc"].as_str().context("grpc")?.to_owned())
    }

    /// Its registry, `http://…`.
    ///
    /// # Errors
    /// A run file that is gone.
    pub fn registry(&self) -> Result<String> {
        let run: Value = serde_json::from_str(&std::fs::read_to_string(self.home.run_file())?)?;
        Ok(run["registry"].as_str().context("registry")?.to_owned())
    }

    /// The process started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the REST API with the token.
    ///
    /// # Errors
    /// Where it does not answer with JSON and a good status.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let url = format!("{}{path}", self.server);
        let answer = reqwest::Client::new().get(&url).bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "GET {path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Samples of a selector over a time range in unix milliseconds: (time, value) by series.
    ///
    /// # Errors
    /// As [`Up::get`].
    pub async fn samples(
        &self,
        selector: &str,
        start: i64,
        end: i64,
    ) -> Result<Vec<Vec<(i64, f64)>>> {
        let query = reqwest::Url::parse_with_params(
            "http://x/v1/query",
            &[
                ("selector", selector),
                ("start", &start.to_string()),
                ("end", &end.to_string()),
                ("limit", "100000"),
            ],
        )?;
        let answer = self.get(&format!("/v1/query?{}", query.query().unwrap_or_default())).await?;
        let series = answer["series"].as_array().context("series")?;
        Ok(series
            .iter()
            .map(|one| {
                let times = one["times"].as_array().into_iter().flatten();
                let values = one["values"].as_array().into_iter().flatten();
                times
                    .zip(values)
                    .map(|(t, v)| (t.as_i64().unwrap_or_default(), v.as_f64().unwrap_or(f64::NAN)))
                    .collect()
            })
            .collect())
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

    /// Asks it to stop, as Ctrl-C does, and waits for its end.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT)?;
        let child = &mut self.child;
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.signal().is_none(), "it died of {status}");
                return Ok(status);
            }
            ensure!(
                start.elapsed() < STOP,
                "not stopped within {STOP:?}; log:\n{}",
                self.home.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for something in the REST API's answer.
    ///
    /// # Errors
    /// Where it does not come in time; the log is in the message.
    pub async fn until<T>(
        &self,
        what: &str,
        path: &str,
        within: Duration,
        find: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let find = &find;
        eventually(what, within, || async move { Ok(find(&self.get(path).await?)) })
            .await
            .with_context(|| format!("log:\n{}", self.home.log()))
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
