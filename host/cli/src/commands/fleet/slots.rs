//! What a host says of its slots, beside what is wanted of it.

use sentinel_server::api::FleetHostBody;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Said of a slot that runs, and that nothing called yet, or not with success.
const UNPROVEN: &str = "no call of it has succeeded yet";

/// What a host says of a slot, as far as it is shown; other versions may say less or more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) plugin: String,
    pub(super) version: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    /// Whether a call of what runs has succeeded.
    good: Option<bool>,
}

impl Slot {
    fn is_unproven(&self) -> bool {
        self.state == "running" && self.good == Some(false)
    }
}

/// What a host says of its slots, beside what is wanted of it.
pub(super) fn slots(host: &FleetHostBody) -> Vec<Slot> {
    let mut slots = Vec::<Slot>::deserialize(&host.slots).unwrap_or_default();
    for wanted in &host.wanted {
        // `slot: publisher/name@1.2.3`, and ` (disabled)` after it.
        let Some((name, plugin)) = wanted.split_once(": ") else { continue };
        let (plugin, off) = match plugin.strip_suffix(" (disabled)") {
            Some(plugin) => (plugin, true),
            None => (plugin, false),
        };
        match slots.iter_mut().find(|slot| slot.name == name) {
            Some(slot) => {
                let differs = format!("{}@{}", slot.plugin, slot.version) != plugin;
                if differs && !off && !slot.plugin.is_empty() {
                    let more = slot.reason.take().map(|why| format!("; {why}")).unwrap_or_default();
                    slot.reason = Some(format!("wanted: {plugin}{more}"));
                }
            }
            None => {
                let (plugin, version) = plugin.split_once('@').unwrap_or((plugin, ""));
                slots.push(Slot {
                    name: name.to_owned(),
                    plugin: plugin.to_owned(),
                    version: version.to_owned(),
                    state: if off { "disabled" } else { "missing" }.to_owned(),
                    ..Slot::default()
                });
            }
        }
    }
    for slot in slots.iter_mut().filter(|slot| slot.is_unproven()) {
        let before = slot.reason.take().map(|why| format!("{why}; ")).unwrap_or_default();
        slot.reason = Some(format!("{before}{UNPROVEN}"));
    }
    slots
}

/// Slots that run what the set wants, and have not shown that it works.
pub(super) fn unproven(host: &FleetHostBody) -> Vec<String> {
    let wanted: BTreeSet<&str> =
        host.wanted.iter().filter_map(|wanted| Some(wanted.split_once(": ")?.0)).collect();
    let slots = slots(host).into_iter();
    let unproven = slots.filter(|slot| slot.is_unproven() && wanted.contains(slot.name.as_str()));
    unproven.map(|slot| slot.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fleet::example::host;
    use serde_json::json;

    #[test]
    fn a_slot_that_no_call_has_shown_to_work_is_told() {
        let slot = |name: &str, state: &str, good: Option<bool>| {
            let mut slot =
                json!({"name": name, "plugin": "acme/x", "version": "1.0.0", "state": state});
            if let Some(good) = good {
                slot["good"] = json!(good);
            }
            slot
        };
        let mut one = host("w", "worker", "*");
        one.slots = json!([
            slot("works", "running", Some(true)),
            slot("idle", "running", Some(false)),
            slot("failing", "backing_off", Some(false)),
            slot("older", "running", None),
            slot("own", "running", Some(false)),
        ]);
        one.wanted = ["works", "idle", "failing", "older"]
            .iter()
            .map(|name| format!("{name}: acme/x@1.0.0"))
            .collect();
        assert_eq!(unproven(&one), ["idle"]);
        let said: Vec<_> = slots(&one).into_iter().map(|slot| slot.reason).collect();
        let why = Some(UNPROVEN.to_owned());
        assert_eq!(said, [None, why.clone(), None, None, why]);
    }
}
