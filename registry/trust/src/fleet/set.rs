//! The desired set and what of it concerns one host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use crate::capability::Kind;
use crate::digest::Digest;
use crate::grants::Grants;
use crate::name::PluginName;
use crate::text::{excerpt, is_unprintable, travels_as_string};

/// The format of desired sets.
pub const SET_FORMAT: u32 = 1;
/// Most bytes of a set (1 MiB).
pub const MAX_SET_BYTES: usize = 1 << 20;
/// Most groups of hosts in a set.
pub const MAX_GROUPS: usize = 256;
/// Most slots that a set names, over all groups.
pub const MAX_WISHES: usize = 2048;
/// Most labels of a selector, and most that a collector's slot adds.
pub const MAX_LABELS: usize = 16;
/// Longest slot, label key, label value and operator's name, in bytes.
const MAX_TEXT: usize = 128;
/// Longest note on a change, in bytes.
const MAX_NOTE: usize = 1000;
/// Shortest and longest interval of a collector, in milliseconds.
const INTERVALS: std::ops::RangeInclusive<u64> = 100..=86_400_000;

/// 16 random bytes: which fleet a set is for, so that an operator who runs two cannot have
/// the one's sets passed to the other. As text 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetId(pub [u8; 16]);

impl FromStr for FleetId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| format!("`{}` is not a fleet id: 32 hex digits", excerpt(text)))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for FleetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for FleetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

travels_as_string!(FleetId, "FleetId", "^[0-9a-f]{32}$", "16 random bytes in hexadecimal");

/// Everything that hosts are to run, as one operator decided it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DesiredSet {
    /// [`SET_FORMAT`].
    pub format: u32,
    /// Which fleet.
    pub fleet: FleetId,
    /// From 1, one more with every change.
    pub number: u64,
    /// When it was decided, unix milliseconds. For people; nothing is judged by it.
    pub made_at: i64,
    /// Who decided it.
    pub by: String,
    /// Why, in the operator's words; may be empty.
    #[serde(default)]
    pub note: String,
    /// Groups of hosts and what runs there.
    pub groups: Vec<Group>,
}

/// Slots of all hosts that have certain labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Labels that a host must have, all of them; every host where it is empty.
    #[serde(default)]
    pub on: BTreeMap<String, String>,
    /// What runs there.
    pub slots: Vec<Wish>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The slot's name, unique on every host.
    pub slot: String,
    /// Decides who runs it: agents run collectors, workers the rest.
    pub kind: Kind,
    /// The plugin.
    pub plugin: PluginName,
    /// The versions that the operator asked for: what an upgrade stays within.
    #[schemars(with = "String")]
    pub range: VersionReq,
    /// What the range resolved to.
    pub version: Version,
    /// The component: what is fetched and run, whatever the version says.
    pub digest: Digest,
    /// The plugin's own configuration.
    #[serde(default = "no_config")]
    pub config: serde_json::Value,
    /// What it may do.
    #[serde(default)]
    pub grants: Grants,
    /// Of collectors alone: how it is called and what its samples bear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect: Option<Collect>,
    /// Of notifiers alone: what is done when nobody knows whether a notification arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unknown: Option<NotifyOnUnknown>,
    /// The slot stays empty: the plugin is switched off without forgetting how it was set up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

fn no_config() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

/// How a collector is called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Collect {
    /// Milliseconds between two calls; the host's own interval where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// Labels added to every sample.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What is done when nobody knows whether a notification arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotifyOnUnknown {
    /// Send again under the same id.
    Retry,
    /// Put it to the dead letters.
    Hold,
}

/// Two groups that give one host two different contents of one slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "slot `{slot}` is wanted twice on this host, by the groups `{first}` and `{second}`; give the slots different names or make the groups' labels exclude each other"
)]
pub struct HostConflict {
    /// The slot.
    pub slot: String,
    /// The group that came first, as labels.
    pub first: String,
    /// The other.
    pub second: String,
}

impl Group {
    /// Whether a host with these labels belongs to it.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.on.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// The selector as people write it: `role=web,zone=a`, or `*` for every host.
    #[must_use]
    pub fn selector(&self) -> String {
        if self.on.is_empty() {
            return "*".to_owned();
        }
        let pairs: Vec<String> = self.on.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join(",")
    }
}

impl DesiredSet {
    /// What a host with these labels is to run of the kinds that it runs, in the set's order.
    ///
    /// # Errors
    /// [`HostConflict`]: then nothing of the set may be applied there.
    pub fn for_host(
        &self,
        labels: &BTreeMap<String, String>,
        kinds: &[Kind],
    ) -> Result<Vec<&Wish>, HostConflict> {
        let mut seen: BTreeMap<&str, &Group> = BTreeMap::new();
        let mut out = Vec::new();
        for group in self.groups.iter().filter(|group| group.matches(labels)) {
            for wish in group.slots.iter().filter(|wish| kinds.contains(&wish.kind)) {
                if let Some(first) = seen.insert(&wish.slot, group) {
                    return Err(HostConflict {
                        slot: wish.slot.clone(),
                        first: first.selector(),
                        second: group.selector(),
                    });
                }
                out.push(wish);
            }
        }
        Ok(out)
    }

    /// Everything in it that cannot be meant or passes a bound, each with its path. A set with
    /// problems is neither signed nor applied.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.number == 0 {
            problems.push("number: sets count from 1".to_owned());
        }
        text("by", &self.by, MAX_TEXT, &mut problems);
        if self.note.len() > MAX_NOTE || self.note.chars().any(is_unprintable) {
            problems.push(format!("note: more than {MAX_NOTE} bytes, or control characters"));
        }
        bounded("groups", self.groups.len(), MAX_GROUPS, &mut problems);
        let wishes = self.groups.iter().map(|group| group.slots.len()).sum();
        bounded("groups.*.slots", wishes, MAX_WISHES, &mut problems);
        if !problems.is_empty() {
            return problems;
        }
        let mut selectors = BTreeSet::new();
        for (at, group) in self.groups.iter().enumerate() {
            let path = format!("groups[{at}]");
            if !selectors.insert(&group.on) {
                problems.push(format!("{path}.on: the group {} is there twice", group.selector()));
            }
            labels(&format!("{path}.on"), &group.on, &mut problems);
            let mut slots = BTreeSet::new();
            for (at, wish) in group.slots.iter().enumerate() {
                let path = format!("{path}.slots[{at}]");
                if !slots.insert((is_agents(wish.kind), &wish.slot)) {
                    problems.push(format!("{path}.slot: `{}` is there twice", wish.slot));
                }
                wish.problems(&path, &mut problems);
            }
        }
        problems
    }
}

const fn is_agents(kind: Kind) -> bool {
    matches!(kind, Kind::Collector)
}

impl Wish {
    fn problems(&self, path: &str, problems: &mut Vec<String>) {
        if !is_slot_name(&self.slot) {
            problems.push(format!(
                "{path}.slot: `{}` is not a slot's name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`",
                excerpt(&self.slot)
            ));
        }
        if !self.range.matches(&self.version) {
            problems.push(format!("{path}.version: {} is not within {}", self.version, self.range));
        }
        for problem in self.grants.problems() {
            problems.push(format!("{path}.grants.{problem}"));
        }
        if !self.config.is_object() {
            problems.push(format!("{path}.config: not an object"));
        }
        if let Some(collect) = &self.collect {
            if !is_agents(self.kind) {
                problems.push(format!("{path}.collect: only collectors have it"));
            }
            if collect.interval_ms.is_some_and(|interval| !INTERVALS.contains(&interval)) {
                problems.push(format!("{path}.collect.interval_ms: not between 100 ms and a day"));
            }
            labels(&format!("{path}.collect.labels"), &collect.labels, problems);
        }
        if self.on_unknown.is_some() && self.kind != Kind::Notifier {
            problems.push(format!("{path}.on_unknown: only notifiers have it"));
        }
    }
}

/// The rule of slot names: 1 to 64 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit.
fn is_slot_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        })
}

fn text(path: &str, value: &str, max: usize, problems: &mut Vec<String>) {
    if value.is_empty() || value.len() > max || value.chars().any(is_unprintable) {
        problems.push(format!("{path}: `{}` is not 1 to {max} printable bytes", excerpt(value)));
    }
}

fn labels(path: &str, labels: &BTreeMap<String, String>, problems: &mut Vec<String>) {
    bounded(path, labels.len(), MAX_LABELS, problems);
    for (key, value) in labels.iter().take(MAX_LABELS) {
        text(&format!("{path} (a key)"), key, MAX_TEXT, problems);
        text(&format!("{path}.{}", excerpt(key)), value, MAX_TEXT, problems);
    }
}

fn bounded(path: &str, found: usize, max: usize, problems: &mut Vec<String>) {
    if found > max {
        problems.push(format!("{path}: {found} entries; at most {max} are allowed"));
    }
}
