use super::*;
use crate::capabilities::files::FileGate;
use sentinel_trust::{Asked, FilesGrant, FilesRequest, Grants, PathGlob, Requests, effective};
use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the test, for the process that confines itself.
const INSIDE: &str = "SENTINEL_TEST_CONFINED";
/// What that process ends with when all of it ran.
const RAN: i32 = 42;
/// Makes that process's kernel one without landlock, which answers with this error.
const KERNEL: &str = "SENTINEL_TEST_LANDLOCK_ERROR";

fn is_refused<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

fn calls(number: libc::c_long, first: libc::c_long) -> std::io::Result<libc::c_long> {
    // SAFETY: the calls of this test take numbers, or are refused before they look at anything.
    match unsafe { libc::syscall(number, first, 0, 0, 0, 0) } {
        -1 => Err(std::io::Error::last_os_error()),
        given => Ok(given),
    }
}

/// Does nothing but in the process that the other test starts.
#[test]
fn inside() {
    let Some(folder) = std::env::var_os(INSIDE).map(PathBuf::from) else { return };
    let serving = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = serving.local_addr().unwrap();
    let allowed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to = Confinement {
        read: ["/proc", "/usr", "/lib", "/lib64", "/etc", "/not/there"].map(PathBuf::from).into(),
        write: vec![folder.join("data"), "/dev/null".into()],
        execute: vec!["/proc/self/exe".into(), "/usr/lib".into(), "/lib".into(), "/lib64".into()],
        listen: vec![allowed.port()],
        abstract_sockets: false,
    };
    let error = std::env::var(KERNEL).ok().map(|error| error.parse().unwrap());
    if let Some(error) = error {
        apply([(libc::SYS_landlock_create_ruleset, Vec::new())].into(), error).unwrap();
    }
    let held = confine(&to);
    assert_eq!(held.seccomp, Wall::Full, "{held}");
    calls_are_refused();
    if held.landlock == Wall::None {
        assert!(
            !held.stands() && held.missing.iter().any(|why| why.contains("landlock")),
            "{held}"
        );
        assert!(
            fs::read(folder.join("outside/secret")).is_ok(),
            "nothing is held that is not said"
        );
        println!("without landlock: {held}");
    } else {
        assert_eq!(error, None);
        files_are_out_of_reach(&folder);
        // The test's harness has a thread of its own.
        let others = held.missing.iter().filter(|why| !why.contains("threads")).count();
        assert!(held.landlock != Wall::Full || others == 0, "{held}");
    }
    if held.landlock == Wall::Full {
        assert!(is_refused(TcpListener::bind("127.0.0.1:0")), "a further port");
        // Somebody else may have it by now, which is no refusal.
        assert!(!is_refused(TcpListener::bind(allowed)), "the port that was named");
    }
    // The network is there, and what was open before.
    assert!(TcpStream::connect(address).is_ok() && serving.accept().is_ok());
    assert!(UdpSocket::bind("127.0.0.1:0").is_ok());
    assert_eq!(confine(&Confinement::default()), held, "once");
    std::process::exit(RAN);
}

fn calls_are_refused() {
    let denied = |number| calls(number, 0).is_err_and(|e| e.raw_os_error() == Some(libc::EPERM));
    for number in REFUSED {
        assert!(denied(*number), "call {number}");
    }
    let user = libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    assert!(calls(libc::SYS_clone, user).is_err_and(|e| e.raw_os_error() == Some(libc::EPERM)));
    let newer = calls(libc::SYS_clone3, 0);
    assert!(newer.is_err_and(|e| e.raw_os_error() == Some(libc::ENOSYS)));
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7, "threads are there");
}

fn files_are_out_of_reach(folder: &Path) {
    let (data, outside) = (folder.join("data"), folder.join("outside"));
    fs::write(data.join("a"), "1").unwrap();
    fs::create_dir(data.join("b")).unwrap();
    fs::rename(data.join("a"), data.join("b/a")).unwrap();
    assert_eq!(fs::read(data.join("b/a")).unwrap(), b"1");
    assert!(fs::read_to_string("/proc/uptime").is_ok());
    assert!(is_refused(fs::read(outside.join("secret"))), "reading");
    assert!(is_refused(fs::write(outside.join("new"), "1")), "writing");
    assert!(is_refused(fs::remove_file(outside.join("secret"))), "removing");
    assert!(is_refused(fs::read_dir(&outside)), "listing");
    assert!(is_refused(fs::write("/proc/self/oom_score_adj", "1")), "changing what is read");
    assert!(Command::new("/usr/bin/env").status().is_err(), "another program");
    let itself = Command::new("/proc/self/exe").args(["no_test_of_this_name", "--exact"]).output();
    assert!(itself.unwrap().status.success(), "itself");
    // What a plugin is told whose grant came too late.
    let secret = outside.join("secret").display().to_string();
    let paths = [secret.parse::<PathGlob>().unwrap()];
    let grants = Grants { files: Some(FilesGrant::reading(paths)), ..Grants::default() };
    let files = Some(FilesRequest { paths: Asked::FromConfig });
    let granted = effective(&Requests { files, ..Requests::default() }, &grants).unwrap();
    let gate = FileGate::new(granted.files().unwrap(), &[]);
    let told = gate.read(&secret, 10).unwrap_err().to_string();
    assert!(told.contains("Permission denied") && told.contains("restart"), "{told}");
}

/// Runs the test above in a process of its own; what it printed.
fn run(landlock_error: Option<libc::c_int>) -> String {
    let folder = tempfile::tempdir().unwrap();
    for name in ["data", "outside"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("outside/secret"), "1").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["confine::tests::inside", "--exact", "--test-threads=1", "--nocapture"]);
    command.env(INSIDE, folder.path());
    command.envs(landlock_error.map(|error| (KERNEL, error.to_string())));
    let output = command.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert_eq!(output.status.code(), Some(RAN), "{out}\n{err}");
    assert_eq!(confined(), &Confined::OFF, "this process is as it was");
    out
}

#[test]
fn a_confined_process_reaches_what_was_named_and_nothing_else() {
    println!("{}", run(None));
}

#[test]
fn a_kernel_without_landlock_is_said_and_the_other_wall_stands() {
    for (error, why) in [(libc::ENOSYS, "takes Linux 5.13"), (libc::EOPNOTSUPP, "not enabled")] {
        let out = run(Some(error));
        assert!(out.contains("landlock none, seccomp full") && out.contains(why), "{out}");
    }
}

#[test]
fn what_holds_is_said_in_one_line_and_in_fields() {
    let held = Confined {
        landlock: Wall::None,
        seccomp: Wall::Full,
        missing: vec!["this kernel has no landlock".to_owned()],
    };
    assert!(!held.stands());
    assert_eq!(held.to_string(), "landlock none, seccomp full (this kernel has no landlock)");
    let json = serde_json::to_value(&held).unwrap();
    assert_eq!(json["landlock"], "none");
    assert_eq!(
        serde_json::to_string(&Confined::OFF).unwrap(),
        r#"{"landlock":"off","seccomp":"off"}"#
    );
}
