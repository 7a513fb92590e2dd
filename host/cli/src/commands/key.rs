//! `sentinel key`: the keys with which agents sign.

use clap::{Args, Subcommand};
use sentinel_model::ids::AgentId;
use sentinel_server::api::{AgentBody, KeyBody};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Printer, human};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Give an agent a new key; the one before stays good for the server's grace
    Rotate(Rotate),
}

/// Options of `sentinel key rotate`.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The agent's id, as `sentinel agents` shows it
    #[arg(value_name = "AGENT", required_unless_present = "all")]
    id: Option<AgentId>,
    /// All agents that are approved
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

pub(super) async fn run(
    command: KeyCommand,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let KeyCommand::Rotate(Rotate { id, .. }) = command;
    let ids: Vec<String> = match id {
        Some(id) => vec![id.to_string()],
        None => {
            let agents: Vec<AgentBody> = client.list("/v1/agents").await?;
            let may = |agent: &AgentBody| agent.state == "approved" && agent.newcomer.is_none();
            agents.into_iter().filter(may).map(|agent| agent.id).collect()
        }
    };
    let mut made: Vec<KeyBody> = Vec::new();
    let mut failed = Vec::new();
    for id in &ids {
        match client.post(&format!("/v1/agents/{id}/key"), &()).await {
            Ok(key) => made.push(key),
            Err(failure) if ids.len() == 1 => return Err(failure),
            Err(failure) => failed.push(format!("{id}: {}", failure.message)),
        }
    }
    printer.data(&made, |_| {
        let lines = made.iter().map(|key| format!("{}: key {}", key.agent, key.key_id));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    if let Some(key) = made.first() {
        printer.say(&format!(
            "{} given with the next heartbeats; the keys before stay good for {} from then on",
            if made.len() == 1 { "it is" } else { "they are" },
            key.grace
        ));
    }
    if failed.is_empty() {
        return Ok(());
    }
    let count = human::plural(failed.len() as u64, "agent");
    Err(Failure::new(format!("{count} got no new key: {}", failed.join("; "))))
}
