//! What each command does.

pub(crate) mod agents;
pub(crate) mod alerts;
pub(crate) mod attention;
pub(crate) mod audit;
pub(crate) mod bus;
pub(crate) mod fleet;
pub(crate) mod force;
pub(crate) mod key;
pub(crate) mod letters;
mod local;
pub(crate) mod logs;
pub(crate) mod notify;
pub(crate) mod plugin;
pub(crate) mod query;
pub(crate) mod reach;
pub(crate) mod registry;
pub(crate) mod rules;
pub(crate) mod secret;
mod status;
pub(crate) mod tokens;
pub(crate) mod wal;

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::CommandFactory;
use clap_complete::Shell;
use tokio::runtime::Builder;

use crate::args::{Cli, Command, Global};
use crate::client::Client;
use crate::failure::{Failure, with_causes};
use crate::output::Printer;
use crate::roles;
use crate::roles::sandbox::Sandbox;

/// Does what the command line asks.
pub(crate) fn run(cli: Cli, printer: &Printer) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Up(args) => {
            let sandbox = locked_in(args.enter_sandbox())?;
            role(Builder::new_multi_thread(), roles::up::run(args, sandbox))
        }
        Command::Agent(args) => {
            roles::memory::be_frugal();
            let sandbox = locked_in(args.enter_sandbox(&global.tls))?;
            // Plugins and the log have threads of their own; the rest hardly does anything.
            role(Builder::new_current_thread(), roles::agent::run(args, global.tls, sandbox))
        }
        Command::Server(args) => {
            let sandbox = locked_in(args.enter_sandbox())?;
            role(Builder::new_multi_thread(), roles::server::run(*args, sandbox))
        }
        Command::Worker(args) => {
            let sandbox = locked_in(args.enter_sandbox())?;
            role(Builder::new_multi_thread(), roles::worker::run(*args, sandbox))
        }
        Command::Registry(args) => roles::registry::run(*args, printer),
        Command::Status => ask(&global, async |client| status::run(client, printer).await),
        Command::Query(command) => {
            ask(&global, async |client| query::run(command, client, printer).await)
        }
        Command::Metrics(command) => {
            ask(&global, async |client| query::metrics(command, client, printer).await)
        }
        Command::Alerts(command) => {
            ask(&global, async |client| alerts::run(command, client, printer).await)
        }
        Command::Dlq(command) => {
            ask(&global, async |client| letters::dlq(command, client, printer).await)
        }
        Command::Notify(command) => {
            ask(&global, async |client| notify::run(command, client, printer).await)
        }
        Command::Rules(command) => match rules::alone(command, &global, printer)? {
            Some(asks) => ask(&global, async |client| rules::run(asks, client, printer).await),
            None => Ok(()),
        },
        Command::Agents(command) => {
            ask(&global, async |client| agents::run(command, client, printer).await)
        }
        Command::Token(command) => {
            ask(&global, async |client| tokens::run(command, client, printer).await)
        }
        Command::Audit(command) => {
            ask(&global, async |client| audit::run(command, client, printer).await)
        }
        Command::Plugin(command) => plugin::run(command, &global, printer),
        Command::Fleet(command) => fleet::run(command, &global, printer),
        Command::Bus(command) => bus::run(command, printer),
        Command::Key(command) => {
            ask(&global, async |client| key::run(command, client, printer).await)
        }
        Command::ForceSend(command) => alone(force::run(command, printer)),
        Command::Logs(command) => alone(logs::run(command, printer)),
        Command::Wal(command) => wal::run(command, printer),
        Command::Secret(command) => secret::run(command, printer),
        Command::Completions { shell } => {
            completions(shell);
            Ok(())
        }
        Command::InternalCompile => Err(Failure::new("internal-compile runs before all else")),
    }
}

/// Runs a role until it is asked to stop.
fn role(
    mut runtime: Builder,
    run: impl Future<Output = anyhow::Result<()>>,
) -> Result<(), Failure> {
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(run).map_err(|error| Failure::new(with_causes(&error)))
}

fn locked_in(sandbox: anyhow::Result<Sandbox>) -> Result<Sandbox, Failure> {
    sandbox.map_err(|error| Failure::new(with_causes(&error)))
}

/// Asks the server for something.
fn ask(
    global: &Global,
    command: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let client = Client::find(global.server.as_deref(), &global.tls)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(command(&client))
}

/// Does something that needs no server.
fn alone(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn completions(shell: Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "sentinel", &mut io::stdout());
}

/// This machine's clock, unix milliseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
