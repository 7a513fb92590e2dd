//! What is wrong with a text, and where.

pub use crate::bindings::host::sentinel::plugin::types::{Diagnostic, Severity};

/// Longest message that the contract allows, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;

impl Diagnostic {
    /// A diagnostic that refuses the text. `path` is a JSON Pointer, empty for the whole.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(path, message, Severity::Error)
    }

    /// A diagnostic that lets the text pass. `path` is a JSON Pointer, empty for the whole.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(path, message, Severity::Warning)
    }

    fn new(path: impl Into<String>, message: impl Into<String>, severity: Severity) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        }
        Self { path: path.into(), message, severity }
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// One step of a JSON Pointer, `~` and `/` escaped (RFC 6901).
pub fn pointer_step(step: impl std::fmt::Display) -> String {
    format!("/{}", step.to_string().replace('~', "~0").replace('/', "~1"))
}
