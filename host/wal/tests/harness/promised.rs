//! What a log promised before it went down, and whether it is kept.

use std::collections::BTreeMap;

use sentinel_wal::simulation::Simulation;
use sentinel_wal::{Epoch, GapReason, Item};

use super::{open, read_all, records, shape};

/// What the log promised before it went down.
#[derive(Default)]
pub struct Promised {
    /// Tag of each record that was acknowledged as synced.
    pub synced: BTreeMap<(Epoch, u64), u64>,
    /// Tag of each record that may be in the log: acknowledged or under way when it went down.
    pub possible: BTreeMap<(Epoch, u64), u64>,
    pub committed: BTreeMap<Epoch, u64>,
    pub next_tag: u64,
}

/// Opens what is left of the disk: all that was acknowledged is there, once, and nothing that was not appended.
pub fn check(disk: &Simulation, promised: &Promised, what: &str) {
    let (log, recovery) = open(disk);
    let items = read_all(&log);
    let found: BTreeMap<(Epoch, u64), u64> =
        records(&items).into_iter().map(|(e, s, t)| ((e, s), t)).collect();
    assert_eq!(found.len(), records(&items).len(), "{what}: a record twice");
    for (at, tag) in &found {
        assert_eq!(promised.possible.get(at), Some(tag), "{what}: {at:?} is not what was appended");
    }
    for (at, tag) in &promised.synced {
        if promised.committed.get(&at.0).is_some_and(|c| at.1 <= *c) {
            continue;
        }
        assert_eq!(
            found.get(at),
            Some(tag),
            "{what}: {at:?} was acknowledged\n{recovery:?}\n{:?}",
            shape(&items)
        );
    }
    for item in &items {
        let Item::Gap { epoch, from, to, reason } = item else { continue };
        assert_eq!(*reason, GapReason::Corrupt, "{what}");
        for seq in *from..=*to {
            let acknowledged = promised.synced.contains_key(&(*epoch, seq));
            let committed = promised.committed.get(epoch).is_some_and(|c| seq <= *c);
            assert!(
                !acknowledged,
                "{what}: {seq} is reported lost (committed: {committed}), but was synced"
            );
        }
    }
    // What one opening found is there for the next one too, whatever happens in between.
    drop(log);
    let again = read_all(&open(&disk.after_power_loss(1)).0);
    assert_eq!(shape(&again), shape(&items), "{what}: opened again");
}
