//! A host takes the enrolment that its token promises, and no other.

#[path = "../../../registry/trust/tests/fixture/mod.rs"]
mod fixture;

use fixture::registry::Registry;
use sentinel_fleet::enrolment::{EnrolmentError, HostEnrolment, Pins};
use sentinel_trust::fleet::FleetId;

fn enrolment(url: &str) -> HostEnrolment {
    HostEnrolment::new(url, FleetId([1; 16]), &Registry::with_acme().enrolment()).unwrap()
}

#[test]
fn an_enrolment_is_kept_as_it_was_given_and_its_token_promises_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("enrolment.json");
    assert!(HostEnrolment::load(&file).unwrap().is_none());
    let given = enrolment("http://127.0.0.1:5000/");
    let token = given.pins().token("set_abc");
    let (secret, pins) = Pins::split(&token).unwrap();
    assert_eq!(secret, "set_abc");
    let checked = pins.unwrap().check(given.bytes()).unwrap();
    checked.save(&file).unwrap();
    let kept = HostEnrolment::load(&file).unwrap().unwrap();
    assert_eq!((&kept, kept.registry()), (&given, "http://127.0.0.1:5000/"));
    assert_eq!(kept.operators().fleet, FleetId([1; 16]));
}

#[test]
fn a_server_that_gives_another_enrolment_than_the_token_promises() {
    let promised = enrolment("http://127.0.0.1:5000/").pins();
    let refused = |given: &[u8]| {
        let error = promised.check(given).unwrap_err();
        matches!(error, EnrolmentError::NotPromised { .. }) && error.to_string().contains("token")
    };
    assert!(refused(b""), "none");
    let mut thief = Registry::with_acme().enrolment();
    thief.operators = vec![thiefs_key()];
    let thief = HostEnrolment::new("http://127.0.0.1:5000/", FleetId([1; 16]), &thief).unwrap();
    assert!(refused(thief.bytes()), "other operators");
    let mut other = Registry::with_acme().enrolment();
    other.minimum.targets += 1;
    let other = HostEnrolment::new("http://127.0.0.1:5000/", FleetId([1; 16]), &other).unwrap();
    assert!(refused(other.bytes()), "other least versions");
    // The right bytes, and a token whose fleet is another.
    let given = enrolment("http://127.0.0.1:5000/");
    let moved = Pins { fleet: FleetId([2; 16]), hash: given.pins().hash };
    assert!(matches!(moved.check(given.bytes()), Err(EnrolmentError::NotPromised { .. })));
}

fn thiefs_key() -> sentinel_trust::PublicKey {
    use sentinel_trust::repository::{KeyPurpose, RoleKey};
    RoleKey::from_secret(KeyPurpose::Operator, &[66; 32]).public()
}

#[test]
fn a_token_outlives_a_registry_that_moves() {
    let promised = enrolment("http://127.0.0.1:5000/").pins();
    let moved = promised.check(enrolment("https://elsewhere.example/").bytes()).unwrap();
    assert_eq!(moved.registry(), "https://elsewhere.example/");
    let spaced = String::from_utf8(enrolment("http://127.0.0.1:5000/").bytes().to_vec()).unwrap();
    let spaced = spaced.replacen('{', "{ ", 1);
    assert_eq!(promised.check(spaced.as_bytes()).unwrap().pins(), promised, "as it is read");
}

#[test]
fn a_token_cut_short_is_refused_and_one_without_pins_promises_nothing() {
    let token = enrolment("http://127.0.0.1:5000/").pins().token("set_abc");
    assert!(matches!(Pins::split("set_abc"), Ok(("set_abc", None))));
    for end in ["set_abc.".len(), token.len() - 1] {
        assert!(matches!(Pins::split(&token[..end]), Err(EnrolmentError::Token)), "{end}");
    }
    assert!(matches!(Pins::split(&format!("{token}.x")), Err(EnrolmentError::Token)));
}

#[test]
fn a_kept_enrolment_cut_in_half_fails_closed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("enrolment.json");
    let given = enrolment("http://127.0.0.1:5000/");
    given.save(&file).unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let refused = HostEnrolment::load(&file).unwrap_err();
    assert!(matches!(&refused, EnrolmentError::File(why) if why.contains("damaged")), "{refused}");
}
