//! Reading synced records in order.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::format::{SEGMENT_HEADER_BYTES, segment_name};
use crate::log::Shared;
use crate::scan::Scan;
use crate::state::Located;
use crate::{Epoch, Error, GapReason, Item, Position, Result};

/// Yields synced records and gaps in order: older epochs first, each by sequence number. Any number of readers may be
/// open; none of them blocks a writer, and a slow one keeps nothing from being removed (what it has not read by then is
/// skipped if it was committed, and a gap if it was dropped).
pub struct Reader {
    shared: Arc<Shared>,
    progress: watch::Receiver<u64>,
    ordinal: u64,
    epoch: Epoch,
    /// The next record.
    seq: u64,
    open: Option<OpenSegment>,
}

struct OpenSegment {
    number: u64,
    scan: Scan,
    /// The last record that may be read.
    last: u64,
}

impl Reader {
    pub(crate) fn from_committed(shared: Arc<Shared>) -> Reader {
        let (ordinal, epoch, seq) = {
            let state = shared.state.lock();
            let live = state.epochs.iter().find(|e| e.committed < e.written);
            let at = live.or(state.epochs.last()).map(|e| (e.ordinal, e.epoch, e.committed + 1));
            at.unwrap_or((0, shared.epoch, 1))
        };
        Reader::at(shared, ordinal, epoch, seq)
    }

    pub(crate) fn from_position(shared: Arc<Shared>, position: Position) -> Result<Reader> {
        let ordinal = shared.state.lock().find(position.epoch).map(|e| e.ordinal);
        let ordinal = ordinal.ok_or(Error::UnknownEpoch(position.epoch))?;
        Ok(Reader::at(shared, ordinal, position.epoch, position.seq.max(1)))
    }

    fn at(shared: Arc<Shared>, ordinal: u64, epoch: Epoch, seq: u64) -> Reader {
        let progress = shared.progress.subscribe();
        Reader { shared, progress, ordinal, epoch, seq, open: None }
    }

    /// Where it stands: the position of the next item.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.seq }
    }

    /// The next item; waits for one. Cancel-safe: an item is taken only when the future completes.
    ///
    /// Reading is from the page cache as a rule, and done in place.
    ///
    /// # Errors
    /// [`Error::Closed`] when the log was closed and everything synced was yielded; an I/O error where a segment cannot be
    /// opened (damage is no error but a [`Item::Gap`]).
    pub async fn next(&mut self) -> Result<Item> {
        loop {
            self.progress.mark_unchanged();
            let closed = self.shared.state.lock().closed;
            if let Some(item) = self.try_next()? {
                return Ok(item);
            }
            if closed || self.progress.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }

    /// The next item, if there is one now.
    ///
    /// # Errors
    /// An I/O error where a segment cannot be opened.
    pub fn try_next(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(item) = self.read_open() {
                return Ok(Some(item));
            }
            if self.open.as_ref().is_some_and(|open| self.seq <= open.last) {
                continue;
            }
            let located = self.shared.state.lock().locate(self.ordinal, self.seq);
            match located {
                Located::Wait => return Ok(None),
                Located::Skip { seq } => self.seq = seq,
                Located::Move { ordinal, epoch, seq } => {
                    (self.ordinal, self.epoch, self.seq, self.open) = (ordinal, epoch, seq, None);
                }
                Located::Gap { to, reason } => return Ok(Some(self.gap(to, reason))),
                Located::Segment { number, last, end } => {
                    if let Some(item) = self.enter(number, last, end)? {
                        return Ok(Some(item));
                    }
                }
            }
        }
    }

    /// Opens a segment, or learns that the open one has grown. A file that is missing is a gap.
    fn enter(&mut self, number: u64, last: u64, end: u64) -> Result<Option<Item>> {
        if let Some(open) = self.open.as_mut().filter(|open| open.number == number) {
            open.last = last;
            open.scan.extend(end);
            return Ok(None);
        }
        let name = segment_name(number);
        match self.shared.storage.open(&name) {
            Ok(file) => {
                let scan = Scan::new(file, SEGMENT_HEADER_BYTES as u64, end);
                self.open = Some(OpenSegment { number, scan, last });
                Ok(None)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let now = self.shared.state.lock().locate(self.ordinal, self.seq);
                let still_listed = matches!(now, Located::Segment { number: n, .. } if n == number);
                Ok(still_listed.then(|| self.gap(last, GapReason::Corrupt)))
            }
            Err(e) => Err(Error::io("open", &name, e)),
        }
    }

    /// The next item of the open segment. `None` and `seq <= last`: go on, something was skipped.
    fn read_open(&mut self) -> Option<Item> {
        let open = self.open.as_mut().filter(|open| self.seq <= open.last)?;
        let (epoch, seq, last) = (self.epoch, self.seq, open.last);
        let frame = open.scan.next(|h| h.epoch == epoch && (seq..=last).contains(&h.seq));
        let found = frame.map_or(last + 1, |f| f.header.seq);
        if let Some(frame) = frame {
            if found == seq {
                self.seq += 1;
                let payload = open.scan.payload(&frame).to_vec();
                return Some(Item::Record { position: Position { epoch, seq }, payload });
            }
            open.scan.resume_at(frame.offset);
        }
        let committed = self.shared.state.lock().find(epoch).map_or(u64::MAX, |e| e.committed);
        if committed >= seq {
            self.seq = found.min(committed.saturating_add(1));
            return None;
        }
        Some(self.gap(found - 1, GapReason::Corrupt))
    }

    fn gap(&mut self, to: u64, reason: GapReason) -> Item {
        let from = std::mem::replace(&mut self.seq, to + 1);
        Item::Gap { epoch: self.epoch, from, to, reason }
    }
}
