//! What comes back from a notifier.

use crate::error::CallError;
use crate::services::KvWrite;

/// What the receiver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// For the journal, at most 1 KiB.
    pub message: String,
    /// The receiver's own id of what was made.
    pub reference: Option<String>,
    /// Writes of the call to the slot's state, for the host to keep.
    pub kv: Vec<KvWrite>,
}

/// Why a notification was not delivered: the variant alone decides what happens next.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// Surely not taken: try again.
    #[error("{message}")]
    Retry {
        /// Why.
        message: String,
        /// How long the receiver wishes to be left alone, in milliseconds.
        after_ms: Option<u64>,
    },
    /// It may have been taken; the operator's policy decides.
    #[error("{0}")]
    Unknown(String),
    /// It never will be taken.
    #[error("{0}")]
    Permanent(String),
    /// The notifier itself failed. If [`CallError::was_called`] the notification may have been
    /// taken, otherwise surely not.
    #[error(transparent)]
    Call(#[from] CallError),
}
