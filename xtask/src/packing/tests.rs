use super::*;

#[test]
fn moving_bytes_from_one_file_to_the_next_changes_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let check = |a: &str, b: &str| {
        fs::write(dir.path().join("a"), a).unwrap();
        fs::write(dir.path().join("b"), b).unwrap();
        let mut digest = Sha256::new();
        feed_tree(&mut digest, dir.path()).unwrap();
        hex(digest)
    };
    assert_ne!(check("xy", "z"), check("x", "yz"));
    assert_eq!(check("xy", "z"), check("xy", "z"));
}

/// Stands in for the host program: counts packs, and does with files what the real one does.
const SENTINEL: &str = r#"#!/bin/sh
set -e
case "$2" in
keygen)
    echo key > "$6"; chmod 600 "$6"; echo "public_key: ed25519:AbC$$= (for policies)" ;;
pack)
    cat "$3" "$5" > "$7"; echo >> "$7"; echo "$9" >> "$7"
    [ "${7##*.}" = fresh ] && echo "$7" >> "$(dirname "$0")/packed"; true ;;
sign)
    cksum < "$3" > "$3.sig" ;;
esac
"#;

struct Toy {
    dir: tempfile::TempDir,
    checkout: Checkout,
    guest: Guest,
}

impl Toy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let sources = PACKING_SOURCES.iter().filter(|source| !source.contains('.'));
        for folder in sources.chain(&["g"]) {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (file, text) in [
            ("Cargo.lock", "1"),
            ("wit/a.wit", "package a;"),
            ("host/cli/src/files.rs", "// 1"),
            ("g/plugin.yaml", "name: sentinel/g"),
            ("core.wasm", "core"),
            ("sentinel", SENTINEL),
        ] {
            fs::write(root.join(file), text).unwrap();
        }
        fs::set_permissions(root.join("sentinel"), fs::Permissions::from_mode(0o755)).unwrap();
        let guest = Guest {
            package: "plugin-g".to_owned(),
            name: "g".to_owned(),
            dir: root.join("g"),
            place: "plugins",
        };
        Toy { checkout: Checkout::at(root), guest, dir }
    }

    /// Packs and tells how often the program has packed since the beginning.
    fn pack(&self, guests: &[Guest]) -> usize {
        let root = self.dir.path();
        let cores = BTreeMap::from([("plugin-g".to_owned(), root.join("core.wasm"))]);
        let steps = crate::steps::Steps::new(1);
        steps
            .run("pack", |step| {
                let sentinel = root.join("sentinel");
                let said = pack(&self.checkout, step, &sentinel, guests, &cores)?;
                Ok(((), said))
            })
            .unwrap();
        fs::read_to_string(root.join("packed")).map_or(0, |packed| packed.lines().count())
    }
}

#[test]
fn a_plugin_is_packed_again_exactly_when_an_input_or_an_output_has_changed() {
    let toy = Toy::new();
    let guests = [toy.guest.clone()];
    assert_eq!(toy.pack(&guests), 1);
    assert_eq!(toy.pack(&guests), 1, "nothing had changed");
    let mut packed = 1;
    for file in [
        "core.wasm",
        "g/plugin.yaml",
        "wit/a.wit",
        "host/cli/src/files.rs",
        "target/plugins/g.wasm",
        "target/plugins/g.wasm.sig",
        "target/dev-keys/sentinel.key",
    ] {
        let path = toy.dir.path().join(file);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "x").unwrap();
        packed += 1;
        assert_eq!(toy.pack(&guests), packed, "{file} had changed");
        assert_eq!(toy.pack(&guests), packed, "{file} was packed already");
    }
    fs::remove_file(toy.dir.path().join("target/plugins/g.wasm")).unwrap();
    assert_eq!(toy.pack(&guests), packed + 1);
}

#[test]
fn a_changed_plugin_is_another_version_and_an_unchanged_one_stays_what_it_was() {
    let toy = Toy::new();
    let guests = [toy.guest.clone()];
    let root = toy.dir.path();
    let patch = || -> Option<u64> {
        toy.pack(&guests);
        let packed = fs::read_to_string(root.join("target/plugins/g.wasm")).unwrap();
        packed.lines().last().and_then(|line| line.parse().ok())
    };
    assert_eq!(patch(), None, "the first has the version of its manifest");
    fs::write(root.join("wit/a.wit"), "package b;").unwrap();
    assert_eq!(patch(), None, "what comes out the same is the same version");
    fs::write(root.join("core.wasm"), "other").unwrap();
    let changed = patch();
    assert!(changed.is_some());
    fs::write(root.join("wit/a.wit"), "package c;").unwrap();
    fs::remove_file(root.join("target/plugins/g.wasm.sig")).unwrap();
    assert_eq!(patch(), changed, "and stays that version until it changes");
}

#[test]
fn every_crate_that_packing_uses_is_among_its_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let commands = ["mod", "keygen", "pack", "requests", "sign"];
    let commands = commands.map(|name| format!("commands/plugin/{name}.rs"));
    for name in commands.iter().map(String::as_str).chain(["files.rs"]) {
        let text = fs::read_to_string(root.join("host/cli/src").join(name)).unwrap();
        for used in text.split("sentinel_").skip(1) {
            let krate: String =
                used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if !used[krate.len()..].starts_with("::") {
                continue;
            }
            let krate = krate.replace('_', "-");
            let source = match krate.strip_prefix("registry-") {
                Some(client) => format!("registry/{client}/src"),
                None if krate == "trust" => "registry/trust/src".to_owned(),
                None => format!("host/{krate}/src"),
            };
            assert!(PACKING_SOURCES.contains(&source.as_str()), "{name} uses {source}");
        }
    }
}

#[test]
fn a_plugin_whose_crate_is_gone_is_removed_and_a_strangers_file_is_kept() {
    let toy = Toy::new();
    toy.pack(std::slice::from_ref(&toy.guest));
    let plugins = toy.dir.path().join("target/plugins");
    fs::write(plugins.join("mine.wasm"), "mine").unwrap();
    toy.pack(&[]);
    assert!(!plugins.join("g.wasm").exists() && !plugins.join("g.wasm.sig").exists());
    assert!(plugins.join("mine.wasm").exists());
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let toy = Toy::new();
    let sentinel = toy.dir.path().join("sentinel");
    let key = dev_key(&toy.checkout, &sentinel).unwrap().key;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = dev_key(&toy.checkout, &sentinel).unwrap_err().to_string();
    assert!(error.contains("mode 644"), "{error}");
}

#[test]
fn the_key_is_made_once_and_one_that_others_may_read_is_refused() {
    let toy = Toy::new();
    let sentinel = toy.dir.path().join("sentinel");
    let made = dev_key(&toy.checkout, &sentinel).unwrap().key;
    fs::write(&made, "mine").unwrap();
    assert_eq!(dev_key(&toy.checkout, &sentinel).unwrap().key, made);
    assert_eq!(fs::read_to_string(&made).unwrap(), "mine");
    fs::set_permissions(&made, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = dev_key(&toy.checkout, &sentinel).unwrap_err().to_string();
    assert!(refused.contains("may be read by others (mode 640)"), "{refused}");
}
