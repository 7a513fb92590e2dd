//! What can be written on the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

use crate::client_tls::ClientTls;
use crate::commands::agents::Agents;
use crate::commands::alerts::Alerts;
use crate::commands::audit::Audit;
use crate::commands::bus::BusCommand;
use crate::commands::fleet::FleetCommand;
use crate::commands::force::ForceSend;
use crate::commands::key::KeyCommand;
use crate::commands::letters::DlqCommand;
use crate::commands::logs::Logs;
use crate::commands::notify::NotifyCommand;
use crate::commands::plugin::PluginCommand;
use crate::commands::query::{Metrics, Query};
use crate::commands::rules::RulesCommand;
use crate::commands::secret::Secret;
use crate::commands::tokens::TokenCommand;
use crate::commands::wal::WalCommand;
use crate::logging::Format;
use crate::roles::agent::AgentArgs;
use crate::roles::registry::RegistryArgs;
use crate::roles::server::ServerArgs;
use crate::roles::up::UpArgs;
use crate::roles::worker::WorkerArgs;

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
    /// The server to ask, such as http://127.0.0.1:8080; else the `sentinel up` of this user.
    #[arg(
        long,
        global = true,
        env = "SENTINEL_SERVER",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) tls: ClientTls,
    /// How log lines look [default: `log.format` of the configuration, else text]; SENTINEL_LOG
    /// says which there are.
    #[arg(
        long,
        global = true,
        value_enum,
        env = "SENTINEL_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT"
    )]
    pub(crate) log: Option<Format>,
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
    /// Run everything in one process: server, worker and an agent for this machine.
    Up(UpArgs),
    /// Run an agent alone: collectors and their log, for a server elsewhere.
    Agent(AgentArgs),
    /// Run a server alone, over NATS and PostgreSQL.
    Server(Box<ServerArgs>),
    /// Run a worker alone, over NATS and PostgreSQL; several share the work.
    Worker(Box<WorkerArgs>),
    /// Run a registry of plugins, or manage one: tokens, names.
    Registry(Box<RegistryArgs>),
    /// Everything at a glance: agents, slots, offsets, lag, sizes, and what to look at.
    Status,
    /// Stored series as a table; the sparkline of a counter shows its rate.
    Query(Query),
    /// Names of the metrics that are stored.
    Metrics(Metrics),
    /// Alerts that are pending, firing or lately resolved.
    Alerts(Alerts),
    /// Notifications that were given up: look at them, send them again, put them away.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Notifiers.
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Alerting rules.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Plugins: on this machine, in registries, and as files that are packed and signed.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// What runs on which hosts: begin a fleet, see what became of decisions.
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Agents that have enrolled.
    Agents(Agents),
    /// Tokens with which agents enrol, and with which the API is called.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Who changed what, when, from where, and what became of it; newest first.
    Audit(Audit),
    /// The bus on NATS: its stream.
    #[command(subcommand)]
    Bus(BusCommand),
    /// Keys with which agents sign.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Have an agent on this machine send what is pending now, or again from an offset.
    ForceSend(ForceSend),
    /// What an agent or `up` on this machine logs.
    Logs(Logs),
    /// The log of an agent on this machine.
    #[command(subcommand)]
    Wal(WalCommand),
    /// Secrets that grants may name.
    Secret(Secret),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Compiles a component from standard input to standard output, in a sandbox.
    #[command(name = "internal-compile", hide = true)]
    InternalCompile,
}

impl Command {
    /// What is logged where SENTINEL_LOG does not say.
    pub(crate) const fn log_level(&self) -> &'static str {
        if self.is_a_role() { "info" } else { "warn" }
    }

    /// The configuration of a role.
    pub(crate) fn configuration(&self) -> Option<PathBuf> {
        match self {
            Self::Up(args) => Some(args.configuration()),
            Self::Agent(args) => Some(args.configuration()),
            Self::Server(args) => Some(args.configuration()),
            Self::Worker(args) => Some(args.configuration()),
            _ => None,
        }
    }

    /// Whether it runs until it is asked to stop.
    pub(crate) const fn is_a_role(&self) -> bool {
        matches!(
            self,
            Self::Up(_) | Self::Agent(_) | Self::Server(_) | Self::Worker(_) | Self::Registry(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// The words of a command as a shell has them, without expansions.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                _ => word.push(c),
            }
        }
        words.push(word);
        words
    }

    #[test]
    fn every_command_of_the_guides_is_one() {
        let guides =
            [include_str!("../../alerting/ROUTING.md"), include_str!("../../alerting/RULES.md")];
        let lines = guides.iter().flat_map(|guide| guide.lines());
        let commands: Vec<&str> = lines.filter(|l| l.starts_with("sentinel ")).collect();
        assert!(commands.len() >= 16, "{commands:?}");
        for line in commands {
            let read = Cli::try_parse_from(words(line));
            assert!(
                read.is_ok(),
                "{line}: {}",
                read.err().map(|e| e.to_string()).unwrap_or_default()
            );
        }
    }

    #[test]
    fn every_command_of_the_runbooks_is_one() {
        let text = deployed("RUNBOOK.md") + &deployed("RUNBOOK-RULES.md");
        let commands = text.lines().filter_map(|line| line.strip_prefix("    "));
        let commands: Vec<&str> = commands.filter(|line| line.starts_with("sentinel ")).collect();
        assert!(commands.len() >= 12, "{commands:?}");
        for line in commands {
            let read = Cli::try_parse_from(words(line)).err().map(|error| error.to_string());
            assert_eq!(read, None, "{line}");
        }
    }

    fn deployed(file: &str) -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/");
        std::fs::read_to_string(format!("{path}{file}")).unwrap()
    }

    #[test]
    fn every_command_of_the_compose_file_is_one() {
        let text = deployed("compose/compose.yaml");
        let mut commands: Vec<Vec<&str>> = Vec::new();
        let mut in_command = false;
        for line in text.lines() {
            match line.strip_prefix("      - ").filter(|_| in_command) {
                Some(word) => commands.last_mut().unwrap().push(word),
                None => in_command = line.starts_with("    command:") && !line.contains('['),
            }
            if in_command && line.starts_with("    command:") && !line.contains('*') {
                commands.push(vec!["sentinel"]);
            }
        }
        assert_eq!(commands.len(), 5, "{commands:?}");
        for words in commands {
            let read = Cli::try_parse_from(&words).err().map(|error| error.to_string());
            assert_eq!(read, None, "{words:?}");
        }
        assert!(
            crate::roles::config::shape(
                concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/compose/sentinel.yaml").as_ref()
            )
            .is_ok()
        );
    }

    #[test]
    fn every_command_of_the_units_is_one() {
        for role in ["agent", "up", "server", "worker", "registry"] {
            let text = deployed(&format!("systemd/sentinel-{role}.service"));
            let text = text.replace("\\\n", " ").replace("%d", "/run").replace("%S", "/var/lib");
            // What systemd takes from the unit's environment.
            let text = text.replace("${SENTINEL_REGISTRY}", "https://registry.example");
            let text = text.replace("${SENTINEL_JOIN}", "https://server.example");
            let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
            let words = line.split_whitespace();
            let read = Cli::try_parse_from(words).err().map(|error| error.to_string());
            assert_eq!(read, None, "{line}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
