use super::*;
use sentinel_trust::fleet::seal;
use std::fs;
use std::os::unix::fs::PermissionsExt;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("operator.key")
    }

    fn made(&self) -> Operator {
        Operator::create(&self.key(), None, Vec::new()).ok().unwrap()
    }

    fn made_again(&self) -> Operator {
        Operator::open(&self.key()).ok().unwrap()
    }
}

fn sealed(operator: &Operator, number: u64, note: &str) -> String {
    let set =
        DesiredSet { number, by: "alice".into(), note: note.into(), ..empty(operator.state.fleet) };
    seal(&set, operator.key()).unwrap()
}

#[test]
fn a_key_and_what_is_known_are_private_and_never_overwritten() {
    let place = Place::new();
    let first = place.made().pins();
    for file in ["operator.key", "operator.fleet"] {
        let mode = fs::metadata(place.0.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let again = Operator::create(&place.key(), None, Vec::new()).err().unwrap();
    assert!(again.message.contains("operator.key is there already"), "{again:?}");
    assert_eq!(Operator::open(&place.key()).ok().unwrap().pins(), first);
    fs::remove_file(place.key()).unwrap();
    let again = Operator::create(&place.key(), None, Vec::new()).err().unwrap();
    assert!(again.message.contains("operator.fleet is there already"), "{again:?}");
}

#[test]
fn a_server_cannot_show_an_older_set_nor_another_of_the_same_number() {
    let place = Place::new();
    let mut operator = place.made();
    let (one, two, other) =
        (sealed(&operator, 1, ""), sealed(&operator, 2, ""), sealed(&operator, 2, "other"));
    assert_eq!(operator.newest(None).unwrap().number, 0);
    assert_eq!(operator.newest(Some(&one)).unwrap().number, 1);
    assert_eq!(operator.newest(Some(&two)).unwrap().number, 2);
    assert_eq!(operator.newest(Some(&two)).unwrap().number, 2);
    // Known to the next command as well, and to one that opened the state before.
    let mut stale = place.made_again();
    for (shown, why) in [
        (Some(&one), "set 1 as the newest, and 2 was seen"),
        (None, "set 0 as the newest, and 2 was seen"),
        (Some(&other), "another than the one seen before"),
    ] {
        for operator in [&mut operator, &mut stale] {
            let refused = operator.newest(shown.map(String::as_str)).unwrap_err();
            assert!(refused.message.contains(why), "{refused:?}");
        }
    }
    assert_eq!(stale.newest(Some(&two)).unwrap().number, 2);
}

#[test]
fn sets_of_others_count_once_their_key_was_added() {
    let (alice, bob) = (Place::new(), Place::new());
    let mut alice = alice.made();
    let bob = Operator::create(&bob.key(), Some(alice.state.fleet), Vec::new()).ok().unwrap();
    let set = sealed(&bob, 1, "");
    let refused = alice.newest(Some(&set)).unwrap_err();
    assert!(refused.hint.unwrap().contains("sentinel fleet operators --add"));
    alice.pin(&[bob.key.public()], &[]).unwrap();
    assert_eq!(alice.newest(Some(&set)).unwrap().number, 1);
    alice.pin(&[], &[bob.key.public()]).unwrap();
    assert!(alice.open_any(&set).is_err());
    assert!(alice.pin(&[], &[alice.key.public()]).is_err());
    assert!(alice.pin(&[], &[bob.key.public()]).is_err());
}

#[test]
fn a_state_that_is_missing_or_damaged_is_no_new_beginning() {
    let place = Place::new();
    drop(place.made());
    let state = place.0.path().join("operator.fleet");
    let good = fs::read(&state).unwrap();
    let why = || Operator::open(&place.key()).err().unwrap().message;
    fs::write(&state, &good[..good.len() / 2]).unwrap();
    assert!(why().contains("is damaged"), "{}", why());
    fs::set_permissions(&state, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(why().contains("can be read by others"), "{}", why());
    fs::remove_file(&state).unwrap();
    assert!(why().contains("is missing"), "{}", why());
    fs::remove_file(place.key()).unwrap();
    assert!(why().contains("there is no operator's key"), "{}", why());
    let other = Place::new();
    drop((place.made(), other.made()));
    fs::copy(other.0.path().join("operator.fleet"), &state).unwrap();
    assert!(why().contains("does not name the key"), "{}", why());
}

#[test]
fn an_operator_sets_back_what_was_seen_after_a_server_was_restored() {
    let place = Place::new();
    let mut operator = place.made();
    let (one, two) = (sealed(&operator, 1, ""), sealed(&operator, 2, ""));
    operator.newest(Some(&two)).unwrap();
    assert!(operator.newest(Some(&one)).is_err());
    let state = place.0.path().join("operator.fleet");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    json["seen"] = serde_json::json!({ "number": 1 });
    fs::write(&state, json.to_string()).unwrap();
    assert_eq!(operator.newest(Some(&one)).unwrap().number, 1);
    let other = sealed(&operator, 1, "other");
    assert!(operator.newest(Some(&other)).is_err());
}

#[test]
fn an_operator_keeps_its_own_key_and_a_fleet_has_a_bounded_number_of_them() {
    let place = Place::new();
    let mut operator = place.made();
    let new = |_| RoleKey::generate(KeyPurpose::Operator).unwrap().public();
    let others: Vec<PublicKey> = (0..MAX_OPERATORS).map(new).collect();
    let own = operator.public();
    let mut refused =
        |add: &[PublicKey], remove: &[PublicKey]| operator.pin(add, remove).unwrap_err().message;
    assert!(refused(&[], &[own]).contains("your own key cannot be taken away here"));
    assert!(refused(&[], &others[..1]).contains("is no operator of this fleet"));
    assert!(refused(&others, &[]).contains(&format!("at most {MAX_OPERATORS} operators")));
    assert_eq!(operator.pins().keys.len(), 1, "nothing of it was kept");
    let most = &others[1..];
    operator.pin(most, &[]).unwrap();
    operator.pin(most, &[]).unwrap();
    assert_eq!(place.made_again().pins().keys.len(), MAX_OPERATORS);
}
