//! The beginning of a fleet, and whose word counts in it.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use sentinel_trust::PublicKey;
use sentinel_trust::fleet::Operators;

use super::key_file;
use super::operator::{MAX_OPERATORS, Operator};
use crate::args::Global;
use crate::client::Client;
use crate::failure::Failure;
use crate::files;
use crate::output::Printer;

/// Most bytes of a file that names operators.
const MAX_BYTES: usize = 64 << 10;

/// Options of `sentinel fleet init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The file for the secret key; must not be there yet [default: in the user's config folder]
    #[arg(long, value_name = "FILE", env = "SENTINEL_OPERATOR_KEY", hide_env_values = true)]
    key: Option<PathBuf>,
    /// Join the fleet of this file, which `sentinel fleet operators` printed
    #[arg(long, value_name = "FILE")]
    join: Option<PathBuf>,
}

/// Options of `sentinel fleet operators`.
#[derive(Debug, Args)]
pub(crate) struct OperatorsArgs {
    /// Believe the sets of this operator too
    #[arg(long, value_name = "KEY")]
    add: Vec<PublicKey>,
    /// Do not believe this operator any more
    #[arg(long, value_name = "KEY")]
    remove: Vec<PublicKey>,
    /// The operator's secret key [default: that of the running `sentinel up`, else of this user]
    #[arg(long, value_name = "FILE", env = "SENTINEL_OPERATOR_KEY", hide_env_values = true)]
    key: Option<PathBuf>,
}

pub(super) fn run(command: Init, printer: &Printer) -> Result<(), Failure> {
    let joined = command.join.as_deref().map(operators_file).transpose()?;
    let key = key_file(command.key.as_deref(), None)?;
    if let Some(folder) = key.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
            Failure::new(format!("the folder {} cannot be made: {error}", folder.display()))
        })?;
    }
    let (fleet, others) = joined.map_or((None, Vec::new()), |pins| (Some(pins.fleet), pins.keys));
    let operator = Operator::create(&key, fleet, others)?;
    printer.say(&format!(
        "\
{}  decides what runs on every host of the fleet. Whoever has it can run, there, any plugin
    that the registry's publishers signed. Keep it off the server; a copy, offline.
{}  what you have seen of the fleet, so that no server can show you an older one. Keep it
    beside the key, and copy both.",
        key.display(),
        key.with_extension("fleet").display(),
    ));
    if command.join.is_some() {
        printer.hint(&format!(
            "next: the other operators run `sentinel fleet operators --add {}`, and servers are given what that prints",
            operator.public()
        ));
    } else {
        printer.hint("next: give what is printed to the server, `sentinel up --operators FILE`");
    }
    print(&operator.pins(), printer)
}

pub(super) fn operators(
    command: OperatorsArgs,
    global: &Global,
    printer: &Printer,
) -> Result<(), Failure> {
    // It asks no server, and so needs none.
    let client = Client::find(global.server.as_deref(), &global.tls).ok();
    let mut operator = Operator::open(&key_file(command.key.as_deref(), client.as_ref())?)?;
    if !command.add.is_empty() || !command.remove.is_empty() {
        operator.pin(&command.add, &command.remove)?;
        printer.hint("servers and hosts learn of it only by being given what is printed");
    }
    print(&operator.pins(), printer)
}

fn print(pins: &Operators, printer: &Printer) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(pins)?;
    printer.data(pins, |_| json)
}

/// Who decides in a fleet, out of a file.
///
/// # Errors
/// A file that names nobody, or too many.
pub(crate) fn operators_file(file: &Path) -> Result<Operators, Failure> {
    let json = files::read(file, MAX_BYTES)?;
    let refused = |why: String| {
        Failure::new(format!("{} names no operators: {why}", file.display()))
            .hint("it is what `sentinel fleet init` and `sentinel fleet operators` print")
    };
    let pins: Operators =
        serde_json::from_slice(&json).map_err(|error| refused(error.to_string()))?;
    if pins.keys.is_empty() || pins.keys.len() >= MAX_OPERATORS {
        return Err(refused(format!("{} keys of at most {MAX_OPERATORS}", pins.keys.len())));
    }
    Ok(pins)
}
