//! `sentinel registry`, for its owner: keys, publishers, revocations.

mod change;
pub(crate) mod init;
pub(crate) mod keys;
mod rotate;
mod status;

pub(crate) use change::{RevokeRelease, revoke_release};
use clap::Subcommand;
use sentinel_registry_service::Store;
use std::path::Path;

use super::reach::wait;
use crate::failure::Failure;
use crate::output::Printer;

/// What the owner of a registry decides. All of it is signed by keys that the registry itself
/// does not have.
#[derive(Debug, Subcommand)]
pub(crate) enum OwnerCommand {
    /// Begin a registry: its offline and online keys, and its first metadata.
    Init(init::Init),
    /// Let somebody publish, or add a key of theirs. Signed with the targets key.
    Approve(change::Approve),
    /// Revoke a plugin or a publisher's key: nothing runs it any more. Signed with the targets key.
    Revoke(change::Revoke),
    /// Sign root or targets anew before they expire.
    Renew(change::Renew),
    /// Replace the keys of a role, and sign what follows from it.
    Rotate(rotate::Rotate),
    /// Bring metadata that was signed elsewhere into force, in the registry's own folder.
    Install(rotate::Install),
    /// Print what a host is given once, to know this registry by.
    Enrolment(status::EnrolmentArgs),
    /// What this registry says: versions, expiries, publishers, revocations.
    Status(status::Status),
}

/// Does one of them. `folder` is the registry's data folder, `open` its store.
pub(crate) fn run(
    command: OwnerCommand,
    folder: &Path,
    open: impl FnOnce() -> anyhow::Result<Store>,
    printer: &Printer,
) -> Result<(), Failure> {
    let open = || open().map_err(|error| Failure::new(format!("{error:#}")));
    match command {
        OwnerCommand::Init(command) => wait(init::run(command, folder, open, printer)),
        OwnerCommand::Approve(command) => wait(change::approve(command, printer)),
        OwnerCommand::Revoke(command) => wait(change::revoke(command, printer)),
        OwnerCommand::Renew(command) => wait(change::renew(command, printer)),
        OwnerCommand::Rotate(command) => wait(rotate::run(command, printer)),
        OwnerCommand::Install(command) => wait(rotate::install(command, folder, open, printer)),
        OwnerCommand::Enrolment(command) => wait(status::enrolment(command, printer)),
        OwnerCommand::Status(command) => wait(status::run(command, printer)),
    }
}
