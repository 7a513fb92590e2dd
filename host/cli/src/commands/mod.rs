//! What each command does.

pub(crate) mod plugin;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::output::Printer;

/// Does what the command line asks.
pub(crate) fn run(cli: Cli, printer: &Printer) -> Result<(), Failure> {
    match cli.command {
        Command::Plugin(command) => plugin::run(command, printer),
        Command::InternalCompile => Err(Failure::new("internal-compile runs before all else")),
    }
}
