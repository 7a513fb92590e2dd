//! Which paths a slot may read or list, judged by their text.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use sentinel_trust::FilesCapability;

use super::{FileError, MAX_PATH_BYTES};

/// One level of a granted glob.
#[derive(Debug)]
enum Level {
    /// Levels that this matches.
    Match(GlobMatcher),
    /// Everything from here on.
    Any,
}

/// The allow-list, and what is never allowed.
#[derive(Debug)]
pub(super) struct Reach {
    capability: FilesCapability,
    globs: Vec<Vec<Level>>,
    pub(super) forbidden: Vec<PathBuf>,
}

impl Reach {
    pub(super) fn new(capability: &FilesCapability, forbidden: &[PathBuf]) -> Self {
        Self {
            capability: capability.clone(),
            globs: capability.granted().iter().map(|glob| levels(glob.as_str())).collect(),
            forbidden: forbidden.to_vec(),
        }
    }

    /// Whether the allow-list covers a file.
    pub(super) fn allows(&self, path: &str) -> bool {
        self.capability.allows(path)
    }

    /// Whether something below a directory may be covered. Wide rather than narrow: it opens
    /// a directory for listing, never a file.
    pub(super) fn may_contain(&self, directory: &str) -> bool {
        let levels: Vec<&str> = directory.split('/').filter(|level| !level.is_empty()).collect();
        self.globs.iter().any(|glob| {
            for (at, level) in levels.iter().enumerate() {
                match glob.get(at) {
                    Some(Level::Match(matcher)) if matcher.is_match(level) => {}
                    Some(Level::Any) => return true,
                    Some(Level::Match(_)) | None => return false,
                }
            }
            glob.len() > levels.len()
        })
    }

    /// Refuses a path that is not plain, not covered by `permits`, or of this process.
    pub(super) fn check(
        &self,
        path: &str,
        permits: impl Fn(&str) -> bool,
    ) -> Result<(), FileError> {
        let refused =
            !is_plain(path) || !permits(path) || is_own_process(path) || self.is_own(path);
        if refused { Err(FileError::Denied) } else { Ok(()) }
    }

    /// Whether a path lies within what is Sentinel's own, by its text; by inode comes later.
    fn is_own(&self, path: &str) -> bool {
        self.forbidden.iter().any(|own| Path::new(path).starts_with(own))
    }
}

/// The levels of a glob. A level that cannot be looked at on its own stands for anything.
fn levels(glob: &str) -> Vec<Level> {
    let mut levels = Vec::new();
    for text in glob.split('/').filter(|level| !level.is_empty()) {
        let pairs = |open, close| text.matches(open).count() == text.matches(close).count();
        let alone = pairs('{', '}') && pairs('[', ']') && !text.contains("**");
        let built = GlobBuilder::new(text).literal_separator(true).build();
        match built {
            Ok(built) if alone => levels.push(Level::Match(built.compile_matcher())),
            _ => {
                levels.push(Level::Any);
                break;
            }
        }
    }
    levels
}

/// `/`, or absolute without empty, `.` and `..` levels; no NUL.
fn is_plain(path: &str) -> bool {
    let plain = |rest: &str| rest.split('/').all(|level| !matches!(level, "" | "." | ".."));
    path.len() <= MAX_PATH_BYTES
        && !path.contains('\0')
        && (path == "/" || path.strip_prefix('/').is_some_and(plain))
}

/// Whether a path lies below what `/proc` says of this process.
fn is_own_process(path: &str) -> bool {
    let mut levels = path.split('/').skip(1);
    if levels.next() != Some("proc") {
        return false;
    }
    levels.next().is_some_and(is_own_process_entry)
}

/// Whether an entry of `/proc` is this process or one of its threads (which `/proc` does not
/// list, but opens).
pub(super) fn is_own_process_entry(name: &str) -> bool {
    if matches!(name, "self" | "thread-self") {
        return true;
    }
    let number = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    number
        && (name.parse() == Ok(std::process::id())
            || Path::new("/proc/self/task").join(name).exists())
}

/// Whether a path holds a level that a procfs uses for a process.
pub(super) fn names_a_process(path: &str) -> bool {
    path.split('/').any(|level| {
        matches!(level, "self" | "thread-self")
            || (!level.is_empty() && level.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use sentinel_trust::{Asked, FilesGrant, FilesRequest, Grants, PathGlob, Requests, effective};

    pub(in super::super) fn capability(globs: &[&str]) -> FilesCapability {
        let paths = globs.iter().map(|glob| glob.parse::<PathGlob>().unwrap());
        let grants = Grants { files: Some(FilesGrant::reading(paths)), ..Grants::default() };
        let files = Some(FilesRequest { paths: Asked::FromConfig });
        let requests = Requests { files, ..Requests::default() };
        effective(&requests, &grants).unwrap().files().unwrap().clone()
    }

    #[test]
    fn a_directory_may_be_listed_where_an_entry_may_be_allowed() {
        for (glob, directory, listed) in [
            ("/var/log/*.log", "/", true),
            ("/var/log/*.log", "/var", true),
            ("/var/log/*.log", "/var/log", true),
            ("/var/log/*.log", "/var/log/nginx", false),
            ("/var/log/*.log", "/var/lib", false),
            ("/var/log/**", "/var/log/a/b/c", true),
            ("/var/log/**", "/var", true),
            ("/var/log/**", "/etc", false),
            ("/var/**/x", "/var/a/b", true),
            ("/sys/class/net/*/statistics/*", "/sys/class/net/eth0", true),
            ("/sys/class/net/*/statistics/*", "/sys/class/net/eth0/queues", false),
            ("/a/{b/c,d}/e", "/a/b", true),
            ("/a/{b,c}/d", "/a/c", true),
            ("/a/{b,c}/d", "/a/d", false),
            ("/etc/hostname", "/etc/hostname", false),
        ] {
            let reach = Reach::new(&capability(&[glob]), &[]);
            assert_eq!(reach.may_contain(directory), listed, "{glob} {directory}");
        }
    }

    #[test]
    fn paths_that_are_not_plain_are_refused_even_where_everything_is_granted() {
        let reach = Reach::new(&capability(&["/**"]), &["/data".into()]);
        let pid = std::process::id();
        for path in [
            "",
            "etc/passwd",
            "//etc/passwd",
            "/etc//passwd",
            "/etc/./passwd",
            "/etc/../etc/passwd",
            "/etc/passwd/",
            "/etc/passwd\0",
            "/..",
            "/.",
            "/data",
            "/data/x",
            "/proc/self/environ",
            "/proc/self",
            "/proc/thread-self/environ",
            &format!("/proc/{pid}/environ"),
            &format!("/proc/{pid}"),
            &format!("/{}", "a/".repeat(MAX_PATH_BYTES)),
        ] {
            let check = reach.check(path, |path| reach.allows(path) || reach.may_contain(path));
            assert_eq!(check, Err(FileError::Denied), "{path:?}");
        }
        for path in ["/etc/passwd", "/database", "/proc/stat", "/proc/1/stat", "/home/proc/self"] {
            assert_eq!(reach.check(path, |path| reach.allows(path)), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn a_thread_of_this_process_is_this_process() {
        std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_nonzero().to_string();
            assert_ne!(tid, std::process::id().to_string());
            assert!(is_own_process(&format!("/proc/{tid}/environ")));
        })
        .join()
        .unwrap();
    }

    proptest! {
        #[test]
        fn every_directory_above_an_allowed_file_may_be_listed(
            glob in "/[ab*{}?,]{1,4}(/[ab*]{1,3}){0,3}",
            path in "(/[ab]{1,2}){1,4}",
        ) {
            if let Ok(glob) = glob.parse::<PathGlob>() && glob.matches(&path) {
                let reach = Reach::new(&capability(&[glob.as_str()]), &[]);
                for (at, _) in path.match_indices('/') {
                    let directory = if at == 0 { "/" } else { &path[..at] };
                    prop_assert!(reach.may_contain(directory), "{} {}", glob, directory);
                }
            }
        }
    }
}
