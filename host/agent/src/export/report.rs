//! What a heartbeat says, within what one may say.

use super::Said;
use sentinel_wal::EpochOffsets;
use sentinel_wire::v1::{HeartbeatRequest, Label, LogOffsets, SlotStatus};

/// The most epochs, slots and warnings of a heartbeat, the most characters of a warning, and
/// the most bytes of its slots.
const MAX_EPOCHS: usize = 64;
const MAX_SLOTS: usize = 256;
const MAX_WARNINGS: usize = 256;
const MAX_WARNING: usize = 1000;
const MAX_SLOT_BYTES: usize = 512 << 10;
/// The newest epochs, the first slots and the first warnings, as many as there is room for.
pub(super) fn bounded(offsets: &[EpochOffsets], said: Said) -> HeartbeatRequest {
    let newest = offsets.len().saturating_sub(MAX_EPOCHS);
    let cut = |text: String| text.chars().take(MAX_WARNING).collect();
    HeartbeatRequest {
        offsets: offsets[newest..].iter().map(offsets_of).collect(),
        slots: fitting(said.slots),
        warnings: said.warnings.into_iter().take(MAX_WARNINGS).map(cut).collect(),
        fleet: said.fleet,
        labels: said.labels.into_iter().map(|(key, value)| Label { key, value }).collect(),
        ..HeartbeatRequest::default()
    }
}

fn offsets_of(o: &EpochOffsets) -> LogOffsets {
    LogOffsets {
        epoch: o.epoch.0.to_vec(),
        written: o.written,
        synced: o.synced,
        accepted: o.accepted,
        committed: o.committed,
        bytes: o.bytes,
    }
}

/// As many slots as a heartbeat has room for.
fn fitting(slots: Vec<String>) -> Vec<SlotStatus> {
    let mut room = MAX_SLOT_BYTES;
    let fits = |json: &String| match room.checked_sub(json.len()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    slots.into_iter().take(MAX_SLOTS).take_while(fits).map(|json| SlotStatus { json }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_says_the_newest_and_the_first_and_stays_within_its_bounds() {
        let offsets: Vec<EpochOffsets> = (0..100)
            .map(|n| EpochOffsets {
                epoch: sentinel_wal::Epoch([n; 16]),
                first: 1,
                written: 0,
                synced: 0,
                accepted: 0,
                committed: 0,
                bytes: 0,
            })
            .collect();
        let slots = (0..300).map(|n| format!("{n}{}", "x".repeat(10_000))).collect();
        let warnings = (0..300).map(|n| format!("{n}{}", "é".repeat(2000))).collect();
        let said = bounded(&offsets, Said { slots, warnings, ..Said::default() });
        assert_eq!(said.offsets.len(), MAX_EPOCHS);
        assert_eq!(said.offsets.last().unwrap().epoch, [99; 16]);
        assert!(said.slots.iter().map(|s| s.json.len()).sum::<usize>() <= MAX_SLOT_BYTES);
        assert!(said.slots.len() > 40 && said.slots[0].json.starts_with("0x"));
        assert_eq!(said.warnings.len(), MAX_WARNINGS);
        assert!(said.warnings.iter().all(|w| w.chars().count() == MAX_WARNING));
    }
}
