//! Opening without ever letting the kernel follow a link.

use std::borrow::Cow;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use super::reach::{Reach, is_own_process_entry, names_a_process};
use super::{Entry, EntryKind, FileError, MAX_ENTRIES, MAX_SCANNED};
use crate::confine::{Wall, confined};

/// Most links in a path, as the kernel has it.
const MAX_LINKS: usize = 40;
/// How often an open is tried that the kernel says raced with a rename.
const MAX_TRIES: usize = 4;
/// First buffer of a read.
const FIRST_READ: u64 = 16 << 10;

/// What a refusal may mean in a process that confined itself.
const BEHIND_WALL: &str = " (its user may not read it; or it was granted after this process closed its sandbox, and a restart reaches it)";

/// Links of `/proc` that lead through `/proc/self` to what is the machine's.
const PROC_LINKS: [&str; 2] = ["/proc/net", "/proc/mounts"];

/// A regular file, open for reading.
pub(super) struct OpenFile {
    fd: OwnedFd,
    stat: Stat,
}

/// A path without links in it, and the file that was there.
struct Found {
    fd: OwnedFd,
    path: String,
    stat: Stat,
}

fn failed(errno: Errno) -> FileError {
    match errno {
        Errno::NOENT | Errno::NOTDIR => FileError::NotFound,
        // A link that appeared in the meantime, or a way out: neither is followed.
        Errno::LOOP | Errno::XDEV => FileError::Denied,
        Errno::NOSYS => FileError::Failed("openat2 is missing; it takes Linux 5.6 or newer".into()),
        other => {
            let error = std::io::Error::from_raw_os_error(other.raw_os_error());
            let is_walled = matches!(confined().landlock, Wall::Full | Wall::Partial);
            let hint = if other == Errno::ACCESS && is_walled { BEHIND_WALL } else { "" };
            FileError::Failed(format!("{error}{hint}"))
        }
    }
}

/// Where the kernel finds a path that is known by another name.
fn physical(path: &str) -> Cow<'_, str> {
    for link in PROC_LINKS {
        if let Some(rest) = path.strip_prefix(link)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            let name = &link["/proc".len()..];
            return format!("/proc/{}{name}{rest}", std::process::id()).into();
        }
    }
    path.into()
}

/// Opens a path in which nothing is a link; the last level may be one, and is then opened
/// itself if `flags` say so.
fn open(path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let root = rustix::fs::openat(
        CWD,
        c"/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let path = physical(path);
    let below = path.strip_prefix('/').filter(|below| !below.is_empty()).unwrap_or(".");
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut tries = 0;
    loop {
        tries += 1;
        match rustix::fs::openat2(&root, below, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < MAX_TRIES => {}
            result => return result,
        }
    }
}

fn is_kind(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn look(path: &str) -> Result<(OwnedFd, Stat), Errno> {
    let fd = open(path, OFlags::PATH)?;
    let stat = rustix::fs::fstat(&fd)?;
    Ok((fd, stat))
}

/// Finds what a path leads to, over links whose every target `permits` covers.
fn find(reach: &Reach, path: &str, permits: &dyn Fn(&str) -> bool) -> Result<Found, FileError> {
    reach.check(path, permits)?;
    let found = match look(path) {
        Ok((_, stat)) if is_kind(&stat, FileType::Symlink) => walk(reach, path, permits)?,
        Ok((fd, stat)) => Found { fd, path: path.to_owned(), stat },
        Err(Errno::LOOP) => walk(reach, path, permits)?,
        Err(errno) => return Err(failed(errno)),
    };
    refuse_own(reach, &found)?;
    Ok(found)
}

/// Level by level, as the kernel would, reading links instead of following them.
fn walk(reach: &Reach, path: &str, permits: &dyn Fn(&str) -> bool) -> Result<Found, FileError> {
    let mut done: Vec<String> = Vec::new();
    let mut ahead: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
    let mut links = 0;
    while let Some(level) = ahead.pop() {
        match level.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => done.push(level),
        }
        let (fd, stat) = look(&joined(&done)).map_err(failed)?;
        if !is_kind(&stat, FileType::Symlink) {
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(FileError::Failed(format!("more than {MAX_LINKS} links in the path")));
        }
        let target = rustix::fs::readlinkat(&fd, c"", Vec::new()).map_err(failed)?;
        let target = target.to_str().map_err(|_| FileError::Denied)?;
        done.pop();
        if target.starts_with('/') {
            done.clear();
        }
        ahead.extend(target.rsplit('/').map(str::to_owned));
        let leads_to = lexical(&done, &ahead);
        if reach.check(&leads_to, permits).is_err() {
            tracing::debug!(path, leads_to, "a link leads out of the allow-list; not followed");
            return Err(FileError::Denied);
        }
    }
    let path = joined(&done);
    reach.check(&path, permits)?;
    let (fd, stat) = look(&path).map_err(failed)?;
    if is_kind(&stat, FileType::Symlink) {
        return Err(FileError::Failed("a link in the path changed".into()));
    }
    Ok(Found { fd, path, stat })
}

fn joined(levels: &[String]) -> String {
    if levels.is_empty() { "/".to_owned() } else { format!("/{}", levels.join("/")) }
}

/// Where the levels lead if none of those ahead is a link.
fn lexical(done: &[String], ahead: &[String]) -> String {
    let mut levels = done.to_vec();
    for level in ahead.iter().rev() {
        match level.as_str() {
            "" | "." => {}
            ".." => {
                levels.pop();
            }
            level => levels.push(level.to_owned()),
        }
    }
    joined(&levels)
}

/// Refuses what is Sentinel's own by inode, and processes of a procfs that is mounted
/// elsewhere: there our own may go by another number.
fn refuse_own(reach: &Reach, found: &Found) -> Result<(), FileError> {
    let inode = |stat: &Stat| (stat.st_dev, stat.st_ino);
    let own: Vec<_> = reach
        .forbidden
        .iter()
        .filter_map(|own| rustix::fs::stat(own.as_path()).ok())
        .map(|stat| inode(&stat))
        .collect();
    if !own.is_empty() {
        if own.contains(&inode(&found.stat)) {
            return Err(FileError::Denied);
        }
        for (at, _) in found.path.match_indices('/') {
            let above = if at == 0 { "/" } else { &found.path[..at] };
            let stat = rustix::fs::statat(CWD, above, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            if own.contains(&inode(&stat)) {
                return Err(FileError::Denied);
            }
        }
    }
    let elsewhere = !found.path.starts_with("/proc/");
    if elsewhere && names_a_process(&found.path) {
        let system = rustix::fs::fstatfs(&found.fd).map_err(failed)?;
        if system.f_type == rustix::fs::PROC_SUPER_MAGIC {
            return Err(FileError::Denied);
        }
    }
    Ok(())
}

/// Opens a regular file of the allow-list for reading.
pub(super) fn open_file(reach: &Reach, path: &str) -> Result<OpenFile, FileError> {
    let found = find(reach, path, &|path| reach.allows(path))?;
    if is_kind(&found.stat, FileType::Directory) {
        return Err(FileError::Failed("it is a directory".into()));
    }
    if !is_kind(&found.stat, FileType::RegularFile) {
        return Err(FileError::Failed("it is not a regular file".into()));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open(&found.path, flags).map_err(failed)?;
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    // `found` still holds the inode, so its number cannot have been given away.
    if (stat.st_dev, stat.st_ino) != (found.stat.st_dev, found.stat.st_ino) {
        return Err(FileError::Failed("the file was replaced while it was opened".into()));
    }
    Ok(OpenFile { fd, stat })
}

impl OpenFile {
    /// Whether the file takes up storage, so that its size means something.
    pub(super) fn stored(&self) -> bool {
        self.stat.st_blocks > 0
    }

    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// Reads from the start until the end or `most` bytes.
    pub(super) fn read(&self, most: u64) -> Result<Vec<u8>, FileError> {
        self.fill(most, |buffer, _| rustix::io::read(&self.fd, buffer))
    }

    /// Reads from an offset until the end or `most` bytes.
    pub(super) fn read_at(&self, offset: u64, most: u64) -> Result<Vec<u8>, FileError> {
        let end = i64::MAX as u64;
        if offset.saturating_add(most) > end {
            return Ok(Vec::new());
        }
        self.fill(most, |buffer, done| rustix::io::pread(&self.fd, buffer, offset + done))
    }

    fn fill(
        &self,
        most: u64,
        mut read: impl FnMut(&mut [u8], u64) -> Result<usize, Errno>,
    ) -> Result<Vec<u8>, FileError> {
        let expected = if self.stored() { self.size().saturating_add(1) } else { FIRST_READ };
        let mut bytes = vec![0; expected.min(most) as usize];
        let mut done = 0;
        while (done as u64) < most {
            if done == bytes.len() {
                let more = (2 * bytes.len() as u64).max(FIRST_READ).min(most);
                bytes.resize(more as usize, 0);
            }
            match read(&mut bytes[done..], done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    return Err(FileError::Failed("reading it would block".into()));
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }
}

/// Lists a directory: the entries that are allowed or may lead to such.
pub(super) fn list(reach: &Reach, path: &str) -> Result<Vec<Entry>, FileError> {
    let found = find(reach, path, &|path| reach.may_contain(path))?;
    if !is_kind(&found.stat, FileType::Directory) {
        return Err(FileError::Failed("it is not a directory".into()));
    }
    let fd = open(&found.path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let above = if found.path == "/" { "" } else { found.path.as_str() };
    let mut buffer = [MaybeUninit::<u8>::uninit(); 16 << 10];
    let mut directory = RawDir::new(&fd, &mut buffer);
    let mut entries = Vec::new();
    let mut scanned = 0;
    while let Some(entry) = directory.next() {
        let entry = entry.map_err(failed)?;
        scanned += 1;
        if scanned > MAX_SCANNED || entries.len() >= MAX_ENTRIES {
            tracing::debug!(path, scanned, "a directory is listed in part only");
            break;
        }
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") || (above == "/proc" && is_own_process_entry(name)) {
            continue;
        }
        let kind = kind_of(&fd, entry.file_name(), entry.file_type());
        let path = format!("{above}/{name}");
        let leads_on = matches!(kind, EntryKind::Directory | EntryKind::Link);
        let shown = reach.allows(&path) || (leads_on && reach.may_contain(&path));
        if shown && reach.check(&path, |_| true).is_ok() {
            entries.push(Entry { name: name.to_owned(), kind });
        }
    }
    Ok(entries)
}

fn kind_of(directory: impl AsFd, name: &CStr, told: FileType) -> EntryKind {
    let kind = match told {
        // Some file systems leave it to a second question.
        FileType::Unknown => rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
        known => known,
    };
    match kind {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Link,
        _ => EntryKind::Other,
    }
}
