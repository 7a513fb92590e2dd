//! `sentinel fleet`: what runs where, decided and signed by operators.

pub(crate) mod decide;
mod difference;
pub(crate) mod edit;
#[cfg(test)]
pub(super) mod example;
pub(crate) mod grant;
mod history;
mod hosts;
mod init;
pub(crate) mod install;
pub(crate) mod operator;
mod setup;
mod slots;
mod status;
pub(crate) mod switch;
pub(crate) mod upgrade;
mod wait;

use std::path::{Path, PathBuf};

pub(crate) use init::operators_file;

use clap::Subcommand;

use super::ask;
use crate::args::Global;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Printer;

/// Where `sentinel up` keeps the key of its own fleet, below its data folder.
pub(crate) const OWN_KEY: &str = "registry/owner/operator.key";

#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// Begin a fleet, or join one as another operator: a key, and what to pin where.
    Init(init::Init),
    /// Desired against actual, host by host. Exits with 1 where a host refused or is behind.
    Status(status::Status),
    /// Who changed what, when and why.
    History(history::History),
    /// One set: what it changed and what it holds.
    Show(history::Show),
    /// Whose sets count; prints what servers are given.
    Operators(init::OperatorsArgs),
    /// Sign the newest set once more, with this key: when one operator follows another.
    Resign(switch::Resign),
}

/// Does one of them.
pub(super) fn run(
    command: FleetCommand,
    global: &Global,
    printer: &Printer,
) -> Result<(), Failure> {
    match command {
        FleetCommand::Init(command) => init::run(command, printer),
        FleetCommand::Operators(command) => init::operators(command, global, printer),
        FleetCommand::Status(command) => {
            ask(global, async |client| status::run(command, client, printer).await)
        }
        FleetCommand::History(command) => {
            ask(global, async |client| history::run(command, client, printer).await)
        }
        FleetCommand::Show(command) => {
            ask(global, async |client| history::show(command, client, printer).await)
        }
        FleetCommand::Resign(command) => {
            ask(global, async |client| switch::resign(command, client, printer).await)
        }
    }
}

/// Which key is used: the one that was named; that of the running `sentinel up` where it is the
/// server that is asked; else this user's.
///
/// # Errors
/// A user without a folder for configuration.
fn key_file(named: Option<&Path>, client: Option<&Client>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    if let Some(running) = client.and_then(Client::running) {
        let own = running.data.join(OWN_KEY);
        if own.exists() {
            return Ok(own);
        }
    }
    let folders = directories::ProjectDirs::from("", "", "sentinel").ok_or_else(|| {
        Failure::new("this user has no folder for a key").hint("name a file with --key")
    })?;
    Ok(folders.config_dir().join("operator.key"))
}
