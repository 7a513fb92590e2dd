//! Choosing what a round of packing takes.
//!
//! A round takes batches of one unit, in order of commits and without a gap, so that whatever
//! stays in the tail is newer than what is packed.

use super::buckets::{HOUR, bucket};
use super::gather::Picked;
use super::tail::Entry;
use crate::tail::PACKED_AFTER_MS;

/// The most samples of one round.
const MAX_ROUND: usize = 8 << 20;
/// How much later than its hour a batch may come and still be packed with it.
pub(crate) const GRACE: i64 = 5 * 60_000;

/// The start of the hour that is not packed yet.
pub(crate) fn cutoff(now: i64) -> i64 {
    bucket(now.saturating_sub(GRACE)).saturating_mul(HOUR)
}

/// Chooses what a round packs: all batches up to the last that is due, of each the rows of
/// hours that are over, but none that was committed a moment ago; all rows where a batch waits since long, its times being wrong.
pub(crate) fn pick(mut batches: Vec<Entry>, cutoff: i64, now: i64) -> (Vec<Picked>, bool) {
    // Who reads the tail has not seen them yet. A clock that was wrong must not keep them for ever.
    let is_new = |e: &Entry| (now - PACKED_AFTER_MS..=now).contains(&e.committed_at);
    batches.truncate(batches.iter().position(is_new).unwrap_or(batches.len()));
    let due = |e: &Entry| e.committed_at < cutoff || e.last < cutoff;
    let old = |e: &Entry| e.committed_at < cutoff.saturating_sub(HOUR);
    let end = batches.iter().rposition(due).map_or(0, |i| i + 1);
    let old_end = batches.iter().rposition(old).map_or(0, |i| i + 1);
    let (mut picked, mut samples, mut is_cut) = (Vec::new(), 0, false);
    for (i, entry) in batches.into_iter().take(end).enumerate() {
        let before = if i < old_end || entry.last < cutoff { None } else { Some(cutoff) };
        if before.is_some_and(|before| entry.first >= before) {
            continue;
        }
        samples += entry.shape.ids.len();
        if samples > MAX_ROUND && !picked.is_empty() {
            is_cut = true;
            break;
        }
        picked.push(Picked { entry, before });
    }
    (picked, is_cut)
}
