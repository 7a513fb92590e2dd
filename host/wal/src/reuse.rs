//! The files of committed segments hold the next ones.
//!
//! A file that was written before is the cheapest there is: its sync has nothing to journal. One is kept at a time.
//!
//! What it held stays in it, up to where the new segment has overwritten it. Each record says its epoch and its number, and
//! the old ones are of the same epoch, with lower numbers than any in the new segment: no reader and no recovery takes
//! one for the other. Until the new header is written the file is what it was: a segment whose records are committed,
//! durably, so that an opening removes it, by whatever name it finds it.

use crate::format::segment_name;
use crate::log::Shared;
use crate::state::Free;
use crate::turn::Spare;
use crate::{Error, Result};

/// Whether the file of a committed segment is kept to be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// None: its room is needed, or the log is being closed.
    None,
    /// One, where none is kept yet.
    One,
}

impl Shared {
    /// Gives the file a new name, durable when this returns; `None` where that fails, and the file is gone then.
    pub(crate) fn reuse(&self, free: Free, number: u64) -> Option<Spare> {
        let (old, new) = (segment_name(free.number), segment_name(number));
        let renamed = self.storage.open(&old).and_then(|file| {
            self.storage.rename(&old, &new)?;
            self.storage.sync_dir()?;
            Ok(file)
        });
        match renamed {
            Ok(file) => Some(Spare { number, file, reserved: free.disk, reused: true }),
            Err(error) => {
                tracing::warn!(%error, segment = free.number, "a segment file could not be used again");
                for name in [old, new] {
                    let _ = self.storage.remove(&name);
                }
                None
            }
        }
    }

    /// Removes the file that was kept to be used again; whether there was one.
    pub(crate) fn remove_free(&self) -> Result<bool> {
        let Some(free) = self.state.lock().free.take() else {
            return Ok(false);
        };
        self.remove_segment(free.number).inspect_err(|_: &Error| {
            self.state.lock().free = Some(free);
        })?;
        Ok(true)
    }
}
