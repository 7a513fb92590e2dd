//! A set that tests begin from.

use sentinel_server::api::FleetHostBody;
use sentinel_trust::fleet::{DesiredSet, FleetId, Group, SET_FORMAT, Wish};
use sentinel_trust::{Digest, Grants, Kind};
use serde_json::json;

use super::edit::Selector;

/// A slot with a plugin of its own bytes.
pub(crate) fn wish(slot: &str, plugin: &str, version: &str, kind: Kind) -> Wish {
    Wish {
        slot: slot.to_owned(),
        kind,
        plugin: plugin.parse().unwrap(),
        range: "*".parse().unwrap(),
        version: version.parse().unwrap(),
        digest: Digest::of(format!("{plugin}@{version}").as_bytes()),
        config: json!({}),
        grants: Grants::default(),
        collect: None,
        on_unknown: None,
        disabled: false,
    }
}

/// Set 7: something everywhere, something on some hosts, something on some of those.
pub(crate) fn set() -> DesiredSet {
    let group = |on: &str, slots| Group { on: on.parse::<Selector>().unwrap().0, slots };
    DesiredSet {
        format: SET_FORMAT,
        fleet: FleetId([7; 16]),
        number: 7,
        made_at: 0,
        by: "bob".into(),
        note: String::new(),
        groups: vec![
            group(
                "*",
                vec![
                    wish("system", "sentinel/system", "0.1.0", Kind::Collector),
                    wish("pager", "acme/teams", "2.0.0", Kind::Notifier),
                ],
            ),
            group("role=web", vec![wish("nginx", "sentinel/nginx", "1.0.0", Kind::Collector)]),
            group(
                "role=web,zone=b",
                vec![wish("nginx", "sentinel/nginx", "1.1.0", Kind::Collector)],
            ),
        ],
    }
}

/// A host that a server knows, which has said nothing yet.
pub(crate) fn host(name: &str, role: &str, labels: &str) -> FleetHostBody {
    FleetHostBody {
        host: name.to_owned(),
        role: role.to_owned(),
        labels: labels.parse::<Selector>().unwrap().0,
        number: Some(0),
        refused: None,
        applying: None,
        trial: false,
        state: "behind".to_owned(),
        problem: None,
        wanted: Vec::new(),
        slots: serde_json::Value::Null,
    }
}
