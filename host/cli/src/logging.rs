//! Logs: to standard error, by SENTINEL_LOG.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::Color;

/// The variable that says what is logged, such as `info` or `warn,sentinel_worker=debug`.
const VARIABLE: &str = "SENTINEL_LOG";

/// Logs to standard error from now on: what SENTINEL_LOG says, else `level` and worse.
pub(crate) fn start(level: &str, color: Color) {
    let said = std::env::var(VARIABLE).ok().filter(|said| !said.is_empty());
    let filter = EnvFilter::try_new(said.as_deref().unwrap_or(level));
    let refused = filter.as_ref().err().map(ToString::to_string);
    let ansi = match color {
        Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        Color::Always => true,
        Color::Never => false,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new(level)))
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .init();
    if let Some(refused) = refused {
        tracing::warn!("{VARIABLE} is not a filter, so {level} and worse is logged: {refused}");
    }
}
