use super::*;
use crate::commands::fleet::example::{set, wish};

fn on(text: &str) -> Selector {
    text.parse().unwrap()
}

/// The slots of a set, as `selector: slot=plugin@version`.
fn slots(set: &DesiredSet) -> Vec<String> {
    let all = set.groups.iter().flat_map(|group| {
        group.slots.iter().map(|wish| {
            let off = if wish.disabled { " off" } else { "" };
            format!("{}: {}={}@{}{off}", group.selector(), wish.slot, wish.plugin, wish.version)
        })
    });
    all.collect()
}

fn which(slot: Option<&str>, plugin: Option<&str>, on: Option<&str>) -> Which {
    Which {
        slot: slot.map(str::to_owned),
        plugin: plugin.map(|plugin| plugin.parse().unwrap()),
        on: on.map(|on| on.parse().unwrap()),
    }
}

#[test]
fn a_selector_is_labels_or_every_host() {
    for (text, shown) in [
        ("*", Some("*")),
        ("role=web", Some("role=web")),
        ("zone=a,role=web", Some("role=web,zone=a")),
        ("a=b=c", Some("a=b=c")),
        ("", None),
        ("role", None),
        ("role=", None),
        ("=web", None),
        ("role=web,", None),
        ("role=web,role=db", None),
        ("*,role=web", None),
    ] {
        let read = text.parse::<Selector>().ok().map(|one| one.to_string());
        assert_eq!(read.as_deref(), shown, "{text:?}");
    }
}

#[test]
fn a_plugin_is_installed_where_the_slot_is_free() {
    let set = set();
    for (at, one, replace, expected) in [
        (
            Some("role=web"),
            wish("new", "acme/new", "1.0.0", Kind::Collector),
            false,
            "role=web: new=acme/new@1.0.0",
        ),
        (
            Some("role=db"),
            wish("nginx", "acme/new", "1.0.0", Kind::Collector),
            false,
            "role=db: nginx=acme/new@1.0.0",
        ),
        (
            Some("role=web"),
            wish("nginx", "acme/new", "1.0.0", Kind::Collector),
            true,
            "role=web: nginx=acme/new@1.0.0",
        ),
        // Agents and workers have slots of their own.
        (
            Some("role=web"),
            wish("nginx", "acme/new", "1.0.0", Kind::Notifier),
            false,
            "role=web: nginx=acme/new@1.0.0",
        ),
        // What workers run is for all of them.
        (
            None,
            wish("mail", "acme/mail", "1.0.0", Kind::Notifier),
            false,
            "*: mail=acme/mail@1.0.0",
        ),
    ] {
        let at = at.map(on);
        let next = install(&set, at.as_ref(), one, replace).unwrap();
        assert!(slots(&next).contains(&expected.to_owned()), "{:?}", slots(&next));
        assert_eq!(slots(&next).len(), slots(&set).len() + usize::from(!replace));
    }
    let one = wish("nginx", "acme/new", "1.0.0", Kind::Collector);
    let taken = install(&set, Some(&on("role=web")), one.clone(), false).unwrap_err();
    insta::assert_snapshot!(taken, @"slot nginx on role=web has sentinel/nginx@1.0.0 already; change it with --replace, or choose another name with --slot");
    let nowhere = install(&set, None, one, false).unwrap_err();
    insta::assert_snapshot!(nowhere, @"acme/new is a collector, which agents run: say on which with --on role=web, or --on '*' for all");
}

#[test]
fn slots_are_found_by_all_that_is_said() {
    let set = set();
    for (which, count) in [
        (which(None, None, None), 4),
        (which(Some("nginx"), None, None), 2),
        (which(Some("nginx"), None, Some("role=web")), 1),
        (which(None, Some("sentinel/nginx"), None), 2),
        (which(Some("pager"), Some("sentinel/nginx"), None), 0),
        // A group is meant by its own selector, not by one that covers it.
        (which(None, None, Some("*")), 2),
    ] {
        let found = find(&set, &which).map_or(0, |found| found.len());
        assert_eq!(found, count, "{which}");
    }
    let nothing = find(&set, &which(Some("x"), None, Some("role=web"))).unwrap_err();
    insta::assert_snapshot!(nothing, @r"
    the fleet has no slot x on role=web; it has:
      system on *: sentinel/system@0.1.0
      pager on *: acme/teams@2.0.0
      nginx on role=web: sentinel/nginx@1.0.0
      nginx on role=web,zone=b: sentinel/nginx@1.1.0
    ");
    let empty = DesiredSet { groups: Vec::new(), ..set };
    let nothing = find(&empty, &which(None, Some("a/b"), None)).unwrap_err();
    insta::assert_snapshot!(nothing, @"the fleet has no slot with a/b; nothing is installed by it yet");
}

#[test]
fn a_slot_is_switched_off_and_on_without_forgetting_anything() {
    let set = set();
    let off = disable(&set, &which(Some("nginx"), None, Some("role=web")), true).unwrap();
    let expected = [
        "*: system=sentinel/system@0.1.0",
        "*: pager=acme/teams@2.0.0",
        "role=web: nginx=sentinel/nginx@1.0.0 off",
        "role=web,zone=b: nginx=sentinel/nginx@1.1.0",
    ];
    assert_eq!(slots(&off), expected);
    assert_eq!(disable(&off, &which(Some("nginx"), None, None), false).unwrap(), set);
}

#[test]
fn a_group_goes_with_its_last_slot() {
    let set = set();
    let left = uninstall(&set, &which(None, Some("sentinel/nginx"), None)).unwrap();
    assert_eq!(left.groups.len(), 1);
    let left = uninstall(&set, &which(Some("pager"), None, None)).unwrap();
    assert_eq!((left.groups.len(), slots(&left).len()), (3, 3));
    assert!(uninstall(&left, &which(Some("pager"), None, None)).is_err());
}

#[test]
fn going_back_is_a_newer_number() {
    let before = set();
    let edited = uninstall(&before, &which(Some("pager"), None, None)).unwrap();
    let stamp = Stamp { by: "alice".into(), at: 99, note: "back".into() };
    let after = next(&before, edited, &stamp).unwrap();
    assert_eq!((after.number, after.made_at, after.by.as_str()), (before.number + 1, 99, "alice"));
    let back = next(&after, rollback(&after, &before).unwrap(), &stamp).unwrap();
    assert_eq!((back.number, &back.groups), (before.number + 2, &before.groups));
    let same = rollback(&back, &before).unwrap_err();
    assert_eq!(same, EditError::Same { number: back.number });
}

#[test]
fn what_cannot_be_signed_is_told_with_all_of_its_problems() {
    let before = set();
    let mut odd = wish("Not A Slot", "acme/new", "1.0.0", Kind::Collector);
    odd.range = "^2".parse().unwrap();
    let edited = install(&before, Some(&on("role=db")), odd, false).unwrap();
    let stamp = Stamp { by: "alice".into(), at: 0, note: String::new() };
    insta::assert_snapshot!(next(&before, edited, &stamp).unwrap_err(), @r"
    the change cannot be meant:
      groups[3].slots[0].slot: `Not A Slot` is not a slot's name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`
      groups[3].slots[0].version: 1.0.0 is not within ^2
    ");
}

#[test]
fn a_notifier_is_taken_out_and_a_collector_of_its_name_stays() {
    let mut before = set();
    before.groups[1].slots.push(wish("pager", "acme/pager", "1.0.0", Kind::Collector));
    let slot = |name: &str| sentinel_model::ids::SlotName::new(name).unwrap();
    let after = without_notifier(&before, &slot("pager")).unwrap();
    let left: Vec<_> = after
        .groups
        .iter()
        .flat_map(|group| &group.slots)
        .filter(|wish| wish.slot == "pager")
        .map(|wish| wish.kind)
        .collect();
    assert_eq!(left, [Kind::Collector]);
    let none = without_notifier(&after, &slot("pager")).unwrap_err().to_string();
    assert_eq!(none, "the fleet has no slot pager; nothing is installed by it yet");
}
