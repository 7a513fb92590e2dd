use super::reach::tests::capability;
use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

/// A tree `granted/{a.log,big.log,sub/b.log}`, `outside/secret`, `data/wal`, and a gate that
/// was granted `granted/**` with `data` as Sentinel's own.
struct Tree {
    root: TempDir,
    gate: FileGate,
}

impl Tree {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().canonicalize().unwrap();
        for directory in ["granted/sub", "outside", "data"] {
            fs::create_dir_all(base.join(directory)).unwrap();
        }
        for (file, text) in [
            ("granted/a.log", "first line"),
            ("granted/sub/b.log", "b"),
            ("outside/secret", "secret"),
            ("data/wal", "own"),
        ] {
            fs::write(base.join(file), text).unwrap();
        }
        let gate = Self::gate(&base, &["granted/**"]);
        Self { root, gate }
    }

    fn gate(base: &Path, globs: &[&str]) -> FileGate {
        let globs: Vec<String> =
            globs.iter().map(|glob| format!("{}/{glob}", base.display())).collect();
        let globs: Vec<&str> = globs.iter().map(String::as_str).collect();
        FileGate::new(&capability(&globs), &[base.join("data")])
    }

    fn base(&self) -> std::path::PathBuf {
        self.root.path().canonicalize().unwrap()
    }

    fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.base().display())
    }

    fn read(&self, below: &str) -> Result<Vec<u8>, FileError> {
        self.gate.read(&self.path(below), u32::MAX)
    }

    fn link(&self, target: &str, below: &str) {
        symlink(target, self.base().join(below)).unwrap();
    }
}

#[test]
fn files_of_the_allow_list_are_read_and_no_others() {
    let tree = Tree::new();
    assert_eq!(tree.read("granted/a.log").unwrap(), b"first line");
    assert_eq!(tree.read("granted/sub/b.log").unwrap(), b"b");
    for (below, error) in [
        ("outside/secret", FileError::Denied),
        ("outside/missing", FileError::Denied),
        ("granted/../outside/secret", FileError::Denied),
        ("granted/./a.log", FileError::Denied),
        ("granted//a.log", FileError::Denied),
        ("granted/a.log/", FileError::Denied),
        ("granted/a.log\0", FileError::Denied),
        ("granted", FileError::Denied),
        ("granted/missing", FileError::NotFound),
        ("granted/a.log/x", FileError::NotFound),
        ("granted/sub", FileError::Failed("it is a directory".into())),
    ] {
        assert_eq!(tree.read(below), Err(error), "{below:?}");
    }
    assert_eq!(tree.gate.read("granted/a.log", 9), Err(FileError::Denied));
}

#[test]
fn a_link_is_followed_within_the_allow_list_and_not_out_of_it() {
    let tree = Tree::new();
    tree.link("a.log", "granted/within");
    tree.link("../granted/sub/../a.log", "granted/around");
    tree.link(&tree.path("granted/sub"), "granted/directory");
    tree.link("within", "granted/chain");
    tree.link("../outside/secret", "granted/out");
    tree.link(&tree.path("outside"), "granted/out-directory");
    tree.link("/etc/passwd", "granted/absolute");
    tree.link("out", "granted/chain-out");
    tree.link("../outside/missing", "granted/dangling-out");
    tree.link("missing", "granted/dangling");
    tree.link("loop", "granted/loop");
    tree.link("../outside/back", "granted/by-way-of-outside");
    tree.link("../granted/a.log", "outside/back");
    for (below, text) in [
        ("granted/within", "first line"),
        ("granted/around", "first line"),
        ("granted/directory/b.log", "b"),
        ("granted/chain", "first line"),
    ] {
        assert_eq!(tree.read(below).as_deref(), Ok(text.as_bytes()), "{below}");
    }
    for (below, error) in [
        ("granted/out", FileError::Denied),
        ("granted/out-directory/secret", FileError::Denied),
        ("granted/absolute", FileError::Denied),
        ("granted/chain-out", FileError::Denied),
        // Not even whether it is there is said.
        ("granted/dangling-out", FileError::Denied),
        ("granted/dangling", FileError::NotFound),
        ("granted/by-way-of-outside", FileError::Denied),
        ("granted/loop", FileError::Failed("more than 40 links in the path".into())),
    ] {
        assert_eq!(tree.read(below), Err(error), "{below}");
    }
}

#[test]
fn a_link_to_another_granted_place_is_followed() {
    let tree = Tree::new();
    tree.link("../outside/secret", "granted/there");
    let gate = Tree::gate(&tree.base(), &["granted/*", "outside/secret"]);
    assert_eq!(gate.read(&tree.path("granted/there"), 100).unwrap(), b"secret");
}

#[test]
fn sentinels_own_data_is_never_read() {
    let tree = Tree::new();
    let gate = Tree::gate(&tree.base(), &["**"]);
    tree.link("../data/wal", "granted/link");
    tree.link("data", "alias");
    for below in ["data/wal", "data/missing", "granted/link", "alias/wal"] {
        assert_eq!(gate.read(&tree.path(below), 100), Err(FileError::Denied), "{below}");
    }
    assert_eq!(gate.list_directory(&tree.path("data")), Err(FileError::Denied));
    let listed = gate.list_directory(&tree.path("")).unwrap();
    assert!(listed.iter().all(|entry| entry.name != "data"), "{listed:?}");
    // Known by its inode where it is named by another path.
    let by_link = FileGate::new(&capability(&[&tree.path("**")]), &[tree.base().join("alias")]);
    assert_eq!(by_link.read(&tree.path("data/wal"), 100), Err(FileError::Denied));
}

#[test]
fn this_process_is_never_read_by_any_of_its_names() {
    let tree = Tree::new();
    let pid = std::process::id();
    tree.link("/proc/self", "granted/self");
    tree.link(&format!("/proc/{pid}"), "granted/pid");
    let gate = FileGate::new(&capability(&[&tree.path("**"), "/proc/**", "/dev/**"]), &[]);
    for path in [
        "/proc/self/environ".to_owned(),
        "/proc/thread-self/environ".into(),
        format!("/proc/{pid}/environ"),
        format!("/proc/{pid}/task/{pid}/environ"),
        "/dev/fd/0".into(),
        tree.path("granted/self/environ"),
        tree.path("granted/pid/environ"),
    ] {
        assert_eq!(gate.read(&path, 100), Err(FileError::Denied), "{path}");
    }
    let names = gate.list_directory("/proc").unwrap();
    assert!(names.iter().any(|entry| entry.name == "stat"));
    assert!(names.iter().all(|entry| entry.name != "self" && entry.name != pid.to_string()));
}

#[test]
fn files_without_a_size_are_read_to_their_end() {
    let gate = FileGate::new(&capability(&["/proc/*", "/proc/net/*"]), &[]);
    let stat = gate.read("/proc/stat", 1 << 20).unwrap();
    assert!(stat.starts_with(b"cpu "));
    assert_eq!(gate.read("/proc/stat", 4), Err(FileError::TooLarge(5)));
    assert_eq!(gate.read_at("/proc/stat", 0, 4).unwrap(), b"cpu ");
    assert!(gate.read("/proc/net/dev", 1 << 20).unwrap().starts_with(b"Inter-"));
    assert!(!gate.read("/proc/mounts", 1 << 20).unwrap().is_empty());
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let tree = Tree::new();
    let fifo = tree.base().join("granted/fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.base().join("granted/s")).unwrap();
    let refused = Err(FileError::Failed("it is not a regular file".into()));
    assert_eq!(tree.read("granted/fifo"), refused);
    assert_eq!(tree.read("granted/s"), refused);
    let gate = FileGate::new(&capability(&["/dev/*"]), &[]);
    assert_eq!(gate.read("/dev/zero", 100), refused);
}

#[test]
fn a_read_keeps_to_what_was_asked_and_what_is_granted() {
    let tree = Tree::new();
    fs::write(tree.base().join("granted/big.log"), vec![7; (1 << 20) + 1]).unwrap();
    let path = tree.path("granted/a.log");
    let big = tree.path("granted/big.log");
    for (path, max, expected) in [
        (&path, 10, Ok(10)),
        (&path, 9, Err(FileError::TooLarge(10))),
        (&path, 0, Err(FileError::TooLarge(10))),
        (&big, u32::MAX, Err(FileError::TooLarge((1 << 20) + 1))),
    ] {
        assert_eq!(tree.gate.read(path, max).map(|bytes| bytes.len()), expected, "{max}");
    }
}

#[test]
fn a_part_is_shorter_than_asked_only_at_the_end() {
    let tree = Tree::new();
    fs::write(tree.base().join("granted/big.log"), vec![7; (1 << 20) + 100]).unwrap();
    let path = tree.path("granted/a.log");
    for (offset, max, text) in
        [(0, 5, "first"), (6, 4, "line"), (6, 100, "line"), (10, 5, ""), (u64::MAX, 5, "")]
    {
        assert_eq!(tree.gate.read_at(&path, offset, max).unwrap(), text.as_bytes(), "{offset}");
    }
    let big = tree.path("granted/big.log");
    let cap = 1 << 20;
    // More than the grant allows: whole at the end of the file, too large before it.
    assert_eq!(tree.gate.read_at(&big, 0, cap + 1), Err(FileError::TooLarge(u64::from(cap) + 100)));
    assert_eq!(tree.gate.read_at(&big, 100, u32::MAX).unwrap().len(), 1 << 20);
}

#[test]
fn the_reads_of_a_call_have_a_cap_together() {
    let tree = Tree::new();
    let size = 1 << 20;
    fs::write(tree.base().join("granted/big.log"), vec![7; size]).unwrap();
    for _ in 0..2 {
        tree.gate.start_call();
        for _ in 0..16 {
            assert_eq!(tree.read("granted/big.log").unwrap().len(), size);
        }
        assert!(matches!(tree.read("granted/a.log"), Err(FileError::TooLarge(_))));
    }
}

#[test]
fn a_directory_shows_what_is_allowed_or_leads_to_it() {
    let tree = Tree::new();
    fs::write(tree.base().join("granted/other.txt"), "").unwrap();
    tree.link("a.log", "granted/link.log");
    let gate = Tree::gate(&tree.base(), &["granted/*.log", "granted/*/*.log"]);
    let names = |below: &str| {
        gate.list_directory(&tree.path(below)).map(|entries| {
            entries.into_iter().map(|entry| (entry.name, entry.kind)).collect::<Vec<_>>()
        })
    };
    let file = |name: &str| (name.to_owned(), EntryKind::File);
    let expected = vec![
        file("a.log"),
        ("link.log".to_owned(), EntryKind::Link),
        ("sub".to_owned(), EntryKind::Directory),
    ];
    assert_eq!(names("granted"), Ok(expected.clone()));
    assert_eq!(names("granted/"), Ok(expected));
    assert_eq!(names("granted/sub"), Ok(vec![file("b.log")]));
    assert_eq!(names(""), Ok(vec![("granted".to_owned(), EntryKind::Directory)]));
    assert_eq!(names("outside"), Err(FileError::Denied));
    assert_eq!(names("granted/missing"), Err(FileError::NotFound));
    assert_eq!(names("granted/sub/x"), Err(FileError::Denied));
    assert_eq!(names("granted/.."), Err(FileError::Denied));
}

#[test]
fn a_listing_of_a_directory_beyond_the_bound_is_cut() {
    let tree = Tree::new();
    for i in 0..MAX_ENTRIES + 10 {
        fs::write(tree.base().join(format!("granted/sub/{i}")), "").unwrap();
    }
    let entries = tree.gate.list_directory(&tree.path("granted/sub")).unwrap();
    assert_eq!(entries.len(), MAX_ENTRIES);
    assert!(entries.is_sorted_by(|a, b| a.name < b.name));
}
