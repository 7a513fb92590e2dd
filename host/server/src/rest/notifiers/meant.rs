//! What sets and workers say of notifiers, and what a set may change of one: pure.

use crate::api::{DecidedBy, NotifierBody, NotifierWorkerBody, ProblemBody};
use sentinel_trust::Kind;
use sentinel_trust::fleet::{DesiredSet, Group, Wish};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What problems are found in.
const SET: &str = "desired set";

/// What a worker says of itself, as far as it matters here; other versions may say less or more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    labels: BTreeMap<String, String>,
    pub(super) slots: Vec<SaidSlot>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SaidSlot {
    name: String,
    pub(super) kind: String,
    plugin: String,
    version: String,
    state: String,
    reason: Option<String>,
}

/// A worker: its name, when it said something, and what.
pub(super) type Worker = (String, i64, Said);

/// The notifiers of a set with their groups.
pub(super) fn wishes(set: Option<&DesiredSet>) -> impl Iterator<Item = (&Group, &Wish)> {
    let groups = set.into_iter().flat_map(|set| &set.groups);
    let all = groups.flat_map(|group| group.slots.iter().map(move |wish| (group, wish)));
    all.filter(|(_, wish)| wish.kind == Kind::Notifier)
}

/// All notifiers: what the set says, and what workers say beside it.
pub(super) fn notifiers(set: Option<&DesiredSet>, workers: &[Worker]) -> Vec<NotifierBody> {
    let of_fleet = |(group, wish): (&Group, &Wish)| NotifierBody {
        slot: wish.slot.clone(),
        decided_by: DecidedBy::Fleet,
        on: Some(group.selector()),
        wish: serde_json::to_value(wish).ok(),
        workers: Vec::new(),
    };
    let mut out: Vec<NotifierBody> = wishes(set).map(of_fleet).collect();
    for (worker, at, said) in workers {
        for slot in &said.slots {
            let meant = |(group, wish): (&Group, &Wish)| {
                wish.slot == slot.name && group.matches(&said.labels)
            };
            let place = wishes(set).position(meant).or_else(|| {
                let own =
                    |it: &NotifierBody| it.decided_by == DecidedBy::Host && it.slot == slot.name;
                out.iter().position(own)
            });
            let place = place.unwrap_or_else(|| {
                let slot = slot.name.clone();
                let (decided_by, workers) = (DecidedBy::Host, Vec::new());
                out.push(NotifierBody { slot, decided_by, on: None, wish: None, workers });
                out.len() - 1
            });
            out[place].workers.push(NotifierWorkerBody {
                worker: worker.clone(),
                at: *at,
                plugin: slot.plugin.clone(),
                version: slot.version.clone(),
                state: slot.state.clone(),
                reason: slot.reason.clone(),
            });
        }
    }
    out
}

/// What a change is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    The,
    No,
}

/// A problem of a set's own, `path: what`.
pub(super) fn in_set(problem: String) -> ProblemBody {
    let (path, message) = problem.split_once(": ").unwrap_or(("", &problem));
    said(path, message)
}

fn said(path: &str, message: impl Into<String>) -> ProblemBody {
    let (file, path, message) = (SET.to_owned(), path.to_owned(), message.into());
    ProblemBody { file, line: 0, column: 0, path, message }
}

/// What a set holds beside a notifier: each slot by its group, kind and name.
fn others<'a>(
    set: &'a DesiredSet,
    slot: &str,
) -> BTreeMap<(String, &'static str, &'a str), &'a Wish> {
    let mut out = BTreeMap::new();
    for group in &set.groups {
        for wish in &group.slots {
            if wish.kind != Kind::Notifier || wish.slot != slot {
                out.insert((group.selector(), wish.kind.as_str(), wish.slot.as_str()), wish);
            }
        }
    }
    out
}

/// Everything for which a set is no change of this notifier alone.
pub(super) fn problems(
    before: Option<&DesiredSet>,
    after: &DesiredSet,
    slot: &str,
    leaves: Leaves,
) -> Vec<ProblemBody> {
    let mut out = Vec::new();
    let has = wishes(Some(after)).any(|(_, wish)| wish.slot == slot);
    match (leaves, has) {
        (Leaves::The, false) => {
            out.push(said(
                "groups",
                format!("the set has no notifier {slot:?}; DELETE takes one out"),
            ));
        }
        (Leaves::No, true) => {
            out.push(said(
                "groups",
                format!("the set still has a notifier {slot:?}; PUT changes one"),
            ));
        }
        _ => {}
    }
    let was = before.map(|set| others(set, slot)).unwrap_or_default();
    let is = others(after, slot);
    let keys: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    for key in keys {
        if was.get(key) != is.get(key) {
            let (on, kind, name) = key;
            let text =
                format!("{kind} {name} on {on} changes too; `PUT /v1/fleet` takes such a set");
            out.push(said("groups", text));
        }
    }
    out
}

/// Workers whose owners have the slot in their configuration: there would be two masters of it.
pub(super) fn taken(
    workers: &[Worker],
    before: Option<&DesiredSet>,
    after: &DesiredSet,
    slot: &str,
) -> Vec<ProblemBody> {
    let wanted = |set: Option<&DesiredSet>, said: &Said| {
        wishes(set).any(|(group, wish)| wish.slot == slot && group.matches(&said.labels))
    };
    let own = |(_, _, said): &&Worker| {
        said.slots.iter().any(|it| it.name == slot)
            && !wanted(before, said)
            && wanted(Some(after), said)
    };
    let text = |(name, _, _): &Worker| {
        format!(
            "the worker {name} has a notifier {slot:?} of its own (`worker.notifiers` of its configuration): choose another name, or take it out there first"
        )
    };
    workers.iter().filter(own).map(|worker| said("groups", text(worker))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_trust::fleet::{FleetId, SET_FORMAT};
    use sentinel_trust::{Digest, Grants};

    fn wish(slot: &str, kind: Kind) -> Wish {
        Wish {
            slot: slot.to_owned(),
            kind,
            plugin: "acme/x".parse().unwrap(),
            range: "*".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            digest: Digest::of(b"x"),
            config: serde_json::json!({}),
            grants: Grants::default(),
            collect: None,
            on_unknown: None,
            disabled: false,
        }
    }

    /// A set of slots of workers of a zone, and of all.
    fn set(zone: Vec<Wish>, all: Vec<Wish>) -> DesiredSet {
        let on = [("zone".to_owned(), "a".to_owned())].into_iter().collect();
        DesiredSet {
            format: SET_FORMAT,
            fleet: FleetId([1; 16]),
            number: 1,
            made_at: 0,
            by: "ann".into(),
            note: String::new(),
            groups: vec![Group { on, slots: zone }, Group { on: BTreeMap::new(), slots: all }],
        }
    }

    fn worker(name: &str, zone: &str, slots: &[&str]) -> Worker {
        let slot = |name: &&str| SaidSlot { name: (*name).to_owned(), ..SaidSlot::default() };
        let labels = [("zone".to_owned(), zone.to_owned())].into_iter().collect();
        (name.to_owned(), 0, Said { labels, slots: slots.iter().map(slot).collect() })
    }

    #[test]
    fn a_change_of_anything_but_the_notifier_is_said_and_all_of_it_at_once() {
        let kept = || vec![wish("rows", Kind::Transform), wish("mail", Kind::Notifier)];
        let before = set(Vec::new(), kept());
        let said = |after: &DesiredSet, leaves| {
            let found = problems(Some(&before), after, "pager", leaves);
            found.into_iter().map(|one| one.message).collect::<Vec<_>>()
        };
        let pager = || wish("pager", Kind::Notifier);
        let both = set(vec![pager()], [kept(), vec![pager()]].concat());
        assert_eq!(said(&both, Leaves::The), Vec::<String>::new(), "in two groups");
        assert_eq!(said(&before, Leaves::No), Vec::<String>::new());
        let mut other = wish("mail", Kind::Notifier);
        other.disabled = true;
        let off = set(vec![wish("pager", Kind::Transform)], vec![other]);
        assert_eq!(
            said(&off, Leaves::The),
            [
                "the set has no notifier \"pager\"; DELETE takes one out",
                "notifier mail on * changes too; `PUT /v1/fleet` takes such a set",
                "transform rows on * changes too; `PUT /v1/fleet` takes such a set",
                "transform pager on zone=a changes too; `PUT /v1/fleet` takes such a set",
            ]
        );
        assert_eq!(said(&both, Leaves::No).len(), 1);
    }

    #[test]
    fn a_slot_of_a_workers_own_is_its_owners_and_no_others() {
        let after = set(vec![wish("pager", Kind::Notifier)], Vec::new());
        let workers =
            [worker("one", "a", &["pager"]), worker("two", "b", &["pager"]), worker("x", "a", &[])];
        let found = taken(&workers, None, &after, "pager");
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("the worker one has"), "{found:?}");
        assert!(taken(&workers, Some(&after), &after, "pager").is_empty(), "it is the fleet's");
    }

    #[test]
    fn those_of_the_fleet_and_those_of_workers_are_told_apart() {
        let set = set(vec![wish("pager", Kind::Notifier)], vec![wish("mail", Kind::Notifier)]);
        let workers =
            [worker("one", "a", &["pager", "mail"]), worker("two", "b", &["pager", "own"])];
        let found = notifiers(Some(&set), &workers);
        let shown: Vec<_> = found
            .iter()
            .map(|one| {
                let workers = one.workers.iter().map(|it| it.worker.as_str()).collect::<Vec<_>>();
                (one.slot.as_str(), one.decided_by, one.on.as_deref(), workers)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("pager", DecidedBy::Fleet, Some("zone=a"), vec!["one"]),
                ("mail", DecidedBy::Fleet, Some("*"), vec!["one"]),
                ("pager", DecidedBy::Host, None, vec!["two"]),
                ("own", DecidedBy::Host, None, vec!["two"]),
            ]
        );
    }
}
