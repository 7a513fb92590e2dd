//! What can be written on the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::plugin::PluginCommand;

/// Monitoring in which everything that knows a subject is a signed WebAssembly plugin.
#[derive(Debug, Parser)]
#[command(name = "sentinel", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Plugins: make keys, pack, sign and look at them.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Compiles a component from standard input to standard output, in a sandbox.
    #[command(name = "internal-compile", hide = true)]
    InternalCompile,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
