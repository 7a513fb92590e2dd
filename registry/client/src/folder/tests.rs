use super::*;
use sentinel_trust::{Manifest, PublisherKey, embed, sign};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

const NAME: &str = "acme/probe";

fn key(seed: u8) -> PublisherKey {
    PublisherKey::from_secret("acme".parse().unwrap(), &[seed; 32])
}

/// A collector that exports what it must and has nothing behind it.
fn component(version: &str, about: &str) -> Vec<u8> {
    let manifest = serde_json::json!({
        "format": 1, "name": NAME, "version": version, "kind": "collector", "contract": "0.1.0",
        "description": about, "license": "Apache-2.0", "config_schema": {"type": "object"},
    });
    let manifest = Manifest::from_json(manifest.to_string().as_bytes()).unwrap();
    embed(&sentinel_test_components::hollow("collect").finish(), &manifest).unwrap()
}

fn signature(bytes: &[u8], seed: u8) -> Vec<u8> {
    sign(bytes, &key(seed), None).unwrap().to_json().into()
}

/// Two folders and a policy that trusts key 1.
struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap() };
        for folder in ["own", "shipped"] {
            fs::create_dir(fixture.path(folder)).unwrap();
        }
        fixture.trust(&[1], &[], &[]);
        fixture
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn trust(&self, keys: &[u8], revoked: &[u8], digests: &[&[u8]]) {
        let keys: Vec<_> = keys.iter().map(|seed| key(*seed).public().to_string()).collect();
        let revoked: Vec<_> = revoked.iter().map(|seed| key(*seed).public().to_string()).collect();
        let digests: Vec<_> =
            digests.iter().map(|bytes| sentinel_trust::Digest::of(bytes).to_string()).collect();
        let policy = serde_json::json!({
            "publishers": {"acme": {"keys": keys, "revoked": revoked}}, "revoked_digests": digests,
        });
        fs::write(self.path("trust.yaml"), policy.to_string()).unwrap();
    }

    fn open(&self) -> PluginFolder {
        let folders = vec![self.path("own"), self.path("shipped")];
        PluginFolder::open(folders, vec![self.path("trust.yaml")]).unwrap()
    }

    /// Puts a plugin under a file name, signed by a key.
    fn put(&self, file: &str, version: &str, about: &str, seed: u8) -> Vec<u8> {
        let bytes = component(version, about);
        fs::write(self.path(file), &bytes).unwrap();
        fs::write(self.path(&format!("{file}.sig")), signature(&bytes, seed)).unwrap();
        bytes
    }
}

fn wanted(text: &str) -> PluginRef {
    text.parse().unwrap()
}

/// What a reference leads to, as version and description, or why it does not.
fn resolved(folder: &PluginFolder, text: &str) -> Result<String, String> {
    let found = folder.resolve(&wanted(text)).map_err(|error| error.to_string())?;
    Ok(format!("{} {}", found.version(), found.manifest().description))
}

#[track_caller]
fn refused(folder: &PluginFolder, text: &str, parts: &[&str]) {
    let error = resolved(folder, text).unwrap_err();
    for part in parts {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

#[test]
fn the_manifest_says_what_a_file_is_and_its_name_nothing() {
    let fixture = Fixture::new();
    fixture.put("own/other--thing@9.9.9.wasm", "1.0.0", "A", 1);
    fs::write(fixture.path("own/README.md"), "no plugin").unwrap();
    fs::write(fixture.path("own/broken.wasm"), "no component").unwrap();
    fs::create_dir(fixture.path("own/folder.wasm")).unwrap();
    let folder = fixture.open();
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 A"));
    refused(&folder, "other/thing", &["there is no plugin other/thing", "own", "shipped"]);
    let listed: Vec<_> = folder
        .list()
        .unwrap()
        .iter()
        .map(|one| (one.name.clone(), one.refused.is_some()))
        .collect();
    assert_eq!(listed, [(String::new(), true), (NAME.to_owned(), false)]);
}

#[test]
fn of_several_versions_the_highest_is_taken_unless_one_is_named() {
    let fixture = Fixture::new();
    fixture.put("own/a.wasm", "1.9.0", "A", 1);
    fixture.put("own/b.wasm", "1.10.0", "B", 1);
    fixture.put("own/c.wasm", "1.10.0-rc.1", "C", 1);
    let folder = fixture.open();
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.10.0 B"));
    assert_eq!(resolved(&folder, "acme/probe@1.9.0").as_deref(), Ok("1.9.0 A"));
    refused(&folder, "acme/probe@2.0.0", &["there is version 1.9.0, 1.10.0, 1.10.0-rc.1"]);
}

#[test]
fn of_one_version_twice_the_file_in_the_earlier_folder_is_taken() {
    let fixture = Fixture::new();
    fixture.put("shipped/a.wasm", "1.0.0", "shipped", 1);
    let folder = fixture.open();
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 shipped"));
    fixture.put("own/z.wasm", "1.0.0", "own", 1);
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 own"));
    fixture.put("own/b.wasm", "1.0.0", "own, first by name", 1);
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 own, first by name"));
}

#[test]
fn a_plugin_without_a_good_signature_beside_it_is_refused_with_its_file() {
    let fixture = Fixture::new();
    let bytes = fixture.put("own/a.wasm", "1.0.0", "A", 1);
    let (folder, beside) = (fixture.open(), fixture.path("own/a.wasm.sig"));
    let unknown = signature(&bytes, 2);
    for (signatures, why) in [
        (None, "is not signed"),
        (Some(&b""[..]), "is not signed"),
        (Some(&b"{"[..]), "the signature file cannot be read"),
        (Some(&[b' '; 1 << 21][..]), "is too large"),
        (Some(&unknown[..]), "which the trust policy does not name"),
    ] {
        let _ = fs::remove_file(&beside);
        if let Some(signatures) = signatures {
            fs::write(&beside, signatures).unwrap();
        }
        refused(&folder, NAME, &["own/a.wasm", why]);
        assert!(folder.list().unwrap()[0].refused.is_some());
    }
    fs::write(&beside, signature(&bytes, 1)).unwrap();
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 A"));
    let signed_other = signature(&component("1.0.0", "B"), 1);
    fs::write(&beside, signed_other).unwrap();
    refused(&folder, NAME, &["own/a.wasm", "was changed after it was signed"]);
}

#[test]
fn links_to_plugins_are_followed_and_links_to_nothing_or_pipes_stop_nobody() {
    let fixture = Fixture::new();
    fixture.put("elsewhere.wasm", "1.0.0", "A", 1);
    for (name, to) in [
        ("own/a.wasm", "elsewhere.wasm"),
        ("own/a.wasm.sig", "elsewhere.wasm.sig"),
        ("own/gone.wasm", "nothing"),
        ("own/itself.wasm", "own/itself.wasm"),
        ("own/pipe.wasm", "pipe"),
        ("own/zero.wasm", "/dev/zero"),
    ] {
        symlink(fixture.dir.path().join(to), fixture.path(name)).unwrap();
    }
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, fixture.path("pipe"), kind, mode, 0).unwrap();
    let folder = fixture.open();
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 A"));
    assert_eq!(folder.list().unwrap().len(), 1);
    // The signature becomes a pipe: an error at once, where reading would wait for ever.
    fs::remove_file(fixture.path("own/a.wasm.sig")).unwrap();
    symlink(fixture.path("pipe"), fixture.path("own/a.wasm.sig")).unwrap();
    refused(&folder, NAME, &["own/a.wasm.sig", "it is not an ordinary file"]);
}

#[test]
fn a_plugin_that_is_replaced_while_it_is_read_is_one_or_the_other_or_refused() {
    const READS: usize = 200;
    let fixture = Fixture::new();
    let versions = ["A", "B"].map(|about| {
        let bytes = component("1.0.0", about);
        let signatures = signature(&bytes, 1);
        (bytes, signatures)
    });
    let folder = fixture.open();
    folder.install(versions[0].0.clone(), &versions[0].1).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (bytes, signatures) in versions.iter().cycle() {
                if done.load(Ordering::SeqCst) {
                    return;
                }
                folder.install(bytes.clone(), signatures).unwrap();
            }
        });
        for _ in 0..READS {
            match folder.resolve(&wanted(NAME)) {
                Ok(found) => {
                    assert!(versions.iter().any(|(bytes, _)| **bytes == **found.bytes().unwrap()))
                }
                Err(PluginError::Refused { source, .. }) => {
                    assert!(source.to_string().contains("was changed after it was signed"));
                }
                Err(other) => panic!("{other}"),
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    folder.install(versions[1].0.clone(), &versions[1].1).unwrap();
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 B"), "at rest it is whole");
    assert_eq!(fs::read_dir(fixture.path("own")).unwrap().count(), 2, "nothing is left over");
}

#[test]
fn a_file_that_was_replaced_is_read_again_although_its_size_stayed() {
    let fixture = Fixture::new();
    fixture.put("own/a.wasm", "1.0.0", "A", 1);
    let folder = fixture.open();
    let before = folder.change();
    assert_eq!(folder.change(), before, "nothing happened");
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 A"));
    let bytes = component("2.0.0", "B");
    folder.install(bytes.clone(), &signature(&bytes, 1)).unwrap();
    let installed = fixture.path("own/acme--probe@2.0.0.wasm");
    fs::rename(&installed, fixture.path("own/a.wasm")).unwrap();
    fs::rename(signature_path(&installed), fixture.path("own/a.wasm.sig")).unwrap();
    assert_ne!(folder.change(), before);
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("2.0.0 B"));
}

#[test]
fn a_policy_is_asked_anew_at_every_question() {
    let fixture = Fixture::new();
    let bytes = fixture.put("own/a.wasm", "1.0.0", "A", 1);
    let folder = fixture.open();
    let good = || assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 A"));
    good();
    let mut seen = folder.change();
    let mut changed = || {
        let now = folder.change();
        assert_ne!(std::mem::replace(&mut seen, now), now, "the change shows");
    };
    for (keys, revoked, digests, why) in [
        (&[1, 2][..], &[1][..], &[][..], "which was revoked"),
        (&[2][..], &[][..], &[][..], "does not name"),
        (&[1][..], &[][..], &[&bytes[..]][..], "the plugin was revoked"),
    ] {
        fixture.trust(keys, revoked, digests);
        changed();
        refused(&folder, NAME, &["own/a.wasm", why]);
        fixture.trust(&[1], &[], &[]);
        changed();
        good();
    }
    fs::write(fixture.path("trust.yaml"), "publishers: [").unwrap();
    refused(&folder, NAME, &["the trust policy has"]);
    fs::write(fixture.path("trust.yaml"), vec![b' '; 2 << 20]).unwrap();
    refused(&folder, NAME, &["trust.yaml", "too large"]);
    fs::remove_file(fixture.path("trust.yaml")).unwrap();
    refused(&folder, NAME, &["the publisher `acme` of acme/probe is not trusted here"]);
}

#[test]
fn what_is_installed_is_verified_first_and_lies_under_its_own_name() {
    let fixture = Fixture::new();
    let (folder, bytes) = (fixture.open(), component("1.0.0", "A"));
    for (signatures, why) in [
        (Vec::new(), "the plugin is not signed: "),
        (signature(&bytes, 2), "acme/probe is signed with the key "),
    ] {
        let error = folder.install(bytes.clone(), &signatures).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
        assert_eq!(fs::read_dir(fixture.path("own")).unwrap().count(), 0);
    }
    let listing = folder.install(bytes.clone(), &signature(&bytes, 1)).unwrap();
    assert_eq!(listing.file, fixture.path("own/acme--probe@1.0.0.wasm"));
    assert_eq!(resolved(&folder, NAME).as_deref(), Ok("1.0.0 A"));
}

#[test]
fn only_what_lies_in_the_first_folder_is_removed_and_the_rest_is_said() {
    let fixture = Fixture::new();
    fixture.put("own/a.wasm", "1.0.0", "A", 1);
    fixture.put("own/b.wasm", "1.1.0", "B", 1);
    fixture.put("shipped/c.wasm", "1.2.0", "C", 1);
    let folder = fixture.open();
    let removed = |text: &str| folder.remove(&wanted(text)).map_err(|error| error.to_string());
    assert_eq!(removed("acme/probe@1.0.0"), Ok(vec![fixture.path("own/a.wasm")]));
    assert!(!fixture.path("own/a.wasm.sig").exists());
    let error = removed("acme/probe@1.2.0").unwrap_err();
    let (file, own) = (fixture.path("shipped/c.wasm"), fixture.path("own"));
    assert_eq!(
        error,
        format!(
            "acme/probe@1.2.0 is not removed: it lies in {}, and only {} is written to; remove the file there",
            file.display(),
            own.display()
        )
    );
    assert!(file.exists());
    assert_eq!(removed(NAME), Ok(vec![fixture.path("own/b.wasm")]));
    assert!(
        removed("acme/probe@1.1.0").unwrap_err().contains("there is no plugin acme/probe@1.1.0")
    );
}

#[test]
fn a_first_folder_that_is_missing_is_made_and_others_may_be_missing() {
    let fixture = Fixture::new();
    let folders = vec![fixture.path("new/own"), fixture.path("never")];
    let folder = PluginFolder::open(folders, vec![fixture.path("trust.yaml")]).unwrap();
    assert!(fixture.path("new/own").is_dir());
    assert!(folder.list().unwrap().is_empty());
}

#[test]
fn a_reference_that_is_none_says_how_one_is_written() {
    for text in ["", "probe", "acme/probe@", "acme/probe@1", "../../etc@1.0.0", "acme/Probe x"] {
        let error = text.parse::<PluginRef>().unwrap_err().to_string();
        assert!(error.ends_with("write publisher/name or publisher/name@1.2.3"), "{error}");
    }
    for text in ["acme/probe", "acme/probe@1.2.3-rc.1"] {
        assert_eq!(wanted(text).to_string(), text);
    }
}
