//! The `sentinel` binary: every role and every admin command.
//!
//! Data goes to standard output, talk to standard error. The exit code is 0 where a command
//! did what it was asked, 1 where it was refused or failed, 2 where it was called wrongly or given
//! files of which nothing can be made.

mod args;
mod client;
mod client_tls;
mod commands;
mod failure;
mod files;
mod logging;
mod output;
mod roles;
mod running;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, Global};
use logging::Logging;
use output::Printer;

fn main() -> ExitCode {
    // SAFETY: no other thread has been started yet.
    unsafe {
        // Errors of the runtime capture a backtrace each where this is on, and a failing
        // plugin makes many of them.
        std::env::set_var("RUST_LIB_BACKTRACE", "0");
    }
    let cli = Cli::parse();
    if matches!(cli.command, Command::InternalCompile) {
        // Takes rights from itself, and so must come before any thread.
        return sentinel_runtime::compile_child_main();
    }
    let level = cli.command.log_level();
    let Global { color, log: said, .. } = cli.global;
    // Of a configuration of which nothing can be made the role itself speaks.
    let read = cli.command.configuration().and_then(|file| roles::config::shape(&file).ok());
    let configured = read.map(|config| config.log).unwrap_or_default();
    logging::start(&Logging { level, color, said, configured, kept: cli.command.is_a_role() });
    let printer = Printer::new(&cli.global);
    match commands::run(cli, &printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            printer.fail(&failure);
            ExitCode::from(failure.code)
        }
    }
}
