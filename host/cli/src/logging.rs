//! Logs: to standard error, by SENTINEL_LOG, as text or as JSON; and the last lines of a role in
//! memory, for `sentinel logs`.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use sentinel_agent::lines::Lines;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// An object a line, for programs.
    Json,
}

/// What a process logs.
pub(crate) struct Logging {
    /// What and how bad, unless SENTINEL_LOG says otherwise.
    pub(crate) level: &'static str,
    pub(crate) color: Color,
    pub(crate) format: Format,
    /// Whether the last lines are kept for whoever asks.
    pub(crate) kept: bool,
}

/// The last lines of this process.
pub(crate) fn lines() -> Lines {
    LINES.get_or_init(Lines::default).clone()
}

/// Logs to standard error from now on.
pub(crate) fn start(logging: &Logging) {
    let said = std::env::var(VARIABLE).ok().filter(|said| !said.is_empty());
    let filter = EnvFilter::try_new(said.as_deref().unwrap_or(logging.level));
    let refused = filter.as_ref().err().map(ToString::to_string);
    let ansi = match logging.color {
        Color::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        Color::Always => true,
        Color::Never => false,
    };
    let shown = fmt::layer().with_writer(io::stderr);
    let shown = match logging.format {
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
        tracing::warn!("{VARIABLE} is not a filter, so {level} and worse is logged: {refused}");
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
