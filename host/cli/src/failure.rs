//! A command's failure as people read it.

/// What failed, with which value, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One line, or several where there are several problems.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// What the program ends with.
    pub(crate) code: u8,
}

/// What the program ends with where a command was refused or failed.
const FAILED: u8 = 1;
/// What it ends with where it was given what it cannot use.
const MISUSED: u8 = 2;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: FAILED }
    }

    /// The same, of something that was given and is of no use.
    #[must_use]
    pub(crate) fn misused(mut self) -> Self {
        self.code = MISUSED;
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error with its causes, without those that the text before them says already.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            let joint = if text.is_empty() { "" } else { ": " };
            text.push_str(joint);
            text.push_str(&cause);
        }
        text
    })
}

/// Errors of libraries say their causes themselves.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen: {0}; choose another")]
    struct Listen(#[source] std::io::Error);

    #[test]
    fn a_cause_is_said_once() {
        let listen = || Listen(std::io::Error::other("in use"));
        let error = anyhow::Error::new(listen());
        assert_eq!(with_causes(&error), "cannot listen: in use; choose another");
        let error = Err::<(), _>(listen()).context("no start").unwrap_err();
        assert_eq!(with_causes(&error), "no start: cannot listen: in use; choose another");
    }
}
