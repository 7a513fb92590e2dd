//! The store without a desktop.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use tempfile::TempDir;

fn alone(dir: &TempDir) -> SecretStore {
    try_alone(dir).unwrap()
}

fn try_alone(dir: &TempDir) -> Result<SecretStore, SecretError> {
    SecretStore::open_in(dir.path(), Surroundings::default())
}

#[test]
fn secrets_survive_and_lie_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let store = alone(&dir);
    assert_eq!(store.warning(), None);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made before it is needed");
    store.set("slack", b"a-very-secret-value").unwrap();
    let raw = fs::read(dir.path().join("secrets.enc")).unwrap();
    assert!(!raw.windows(5).any(|w| w == b"slack" || w == b"a-ver"));
    let again = alone(&dir);
    assert_eq!(again.secret("slack").unwrap().as_slice(), b"a-very-secret-value");
    assert!(again.warning().unwrap().contains("secrets.key"));
    assert!(again.remove("slack").unwrap() && !again.remove("slack").unwrap());
    assert!(store.names().unwrap().is_empty(), "what another process does is seen");
    assert_eq!(store.secret("slack"), None);
}

#[test]
fn a_changed_byte_another_key_or_an_open_mode_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    alone(&dir).set("a", b"b").unwrap();
    let path = dir.path().join("secrets.enc");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(try_alone(&dir).is_err(), "byte {at}");
    }
    fs::write(&path, &good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let exposed =
        |result| matches!(result, Err(SecretError::Private(PrivateError::Exposed { .. })));
    assert!(exposed(try_alone(&dir)));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let key = dir.path().join("secrets.key");
    let kept = fs::read(&key).unwrap();
    for (bytes, why) in [(&[1; 32][..], "does not open"), (&[1; 31], "31 bytes")] {
        replace(&key, bytes, 0o600).unwrap();
        let error = try_alone(&dir).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
    fs::remove_file(&key).unwrap();
    assert!(matches!(try_alone(&dir), Err(SecretError::Sealed { .. })));
    replace(&key, &kept, 0o600).unwrap();
    assert!(alone(&dir).secret("a").is_some());
}

#[test]
fn secrets_that_are_set_at_once_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for process in 0..8 {
            let dir = &dir;
            scope.spawn(move || {
                // Each with a store of its own, as processes have; none finds a key at first.
                let store = alone(dir);
                for n in 0..5 {
                    store.set(&format!("{process}-{n}"), &[process, n]).unwrap();
                }
            });
        }
    });
    let store = alone(&dir);
    assert_eq!(store.names().unwrap().len(), 40);
    for (process, n) in (0..8).flat_map(|p| (0..5).map(move |n| (p, n))) {
        assert_eq!(store.secret(&format!("{process}-{n}")).unwrap().as_slice(), [process, n]);
    }
}

#[test]
fn what_another_process_sets_is_seen_also_where_length_and_time_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (alone(&dir), alone(&dir));
    for n in 0..50u8 {
        there.set("a", &[n]).unwrap();
        assert_eq!(here.secret("a").unwrap().as_slice(), [n]);
    }
}

#[test]
fn a_secret_service_that_hangs_costs_a_moment_and_the_key_lies_beside_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus");
    let _silent = UnixListener::bind(&path).unwrap();
    let around =
        || Surroundings { credentials: None, bus: Some(format!("unix:path={}", path.display())) };
    let store = SecretStore::open_in(dir.path(), around()).unwrap();
    store.set("a", b"1").unwrap();
    let warning = store.warning().unwrap();
    assert!(warning.contains("secrets.key") && warning.contains("did not answer"), "{warning}");

    // A key in a service that hangs: the start goes on, the secrets are not there, and no
    // other key takes its place.
    fs::rename(dir.path().join("secrets.key"), dir.path().join("away")).unwrap();
    replace(&dir.path().join("secrets.service"), b"abc", 0o600).unwrap();
    let began = Instant::now();
    let store = SecretStore::open_in(dir.path(), around()).unwrap();
    assert!(began.elapsed() < 3 * service::LIMIT);
    let began = Instant::now();
    assert_eq!(store.secret("a"), None);
    assert!(began.elapsed() < service::LIMIT, "a look-up waits for nobody");
    assert!(store.warning().unwrap().contains("secrets are not available"));
    assert!(matches!(store.set("a", b"2"), Err(SecretError::Unavailable(_))));
    assert!(matches!(store.names(), Err(SecretError::Unavailable(_))));
    assert!(!dir.path().join("secrets.key").exists());
}

#[test]
fn a_store_that_was_made_anew_with_another_key_is_read_and_written_with_that() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (alone(&dir), alone(&dir));
    here.set("a", b"1").unwrap();
    let remove = |name: &str| fs::remove_file(dir.path().join(name)).unwrap();
    remove("secrets.enc");
    remove("secrets.key");
    there.set("b", b"2").unwrap();
    assert!(here.secret("b").is_some() || here.secret("b").is_some(), "at the second look");
    assert_eq!(here.names().unwrap(), ["b"]);
    remove("secrets.enc");
    remove("secrets.key");
    here.set("c", b"3").unwrap();
    assert_eq!(alone(&dir).names().unwrap(), ["c"]);
}
