//! Desired sets: who may decide, what a host refuses, and what of a set concerns it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sentinel_trust::fleet::{
    Collect, DesiredSet, FleetId, Group, NotifyOnUnknown, Operators, SET_FORMAT, Unopened, Wish,
    open, seal, within_ceiling,
};
use sentinel_trust::repository::{KeyPurpose, RoleKey};
use sentinel_trust::{Digest, Grants, Kind};

fn key(byte: u8) -> RoleKey {
    RoleKey::from_secret(KeyPurpose::Operator, &[byte; 32])
}

fn operators(byte: u8) -> Operators {
    Operators { fleet: FleetId([1; 16]), keys: vec![key(byte).public()] }
}

fn wish(slot: &str, kind: Kind) -> Wish {
    Wish {
        slot: slot.to_owned(),
        kind,
        plugin: "acme/thing".parse().unwrap(),
        range: "^1".parse().unwrap(),
        version: "1.2.3".parse().unwrap(),
        digest: Digest::of(slot.as_bytes()),
        config: serde_json::json!({"a": 1.5}),
        grants: Grants { system: true, ..Grants::default() },
        collect: None,
        on_unknown: None,
        disabled: false,
    }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn set(number: u64) -> DesiredSet {
    let group = |on: &[(&str, &str)], slots| Group { on: pairs(on), slots };
    DesiredSet {
        format: SET_FORMAT,
        fleet: FleetId([1; 16]),
        number,
        made_at: 0,
        by: "alice".into(),
        note: String::new(),
        groups: vec![
            group(&[], vec![wish("system", Kind::Collector), wish("pager", Kind::Notifier)]),
            group(&[("role", "web")], vec![wish("nginx", Kind::Collector)]),
        ],
    }
}

#[test]
fn a_set_signed_by_a_pinned_operator_opens_as_it_was() {
    let sealed = seal(&set(7), &key(1)).unwrap();
    let opened = open(sealed.as_bytes(), &operators(1), 6).unwrap();
    assert_eq!(opened.set(), &set(7));
    assert_eq!(opened.signer(), &key(1).public());
}

#[test]
fn a_desired_set_forged_by_the_server_is_refused() {
    let sealed = seal(&set(7), &key(2)).unwrap();
    let error = open(sealed.as_bytes(), &operators(1), 0).unwrap_err();
    assert!(matches!(error, Unopened::Forged { .. }), "{error}");
    assert!(error.to_string().contains(&key(1).id().to_string()), "{error}");
    // Under the pinned key's id, and with the signature taken from another set.
    let stolen = seal(&set(6), &key(1)).unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&sealed).unwrap();
    forged["signatures"] =
        serde_json::from_str::<serde_json::Value>(&stolen).unwrap()["signatures"].clone();
    let error = open(forged.to_string().as_bytes(), &operators(1), 0).unwrap_err();
    assert!(matches!(error, Unopened::Forged { .. }), "{error}");
}

#[test]
fn a_key_of_another_purpose_signs_no_set() {
    let registry = RoleKey::from_secret(KeyPurpose::Targets, &[1; 32]);
    assert!(seal(&set(7), &registry).unwrap_err().to_string().contains("not an operator's"));
}

#[test]
fn a_desired_set_replayed_or_downgraded_by_the_server_is_refused() {
    for (number, have) in [(7, 7), (3, 7), (1, u64::MAX)] {
        let sealed = seal(&set(number), &key(1)).unwrap();
        let error = open(sealed.as_bytes(), &operators(1), have).unwrap_err();
        assert_eq!(error, Unopened::NotNewer { found: number, have });
    }
}

#[test]
fn a_set_of_another_fleet_of_the_same_operator_is_refused() {
    let other = DesiredSet { fleet: FleetId([2; 16]), ..set(7) };
    let sealed = seal(&other, &key(1)).unwrap();
    let error = open(sealed.as_bytes(), &operators(1), 0).unwrap_err();
    assert!(matches!(error, Unopened::OtherFleet { .. }), "{error}");
}

#[test]
fn a_host_runs_what_its_labels_and_its_kinds_say() {
    let set = set(1);
    let slots = |labels: &[(&str, &str)], kinds: &[Kind]| -> Vec<String> {
        let found = set.for_host(&pairs(labels), kinds).unwrap();
        found.iter().map(|wish| wish.slot.clone()).collect()
    };
    assert_eq!(slots(&[], &[Kind::Collector]), ["system"]);
    assert_eq!(slots(&[("role", "web")], &[Kind::Collector]), ["system", "nginx"]);
    assert_eq!(slots(&[("role", "db")], &[Kind::Collector]), ["system"]);
    assert_eq!(slots(&[("role", "web")], &[Kind::Notifier, Kind::Transform]), ["pager"]);
}

#[test]
fn a_slot_wanted_twice_on_one_host_is_a_conflict_that_names_both_groups() {
    let mut set = set(1);
    set.groups[1].slots.push(wish("system", Kind::Collector));
    assert!(set.problems().is_empty(), "only a host can tell");
    let conflict = set.for_host(&pairs(&[("role", "web")]), &[Kind::Collector]).unwrap_err();
    insta::assert_snapshot!(conflict.to_string(), @"slot `system` is wanted twice on this host, by the groups `*` and `role=web`; give the slots different names or make the groups' labels exclude each other");
    assert!(set.for_host(&pairs(&[("role", "db")]), &[Kind::Collector]).is_ok());
}

#[test]
fn a_set_that_cannot_be_meant_is_not_signed_and_says_everything_at_once() {
    let mut set = set(0);
    set.by = String::new();
    insta::assert_snapshot!(seal(&set, &key(1)).unwrap_err().to_string(), @r"
    the set was not signed:
      number: sets count from 1
      by: `` is not 1 to 128 printable bytes
    ");
    let mut set = self::set(1);
    set.groups[1].on = BTreeMap::new();
    let wish = &mut set.groups[0].slots[1];
    (wish.slot, wish.version) = ("../etc".into(), "2.0.0".parse().unwrap());
    wish.collect = Some(Collect::default());
    let first = &mut set.groups[0].slots[0];
    first.on_unknown = Some(NotifyOnUnknown::Hold);
    first.config = serde_json::json!([1]);
    first.collect = Some(Collect { interval_ms: Some(1), labels: BTreeMap::new() });
    insta::assert_snapshot!(seal(&set, &key(1)).unwrap_err().to_string(), @r"
    the set was not signed:
      groups[0].slots[0].config: not an object
      groups[0].slots[0].collect.interval_ms: not between 100 ms and a day
      groups[0].slots[0].on_unknown: only notifiers have it
      groups[0].slots[1].slot: `../etc` is not a slot's name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`
      groups[0].slots[1].version: 2.0.0 is not within ^1
      groups[0].slots[1].collect: only collectors have it
      groups[1].on: the group * is there twice
    ");
}

#[test]
fn a_hosts_ceiling_stands_above_what_a_set_grants() {
    let read = |text: &str| serde_json::from_str::<Grants>(text).unwrap();
    let ceiling = read(
        r#"{"system": true, "http": {"origins": ["https://a.example:443"]},
            "files": {"paths": ["/var/log/**", "/etc/hosts"]}, "kv": {"max_bytes": 100}}"#,
    );
    for (grants, beyond) in [
        (r#"{"system": true}"#, vec![]),
        (r#"{"series": true}"#, vec!["series: asking for stored series"]),
        (r#"{"http": {"origins": ["https://a.example:443"]}}"#, vec![]),
        (
            r#"{"http": {"origins": ["https://b.example:443"], "methods": ["POST"]}}"#,
            vec!["http: requests to https://b.example:443", "http: the method POST"],
        ),
        (r#"{"files": {"paths": ["/var/log/a/b.log", "/var/log/**", "/etc/hosts"]}}"#, vec![]),
        (r#"{"files": {"paths": ["/var/**"]}}"#, vec!["files: /var/**"]),
        (r#"{"files": {"paths": ["/var/log/*/x"]}}"#, vec!["files: /var/log/*/x"]),
        (r#"{"kv": {"max_bytes": 101}}"#, vec!["kv.max_bytes: 101 where at most 100 are allowed"]),
        (r#"{"mac": {"keys": ["k"]}}"#, vec!["mac: the key k"]),
    ] {
        let grants = read(grants);
        let expected = if beyond.is_empty() { Ok(grants.clone()) } else { Err(strings(&beyond)) };
        assert_eq!(within_ceiling(&grants, &ceiling), expected);
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_limit_that_is_left_out_is_the_ceilings_and_one_that_is_given_is_compared_with_it() {
    let limits = |memory: Option<u64>, call: Option<u64>, returned: Option<u64>| {
        let mut grants = Grants::default();
        grants.limits.memory_bytes = memory;
        grants.limits.call_ms = call;
        grants.limits.returned_bytes = returned;
        grants
    };
    let none = limits(None, None, None);
    let ceiling = limits(Some(100), Some(10), Some(1));
    assert_eq!(within_ceiling(&none, &ceiling), Ok(ceiling.clone()));
    assert_eq!(within_ceiling(&ceiling, &none), Ok(ceiling.clone()), "nothing above it");
    let less = limits(Some(99), None, Some(1));
    assert_eq!(within_ceiling(&less, &ceiling), Ok(limits(Some(99), Some(10), Some(1))));
    let more = limits(Some(101), Some(11), Some(2));
    let beyond = within_ceiling(&more, &ceiling).unwrap_err();
    assert_eq!(beyond.len(), 3);
    assert_eq!(beyond[0], "limits.memory_bytes: 101 where at most 100 are allowed");
}

proptest! {
    #[test]
    fn one_changed_byte_anywhere_is_never_another_set(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let sealed = seal(&set(7), &key(1)).unwrap().into_bytes();
        let mut changed = sealed.clone();
        let at = at.index(changed.len());
        changed[at] = with;
        if let Ok(opened) = open(&changed, &operators(1), 0) {
            prop_assert_eq!(opened.set(), &set(7));
        }
    }

    #[test]
    fn whatever_arrives_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(&bytes, &operators(1), 0).is_err());
    }
}
