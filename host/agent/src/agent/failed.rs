//! What is said of slots that could not be loaded.

use crate::config::CollectorConfig;
use sentinel_model::ids::SlotName;
use std::collections::BTreeMap;

/// The most characters of a reason.
const MAX_REASON: usize = 2000;

/// A row for each slot in which nothing runs, as much of a slot's status as there is, JSON; and a
/// warning for each in which goes on what ran before.
pub(super) fn said(
    failed: &BTreeMap<SlotName, String>,
    runs: impl Fn(&SlotName) -> bool,
    collectors: &[CollectorConfig],
) -> (Vec<String>, Vec<String>) {
    let (mut rows, mut warnings) = (Vec::new(), Vec::new());
    for (slot, error) in failed {
        if runs(slot) {
            warnings.push(format!("slot {slot}: {error}"));
            continue;
        }
        let plugin = collectors.iter().find(|one| one.slot == *slot).map(|one| &one.plugin);
        let row = serde_json::json!({
            "name": slot, "plugin": plugin, "kind": "collector", "state": "failed",
            "reason": error.chars().take(MAX_REASON).collect::<String>(),
        });
        rows.push(row.to_string());
    }
    (rows, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_in_which_nothing_runs_is_a_row_with_its_reason_and_one_that_goes_on_a_warning() {
        let collector = |slot: &str| -> CollectorConfig {
            serde_json::from_value(serde_json::json!({"slot": slot, "plugin": "acme/x@^1"}))
                .unwrap()
        };
        let failed = ["new", "old"]
            .map(|n| (SlotName::new(n).unwrap(), format!("{n}: é{}", "x".repeat(3000))));
        let collectors = [collector("old"), collector("new")];
        let (rows, warnings) = said(&failed.into(), |slot| slot.as_str() == "old", &collectors);
        assert_eq!((rows.len(), warnings.len()), (1, 1));
        let row: serde_json::Value = serde_json::from_str(&rows[0]).unwrap();
        assert_eq!((&row["name"], &row["plugin"]), (&"new".into(), &"acme/x@^1".into()));
        assert_eq!(row["state"], "failed");
        assert!(row["reason"].as_str().unwrap().starts_with("new: é"));
        assert_eq!(row["reason"].as_str().unwrap().chars().count(), MAX_REASON);
        assert!(warnings[0].starts_with("slot old: old: "));
    }
}
