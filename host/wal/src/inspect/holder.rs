//! Who holds the lock of a log, as the kernel tells it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The kernel's list of locks.
const LOCKS: &str = "/proc/locks";
/// So much of it is asked for at once.
const PIECE: usize = 64 << 10;
/// How often it is read before nobody is said to hold one. It comes in pieces, each as of its own moment: where another
/// lock is let go of between two of them, the one that came next is left out.
const LOOKS: usize = 4;

/// Who has locked the file `inode`; `said` is what the file says of that.
pub(super) fn of(inode: u64, said: Option<u32>) -> Option<u32> {
    for _ in 0..LOOKS {
        let Ok(locks) = locks() else {
            return said.filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
        };
        let holder = holder_in(&locks, inode, said);
        if holder.is_some() {
            return holder;
        }
    }
    None
}

fn locks() -> io::Result<String> {
    let mut list = String::with_capacity(PIECE);
    File::open(LOCKS)?.read_to_string(&mut list)?;
    Ok(list)
}

/// `1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF`: who has locked the file `inode`; `said` is what the file says, for
/// a process of another namespace, whose number is not shown.
pub(super) fn holder_in(locks: &str, inode: u64, said: Option<u32>) -> Option<u32> {
    let held = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["FLOCK", _, _, pid, file] = words.get(1..6)? else { return None };
        let same = file.rsplit(':').next()?.parse() == Ok(inode);
        same.then(|| pid.parse::<u32>().ok().filter(|pid| *pid > 0))
    })?;
    Some(held.or(said).unwrap_or(0))
}
