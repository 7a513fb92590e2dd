//! Logs: to standard error, by SENTINEL_LOG, as text or as JSON; and the last lines of a role in
//! memory, for `sentinel logs`. What the command line and the environment say goes before what the
//! configuration says.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use schemars::JsonSchema;
use sentinel_agent::lines::Lines;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::Color;

/// The variable that says what is logged, such as `info` or `warn,sentinel_worker=debug`.
const VARIABLE: &str = "SENTINEL_LOG";

/// The lines of this process.
static LINES: OnceLock<Lines> = OnceLock::new();

/// How lines look.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// An object a line, for programs.
    Json,
}

/// How a role logs that is told nothing by its command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// How lines look.
    pub(crate) format: Format,
    /// What and how bad, such as `info` or `warn,sentinel_worker=debug`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<String>,
}

/// What a process logs.
pub(crate) struct Logging {
    /// What and how bad where nothing else says it.
    pub(crate) level: &'static str,
    pub(crate) color: Color,
    /// What the command line says.
    pub(crate) said: Option<Format>,
    pub(crate) configured: LogConfig,
    /// Whether the last lines are kept for whoever asks.
    pub(crate) kept: bool,
}

/// The last lines of this process.
pub(crate) fn lines() -> Lines {
    LINES.get_or_init(Lines::default).clone()
}

/// Logs to standard error from now on.
pub(crate) fn start(logging: &Logging) {
    let said = std::env::var(VARIABLE).ok().or_else(|| logging.configured.filter.clone());
    let said = said.filter(|said| !said.is_empty());
    let filter = EnvFilter::try_new(said.as_deref().unwrap_or(logging.level));
    let refused = filter.as_ref().err().map(ToString::to_string);
    let ansi = match logging.color {
        Color::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        Color::Always => true,
        Color::Never => false,
    };
    let shown = fmt::layer().with_writer(io::stderr);
    let shown = match logging.said.unwrap_or(logging.configured.format) {
        Format::Text => shown.with_ansi(ansi).boxed(),
        Format::Json => shown.json().flatten_event(true).boxed(),
    };
    let kept = logging.kept.then(|| {
        fmt::layer().json().flatten_event(true).with_ansi(false).with_writer(Keep(lines()))
    });
    tracing_subscriber::registry()
        .with(filter.unwrap_or_else(|_| EnvFilter::new(logging.level)))
        .with(shown)
        .with(kept)
        .init();
    if let Some(refused) = refused {
        let level = logging.level;
        tracing::warn!(
            "{VARIABLE}, or `log.filter`, is not a filter, so {level} and worse is logged: {refused}"
        );
    }
}

/// Writes into the lines that are kept.
#[derive(Clone)]
struct Keep(Lines);

impl Write for Keep {
    /// A whole event at a time: so the formatter calls it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Keep {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
