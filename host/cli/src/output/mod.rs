//! The one printer: data to standard output, talk to standard error.

pub(crate) mod human;
pub(crate) mod sparkline;
pub(crate) mod table;

use std::io::{self, IsTerminal, Write};

use console::Style;
use serde::Serialize;

use crate::args::{Color, Global};
use crate::failure::Failure;

/// Columns where standard output is not a terminal.
const PIPED_WIDTH: usize = 120;
/// Fewer columns than these are taken for these.
const LEAST_WIDTH: usize = 40;
/// Empties a terminal and begins at its top.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// How text may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether colours may be used.
    pub(crate) color: bool,
    /// Columns.
    pub(crate) width: usize,
}

impl Look {
    /// Text in a style, where colours may be used.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.color { style.force_styling(true).apply_to(text).to_string() } else { text.into() }
    }
}

/// Prints. There is one for the process.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    json: bool,
    data: Look,
    talk: Look,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        let look = |terminal: bool| Look {
            color: match global.color {
                Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none(),
                Color::Always => true,
                Color::Never => false,
            },
            width: PIPED_WIDTH,
        };
        let mut data = look(io::stdout().is_terminal());
        if let Some((_, columns)) = console::Term::stdout().size_checked() {
            data.width = usize::from(columns).max(LEAST_WIDTH);
        }
        Self { json: global.json, data, talk: look(io::stderr().is_terminal()) }
    }

    /// A command's result: as JSON where that was asked for, else as `text` makes it.
    pub(crate) fn data<T: Serialize + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce(Look) -> String,
    ) -> Result<(), Failure> {
        let text = if self.json { serde_json::to_string_pretty(value)? } else { text(self.data) };
        write(text).map(drop)
    }

    /// One of many results that follow each other: a line of JSON where that was asked for, else
    /// text, which on a terminal takes the place of the one before. Whether anybody still reads.
    pub(crate) fn frame<T: Serialize + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce(Look) -> String,
    ) -> Result<bool, Failure> {
        if self.json {
            return write(serde_json::to_string(value)?);
        }
        let terminal = io::stdout().is_terminal();
        write(format!("{}{}", if terminal { CLEAR } else { "" }, text(self.data)))
    }

    /// One of many lines: as the JSON that it is where that was asked for, else as text. Whether anybody
    /// still reads.
    pub(crate) fn line(
        &self,
        json: &str,
        text: impl FnOnce(Look) -> String,
    ) -> Result<bool, Failure> {
        write(if self.json { json.to_owned() } else { text(self.data) })
    }

    /// Says something to whoever sits there.
    pub(crate) fn say(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Says how far something is, in place of what was said of it before; on a terminal alone.
    pub(crate) fn progress(&self, text: &str) {
        if io::stderr().is_terminal() {
            let _ = write!(io::stderr().lock(), "\r{text}\u{1b}[K\r");
        }
    }

    /// Says what should be looked at.
    pub(crate) fn warn(&self, text: &str) {
        let warning = self.talk.paint(Style::new().yellow().bold(), "warning:");
        self.say(&format!("{warning} {text}"));
    }

    /// Says what may be done next.
    pub(crate) fn hint(&self, text: &str) {
        let hint = self.talk.paint(Style::new().cyan().bold(), "hint:");
        self.say(&format!("{hint} {text}"));
    }

    /// Says why a command failed.
    pub(crate) fn fail(&self, failure: &Failure) {
        let error = self.talk.paint(Style::new().red().bold(), "error:");
        self.say(&format!("{error} {}", failure.message));
        if let Some(hint) = &failure.hint {
            self.hint(hint);
        }
    }
}

/// Writes data as a whole line. Whether anybody still reads: whoever does not has seen enough.
fn write(mut text: String) -> Result<bool, Failure> {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format!("standard output cannot be written: {error}"))),
        Ok(()) => Ok(true),
    }
}

/// Text that came from outside, safe on a terminal: no controls, nothing that turns the
/// direction of writing.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let harmful = c.is_control()
            || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}');
        if harmful { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_moves_the_cursor_or_turns_the_writing() {
        assert_eq!(clean("a\u{1b}[2J\n\u{202e}b ö"), "a\\u{1b}[2J\\u{a}\\u{202e}b ö");
    }
}
