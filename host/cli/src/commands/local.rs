//! Asking an agent on this machine, over the socket in its folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Method, Response};
use sentinel_agent::control::SOCKET;
use serde::Serialize;
use serde_json::Value;

use crate::failure::{Failure, with_causes};
use crate::roles::data::default_folder;
use crate::running;

/// Where the socket lies under the folder of an agent, and under that of an `up`.
const UNDER: [&str; 2] = ["", "agent"];
/// Most bytes of an answer but of lines that are followed.
const MAX_ANSWER: usize = 1 << 20;
/// The longest time until an answer begins, beside what the agent is asked to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent of this user.
pub(super) struct LocalAgent {
    socket: PathBuf,
    http: Client,
}

/// The folders in which an agent may be: the one that is named, else those of this user.
pub(super) fn folders(named: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let up = running::read().ok().flatten().map(|running| running.data);
    up.into_iter().chain([default_folder().join("agent"), default_folder()]).collect()
}

impl LocalAgent {
    /// The agent in a folder, or this user's; whether it runs shows when it is asked.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, Failure> {
        let places = folders(named);
        let sockets =
            places.iter().flat_map(|place| UNDER.map(|under| place.join(under).join(SOCKET)));
        let Some(socket) = sockets.into_iter().find(|socket| socket.exists()) else {
            let tried: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
            let text = format!("no agent runs on {}", tried.join(", nor on "));
            return Err(Failure::new(text)
                .hint("name the data folder of the agent, or of the `up`, that is to be asked"));
        };
        let builder = Client::builder().unix_socket(socket.as_path()).no_proxy();
        let http = builder.build().map_err(|error| Failure::new(error.to_string()))?;
        Ok(Self { socket, http })
    }

    fn unreached(&self, error: reqwest::Error) -> Failure {
        let why = with_causes(&anyhow::Error::new(error.without_url()));
        Failure::new(format!("the agent at {} does not answer: {why}", self.socket.display()))
            .hint("if it was killed, start it again")
    }

    /// Asks for something that it answers at once.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        waits: Duration,
    ) -> Result<Value, Failure> {
        let mut request = self.http.request(method, format!("http://agent{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let request = request.timeout(PATIENCE + waits);
        let mut answer = request.send().await.map_err(|error| self.unreached(error))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreached(error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(Failure::new("the agent's answer is larger than anything it says"));
            }
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if answer.status().is_success() {
            return Ok(value);
        }
        let said =
            value["error"].as_str().map_or_else(|| answer.status().to_string(), str::to_owned);
        Err(Failure::new(said))
    }

    /// Begins an answer that goes on.
    pub(super) async fn stream(&self, path: &str) -> Result<Response, Failure> {
        let request = self.http.get(format!("http://agent{path}"));
        let answer = request.send().await.map_err(|error| self.unreached(error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(Failure::new(format!("the agent answers {}", answer.status())))
    }
}
