//! `sentinel logs`: what an agent or `up` on this machine logs.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};

use super::local::LocalAgent;
use crate::failure::Failure;
use crate::output::{Look, Printer, clean};
use console::Style;

/// Most bytes of a line.
const MAX_LINE: usize = 64 << 10;
/// What a line has beside what it says.
const KNOWN: [&str; 4] = ["timestamp", "level", "target", "message"];

/// Options of `sentinel logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The data folder of the agent or `up` [default: that of the running `up`, else the user's own]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines; of some hundreds at most the process still knows
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    last: usize,
}

pub(super) async fn run(command: Logs, printer: &Printer) -> Result<(), Failure> {
    let Logs { folder, follow, last } = command;
    let agent = LocalAgent::find(folder.as_deref())?;
    let mut answer = agent.stream(&format!("/logs?last={last}&follow={follow}")).await?;
    let mut pending = Vec::new();
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(()),
            Err(_) => return Err(Failure::new("the agent ended, or was killed")),
        };
        for byte in chunk {
            if byte != b'\n' {
                // What is beyond the bound of a line is left out.
                if pending.len() < MAX_LINE {
                    pending.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&pending).into_owned();
            pending.clear();
            if !printer.line(&line, |look| text(&line, look))? {
                return Ok(());
            }
        }
    }
}

/// A line as people read it.
fn text(line: &str, look: Look) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(line) else { return clean(line) };
    let said = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let level = format!("{:>5}", said("level"));
    let style = match said("level") {
        "ERROR" => Style::new().red(),
        "WARN" => Style::new().yellow(),
        _ => Style::new().green(),
    };
    let (time, level) = (clean(said("timestamp")), look.paint(style, &clean(&level)));
    let (target, message) = (clean(said("target")), clean(said("message")));
    format!("{time} {level} {target}: {message}{}", others(&fields))
}

fn others(fields: &Map<String, Value>) -> String {
    let mut out = String::new();
    for (name, value) in fields.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str())) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = write!(out, " {}={}", clean(name), clean(&value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_with_its_fields_and_is_harmless_on_a_terminal() {
        let look = Look { color: false, width: 80 };
        let line = r#"{"timestamp":"T","level":"WARN","target":"a::b","message":"no\u001b[2J","seq":7,"why":"x"}"#;
        assert_eq!(text(line, look), "T  WARN a::b: no\\u{1b}[2J seq=7 why=x");
        assert_eq!(text("no json\u{1b}", look), "no json\\u{1b}");
    }
}
