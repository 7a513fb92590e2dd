//! Keeping house: the meta file, removal of committed segments, the cap.

use crate::format::segment_name;
use crate::log::Shared;
use crate::reuse::Reuse;
use crate::{Result, SyncPolicy};
use std::time::SystemTime;

impl Shared {
    /// Writes the meta file. On return all offsets as they were when it was called are durable.
    pub(crate) fn write_meta(&self, closing: bool) -> Result<()> {
        let _one = self.keeping.lock();
        self.write_meta_locked(closing)
    }

    fn write_meta_locked(&self, closing: bool) -> Result<()> {
        let meta = {
            let mut state = self.state.lock();
            state.meta_due = false;
            state.to_meta(closing)
        };
        match meta.replace(self.storage.as_ref()) {
            Ok(()) => self.state.lock().mark_durable(&meta),
            Err(error) => {
                self.state.lock().meta_due = true;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes segments whose records are all committed, or keeps a file of theirs to be used again; whether there were any.
    ///
    /// The order makes it safe to crash anywhere: the offsets are durable before the first file goes, and an epoch leaves
    /// the meta file only when the removal of its files is durable. A file that comes back is committed, and goes again.
    pub(crate) fn remove_committed(&self, active: Option<u64>, reuse: Reuse) -> Result<bool> {
        let _one = self.keeping.lock();
        if !self.state.lock().wants_removal(active) {
            return Ok(false);
        }
        self.write_meta_locked(false)?;
        let removable = self.state.lock().removable(active);
        for (epoch, number) in &removable {
            if reuse == Reuse::One && self.state.lock().free_segment(*epoch, *number) {
                continue;
            }
            self.remove_segment(*number)?;
            self.state.lock().forget_segment(*epoch, *number);
        }
        if self.state.lock().has_finished_epochs() {
            self.storage
                .sync_dir()
                .map_err(|e| crate::Error::io("sync the folder after removing", "segments", e))?;
            self.state.lock().forget_finished_epochs();
        }
        Ok(!removable.is_empty())
    }

    /// Drops the oldest segment with its uncommitted records, where it is the one that is meant; whether it was there.
    pub(crate) fn drop_oldest(&self, active: Option<u64>, meant: Option<u64>) -> Result<bool> {
        let _one = self.keeping.lock();
        let (epoch, segment, before) = {
            let mut state = self.state.lock();
            let Some((epoch, segment)) = state.oldest(active) else {
                return Ok(false);
            };
            if meant.is_some_and(|number| number != segment.number) {
                return Ok(false);
            }
            let Some(e) = state.find(epoch) else {
                return Ok(false);
            };
            // With what was damaged before it: from here on one gap speaks for both.
            let kept_from = e.committed.max(e.dropped_through) + 1;
            let lost = (segment.last + 1).saturating_sub(kept_from);
            let before = (e.dropped_through, state.dropped_records);
            if let Some(e) = state.find(epoch) {
                e.dropped_through = e.dropped_through.max(segment.last);
            }
            state.dropped_records = state.dropped_records.saturating_add(lost);
            (epoch, segment, before)
        };
        // Why the records are missing is durable before they are.
        if let Err(error) = self.write_meta_locked(false) {
            let mut state = self.state.lock();
            state.dropped_records = before.1;
            if let Some(e) = state.find(epoch) {
                e.dropped_through = before.0;
            }
            return Err(error);
        }
        let dropped = self.state.lock().dropped_records - before.1;
        tracing::warn!(%epoch, from = segment.first, to = segment.last, dropped, "a cap of the log was reached: oldest records dropped");
        self.remove_segment(segment.number)?;
        self.state.lock().forget_segment(epoch, segment.number);
        Ok(true)
    }

    /// Drops segments whose newest record is too old.
    fn drop_aged(&self) -> Result<()> {
        let Some(max_age) = self.options.max_age else { return Ok(()) };
        loop {
            let active = self.tail.lock().active_number();
            let Some((_, oldest)) = self.state.lock().oldest(active) else { return Ok(()) };
            let name = segment_name(oldest.number);
            let written = self.storage.modified(&name);
            let written = written.map_err(|e| crate::Error::io("look at the time of", &name, e))?;
            let age = written.and_then(|at| SystemTime::now().duration_since(at).ok());
            let aged = age.is_some_and(|age| age > max_age);
            if !(aged && self.drop_oldest(active, Some(oldest.number))?) {
                return Ok(());
            }
        }
    }

    pub(crate) fn remove_segment(&self, number: u64) -> Result<()> {
        let name = segment_name(number);
        match self.storage.remove(&name) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(crate::Error::io("remove", &name, e))
            }
            _ => Ok(()),
        }
    }

    /// What is due: the meta file after a turn, removal of what is committed.
    pub(crate) fn keep(&self) {
        let active = self.tail.lock().active_number();
        let removed = self.remove_committed(active, Reuse::One);
        let removed = removed.and_then(|_| self.drop_aged());
        let due = self.state.lock().meta_due;
        let kept = removed.and_then(|()| if due { self.write_meta(false) } else { Ok(()) });
        if let Err(error) = kept {
            tracing::warn!(%error, "the log could not keep house; it is tried again with the next segment or commit");
        }
    }

    pub(crate) fn syncs_in_background(&self) -> bool {
        self.options.background && self.options.sync != SyncPolicy::Never
    }
}
