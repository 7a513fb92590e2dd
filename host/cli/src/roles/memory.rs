//! Keeping the resident memory of a long-lived, mostly idle process small.
//!
//! Most of what is resident right after a start was needed once: the pages of code that parse
//! the command line and the configuration, verify signatures and load plugins, and what the
//! allocator keeps of it all. The system takes such pages back only under pressure; here they
//! are given back at once, and what is needed again is read again, a page at a time.

use std::fs;
use std::ops::Range;

use rustix::fs::{Advice as FileAdvice, fadvise};
use rustix::mm::{Advice, madvise};

/// Arenas of the allocator: without a bound nearly every thread opens one of its own.
const ARENAS: i32 = 2;
/// Allocations of this many bytes get pages of their own, which go back when they are freed;
/// set, so that the allocator does not raise it by itself.
const OWN_PAGES_BYTES: i32 = 128 << 10;

/// Makes the allocator keep less. To be called before any thread is started.
pub(crate) fn be_frugal() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these take numbers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, OWN_PAGES_BYTES);
    }
}

/// Gives back what the allocator keeps unused, and pages that are no more than a copy of the
/// program's and its libraries' files.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
    // Without /proc they stay resident: no harm but the memory.
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else { return };
    for pages in copies_of_files(&maps) {
        // Single pages are read from now on: what is needed lies scattered, and with it would
        // come what lies around it, up to megabytes of it.
        for advice in [Advice::LinuxDontNeed, Advice::Random] {
            // SAFETY: nothing was written to these pages nor can be, so that they are read
            // from their file again, just as they were, when they are next touched.
            let given = unsafe {
                madvise(std::ptr::with_exposed_provenance_mut(pages.start), pages.len(), advice)
            };
            if let Err(error) = given {
                tracing::debug!(%error, "pages of the program stay resident");
            }
        }
    }
    // The page cache lets go of what no other process has mapped, in the large pieces in
    // which it came.
    let dropped = fs::File::open("/proc/self/exe")
        .and_then(|program| Ok(fadvise(&program, 0, None, FileAdvice::DontNeed)?));
    if let Err(error) = dropped {
        tracing::debug!(%error, "the program stays in the page cache");
    }
}

/// Mappings of `/proc/PID/smaps` of files that cannot be written to and of which no page
/// differs from the file, as those do that the loader relocated.
fn copies_of_files(maps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current = None;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:"), Some("0")) => found.extend(current.take()),
            (Some(field), _) if field.ends_with(':') => {}
            (Some(range), Some(rights)) => {
                let path = words.nth(3);
                let fits = matches!(rights, "r-xp" | "r--p")
                    && path.is_some_and(|path| path.starts_with('/'));
                current = fits.then(|| addresses(range)).flatten();
            }
            _ => {}
        }
    }
    found
}

fn addresses(range: &str) -> Option<Range<usize>> {
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_untouched_read_only_mappings_of_files_are_given_back() {
        let mapping = |head: &str, anonymous: u32| {
            format!("{head}\nSize: 8 kB\nRss: 8 kB\nAnonymous: {anonymous} kB\nVmFlags: rd ex\n")
        };
        let maps = [
            mapping("1000-3000 r-xp 00001000 fe:00 42   /usr/bin/a b (deleted)", 0),
            mapping("3000-4000 r--p 00003000 fe:00 42   /usr/bin/a", 0),
            // Relocated, or changed by a debugger.
            mapping("4000-5000 r--p 00004000 fe:00 42   /usr/bin/a", 4),
            mapping("5000-6000 rw-p 00005000 fe:00 42   /usr/bin/a", 0),
            mapping("6000-7000 r--s 00000000 fe:00 43   /var/shared", 0),
            mapping("7000-8000 r-xp 00000000 00:00 0", 0),
            mapping("8000-9000 r-xp 00000000 00:00 0    [vdso]", 0),
        ];
        assert_eq!(copies_of_files(&maps.concat()), [0x1000..0x3000, 0x3000..0x4000]);
    }

    #[test]
    fn a_process_goes_on_after_giving_back() {
        let before = vec![7u8; 1 << 20];
        give_back();
        assert_eq!(before.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 7 << 20);
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(!copies_of_files(&maps).is_empty());
    }
}
