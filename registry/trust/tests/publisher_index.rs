//! A publisher's own index: numbered, append-only, signed byte by byte.

mod fixture;

use fixture::key;
use fixture::registry::{NOW, Registry, listed, plugin};
use sentinel_trust::PublisherKey;
use sentinel_trust::repository::{IndexError, PublisherIndex, check_new_index};

#[test]
fn a_publisher_index_is_numbered_append_only_and_its_own() {
    let mut registry = Registry::with_acme();
    registry.approve("other", 2);
    let acme = key("acme", 1);
    let known = registry.indexes[acme.publisher()].clone();
    let targets = registry.online.targets.clone();
    let check = |index: &PublisherIndex, key: &PublisherKey| {
        check_new_index(&targets, Some(&known), index.sign(key)?.bytes().to_vec()).map(|_| ())
    };
    let next = known.index().with(listed(&plugin("acme/probe", "1.1.0"), &acme, NOW));
    assert_eq!(check(&next, &acme), Ok(()));
    assert!(matches!(check(&next, &key("acme", 9)), Err(IndexError::Unsigned { .. })));
    assert!(matches!(check(&next, &key("other", 2)), Err(IndexError::Unsigned { .. })));
    let mut same_number = next.clone();
    same_number.number = 1;
    assert!(matches!(
        check(&same_number, &acme),
        Err(IndexError::Rollback { known: 1, offered: 1 })
    ));
    let mut without = next.clone();
    without.releases.remove(0);
    assert!(matches!(check(&without, &acme), Err(IndexError::Rewritten { .. })));
    let mut changed = next.clone();
    changed.releases[0].size += 1;
    assert!(matches!(check(&changed, &acme), Err(IndexError::Rewritten { .. })));
    let mut yanked = next.clone();
    yanked.releases[0].yanked = true;
    assert_eq!(check(&yanked, &acme), Ok(()));
    let mut unordered = next.clone();
    unordered.releases.reverse();
    assert!(matches!(check(&unordered, &acme), Err(IndexError::OutOfBounds(_))));
    let mut twice = next.clone();
    twice.releases.push(twice.releases[1].clone());
    assert!(matches!(check(&twice, &acme), Err(IndexError::OutOfBounds(_))));
    let mut foreign = next;
    foreign.releases.push(listed(&plugin("other/probe", "1.0.0"), &key("other", 2), NOW));
    assert!(matches!(check(&foreign, &acme), Err(IndexError::WrongNamespace { .. })));
}

#[test]
fn a_signature_of_an_index_is_over_every_byte_that_is_read() {
    let registry = Registry::with_acme();
    let known = &registry.indexes[&"acme".parse().unwrap()];
    let keys = [key("acme", 1).public()];
    assert_eq!(known.verify(&keys), Ok(()));
    let text = String::from_utf8(known.bytes().to_vec()).unwrap();
    for (from, to) in [("\"number\":1", "\"number\":2"), ("\"number\":1", "\"number\": 1")] {
        let changed = sentinel_trust::repository::SignedIndex::read(text.replace(from, to).into());
        assert!(changed.unwrap().verify(&keys).is_err(), "{to}");
    }
}

#[test]
fn a_publisher_without_its_index_keeps_the_last_good_one() {
    let mut registry = Registry::with_acme();
    let trusted = registry.update(&registry.enrolled()).unwrap();
    registry.publish(&plugin("acme/probe", "1.1.0"), &key("acme", 1));
    registry.files.retain(|path, _| !path.starts_with("publishers/acme/2"));
    let trusted = registry.update(&trusted).unwrap();
    let view = trusted.view();
    let acme = &view.publishers()[&"acme".parse().unwrap()];
    assert_eq!((acme.offered, &acme.problem), (Some(2), &Some(IndexError::Unavailable)));
    assert_eq!(
        view.resolve(&"acme/probe".parse().unwrap(), NOW).unwrap().version.to_string(),
        "1.0.0"
    );
}
